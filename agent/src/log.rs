//! The agent's own messages: one line each on standard error, for the journal. A field's text cannot forge a line
//! (INJ-08), and a journal that does not read stops neither heartbeats nor the end of the process (LOG-05).

use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aim_common::log::LogQueue;
pub use aim_common::log::escape;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Bytes that wait for a slow journal; a node's memory is there for its jobs.
const WAITING_BYTES: usize = 256 * 1024;
/// At the end of the process: for what still waits.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Panics of this process so far.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// The running log; its end waits a moment for what is not written yet.
#[derive(Debug)]
pub struct Log(Lines);

/// Starts the log; `stamped` puts the level in front, for terminals without a journal.
pub fn start(filter: &str, stamped: bool) -> Result<Log, String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log filter {filter:?}: {error}"))?;
    let lines = Lines(Arc::new(LogQueue::new(WAITING_BYTES)));
    let queue = Arc::clone(&lines.0);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || queue.write_to(io::stderr()))
        .map_err(|error| format!("the log's thread cannot be started: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines.clone())
        .event_format(OneLine { stamped })
        .try_init()
        .map_err(|error| format!("the log cannot be started: {error}"))?;
    // The usual hook would wait for a blocked journal, in whatever thread it was.
    std::panic::set_hook(Box::new(|panic| {
        let panics = PANICS.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(%panic, panics, "a part of the agent panicked");
    }));
    Ok(Log(lines))
}

impl Log {
    /// Says why the process ends, in the words of the command line.
    pub fn last_words(&self, reason: &dyn fmt::Display) {
        self.0.0.push(format!("aim-agent: {reason}").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.0.flush(LAST_WORDS);
    }
}

/// Hands each event to the thread that writes.
#[derive(Debug, Clone)]
struct Lines(Arc<LogQueue>);

impl io::Write for Lines {
    /// tracing gives each event in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

struct OneLine {
    stamped: bool,
}

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // <N> is sd-daemon(3): the journal reads the priority from it.
        let (priority, level) = match *event.metadata().level() {
            Level::ERROR => (3, "error"),
            Level::WARN => (4, "warning"),
            Level::INFO => (6, "info"),
            Level::DEBUG | Level::TRACE => (7, "debug"),
        };
        if self.stamped {
            write!(writer, "{level}: ")?;
        } else {
            write!(writer, "<{priority}>")?;
        }
        let mut line = Line::default();
        event.record(&mut line);
        writeln!(writer, "{}{}", escape(&line.message), escape(&line.fields))
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
