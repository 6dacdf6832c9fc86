//! One stream of a session: what waits to be written, at full speed or one byte a second.

use std::time::Duration;

use quinn::{Connection, SendStream};
use tokio::time::Instant;

/// From one byte to the next of a slow sender.
const SLOW_EVERY: Duration = Duration::from_secs(1);

/// The stream is broken; the session learns why from its connection.
#[derive(Debug)]
pub(super) struct Broken;

/// Bytes for one stream, which is opened with the first of them.
pub(super) struct Outbox {
    connection: Connection,
    stream: Option<SendStream>,
    bytes: Vec<u8>,
    written: usize,
    next_at: Option<Instant>,
}

impl Outbox {
    /// Nothing waits. A slow one writes one byte a second.
    pub(super) fn new(connection: &Connection, slow: bool) -> Self {
        let next_at = slow.then(Instant::now);
        Self { connection: connection.clone(), stream: None, bytes: Vec::new(), written: 0, next_at }
    }

    /// Everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds whole frames.
    pub(super) fn put(&mut self, frames: &[u8]) {
        self.bytes.extend_from_slice(frames);
    }

    /// Writes what the stream takes; never ends while nothing waits. Cancel-safe: what was written is noted at once.
    pub(super) async fn write(&mut self) -> Result<(), Broken> {
        if self.bytes.is_empty() {
            std::future::pending::<()>().await;
        }
        if let Some(at) = self.next_at {
            tokio::time::sleep_until(at).await;
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.connection.open_uni().await.map_err(|_| Broken)?),
        };
        let mut waiting = self.bytes.get(self.written..).unwrap_or_default();
        if let Some(at) = &mut self.next_at {
            waiting = waiting.get(..1).unwrap_or_default();
            *at = Instant::now() + SLOW_EVERY;
        }
        self.written += stream.write(waiting).await.map_err(|_| Broken)?;
        if self.written >= self.bytes.len() {
            // An empty outbox of ten thousand must not keep the room of its first report.
            self.bytes = Vec::new();
            self.written = 0;
        }
        Ok(())
    }
}
