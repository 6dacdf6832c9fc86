//! `/proc/self/mountinfo` (Linux: proc_pid_mountinfo(5)): one mount a line, fields parted by single spaces, and spaces
//! inside a field written as octal escapes.

use std::io::{self, BufRead, Read};

/// Longest line that is read: a path of 4 KiB, each byte escaped, twice, and options.
const LONGEST_LINE: u64 = 64 * 1024;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number of the file system as the kernel writes it (`8:1`).
    pub device: String,
    /// Which folder of the file system is mounted.
    pub root: Vec<u8>,
    /// Where it is mounted.
    pub mount_point: Vec<u8>,
    /// Type, with a subtype where it has one (`fuse.sshfs`).
    pub fs_type: String,
    /// Device or remote source.
    pub source: Vec<u8>,
    /// Mounted read-only, here or as a whole.
    pub read_only: bool,
}

/// The mounts that `keep` wants, in the kernel's order, `most` at most, and how many more there were.
pub fn read(
    mut mountinfo: impl BufRead,
    most: usize,
    keep: impl Fn(&Mount) -> bool,
) -> io::Result<(Vec<Mount>, usize)> {
    let (mut mounts, mut left_out, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        if (&mut mountinfo).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok((mounts, left_out));
        }
        // What is not a mount (the rest of an overlong line, a format of the future) is passed over.
        let Some(mount) = parse(line.trim_ascii_end()).filter(&keep) else { continue };
        if mounts.len() < most { mounts.push(mount) } else { left_out += 1 }
    }
}

/// One line without its line feed.
pub fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (_id, _parent) = (fields.next()?, fields.next()?);
    let device = str::from_utf8(fields.next()?).ok()?.to_owned();
    let (root, mount_point, options) = (fields.next()?, fields.next()?, fields.next()?);
    // Optional fields end with a dash of their own.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    let (source, super_options) = (fields.next()?, fields.next().unwrap_or_default());
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mount {
        device,
        root: unescape(root),
        mount_point: unescape(mount_point),
        fs_type,
        source: unescape(source),
        read_only: is_read_only(options) || is_read_only(super_options),
    })
}

/// `\040` and the like are bytes; any other backslash is itself.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] = rest {
            bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_line_of_the_manual_page() {
        let mount =
            parse(b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue").unwrap();
        assert_eq!(mount.mount_point, b"/mnt2");
        assert_eq!((mount.device.as_str(), mount.fs_type.as_str()), ("98:0", "ext3"));
        assert_eq!(mount.source, b"/dev/root");
        assert!(!mount.read_only);
    }

    #[test]
    fn agt_04_hostile_names_stay_in_their_fields() {
        let line = br"40 1 0:50 / /mnt/a\040-\040ext4\040/dev/sda\011\012\134040 ro - fuse.evil x\0432 rw";
        let mount = parse(line).unwrap();
        assert_eq!(mount.mount_point, b"/mnt/a - ext4 /dev/sda\t\n\\040");
        assert_eq!((mount.fs_type.as_str(), mount.source.as_slice()), ("fuse.evil", &b"x#2"[..]));
        assert!(mount.read_only);
        assert!(
            parse(b"40 1 0:50 / /mnt rw - tmpfs  rw").unwrap().source.is_empty(),
            "a source may be empty"
        );
    }

    #[test]
    fn agt_07_a_hundred_thousand_mounts_are_bounded() {
        let mut list = Vec::new();
        for number in 0..100_000 {
            list.extend_from_slice(
                format!("{number} 1 8:1 / /mnt/{number} rw - ext4 /dev/sda1 rw\n").as_bytes(),
            );
        }
        let (mounts, left_out) = read(list.as_slice(), 1024, |_| true).unwrap();
        assert_eq!((mounts.len(), left_out), (1024, 98_976));
    }

    proptest! {
        #[test]
        fn agt_04_arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(bytes.as_slice(), 10, |_| true);
        }

        #[test]
        fn agt_04_any_mount_point_survives_the_kernels_writing(path in proptest::collection::vec(1_u8.., 1..60)) {
            let mut escaped = Vec::new();
            for byte in &path {
                if b" \t\n\\#".contains(byte) {
                    escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                } else {
                    escaped.push(*byte);
                }
            }
            let line = [&b"40 1 0:50 / "[..], &escaped, b" rw - ext4 /dev/sda rw"].concat();
            prop_assert_eq!(parse(&line).unwrap().mount_point, path);
        }
    }
}
