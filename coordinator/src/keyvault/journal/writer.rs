//! The one thread that writes the journal: appends in groups, and rewrites the file when it has grown.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use aim_common::units::EpochMs;
use tokio::sync::{mpsc, oneshot};

use super::record::Record;
use super::state::JournalState;
use crate::private_file::{self, PrivateFileError};

/// Answered once it is durable.
type Done = oneshot::Sender<Result<(), ErrorKind>>;

/// What is asked of the thread.
pub(super) enum Job {
    Append { record: Record, done: Done },
    Compact { now: EpochMs, done: Done },
}

/// The thread's state.
pub(super) struct Writer {
    path: PathBuf,
    /// None where the name may stand for another file by now: it is opened again before the next write.
    file: Option<File>,
    /// What stands in the file.
    state: JournalState,
    compact_from: u64,
    /// Size after the last compaction.
    compacted: u64,
}

impl Writer {
    pub(super) fn new(path: &Path, file: File, state: JournalState, compact_from: u64) -> Self {
        Self { path: path.to_owned(), file: Some(file), state, compact_from, compacted: 0 }
    }

    /// Writes whatever waits in one go, then makes it durable once, until the last handle is dropped.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Append { record, done } => batch.push((record, done)),
                    Job::Compact { now, done } => {
                        self.append(&mut batch);
                        // Whoever asked may have gone.
                        let _ = done.send(self.compact_if_large(now));
                    }
                }
                next = queue.try_recv().ok();
            }
            self.append(&mut batch);
        }
    }

    fn append(&mut self, batch: &mut Vec<(Record, Done)>) {
        if batch.is_empty() {
            return;
        }
        let text: String = batch.iter().map(|(record, _)| record.to_line()).collect();
        let written = self.file().and_then(|file| append_durably(file, &text));
        if let Err(error) = &written {
            tracing::error!(%error, "the journal could not be written");
        }
        for (record, done) in batch.drain(..) {
            if written.is_ok() {
                self.state.apply(record);
            }
            // Whoever asked may have gone; the record stands all the same.
            let _ = done.send(written.as_ref().copied().map_err(std::io::Error::kind));
        }
    }

    fn file(&mut self) -> std::io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => private_file::open_append(&self.path).map_err(system_error)?,
        };
        Ok(self.file.insert(file))
    }

    fn compact_if_large(&mut self, now: EpochMs) -> Result<(), ErrorKind> {
        let size = self.file().and_then(|file| file.metadata()).map_err(|error| error.kind())?.len();
        if size < self.compact_from.max(self.compacted.saturating_mul(2)) {
            return Ok(());
        }
        self.compact(now).map_err(|error| error.kind())
    }

    /// Written beside, synced and renamed, so that a crash leaves the old journal or the new one.
    fn compact(&mut self, now: EpochMs) -> std::io::Result<()> {
        let mut kept = JournalState::default();
        let mut text = String::new();
        for record in self.state.compacted(now) {
            text.push_str(&record.to_line());
            kept.apply(record);
        }
        // Whether or not the rename was reached, the next record belongs into the file that has the name then.
        self.file = None;
        private_file::write(&self.path, text.as_bytes()).map_err(system_error)?;
        self.state = kept;
        self.compacted = text.len() as u64;
        tracing::info!(bytes = self.compacted, "compacted the journal");
        Ok(())
    }
}

fn system_error(error: PrivateFileError) -> std::io::Error {
    match error {
        PrivateFileError::Io { source, .. } => source,
        refused => std::io::Error::new(ErrorKind::PermissionDenied, refused),
    }
}

/// A half written batch is taken back, so that a later one does not stand behind a torn line.
fn append_durably(file: &mut File, text: &str) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        file.set_len(before)?;
    }
    written
}
