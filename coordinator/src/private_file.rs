//! Files and folders that only the coordinator's own user may read: made so, and refused when they are not.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a private file was refused or could not be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Others may read or change it.
    #[error("{} has mode {mode:04o}: others could {danger} it; run: chmod {wanted} {}", path.display(), path.display())]
    Mode {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// `read` or `change`.
        danger: &'static str,
        /// The mode it should have.
        wanted: &'static str,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, the coordinator runs as user {expected}; run: chown {expected} {}", path.display(), path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// The owner's uid.
        owner: u32,
        /// Our uid.
        expected: u32,
    },
    /// It is larger than anything that belongs there.
    #[error("{} is larger than {limit} bytes; it is not the file that belongs there", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size.
        limit: u64,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PrivateFileError {
    let path = path.to_owned();
    move |source| PrivateFileError::Io { action, path, source }
}

/// Refuses a folder of another owner or one that others may change.
pub fn check_directory(path: &Path) -> Result<(), PrivateFileError> {
    let metadata = std::fs::metadata(path).map_err(io("look at", path))?;
    check(path, &metadata, 0o022, "change", "0700")
}

fn check(
    path: &Path,
    metadata: &std::fs::Metadata,
    forbidden: u32,
    danger: &'static str,
    wanted: &'static str,
) -> Result<(), PrivateFileError> {
    let expected = rustix::process::geteuid().as_raw();
    if metadata.uid() != expected {
        return Err(PrivateFileError::Owner { path: path.to_owned(), owner: metadata.uid(), expected });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(PrivateFileError::Mode { path: path.to_owned(), mode, danger, wanted });
    }
    Ok(())
}

/// Makes a folder of mode 0700; one that is there already is only checked.
pub fn ensure_directory(path: &Path) -> Result<(), PrivateFileError> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(io("create", path)(error)),
        _ => check_directory(path),
    }
}

/// Reads a file of at most `limit` bytes; refuses it where anybody else could read it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PrivateFileError> {
    let file = File::open(path).map_err(io("read", path))?;
    let metadata = file.metadata().map_err(io("look at", path))?;
    check(path, &metadata, 0o077, "read", "0600")?;
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(io("read", path))?;
    if content.len() as u64 > limit {
        return Err(PrivateFileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(content)
}

/// Writes a file of mode 0600 so that after a crash it is there whole or not at all.
pub fn write(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let temporary = path.with_extension("new");
    // A left-over of an interrupted start may have any mode; it is never reused.
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io("create", &temporary))?;
    file.write_all(content).map_err(io("write", &temporary))?;
    file.sync_all().map_err(io("sync", &temporary))?;
    std::fs::rename(&temporary, path).map_err(io("rename", path))?;
    sync_parent(path)
}

/// Renames within a folder, durably: afterwards a crash finds the new name.
pub fn rename(from: &Path, to: &Path) -> Result<(), PrivateFileError> {
    std::fs::rename(from, to).map_err(io("rename", from))?;
    sync_parent(to)
}

/// Opens a file for appending, mode 0600; refuses one that others could read.
pub fn open_append(path: &Path) -> Result<File, PrivateFileError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(io("open", path))?;
    let metadata = file.metadata().map_err(io("look at", path))?;
    check(path, &metadata, 0o077, "read", "0600")?;
    Ok(file)
}

/// Makes the entry of `path` in its folder durable.
pub fn sync_parent(path: &Path) -> Result<(), PrivateFileError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(io("sync", parent))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn pki_13_a_readable_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read(&path, 100).unwrap(), b"secret");
        for mode in [0o640, 0o604, 0o620, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path, 100), Err(PrivateFileError::Mode { .. })), "mode {mode:o}");
        }
    }

    /// The only user whose file a program can count on to find, other than its own: root for others, nobody for root.
    #[test]
    fn pki_13_a_key_file_of_another_user_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = if rustix::process::geteuid().is_root() {
            let path = folder.path().join("key");
            write(&path, b"secret").unwrap();
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            path
        } else {
            PathBuf::from("/etc/passwd")
        };
        let refused = read(&path, 1 << 20).unwrap_err();
        assert!(matches!(&refused, PrivateFileError::Owner { .. }), "{refused}");
        assert!(refused.to_string().contains("chown"), "{refused}");
    }

    #[test]
    fn pki_13_a_folder_that_others_may_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca");
        ensure_directory(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        for mode in [0o720, 0o702, 0o777] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(check_directory(&path), Err(PrivateFileError::Mode { .. })), "mode {mode:o}");
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, &[0; 11]).unwrap();
        assert!(matches!(read(&path, 10), Err(PrivateFileError::TooLarge { .. })));
    }
}
