//! The `filesystem` helper: one mount point, one `statvfs`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::collect::source;
use crate::probe::{Calls, Probe};

/// Asks for one mount point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its bytes, each as the character of that number: JSON knows no bytes.
    path: String,
}

impl Question {
    /// For this mount point.
    pub fn new(mount_point: &[u8]) -> Self {
        Self { path: mount_point.iter().map(|byte| char::from(*byte)).collect() }
    }

    /// The mount point.
    pub fn mount_point(&self) -> Vec<u8> {
        self.path.chars().filter_map(|character| u8::try_from(character).ok()).collect()
    }
}

/// What a mount point answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Its size and use.
    Usage(Usage),
    /// It failed with this error number.
    Failed(i32),
}

/// Size and use of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Device number of its root folder.
    pub device: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Free, with what is reserved for root.
    pub free_bytes: u64,
    /// Free for ordinary users.
    pub available_bytes: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}

/// The probe of the `filesystem` helper.
#[derive(Debug, Default)]
pub struct StatvfsProbe;

impl Probe for StatvfsProbe {
    type Question = Question;
    type Answer = Answer;
    // FLT-36: 8 stuck in all.
    const MOST_WORKERS: usize = 8;

    fn answer(&self, question: Question, calls: &Calls) -> Answer {
        let mount_point = question.mount_point();
        calls.about(source::text(&mount_point).into_string());
        match ask(&mount_point, calls) {
            Ok(usage) => Answer::Usage(usage),
            Err(error) => Answer::Failed(error.raw_os_error()),
        }
    }
}

fn ask(mount_point: &[u8], calls: &Calls) -> Result<Usage, Errno> {
    let path = OsStr::from_bytes(mount_point);
    calls.enter("statvfs");
    let sizes = rustix::fs::statvfs(path)?;
    calls.enter("stat");
    let root = rustix::fs::stat(path)?;
    let block = if sizes.f_frsize == 0 { sizes.f_bsize } else { sizes.f_frsize };
    Ok(Usage {
        device: root.st_dev,
        size_bytes: sizes.f_blocks.saturating_mul(block),
        free_bytes: sizes.f_bfree.saturating_mul(block),
        available_bytes: sizes.f_bavail.saturating_mul(block),
        files: sizes.f_files,
        files_free: sizes.f_ffree,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_path_survives_the_pipe(path in proptest::collection::vec(any::<u8>(), 0..80)) {
            let json = serde_json::to_string(&Question::new(&path)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Question>(&json).unwrap().mount_point(), path);
        }
    }
}
