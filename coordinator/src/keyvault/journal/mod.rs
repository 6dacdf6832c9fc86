//! The journal beside the database: append-only, fsynced, never restored from a backup of the database.
//!
//! Enters: redeemed tokens, revocations, marks of how far the audit trail had come. Leaves: what all of them add up to,
//! at start. Never: a secret (tokens stand there as keyed hashes), a record acknowledged before it is on disk.

mod record;

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

pub use record::{AuditMark, JournalState, Record, RevocationRecord};

use crate::private_file::{self, PrivateFileError};

/// Records that wait for the disk; whoever comes on top waits for a place.
const QUEUE: usize = 1_024;
/// Longest line: a revocation with its reason.
const MAX_LINE: usize = 16 * 1024;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It could not be read or written.
    #[error("cannot write the journal {}: {source}", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A record is damaged.
    #[error(
        "{}:{line}: the record is damaged; restore the journal from its own backup, or move it away and lift the fence \
         after the start",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The thread that writes has ended.
    #[error("the journal is closed")]
    Closed,
}

struct Job {
    line: String,
    done: oneshot::Sender<Result<(), std::io::ErrorKind>>,
}

/// The journal, open for appending.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Journal {
    /// Reads what is there, cuts off a record that a crash left half, and opens the journal for appending.
    pub fn open(path: &Path) -> Result<(Self, JournalState), JournalError> {
        let mut file = private_file::open_append(path)?;
        private_file::sync_parent(path)?;
        let state = read(&mut file, path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_jobs(file, queue))
            .map_err(io)?;
        Ok((Self { path: path.to_owned(), jobs }, state))
    }

    /// Appends the record; it is on disk when this returns.
    pub async fn append(&self, record: &Record) -> Result<(), JournalError> {
        let (done, written) = oneshot::channel();
        let job = Job { line: record.to_line(), done };
        self.jobs.send(job).await.map_err(|_| JournalError::Closed)?;
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(kind)) => Err(JournalError::Io { path: self.path.clone(), source: kind.into() }),
            Err(_) => Err(JournalError::Closed),
        }
    }
}

fn read(file: &mut File, path: &Path) -> Result<JournalState, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let mut state = JournalState::default();
    let mut reader = BufReader::new(&mut *file);
    let mut whole_bytes = 0_u64;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(io)?;
        if read == 0 {
            break;
        }
        let damaged = || JournalError::Damaged { path: path.to_owned(), line: number };
        if line.last() != Some(&b'\n') {
            tracing::warn!(path = %path.display(), line = number, "cut off a journal record that a crash left half");
            break;
        }
        let record = std::str::from_utf8(&line).ok().and_then(Record::from_line).ok_or_else(damaged)?;
        state.apply(record);
        whole_bytes += read as u64;
    }
    drop(reader);
    file.set_len(whole_bytes).map_err(io)?;
    file.seek(std::io::SeekFrom::End(0)).map_err(io)?;
    Ok(state)
}

/// Writes whatever waits in one go, then makes it durable once, until the last handle is dropped.
fn write_jobs(mut file: File, mut queue: mpsc::Receiver<Job>) {
    let mut batch = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while let Ok(next) = queue.try_recv() {
            batch.push(next);
        }
        let written = append_durably(&mut file, &batch);
        if let Err(error) = &written {
            tracing::error!(%error, "the journal could not be written");
        }
        for job in batch.drain(..) {
            // Whoever asked may have gone; the record stands all the same.
            let _ = job.done.send(written.as_ref().copied().map_err(std::io::Error::kind));
        }
    }
}

/// A half written batch is taken back, so that a later one does not stand behind a torn line.
fn append_durably(file: &mut File, batch: &[Job]) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    let text: String = batch.iter().map(|job| job.line.as_str()).collect();
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        file.set_len(before)?;
    }
    written
}

#[cfg(test)]
mod tests;
