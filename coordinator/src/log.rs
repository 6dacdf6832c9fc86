//! The coordinator's log: one event, one line, to standard error; nothing in an event can forge a line, and a blocked
//! reader can neither stop the coordinator nor fill its memory.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines waiting for a slow reader: 4,096 of at most 4 KiB are 16 MiB (LOG-05).
const WAITING_LINES: usize = 4_096;
/// The longest line; the rest is cut and marked.
const LINE_BYTES: usize = 4_096;

static DROPPED: OnceLock<Arc<AtomicU64>> = OnceLock::new();

/// Lines dropped because the reader was too slow.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.load(Ordering::Relaxed))
}

/// Starts logging; `filter` is a level or a list of `target=level`.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log.filter: {error}"))?;
    let (lines, waiting) = sync_channel::<Vec<u8>>(WAITING_LINES);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            for line in waiting {
                // There is nowhere left to report that the log cannot be written.
                let _ = std::io::stderr().lock().write_all(&line);
            }
        })
        .map_err(|error| format!("the log's thread cannot be started: {error}"))?;
    let dropped = Arc::clone(DROPPED.get_or_init(Arc::default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(Lines { lines, dropped })
        .try_init()
        .map_err(|error| format!("logging was started twice: {error}"))
}

/// Hands whole lines to the writing thread.
#[derive(Clone)]
struct Lines {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Write for Lines {
    /// tracing gives each event in one call.
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.lines.try_send(one_line(event))
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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

/// The event as exactly one line: control and line-separating characters are escaped (INJ-08).
fn one_line(event: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(event);
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.trim_end_matches('\n').chars() {
        if line.len() >= LINE_BYTES - 16 {
            line.push_str(" [cut]");
            break;
        }
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn inj_08_any_event_is_one_printable_line(event in any::<String>()) {
            let line = String::from_utf8(one_line(event.as_bytes())).unwrap();
            let (body, end) = line.split_at(line.len() - 1);
            prop_assert_eq!(end, "\n");
            let forges = |c: char| c.is_control() || ('\u{2028}'..='\u{2029}').contains(&c);
            prop_assert!(!body.chars().any(forges));
            prop_assert!(line.len() <= LINE_BYTES);
        }

        #[test]
        fn inj_08_any_bytes_are_one_line(event in proptest::collection::vec(any::<u8>(), 0..8_192)) {
            let line = one_line(&event);
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        }
    }

    #[test]
    fn log_05_a_blocked_reader_costs_lines_and_not_time_or_memory() {
        let (lines, waiting) = sync_channel(WAITING_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut writer = Lines { lines, dropped: Arc::clone(&dropped) };
        for _ in 0..WAITING_LINES + 5 {
            writer.write_all(b"a line\n").unwrap();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 5);
        drop(waiting);
    }
}
