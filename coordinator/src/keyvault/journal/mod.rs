//! The journal beside the database: appended to, fsynced, never restored from a backup of the database.
//!
//! Enters: redeemed tokens, revocations, marks of how far the audit trail had come. Leaves: what all of them add up to,
//! at start. Never: a secret (tokens stand there as keyed hashes), a record acknowledged before it is on disk, a record
//! forgotten that still matters.

mod record;
mod state;
mod writer;

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};

use aim_common::units::EpochMs;
use tokio::sync::{mpsc, oneshot};

pub use record::{AuditMark, Record, RevocationRecord, RevokedCertificate};
pub use state::{DatabaseView, JournalState, REDEEMED_MEMORY_MS};

use self::writer::{Job, Writer};

use crate::private_file::{self, PrivateFileError};

/// Records that wait for the disk; whoever comes on top waits for a place.
const QUEUE: usize = 1_024;
/// Longest line: a revocation with its reason.
const MAX_LINE: usize = 16 * 1024;
/// A smaller journal is not worth compacting: some thousand records.
const COMPACT_FROM: u64 = 1024 * 1024;

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

/// The journal, open for appending.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Journal {
    /// Reads what is there, cuts off a record that a crash left half, and opens the journal for appending.
    pub fn open(path: &Path) -> Result<(Self, JournalState), JournalError> {
        Self::open_compacting_from(path, COMPACT_FROM)
    }

    /// Likewise; compacted where it is larger than so many bytes.
    fn open_compacting_from(path: &Path, bytes: u64) -> Result<(Self, JournalState), JournalError> {
        let mut file = private_file::open_append(path)?;
        private_file::sync_parent(path)?;
        let state = read(&mut file, path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let writer = Writer::new(path, file, state.clone(), bytes);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(io)?;
        Ok((Self { path: path.to_owned(), jobs }, state))
    }

    /// Appends the record; it is on disk when this returns.
    pub async fn append(&self, record: &Record) -> Result<(), JournalError> {
        let (done, written) = oneshot::channel();
        self.ask(Job::Append { record: record.clone(), done }, written).await
    }

    /// Rewrites the journal to what still matters at `now`, where it has grown to twice that.
    pub async fn compact_if_large(&self, now: EpochMs) -> Result<(), JournalError> {
        let (done, compacted) = oneshot::channel();
        self.ask(Job::Compact { now, done }, compacted).await
    }

    async fn ask(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<(), std::io::ErrorKind>>,
    ) -> Result<(), JournalError> {
        self.jobs.send(job).await.map_err(|_| JournalError::Closed)?;
        match answer.await {
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

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod tests;
