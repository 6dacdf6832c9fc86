//! `status.json`: what `aim-agent status` shows. Written whole, without waiting for a disk; holds no secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aim_common::protocol::Condition;
use aim_common::units::EpochMs;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// Written at least this often, so that a silent agent shows.
pub(super) const REFRESH: Duration = Duration::from_mins(1);
/// Older than this it says nothing about now.
pub const STALE_MS: i64 = 180_000;
/// Not more often than this.
const SHORTEST: Duration = Duration::from_secs(1);
/// Everybody on the node may read it.
const MODE: u32 = 0o644;

/// The state of the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// A session is open.
    Connected,
    /// None is open; tried again and again.
    Disconnected,
}

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When this was written.
    pub written_at: EpochMs,
    /// When the process began.
    pub started_at: EpochMs,
    /// The node's id.
    pub node_id: String,
    /// The node's name.
    pub node_name: String,
    /// Connected or not.
    pub link: LinkState,
    /// Since when.
    pub link_since: EpochMs,
    /// The coordinator's address, or the last one tried.
    pub coordinator: Option<String>,
    /// Why there is no session.
    pub reason: Option<String>,
    /// The certificate's end.
    pub certificate_not_after: EpochMs,
    /// Events and inventory changes that wait.
    pub spool_waiting: u64,
    /// Reports that wait.
    pub reports_waiting: u64,
    /// Degraded modes.
    pub conditions: Vec<Condition>,
}

impl Status {
    /// Reads what the agent wrote.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        serde_json::from_slice(&text)
            .map_err(|error| format!("{} is not a status of this version: {error}", path.display()))
    }

    /// It is too old to say anything about now, or its process is gone.
    pub fn is_stale(&self, now: EpochMs) -> bool {
        now.since_ms(self.written_at).abs() > STALE_MS || !Path::new(&format!("/proc/{}", self.pid)).exists()
    }
}

/// Writes it when it changed, and now and then.
#[derive(Debug)]
pub(super) struct StatusWriter {
    path: PathBuf,
    last: Option<(Status, Duration)>,
    failing: bool,
}

impl StatusWriter {
    /// To this file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: None, failing: false }
    }

    /// Writes if there is something new; gives the moment to ask again, if something waits.
    pub(super) fn offer(&mut self, status: Status, now: Duration) -> Option<Duration> {
        if let Some((last, at)) = &self.last {
            let same = Status { written_at: status.written_at, ..last.clone() } == status;
            if same && now < *at + REFRESH {
                return None;
            }
            if now < *at + SHORTEST {
                return Some(*at + SHORTEST);
            }
        }
        let written = self.write(&status);
        if let Err(error) = &written
            && !self.failing
        {
            tracing::warn!(%error, "`aim-agent status` will not know the state");
        }
        self.failing = written.is_err();
        self.last = Some((status, now));
        None
    }

    /// Writes it whatever was written before.
    pub(super) fn last_word(&mut self, status: Status) {
        self.last = None;
        self.offer(status, Duration::MAX);
    }

    fn write(&self, status: &Status) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(status).unwrap_or_default();
        files::write_volatile(&self.path, &text, MODE)
    }
}
