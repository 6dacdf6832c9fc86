//! What was acknowledged, one `NODE SPOOL SEQUENCE` a line: an account that the coordinator's store must equal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aim_agent::files::PRIVATE_FILE;
use aim_common::identity::{NodeId, SpoolId};

/// The log, or nothing.
#[derive(Debug, Default)]
pub(crate) struct AckLog {
    file: Option<File>,
    incomplete: AtomicBool,
}

impl AckLog {
    /// Appends to the file, if one is named.
    pub(crate) fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).mode(PRIVATE_FILE).open(path);
        Ok(Self { file: path.map(open).transpose()?, incomplete: AtomicBool::new(false) })
    }

    /// In one write, so that a killed simulator leaves whole lines.
    pub(crate) fn write(&self, node: NodeId, spool: SpoolId, sequences: &[u64]) {
        let Some(mut file) = self.file.as_ref().filter(|_| !sequences.is_empty()) else { return };
        let lines: Vec<String> =
            sequences.iter().map(|sequence| format!("{node} {spool} {sequence}\n")).collect();
        if file.write_all(lines.concat().as_bytes()).is_err() {
            self.incomplete.store(true, Ordering::Relaxed);
        }
    }

    /// A write failed: the log proves nothing.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.incomplete.load(Ordering::Relaxed)
    }
}
