//! One record of `/dev/kmsg` (Linux: Documentation/ABI/testing/dev-kmsg).

/// A record; its text is the first line, without the dictionary that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The kernel's sequence number.
    pub(super) sequence: u64,
    /// Microseconds since boot.
    pub(super) since_boot_us: u64,
    /// Written by the kernel itself and not by a process.
    pub(super) from_kernel: bool,
    /// The text, with the kernel's escapes taken back and control characters replaced.
    pub(super) text: String,
}

/// Longest text that is looked at; the kernel's own limit is 1 KiB.
const LONGEST_TEXT: usize = 2048;

/// Reads `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`.
pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
    let end = bytes.iter().position(|byte| *byte == b';')?;
    let (prefix, text) = (str::from_utf8(bytes.get(..end)?).ok()?, bytes.get(end + 1..)?);
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let since_boot_us = fields.next()?.parse().ok()?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.get(..LONGEST_TEXT).unwrap_or(line);
    // Below the facility lie three bits of level; the kernel's facility is 0.
    Some(Record { sequence, since_boot_us, from_kernel: priority >> 3 == 0, text: unescape(line) })
}

/// The kernel writes what is not printable as `\x1b`.
fn unescape(line: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', high, low, after @ ..] => hex(*high).zip(hex(*low)).map(|digits| (digits, after)),
            _ => None,
        };
        if let Some(((high, low), after)) = escaped {
            bytes.push(high * 16 + low);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let harmless =
        |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    String::from_utf8_lossy(&bytes).chars().map(harmless).collect()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_records_of_the_kernels_documentation() {
        let record = parse(b"7,160,424069,-;pci_root PNP0A03:00: host bridge window (ignored)\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n").unwrap();
        assert_eq!((record.sequence, record.since_boot_us, record.from_kernel), (160, 424_069, true));
        assert_eq!(record.text, "pci_root PNP0A03:00: host bridge window (ignored)");
        let written = parse(b"12,3,1,-,caller=T1;hello\\x0aNVRM: Xid\n").unwrap();
        assert_eq!((written.from_kernel, written.text.as_str()), (false, "hello\u{fffd}NVRM: Xid"));
    }

    proptest! {
        #[test]
        fn agt_04_arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(record) = parse(&bytes) {
                prop_assert!(!record.text.contains(char::is_control));
            }
        }
    }
}
