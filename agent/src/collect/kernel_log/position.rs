//! How far the log of which boot was read, on disk.

use std::path::{Path, PathBuf};

use aim_common::identity::BootId;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The file in the agent's state directory.
const FILE_NAME: &str = "kernel-log.json";
/// Longer it cannot be.
const LONGEST: u64 = 4096;

/// The last record that needs not be told again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Of this boot.
    pub(super) boot_id: BootId,
    /// The kernel's sequence number.
    pub(super) sequence: u64,
}

/// Where the position is kept.
#[derive(Debug)]
pub(super) struct PositionFile {
    path: PathBuf,
}

impl PositionFile {
    /// In this directory.
    pub(super) fn in_directory(state: &Path) -> Self {
        Self { path: state.join(FILE_NAME) }
    }

    /// The position, if there is a good one; a bad file costs a repetition and nothing else.
    pub(super) fn read(&self) -> Option<Position> {
        match files::read_private(&self.path, LONGEST) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|error| tracing::warn!(path = %self.path.display(), %error, "kernel log position is unusable"))
                .ok(),
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                tracing::warn!(%error, "kernel log position is unreadable");
                None
            }
        }
    }

    /// Keeps the position.
    pub(super) fn write(&self, position: &Position) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(position).unwrap_or_default();
        files::write_atomic(&self.path, &bytes, files::PRIVATE_FILE)
    }
}
