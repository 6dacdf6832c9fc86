//! The coordinator's log: one event, one line, to standard error; nothing in an event can forge a line, and a blocked
//! reader can neither stop the coordinator nor fill its memory.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aim_common::log::LogQueue;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for a slow reader (LOG-05).
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// At the end of the process: for what still waits.
const LAST_WORDS: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Lines dropped because the reader was too slow.
pub fn dropped_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// Panics of this process so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// The running log; its end waits a moment for what is not written yet.
#[derive(Debug)]
pub struct Log(Arc<LogQueue>);

/// Starts logging; `filter` is a level or a list of `target=level`.
pub fn start(filter: &str) -> Result<Log, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log.filter: {error}"))?;
    let queue = Arc::clone(QUEUE.get_or_init(|| Arc::new(LogQueue::new(WAITING_BYTES))));
    let writing = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writing.write_to(std::io::stderr()))
        .map_err(|error| format!("the log's thread cannot be started: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Lines(Arc::clone(&queue)))
        .try_init()
        .map_err(|error| format!("logging was started twice: {error}"))?;
    note_panics();
    Ok(Log(queue))
}

/// Each panic is logged and counted (SUP-05). The usual hook would wait for a blocked reader, in whatever thread it was.
fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%panic, "a task panicked");
    }));
}

impl Log {
    /// Says why the process ends, in the words of the command line.
    pub fn last_words(&self, reason: &str) {
        self.0.push(format!("aim-coordinator: {reason}").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LAST_WORDS);
    }
}

/// Hands whole lines to the writing thread.
#[derive(Debug, Clone)]
struct Lines(Arc<LogQueue>);

impl Write for Lines {
    /// tracing gives each event in one call.
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        self.0.push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sup_05_a_panic_is_logged_and_counted_wherever_it_happens() {
        let queue = Arc::new(LogQueue::new(WAITING_BYTES));
        let subscriber = tracing_subscriber::fmt().with_writer(Lines(Arc::clone(&queue))).finish();
        let usual = std::panic::take_hook();
        note_panics();
        let before = panics();
        let task = std::thread::spawn(|| {
            tracing::subscriber::with_default(subscriber, || panic!("on purpose\nforged line"));
        });
        assert!(task.join().is_err());
        std::panic::set_hook(usual);
        assert!(panics() > before);
        let (mut reader, writer) = std::io::pipe().unwrap();
        std::thread::spawn(move || queue.write_to(writer));
        let mut line = [0; 4_096];
        let count = std::io::Read::read(&mut reader, &mut line).unwrap();
        let line = std::str::from_utf8(&line[..count]).unwrap();
        assert!(line.contains("a task panicked") && line.contains("on purpose\\nforged line"), "{line}");
        assert_eq!(line.matches('\n').count(), 1, "{line}");
    }
}
