//! Files that must be whole and private: written beside, synced, renamed; refused when others could read or change them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Mode of the state directory.
pub const PRIVATE_DIR: u32 = 0o700;
/// Mode of files with secrets.
pub const PRIVATE_FILE: u32 = 0o600;
/// Mode of a systemd credential.
const CREDENTIAL_FILE: u32 = 0o400;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The kernel said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Group or others have rights on it.
    #[error("{} has mode {mode:04o}: others could use it; run `chmod {wanted:04o} {}`", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        wanted: u32,
    },
    /// It belongs to another user.
    #[error("{} belongs to uid {owner}, and this program runs as uid {me}; run it as that user or `chown` the file", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs.
        me: u32,
    },
    /// It is a directory, link, device or pipe.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// It is longer than its sort can be.
    #[error("{} is longer than {max} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
}

impl FileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The file is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Makes the directory 0700, or checks that it is private already.
pub fn ensure_private_dir(path: &Path) -> Result<(), FileError> {
    match fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path) {
        Ok(()) => {
            check_private(path, &fs::metadata(path).map_err(FileError::io("look at", path))?, PRIVATE_DIR)
        }
        Err(source) => Err(FileError::Io { action: "make the directory", path: path.to_owned(), source }),
    }
}

fn check_private(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), FileError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Mode { path: path.to_owned(), mode, wanted });
    }
    let (owner, me) = (metadata.uid(), me());
    // Root reads everybody's files anyway: it may enrol for the agent's user.
    if owner != me && me != 0 {
        return Err(FileError::Owner { path: path.to_owned(), owner, me });
    }
    Ok(())
}

/// Reads a private regular file of at most `max` bytes; the check is on the opened file, so that it cannot be exchanged.
pub fn read_private(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_checked(path, max, |metadata| check_private(path, metadata, PRIVATE_FILE))
}

/// Reads a systemd credential: root's or this user's. systemd gives it to a service's user by an access list, which shows
/// as readable by the group.
pub fn read_credential(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read_checked(path, max, |metadata| {
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o037 != 0 {
            return Err(FileError::Mode { path: path.to_owned(), mode, wanted: CREDENTIAL_FILE });
        }
        let (owner, me) = (metadata.uid(), me());
        if owner != 0 && owner != me {
            return Err(FileError::Owner { path: path.to_owned(), owner, me });
        }
        Ok(())
    })
}

fn read_checked(
    path: &Path,
    max: u64,
    check: impl FnOnce(&fs::Metadata) -> Result<(), FileError>,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    // NONBLOCK: a pipe put in the file's place must not hang the opening.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::from_ne_bytes(flags.to_ne_bytes()))
        .open(path)
        .map_err(FileError::io("open", path))?;
    let metadata = file.metadata().map_err(FileError::io("look at", path))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    check(&metadata)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(max + 1).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() as u64 > max {
        return Err(FileError::TooLong { path: path.to_owned(), max });
    }
    Ok(bytes)
}

/// Writes the whole file or nothing: temporary file, fsync, rename, fsync of the directory (PKI-20).
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = replace_with(path, bytes, mode, true)?;
    fs::rename(&temporary, path).map_err(FileError::io("rename to", path))?;
    sync_parent(path)
}

/// As [`write_atomic`], without waiting for the disk: for files that need not survive a power cut.
pub fn write_volatile(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = replace_with(path, bytes, mode, false)?;
    fs::rename(&temporary, path).map_err(FileError::io("rename to", path))
}

fn replace_with(path: &Path, bytes: &[u8], mode: u32, sync: bool) -> Result<PathBuf, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    // What a crash left behind is never reused: its mode and owner are unknown.
    match fs::remove_file(&temporary) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::Io { action: "remove", path: temporary, source });
        }
        _ => {}
    }
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        if sync { file.sync_all() } else { Ok(()) }
    };
    if let Err(source) = write() {
        // Best effort: a full disk must not also keep the useless half.
        drop(fs::remove_file(&temporary));
        return Err(FileError::Io { action: "write", path: temporary, source });
    }
    Ok(temporary)
}

/// Makes a rename or removal in the path's directory durable.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(FileError::io("sync", parent))
}

/// Removes the file, durably; it is no error when it is not there.
pub fn remove_durably(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FileError::Io { action: "remove", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pki_20_private_files_are_0600_whole_and_leave_no_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"first", PRIVATE_FILE).unwrap();
        // Whoever reads while it is replaced has the old one whole: it is never written into.
        let mut reader = File::open(&path).unwrap();
        write_atomic(&path, b"second", PRIVATE_FILE).unwrap();
        let mut old = String::new();
        reader.read_to_string(&mut old).unwrap();
        assert_eq!(old, "first");
        // A failure leaves it as it was.
        fs::create_dir(dir.path().join("secret.tmp")).unwrap();
        write_atomic(&path, b"third", PRIVATE_FILE).unwrap_err();
        fs::remove_dir(dir.path().join("secret.tmp")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(&read_private(&path, 100).unwrap()[..], b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn agt_06_a_readable_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = read_private(&path, 100).unwrap_err();
        assert!(matches!(refused, FileError::Mode { mode: 0o640, .. }), "{refused}");
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(ensure_private_dir(&open), Err(FileError::Mode { mode: 0o755, .. })));
    }

    #[test]
    fn links_directories_and_long_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"0123456789", PRIVATE_FILE).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read_private(&link, 100), Err(FileError::Io { .. })));
        assert!(matches!(read_private(&path, 9), Err(FileError::TooLong { .. })));
        assert!(matches!(read_private(dir.path(), 100), Err(FileError::NotRegular(_))));
    }
}
