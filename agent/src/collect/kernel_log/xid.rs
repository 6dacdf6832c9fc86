//! XID lines of NVIDIA's driver and SXID lines of its NVSwitch driver.
//!
//! Code and PCI address come before anything a user can choose (a process's name), and are taken from there only.

/// An XID or SXID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Xid {
    /// Which of the two.
    pub(super) source: Source,
    /// The code.
    pub(super) code: u32,
    /// PCI address as the kernel writes it, `0000:17:00.0`.
    pub(super) pci_address: String,
    /// GPU instance of MIG, where it is named.
    pub(super) gpu_instance: Option<u32>,
    /// The process, where it is known.
    pub(super) pid: Option<u32>,
    /// The process's name as the driver saw it.
    pub(super) process: Option<String>,
    /// What the driver says.
    pub(super) text: String,
}

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// A GPU.
    Gpu,
    /// An NVSwitch.
    Switch,
}

/// Reads a line of the kernel's log; `None` where it is no XID or only a detail of the one before.
pub(super) fn parse(line: &str) -> Option<Xid> {
    if let Some(rest) = line.strip_prefix("NVRM: Xid (") {
        return gpu(rest);
    }
    let (device, rest) = line.split_once(": SXid (")?;
    let number = device.strip_prefix("nvidia-nvswitch")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| switch(rest))?
}

fn gpu(rest: &str) -> Option<Xid> {
    let (place, code, mut text) = head(rest)?;
    let (address, instance) = match place.split_once(" GPU-I:") {
        Some((address, instance)) => (address, u32::from_str_radix(instance, 16).ok()),
        None => (place, None),
    };
    let (mut pid, mut process) = (None, None);
    if let Some((value, after)) = named(text, "pid=") {
        pid = value.trim_matches('\'').parse().ok();
        text = after;
    }
    if let Some((value, after)) = named(text, "name=") {
        let name = value.trim_matches('\'');
        process = (name != "<unknown>" && !name.is_empty()).then(|| name.to_owned());
        text = after;
    }
    Some(Xid {
        source: Source::Gpu,
        code,
        pci_address: pci_address(address)?,
        gpu_instance: instance,
        pid,
        process,
        text: text.to_owned(),
    })
}

fn switch(rest: &str) -> Option<Xid> {
    let (place, code, text) = head(rest)?;
    // The driver tells one SXID in several lines; only the first says what it is.
    if text.starts_with("Severity ") || text.starts_with("Data {") {
        return None;
    }
    Some(Xid {
        source: Source::Switch,
        code,
        pci_address: pci_address(place)?,
        gpu_instance: None,
        pid: None,
        process: None,
        text: text.to_owned(),
    })
}

/// `PCI:0000:17:00): 79, text` parted; old drivers leave out `PCI:`, and some codes come without text.
fn head(rest: &str) -> Option<(&str, u32, &str)> {
    let (place, rest) = rest.split_once("): ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (code, rest) = rest.split_at_checked(digits)?;
    let text = rest.strip_prefix(',').unwrap_or(rest).trim();
    Some((place.strip_prefix("PCI:").unwrap_or(place), code.parse().ok()?, text))
}

/// `pid=1234, rest` parted.
fn named<'t>(text: &'t str, name: &str) -> Option<(&'t str, &'t str)> {
    let rest = text.strip_prefix(name)?;
    Some(rest.split_once(", ").unwrap_or((rest, "")))
}

/// XIDs name bus and device, SXIDs the function too.
fn pci_address(text: &str) -> Option<String> {
    let is_address = (1..=16).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
    let colons = text.bytes().filter(|byte| *byte == b':').count();
    let address = text.to_ascii_lowercase();
    let address = if address.contains('.') { address } else { format!("{address}.0") };
    match (is_address, colons) {
        (true, 2) => Some(address),
        (true, 1) => Some(format!("0000:{address}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gpu(line: &str) -> (u32, String, Option<u32>, Option<String>, String) {
        let xid = parse(line).unwrap();
        assert_eq!(xid.source, Source::Gpu);
        (xid.code, xid.pci_address, xid.pid, xid.process, xid.text)
    }

    #[test]
    fn xids_of_new_and_old_drivers() {
        let at = || "0000:17:00.0".to_owned();
        let lost = || "GPU has fallen off the bus.".to_owned();
        assert_eq!(
            gpu("NVRM: Xid (PCI:0000:17:00): 79, pid=1234, name=python, GPU has fallen off the bus."),
            (79, at(), Some(1234), Some("python".into()), lost())
        );
        assert_eq!(
            gpu(
                "NVRM: Xid (PCI:0000:17:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
            ),
            (79, at(), None, None, lost())
        );
        assert_eq!(
            gpu("NVRM: Xid (PCI:0000:17:00): 79, GPU has fallen off the bus."),
            (79, at(), None, None, lost())
        );
        assert_eq!(
            gpu("NVRM: Xid (0000:17:00): 13, 0002 00000000 0000a0c0 00001b0c 00000000 00000000"),
            (13, at(), None, None, "0002 00000000 0000a0c0 00001b0c 00000000 00000000".into())
        );
        assert_eq!(
            gpu("NVRM: Xid (PCI:0000:C1:00): 31, pid=7, Ch 00000010, engmask 00000101").1,
            "0000:c1:00.0"
        );
        assert_eq!(gpu("NVRM: Xid (PCI:0000:17:00): 45").0, 45);
    }

    #[test]
    fn a_mig_instance_is_told_from_its_card() {
        let line =
            "NVRM: Xid (PCI:0000:41:00 GPU-I:05): 94, pid=7194, name=train, Contained: SM (0x1). RST: No";
        let xid = parse(line).unwrap();
        assert_eq!((xid.pci_address.as_str(), xid.gpu_instance), ("0000:41:00.0", Some(5)));
        assert_eq!(xid.text, "Contained: SM (0x1). RST: No");
    }

    #[test]
    fn sxids_once_and_not_their_details() {
        let line = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error (First)";
        let sxid = parse(line).unwrap();
        assert_eq!(
            (sxid.source, sxid.code, sxid.pci_address.as_str()),
            (Source::Switch, 12028, "0000:c1:00.0")
        );
        assert!(sxid.text.starts_with("Non-fatal, Link 32"));
        for detail in [
            "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Severity 0 Engine instance 32 Sub-engine instance 00",
            "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Data {0x00000004, 0x00000004}",
        ] {
            assert_eq!(parse(detail), None);
        }
    }

    #[test]
    fn agt_04_a_process_name_forges_neither_code_nor_card() {
        let xid = parse("NVRM: Xid (PCI:0000:17:00): 31, pid=9, name=): 79, pid=1, Ch 0").unwrap();
        assert_eq!((xid.code, xid.pid, xid.pci_address.as_str()), (31, Some(9), "0000:17:00.0"));
        for line in [
            "python: NVRM: Xid (PCI:0000:17:00): 79, x",
            "NVRM: Xid (PCI:../../etc): 79, x",
            "NVRM: Xid (PCI:0000:17:00): , x",
            "NVRM: Xid (PCI:0000:17:00): 99999999999, x",
            "nvidia-nvswitchX: SXid (PCI:0000:c1:00.0): 1, x",
            "NVRM: Xid (",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn agt_04_arbitrary_lines_do_no_harm(line in "(NVRM: Xid \\(|nvidia-nvswitch0: SXid \\()?\\PC{0,120}") {
            let _ = parse(&line);
        }
    }
}
