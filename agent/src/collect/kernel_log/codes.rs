//! What the codes mean, in a line each, and how bad they are.

use aim_common::event::Severity;

use super::xid::{Source, Xid};

use Severity::{Critical, Info, Warning};

/// Well-known XIDs. A code that is missing here is a warning with the driver's own text.
const XIDS: &[(u32, Severity, &str)] = &[
    (13, Warning, "a kernel of the process faulted; usually the program's own fault"),
    (31, Warning, "the process touched GPU memory that is not its own; usually the program's own fault"),
    (32, Warning, "the process sent the GPU a malformed command stream"),
    (38, Critical, "the driver's firmware failed"),
    (43, Warning, "the driver stopped the process's work on the GPU"),
    (44, Warning, "the GPU failed while it switched between processes"),
    (45, Info, "the driver cleaned up after a process that ended or failed before"),
    (46, Critical, "the GPU stopped working on its commands"),
    (48, Critical, "a memory error that ECC cannot correct"),
    (54, Critical, "the card's power cable is missing or loose"),
    (61, Warning, "the GPU's own controller ran into a breakpoint"),
    (62, Critical, "the GPU's own controller halted; it needs a reset"),
    (63, Warning, "a bad row or page of memory will be replaced at the next reset"),
    (64, Critical, "a bad row or page of memory could not be noted for replacement"),
    (68, Warning, "the video decoder faulted"),
    (69, Warning, "the GPU refused a command of the process"),
    (74, Critical, "an NVLink failed; check its cable, bridge or switch"),
    (79, Critical, "the GPU fell off the PCI bus; the node needs a reset"),
    (92, Warning, "ECC corrects unusually many errors"),
    (94, Critical, "an uncorrectable memory error, contained in the process that met it"),
    (95, Critical, "an uncorrectable memory error that may have touched every process; reset the GPU"),
    (109, Critical, "the GPU did not switch between processes in time"),
    (110, Critical, "the GPU's security engine reports a fault"),
    (119, Critical, "the GPU's system processor did not answer the driver; reset the GPU"),
    (120, Critical, "the GPU's system processor failed; reset the GPU"),
    (121, Info, "the link between CPU and GPU corrected an error"),
    (122, Warning, "the driver could not read the card's flash memory"),
    (136, Critical, "a link of the card could not be trained"),
    (137, Warning, "a remote access over NVLink was refused; usually the program's own fault"),
    (140, Critical, "an uncorrectable memory error is not recovered from yet"),
    (143, Critical, "the GPU could not be initialised"),
    (144, Critical, "NVLink: a fault of the sender"),
    (145, Critical, "NVLink: a fault of the receiver's or the remapping unit"),
    (146, Critical, "NVLink: a fault of the transport"),
    (147, Critical, "NVLink: a fault of the crossbar"),
    (148, Critical, "NVLink: a fault of the physical layer"),
    (149, Critical, "NVLink: a fault of the data link layer"),
    (150, Critical, "NVLink: a fault of the minion controller"),
    (154, Warning, "the driver says what the GPU needs to recover"),
    (156, Warning, "a part of the GPU was taken out of service"),
    (157, Critical, "a part of the GPU could not be taken out of service"),
    (158, Critical, "the GPU met a fatal time-out"),
];

/// How bad it is, and what it means.
pub(super) fn judge(xid: &Xid) -> (Severity, &'static str) {
    match xid.source {
        Source::Gpu => XIDS
            .iter()
            .find(|(code, _, _)| *code == xid.code)
            .map_or((Warning, "not in AIM's table"), |(_, severity, meaning)| (*severity, *meaning)),
        Source::Switch if xid.text.starts_with("Fatal") => {
            (Critical, "the NVSwitch met a fatal error; jobs over NVLink fail until it is reset")
        }
        Source::Switch => (Warning, "the NVSwitch met an error that it survived"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_named_once() {
        assert!(XIDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn severities_of_known_unknown_and_switch_codes() {
        let of = |line: &str| judge(&super::super::xid::parse(line).unwrap()).0;
        assert_eq!(of("NVRM: Xid (PCI:0000:17:00): 79, x"), Critical);
        assert_eq!(of("NVRM: Xid (PCI:0000:17:00): 13, x"), Warning);
        assert_eq!(of("NVRM: Xid (PCI:0000:17:00): 45, x"), Info);
        assert_eq!(of("NVRM: Xid (PCI:0000:17:00): 4242, x"), Warning);
        assert_eq!(of("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30"), Critical);
        assert_eq!(of("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 30"), Warning);
    }
}
