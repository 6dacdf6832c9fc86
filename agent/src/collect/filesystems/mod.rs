//! Mounted file systems: the kernel's list, `statvfs` asked by a helper process, chosen as `df` chooses.
//!
//! Enters: `/proc/self/mountinfo`, the last answers of the `filesystem` helper. Leaves: the section `filesystems`,
//! sizes, events. Never: touches a mount point in the agent's own process, shows a size that is not current.

mod collector;
mod df;
pub mod mountinfo;
mod talk;
mod usage;

use serde::{Deserialize, Serialize};

pub use collector::FilesystemCollector;
pub use talk::{FilesystemFeed, FilesystemNow, FilesystemTalk, FilesystemView, questions_once};
pub use usage::{Answer, Question, StatvfsProbe, Usage};

/// `[filesystems]` of the agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesystemsConfig {
    /// Look at file systems.
    pub enabled: bool,
    /// How often each is asked.
    pub interval_ms: u64,
    /// A file system that takes longer is reported as not answering.
    pub deadline_ms: u64,
    /// Types that are left out beside those that `df` leaves out.
    pub exclude_types: Vec<String>,
}

impl Default for FilesystemsConfig {
    fn default() -> Self {
        Self { enabled: true, interval_ms: 10_000, deadline_ms: 5_000, exclude_types: Vec::new() }
    }
}
