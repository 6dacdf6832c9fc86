//! The agent at work: one loop owns everything; the link, the spool's disk and the probes are beside it and never stop it.
//!
//! Enters: configuration, identity, collectors. Leaves: reports, records, a status file, an end with a cause. Never:
//! listens on a port, waits for a disk or a network, goes on without its link.

mod acklog;
mod agent;
mod conditions;
mod delivery;
mod facts;
mod loss;
mod notify;
mod pace;
mod ring;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

pub use status::{LinkState, STALE_MS, Status};

use crate::clock::{SharedClock, SystemClock};
use crate::collect::{self, CollectorSet, Roots};
use crate::config::Config;
use crate::files::{self, FileError};
use crate::identity::{IdentityStore, StoreError};
use crate::link::{Link, LinkEnd, SupervisorOptions, Wish, supervise};
use crate::probe::{Probes, ProbesConfig};
use crate::spool::Spool;
use crate::timer;

use agent::{Agent, Start};

/// Events of the link that wait for the loop; the loop takes them at once.
const LINK_EVENTS: usize = 64;
/// After SIGTERM: for the spool's last records.
const SPOOL_END: Duration = Duration::from_secs(2);
/// After SIGTERM: for Goodbye; both together stay under the 5 s of the issue.
const LINK_END: Duration = Duration::from_millis(2500);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It has no identity.
    #[error("this node is not enrolled: run `aim-agent enroll` first (see aim-agent enroll --help)")]
    NotEnrolled,
    /// The identity cannot be loaded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
    /// What names this boot cannot be read.
    #[error("cannot read {path}: {reason}")]
    Boot {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// The link's task ended by itself.
    #[error("the link to the coordinator ended unexpectedly: {0}")]
    Link(String),
    /// The task that owns a helper process ended by itself.
    #[error("the task of the {0} probe ended unexpectedly; the agent ends so that it is restarted whole")]
    Probe(&'static str),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut stop = Stop::new().map_err(RunError::Signals)?;
    let clock: SharedClock = Arc::new(SystemClock::new());
    files::ensure_private_dir(&config.state_dir)?;
    let store = IdentityStore::new(&config.state_dir);
    let identity = Arc::new(store.load()?.ok_or(RunError::NotEnrolled)?);
    // A renewed pair that cannot be used is no reason not to run with the one in use.
    let next = store.load_next().unwrap_or_else(|error| {
        tracing::warn!(%error, "the renewed certificate is unusable; the former one is used");
        None
    });
    if let Err(error) = std::fs::create_dir_all(&config.runtime_dir) {
        tracing::warn!(path = %config.runtime_dir.display(), %error, "`aim-agent status` will not know the state");
    }
    let roots = Roots::default();
    let probes =
        Probes::start(&ProbesConfig::new(config.gpu.clone(), config.filesystems.clone()), &roots, &clock);
    let mut collectors = collect::all(&roots);
    collectors.extend(collect::probed(&roots, &probes, &config.state_dir, &clock));
    let collectors = CollectorSet::new(collectors);
    let (spool, found) = Spool::open(config.spool_dir(), config.spool.max_mib.get() * 1024 * 1024);
    let node = facts::Node::read(&roots, clock.now())?;
    let (identity_of_link, clock_of_link) = (Arc::clone(&identity), Arc::clone(&clock));
    let start = Start { collectors, probes, spool, found, node, identity, clock };
    let (wish_in, wish) = watch::channel(Wish::Connected);
    let (events, link_events) = mpsc::channel(LINK_EVENTS);
    let mut agent = Agent::new(&config, start, wish_in);
    let options = SupervisorOptions {
        addresses: config.link.addresses.clone(),
        https_addresses: config.link.https_addresses.clone(),
        clock: clock_of_link,
        facts: agent.facts(),
        wish,
        events,
    };
    let link = Link { store, identity: identity_of_link, next: next.map(Arc::new) };
    let mut link = tokio::spawn(supervise(link, options));
    notify::ready();
    let outcome = work(&mut agent, link_events, &mut link, &mut stop).await;
    notify::stopping();
    agent.wish_to_stop();
    if tokio::time::timeout(SPOOL_END, agent.finish_spool()).await.is_err() {
        tracing::warn!("the spool's disk does not answer; the last records may be lost");
    }
    if outcome.is_ok() && tokio::time::timeout(LINK_END, &mut link).await.is_err() {
        link.abort();
        tracing::warn!("the coordinator did not take the goodbye in time");
    }
    agent.end().await;
    outcome
}

async fn work(
    agent: &mut Agent,
    mut link_events: mpsc::Receiver<crate::link::LinkEvent>,
    link: &mut tokio::task::JoinHandle<Result<LinkEnd, aim_common::backoff::InvalidBackoff>>,
    stop: &mut Stop,
) -> Result<(), RunError> {
    loop {
        let wake = agent.next_wake();
        tokio::select! {
            event = link_events.recv() => match event {
                Some(event) => agent.on_link(event),
                None => return Err(RunError::Link("its channel is closed".into())),
            },
            done = agent.spool_done() => agent.on_spool(done),
            () = timer::sleep(wake) => {}
            ended = &mut *link => return Err(RunError::Link(format!("{ended:?}"))),
            name = stop.wait() => {
                tracing::info!(signal = name, "stopping");
                return Ok(());
            }
        }
        agent.turn();
        if let Some((name, _)) = agent.probes_tasks().find(|(_, task)| task.is_finished()) {
            return Err(RunError::Probe(name));
        }
    }
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests;
