//! Reading the kernel's small files: bounded, without trust in their content, and cheap where it happens each round.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aim_common::inventory::{Fact, Text, UnknownReason};

use super::CollectError;

/// Room at the start for a file that is read each round; `/proc/meminfo` takes 1.5 KiB, `/proc/vmstat` 4 KiB.
const FIRST_ROOM: usize = 8 * 1024;
/// Most of a file that is read each round: `/proc/stat` of 1,024 CPUs takes 150 KiB.
const MAX_ROOM: usize = 1024 * 1024;
/// Most of a file with one fact; sysfs never gives more than a page.
const MAX_FACT: u64 = 4096;
/// Most entries of a directory: no class of devices on a node comes near it.
const MAX_ENTRIES: usize = 4096;

/// A file that is read each round: opened once, read by `pread`, opened anew where reading fails.
#[derive(Debug)]
pub(super) struct KeptFile {
    path: PathBuf,
    file: Option<File>,
}

impl KeptFile {
    /// Opens nothing yet.
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file that the kernel gives in one piece: sysfs, and all of `/proc` that is not a list of records.
    pub(super) fn read_value<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        self.read(buffer, false)
    }

    /// A file that the kernel gives record by record, a page at most in each read (`diskstats`, `net/dev`).
    pub(super) fn read_records<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        self.read(buffer, true)
    }

    /// The whole number that is all of the file.
    pub(super) fn read_number(&mut self, buffer: &mut Vec<u8>) -> Result<u64, UnknownReason> {
        let bytes = self.read_value(buffer).map_err(|error| reason(&error))?;
        number_or_reason(bytes.trim_ascii())
    }

    /// As [`Self::read_number`] where it may be negative.
    pub(super) fn read_signed(&mut self, buffer: &mut Vec<u8>) -> Result<i64, UnknownReason> {
        let bytes = self.read_value(buffer).map_err(|error| reason(&error))?.trim_ascii();
        let text = str::from_utf8(bytes).map_err(|_| UnknownReason::Malformed)?;
        text.parse().map_err(|_| UnknownReason::Malformed)
    }

    fn read<'b>(&mut self, buffer: &'b mut Vec<u8>, to_end: bool) -> io::Result<&'b [u8]> {
        let was_open = self.file.is_some();
        let mut length = self.read_once(buffer, to_end);
        if length.is_err() {
            // What was opened for a device that went away fails for ever, even when the device is back.
            self.file = None;
            if was_open {
                length = self.read_once(buffer, to_end);
            }
        }
        Ok(buffer.get(..length?).unwrap_or_default())
    }

    fn read_once(&mut self, buffer: &mut Vec<u8>, to_end: bool) -> io::Result<usize> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.path)?),
        };
        let mut filled = 0;
        loop {
            if filled == buffer.len() {
                if filled >= MAX_ROOM {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                buffer.resize((filled * 2).max(FIRST_ROOM), 0);
            }
            let room = buffer.get_mut(filled..).unwrap_or_default();
            match file.read_at(room, filled as u64) {
                Ok(0) => return Ok(filled),
                Ok(read) => {
                    filled += read;
                    if !to_end && filled < buffer.len() {
                        return Ok(filled);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Why a failed read leaves a value unknown.
pub(super) fn reason(error: &io::Error) -> UnknownReason {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO) => UnknownReason::NotPresent,
        Some(Errno::ACCESS | Errno::PERM) => UnknownReason::NeedsRoot,
        Some(Errno::OPNOTSUPP | Errno::NODATA | Errno::INVAL) => UnknownReason::NotSupported,
        Some(Errno::TIMEDOUT) => UnknownReason::Unresponsive,
        _ => UnknownReason::ReadFailed,
    }
}

/// The failure of a whole collector.
pub(super) fn failure(path: &Path, source: io::Error) -> CollectError {
    let what = path.display().to_string();
    match reason(&source) {
        UnknownReason::NotPresent => CollectError::NotPresent(what),
        UnknownReason::NeedsRoot => CollectError::NeedsPrivilege { what, privilege: "root" },
        _ => CollectError::Read { what, source },
    }
}

/// The start of a file, without white space at its ends; `limit` bytes at most.
pub(super) fn read_start(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes.trim_ascii().to_vec())
}

/// The content of a file with one fact.
pub(super) fn fact(path: &Path) -> Result<Vec<u8>, UnknownReason> {
    read_start(path, MAX_FACT).map_err(|error| reason(&error))
}

/// The text of a file with one fact; an empty one says that the device does not offer it.
pub(super) fn text_fact(path: &Path) -> Fact<Text> {
    fact(path).and_then(|bytes| some_text(&bytes)).into()
}

/// The text, or "not supported" where it is empty.
pub(super) fn some_text(bytes: &[u8]) -> Result<Text, UnknownReason> {
    Some(text(bytes)).filter(|text| !text.is_empty()).ok_or(UnknownReason::NotSupported)
}

/// The number of a file with one fact.
pub(super) fn number_fact(path: &Path) -> Result<u64, UnknownReason> {
    number_or_reason(&fact(path)?)
}

/// As [`number_fact`], for numbers of 32 bits.
pub(super) fn small_number_fact(path: &Path) -> Result<u32, UnknownReason> {
    u32::try_from(number_fact(path)?).map_err(|_| UnknownReason::Malformed)
}

/// The 0 or 1 of a file with one fact.
pub(super) fn flag_fact(path: &Path) -> Fact<bool> {
    let flag = number_fact(path).and_then(|number| match number {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(UnknownReason::Malformed),
    });
    flag.into()
}

/// A NUMA node as sysfs names it: -1 where the firmware does not say.
fn numa_node(path: &Path) -> Result<u32, UnknownReason> {
    let bytes = fact(path)?;
    if bytes.as_slice() == b"-1" { Err(UnknownReason::NotSupported) } else { number_as_u32(&bytes) }
}

fn number_as_u32(bytes: &[u8]) -> Result<u32, UnknownReason> {
    u32::try_from(number_or_reason(bytes)?).map_err(|_| UnknownReason::Malformed)
}

fn number_or_reason(bytes: &[u8]) -> Result<u64, UnknownReason> {
    match number(bytes) {
        Some(number) => Ok(number),
        // The RDMA core writes "N/A (no PMA)" where firmware does not count.
        None if bytes.starts_with(b"N/A") => Err(UnknownReason::NotSupported),
        None => Err(UnknownReason::Malformed),
    }
}

/// The names in a directory, sorted, and how many were passed over: not UTF-8, with control characters, or too many.
pub(super) fn entries(directory: &Path) -> io::Result<(Vec<String>, u64)> {
    let mut names = Vec::new();
    let mut skipped = 0;
    for entry in fs::read_dir(directory)? {
        match entry?.file_name().into_string() {
            Ok(name) if names.len() < MAX_ENTRIES && !name.contains(char::is_control) => names.push(name),
            _ => skipped += 1,
        }
    }
    names.sort_unstable();
    Ok((names, skipped))
}

/// The names `PREFIX<number>` in a directory, in the order of the numbers; empty where there is no directory.
pub(super) fn numbered(directory: &Path, prefix: &str) -> Vec<(u32, String)> {
    let (names, _) = entries(directory).unwrap_or_default();
    let numbered = |name: String| {
        let number = name.strip_prefix(prefix)?;
        Some((u32::try_from(self::number(number.as_bytes())?).ok()?, name))
    };
    let mut found: Vec<_> = names.into_iter().filter_map(numbered).collect();
    found.sort_unstable();
    found
}

/// The last part of what a symbolic link points to (`../../bus/pci/drivers/nvme` → `nvme`).
pub(super) fn link_name(link: &Path) -> Result<String, UnknownReason> {
    let target = fs::read_link(link).map_err(|error| reason(&error))?;
    let name = target.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or(UnknownReason::Malformed)
}

/// Address and NUMA node of the nearest PCI function that a device hangs on.
pub(super) fn pci_place(device: &Path) -> (Fact<Text>, Fact<u32>) {
    let is_address =
        |part: &&Path| part.file_name().is_some_and(|name| is_pci_address(name.as_encoded_bytes()));
    let function = fs::canonicalize(device).map_err(|error| reason(&error)).and_then(|path| {
        path.ancestors().find(is_address).map(Path::to_owned).ok_or(UnknownReason::NotSupported)
    });
    let address = function.as_ref().map_err(|reason| *reason).and_then(|function| {
        some_text(function.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default())
    });
    let numa_node = function.and_then(|function| numa_node(&function.join("numa_node")));
    (address.into(), numa_node.into())
}

/// `0000:17:00.0`: domain of four digits or more, bus, device, function.
fn is_pci_address(name: &[u8]) -> bool {
    let Some((domain, rest)) = name.split_at_checked(name.len().saturating_sub(8)) else { return false };
    let hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    let [b':', bus @ .., b':', d1, d0, b'.', function] = rest else { return false };
    domain.len() >= 4 && hex(domain) && hex(bus) && hex(&[*d1, *d0, *function])
}

/// A decimal number and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The words of a line, parted by spaces and tabs.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The lines of a text.
pub(super) fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// A text of the node's, made harmless once: UTF-8, bounded, no control characters, no white space at its ends.
pub(super) fn text(bytes: &[u8]) -> Text {
    let clean: String = String::from_utf8_lossy(bytes)
        .chars()
        .map(|character| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character })
        .collect();
    Text::truncated(
        clean.trim_matches(|character: char| character.is_whitespace() || character == '\u{fffd}'),
    )
}

/// A count as the float that a sample holds.
#[expect(clippy::cast_precision_loss, reason = "counts over 2^53 are rounded")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agt_04_texts_are_bounded_and_without_control_characters() {
        assert_eq!(text(b"  PowerEdge\x1b[31m\nXE9680 \n").as_str(), "PowerEdge\u{fffd}[31m\u{fffd}XE9680");
        assert_eq!(text(&[b'x'; 5000]).len(), 256);
        assert_eq!(text(b"a\xffb").as_str(), "a\u{fffd}b");
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(number(b"42"), Some(42));
        for bad in [&b""[..], b"+1", b"-1", b" 1", b"0x10", b"18446744073709551616", b"1\xff"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pci_addresses_are_told_from_other_names() {
        assert!(is_pci_address(b"0000:17:00.0"));
        assert!(is_pci_address(b"10000:e1:00.0"));
        for other in [&b"virtio2"[..], b"0000:17:00", b"pci0000:00", b"::17:00.0", b"", b"xxxx:17:00.0"] {
            assert!(!is_pci_address(other), "{other:?}");
        }
    }

    #[test]
    fn a_kept_file_follows_its_path_and_grows_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("counter");
        let (mut file, mut buffer) = (KeptFile::new(&path), Vec::new());
        assert_eq!(file.read_number(&mut buffer), Err(UnknownReason::NotPresent));
        for value in [7_u64, 123_456, 8] {
            fs::write(&path, format!("{value}\n")).unwrap();
            assert_eq!(file.read_number(&mut buffer), Ok(value));
        }
        fs::write(&path, vec![b'a'; 100_000]).unwrap();
        assert_eq!(file.read_value(&mut buffer).unwrap().len(), 100_000);
        assert_eq!(file.read_records(&mut buffer).unwrap().len(), 100_000);
        fs::write(&path, vec![b'a'; MAX_ROOM + 1]).unwrap();
        assert_eq!(file.read_value(&mut buffer).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
