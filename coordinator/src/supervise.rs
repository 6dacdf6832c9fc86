//! Tasks that live as long as the process: each is named, owned and joined. One that ends before the stop ends the
//! process (SUP-05), because a coordinator that is half alive looks healthy and is not.

use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Tasks have this long to end after the stop; what is left is aborted.
const GRACE: Duration = Duration::from_secs(12);

/// A task ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("task {name} ended: {cause}; the process ends so that it is restarted whole")]
pub struct TaskDied {
    /// Which one.
    pub name: String,
    /// Its error or panic.
    pub cause: String,
}

/// The tasks of one coordinator.
#[derive(Debug)]
pub struct Tasks {
    stop: CancellationToken,
    running: JoinSet<()>,
    names: Vec<(tokio::task::Id, &'static str, AbortHandle)>,
}

impl Tasks {
    /// No task yet.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, running: JoinSet::new(), names: Vec::new() }
    }

    /// Told to every task when to end.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task, which must run until the stop token is cancelled.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(task);
        self.names.push((handle.id(), name, handle));
    }

    /// The names of all tasks, with a way to kill each: what the test of SUP-05 uses.
    pub fn handles(&self) -> impl Iterator<Item = (&'static str, &AbortHandle)> {
        self.names.iter().map(|(_, name, handle)| (*name, handle))
    }

    /// Waits for the first task that ends by itself.
    pub async fn first_death(&mut self) -> TaskDied {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => self.died(id, "it returned"),
            Some(Err(error)) => self.died(error.id(), &error.to_string()),
            None => std::future::pending().await,
        }
    }

    /// Stops all tasks and waits for them.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let all_ended = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_ended).await.is_err() {
            tracing::warn!(left = self.running.len(), "tasks that did not end in time are aborted");
            self.running.shutdown().await;
        }
    }

    fn died(&self, id: tokio::task::Id, cause: &str) -> TaskDied {
        let name = self.names.iter().find(|(known, ..)| *known == id).map_or("unknown", |(_, name, _)| name);
        TaskDied { name: name.to_owned(), cause: cause.to_owned() }
    }
}
