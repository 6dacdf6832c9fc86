//! The state directory: private, writable, and of one coordinator at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::StartError;

/// The directory is there, belongs to nobody else's eyes, and can be written.
pub(crate) fn prepare(path: &Path) -> Result<(), StartError> {
    let refuse = |reason: String| StartError::State { path: path.to_owned(), reason };
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) => return Err(refuse(format!("the state directory cannot be made: {error}"))),
    }
    let mode = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(refuse(format!(
            "others can enter the state directory (mode {:o}); run chmod 700 on it",
            mode & 0o777
        )));
    }
    let probe = path.join(".writable");
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| refuse(format!("the state directory cannot be written: {error}")))
}

/// Locks the directory for as long as the file is held: two coordinators would write one journal.
pub(crate) fn lock(path: &Path) -> Result<File, StartError> {
    let file = path.join("lock");
    let refuse = |reason: String| StartError::State { path: file.clone(), reason };
    let held = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(|error| refuse(format!("it cannot be opened: {error}")))?;
    flock(&held, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| refuse("another coordinator runs on this state directory; stop it first".to_owned()))?;
    Ok(held)
}
