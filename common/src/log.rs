//! Lines of a log: a field cannot forge one (INJ-08), and a reader that does not read stops nothing and costs bounded
//! memory (LOG-05). A program feeds the queue from anywhere and empties it on one thread of its own.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest line; the rest is cut and marked.
pub const LINE_BYTES: usize = 4_096;
/// What stands at the end of a line that was cut.
const CUT: &str = " [cut]";
/// Longest escape of one character: `\u{10ffff}`.
const ESCAPE_BYTES: usize = 10;
/// What a waiting line costs beside its text.
const LINE_OVERHEAD: usize = 64;

/// The text with everything escaped that could end, hide or colour a line.
pub fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        push_escaped(&mut line, character);
    }
    line
}

/// An event as exactly one line with its line feed, cut where it is too long.
pub fn one_line(event: &[u8]) -> Vec<u8> {
    // What follows cannot be in the line, whatever it is.
    let event = event.get(..LINE_BYTES).unwrap_or(event);
    let text = String::from_utf8_lossy(event);
    let mut line = String::with_capacity(text.len() + ESCAPE_BYTES);
    for character in text.trim_end_matches('\n').chars() {
        if line.len() + ESCAPE_BYTES + CUT.len() >= LINE_BYTES {
            line.push_str(CUT);
            break;
        }
        push_escaped(&mut line, character);
    }
    line.push('\n');
    line.into_bytes()
}

fn push_escaped(line: &mut String, character: char) {
    let hostile = character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if hostile {
        line.extend(character.escape_default());
    } else {
        line.push(character);
    }
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    dropped: u64,
    /// How many of the dropped ones the log was told.
    told: u64,
    /// A line is with the reader.
    writing: bool,
}

/// Lines that wait for a slow reader, bounded by their bytes.
#[derive(Debug)]
pub struct LogQueue {
    most_bytes: usize,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl LogQueue {
    /// Holds at most so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self { most_bytes, waiting: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes an event; drops and counts it where too much waits. Never waits for the reader.
    pub fn push(&self, event: &[u8]) {
        let line = one_line(event).into_boxed_slice();
        let cost = line.len() + LINE_OVERHEAD;
        let mut waiting = self.lock();
        if waiting.bytes + cost > self.most_bytes {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += cost;
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Writes line by line for as long as the program lives; says how many were dropped before it goes on.
    ///
    /// What cannot be written is lost: there is nowhere left to say so.
    pub fn write_to(&self, mut output: impl Write) {
        loop {
            let line = self.next();
            let _ = output.write_all(&line);
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, but not longer than this: for the program's end.
    pub fn flush(&self, most: Duration) {
        let unwritten = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let written = self.changed.wait_timeout_while(self.lock(), most, unwritten);
        drop(written.unwrap_or_else(PoisonError::into_inner));
    }

    fn next(&self) -> Box<[u8]> {
        let empty = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.dropped == waiting.told;
        let mut waiting = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        waiting.writing = true;
        if let Some(line) = waiting.lines.pop_front() {
            waiting.bytes = waiting.bytes.saturating_sub(line.len() + LINE_OVERHEAD);
            return line;
        }
        let lost = waiting.dropped - waiting.told;
        waiting.told = waiting.dropped;
        format!("{lost} log lines were dropped because nobody read the log\n").into_bytes().into_boxed_slice()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
