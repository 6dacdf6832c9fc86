//! A live feed that survives a restart of the coordinator.

use std::time::Duration;

use futures_util::Stream;
use serde_json::Value;

use crate::client::{Client, EventStream, Route};
use crate::error::CliError;
use crate::output::{self, text};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What a feed brings.
pub(super) enum Update {
    /// The stream is open, for the first time or again: what is shown must be read anew.
    Began,
    /// A message of the stream.
    Message(Value),
}

/// One feed, opened again where it is cut.
pub(super) struct Feed<'a> {
    client: &'a Client,
    route: Route,
    stream: Option<EventStream>,
    /// It was open once: from then on a cut is waited out rather than an error.
    worked: bool,
    wait: Duration,
}

impl<'a> Feed<'a> {
    /// A feed of this route; nothing is opened yet.
    pub(super) fn new(client: &'a Client, route: Route) -> Self {
        Self { client, route, stream: None, worked: false, wait: FIRST_WAIT }
    }

    /// The same as a stream, which may be polled beside other things without losing its place.
    pub(super) fn updates(self) -> impl Stream<Item = Result<Update, CliError>> + 'a {
        futures_util::stream::unfold(self, move |mut feed| async move {
            let update = feed.next().await;
            Some((update, feed))
        })
    }

    /// The next message; waits as long as it takes.
    pub(super) async fn next(&mut self) -> Result<Update, CliError> {
        loop {
            let lost = match self.stream.as_mut() {
                None => match self.client.events(self.route.clone()).await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        self.worked = true;
                        self.wait = FIRST_WAIT;
                        return Ok(Update::Began);
                    }
                    Err(error) => error,
                },
                Some(stream) => match stream.next().await {
                    Ok(Some(event)) => {
                        // What is not JSON is of a newer coordinator; it is not for this client.
                        if let Ok(value) = serde_json::from_str(&event.data) {
                            return Ok(Update::Message(value));
                        }
                        continue;
                    }
                    Ok(None) => CliError::Failed("the coordinator closed the stream".to_owned()),
                    Err(error) => error,
                },
            };
            self.stream = None;
            self.wait_out(lost).await?;
        }
    }

    async fn wait_out(&mut self, lost: CliError) -> Result<(), CliError> {
        use crate::error::Exit;
        let hopeless = matches!(lost.exit(), Exit::Denied | Exit::NotFound | Exit::Usage | Exit::Config);
        if !self.worked || hopeless {
            return Err(lost);
        }
        let reason = text::escape_lines(&lost.to_string());
        output::note(&format!("{reason}\ntrying again in {} s", self.wait.as_secs()));
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }
}
