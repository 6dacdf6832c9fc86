//! What was acknowledged, one `spool sequence` a line: the oracle of the tests of what is never lost. Off by default.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use aim_common::identity::SpoolId;

use crate::files::PRIVATE_FILE;

/// The log, or nothing.
#[derive(Debug)]
pub(super) struct AckLog {
    path: Option<PathBuf>,
}

impl AckLog {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Appended in one write, so that a killed agent leaves whole lines.
    pub(super) fn write(&self, spool: SpoolId, sequences: Vec<u64>) {
        let Some(path) = &self.path else { return };
        let lines: Vec<String> =
            sequences.into_iter().map(|sequence| format!("{spool} {sequence}\n")).collect();
        let append = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .mode(PRIVATE_FILE)
                .open(path)?
                .write_all(lines.concat().as_bytes())
        };
        if let Err(error) = append() {
            tracing::error!(path = %path.display(), %error, "the log of acknowledgements is incomplete");
        }
    }
}
