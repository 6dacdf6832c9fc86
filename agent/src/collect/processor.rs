//! Who made the processor and what it is, from `/proc/cpuinfo`: a part of the CPU collector.

use std::path::Path;

use aim_common::inventory::{Fact, Text, UnknownReason};

use super::source;

/// The first processor's part of the file; the whole takes 1.5 KiB for each CPU.
const START: u64 = 8 * 1024;

/// Arm processors name themselves by numbers only (Linux: arch/arm64/include/asm/cputype.h): implementers.
const IMPLEMENTERS: [(&[u8], &str); 3] = [(b"0x41", "ARM"), (b"0x48", "HiSilicon"), (b"0xc0", "Ampere")];
/// Parts that GPU nodes have, by implementer and number.
const PARTS: [(&[u8], &[u8], &str); 7] = [
    (b"0x41", b"0xd0c", "Neoverse-N1"),
    (b"0x41", b"0xd40", "Neoverse-V1"),
    (b"0x41", b"0xd49", "Neoverse-N2"),
    (b"0x41", b"0xd4f", "Neoverse-V2"),
    (b"0x48", b"0xd01", "Kunpeng-920"),
    (b"0xc0", b"0xac3", "Ampere-1"),
    (b"0xc0", b"0xac4", "Ampere-1a"),
];

/// The processor's names.
pub(super) struct Processor {
    pub(super) vendor: Fact<Text>,
    pub(super) model: Fact<Text>,
    pub(super) microcode: Fact<Text>,
}

impl Processor {
    pub(super) fn read(cpuinfo: &Path) -> Self {
        let unknown = |reason| Self {
            vendor: Fact::Unknown(reason),
            model: Fact::Unknown(reason),
            microcode: Fact::Unknown(reason),
        };
        match source::read_start(cpuinfo, START) {
            Ok(text) => Self::parse(&text),
            Err(error) => unknown(source::reason(&error)),
        }
    }

    fn parse(cpuinfo: &[u8]) -> Self {
        let named = |name: &str| value(cpuinfo, name.as_bytes()).and_then(source::some_text);
        let arm = Arm::parse(cpuinfo);
        Self {
            vendor: named("vendor_id").or_else(|reason| arm.as_ref().map(Arm::vendor).ok_or(reason)).into(),
            model: named("model name").or_else(|reason| arm.as_ref().map(Arm::model).ok_or(reason)).into(),
            microcode: named("microcode").into(),
        }
    }
}

/// An Arm processor's numbers.
struct Arm<'a> {
    implementer: &'a [u8],
    part: &'a [u8],
}

impl<'a> Arm<'a> {
    fn parse(cpuinfo: &'a [u8]) -> Option<Self> {
        let implementer = value(cpuinfo, b"CPU implementer").ok()?;
        Some(Self { implementer, part: value(cpuinfo, b"CPU part").ok()? })
    }

    fn vendor(&self) -> Text {
        let known = IMPLEMENTERS.iter().find(|(number, _)| *number == self.implementer);
        known.map_or_else(|| source::text(self.implementer), |(_, name)| (*name).into())
    }

    fn model(&self) -> Text {
        let is_it = |(implementer, part, _): &&(&[u8], &[u8], &str)| {
            *implementer == self.implementer && *part == self.part
        };
        let known = PARTS.iter().find(is_it);
        known.map_or_else(|| source::text(&[b"part ", self.part].concat()), |(.., name)| (*name).into())
    }
}

/// `name\t: value` of the first processor.
fn value<'a>(cpuinfo: &'a [u8], name: &[u8]) -> Result<&'a [u8], UnknownReason> {
    let value = source::lines(cpuinfo).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (key, value) = line.split_at_checked(colon)?;
        (key.trim_ascii() == name).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    });
    value.ok_or(UnknownReason::NotPresent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm_processors_are_named_by_their_numbers() {
        let grace = b"processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd4f\n";
        let processor = Processor::parse(grace);
        assert_eq!(processor.vendor, Fact::Known("ARM".into()));
        assert_eq!(processor.model, Fact::Known("Neoverse-V2".into()));
        assert_eq!(processor.microcode, Fact::Unknown(UnknownReason::NotPresent));
        let newer = Processor::parse(b"CPU implementer\t: 0x99\nCPU part\t: 0xfff\n");
        assert_eq!(
            (newer.vendor, newer.model),
            (Fact::Known("0x99".into()), Fact::Known("part 0xfff".into()))
        );
        assert_eq!(Processor::parse(b"").model, Fact::Unknown(UnknownReason::NotPresent));
    }
}
