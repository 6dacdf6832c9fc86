//! Cards and switches on the PCI bus: what the kernel sees, whether or not a driver answers.

use std::path::Path;

use aim_common::inventory::{Fact, SwitchDevice, Text, UnknownReason};

use crate::collect::source;

/// Base class and subclass of VGA and 3D controllers.
const GPU_CLASSES: [&[u8]; 2] = [b"0x0300", b"0x0302"];
/// Base class and subclass of "other bridges", which NVSwitches are.
const SWITCH_CLASS: &[u8] = b"0x0680";

/// One vendor's devices.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PciDevices {
    /// Addresses of the cards, sorted.
    pub(super) cards: Vec<Card>,
    /// The switches, sorted by address.
    pub(super) switches: Vec<SwitchDevice>,
}

/// A card on the bus.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// Its address as the kernel writes it.
    pub(super) address: Text,
    /// Its NUMA node.
    pub(super) numa_node: Fact<u32>,
}

/// Looks through `/sys/bus/pci/devices` for this vendor (`0x10de`).
pub(super) fn scan(sys: &Path, vendor: &[u8]) -> PciDevices {
    let bus = sys.join("bus/pci/devices");
    let mut found = PciDevices::default();
    let (addresses, _) = source::entries(&bus).unwrap_or_default();
    for address in addresses {
        let device = bus.join(&address);
        if source::fact(&device.join("vendor")).is_ok_and(|read| read == vendor) {
            take(&mut found, &device, Text::truncated(&address));
        }
    }
    found
}

fn take(found: &mut PciDevices, device: &Path, address: Text) {
    let class = source::fact(&device.join("class")).unwrap_or_default();
    if GPU_CLASSES.iter().any(|gpu| class.starts_with(gpu)) {
        let numa_node = match source::fact(&device.join("numa_node")) {
            Ok(node) if node == b"-1" => Fact::Unknown(UnknownReason::NotSupported),
            _ => source::small_number_fact(&device.join("numa_node")).into(),
        };
        found.cards.push(Card { address, numa_node });
    } else if class.starts_with(SWITCH_CLASS) {
        let device_id = source::fact(&device.join("device")).unwrap_or_default();
        found.switches.push(SwitchDevice { pci_address: address, device_id: source::text(&device_id) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_switches_of_the_vendor_are_found_and_nothing_else() {
        let sys = tempfile::tempdir().unwrap();
        for (address, vendor, class, device, node) in [
            ("0000:17:00.0", "0x10de", "0x030200", "0x2330", "1"),
            ("0000:03:00.0", "0x10de", "0x030000", "0x2330", "-1"),
            ("0000:c1:00.0", "0x10de", "0x068000", "0x22a3", "0"),
            ("0000:17:00.1", "0x10de", "0x040300", "0x22ba", "1"),
            ("0000:01:00.0", "0x1a03", "0x030000", "0x2000", "0"),
        ] {
            let folder = sys.path().join("bus/pci/devices").join(address);
            std::fs::create_dir_all(&folder).unwrap();
            for (name, value) in
                [("vendor", vendor), ("class", class), ("device", device), ("numa_node", node)]
            {
                std::fs::write(folder.join(name), format!("{value}\n")).unwrap();
            }
        }
        let found = scan(sys.path(), b"0x10de");
        let cards: Vec<_> =
            found.cards.iter().map(|card| (card.address.as_str(), card.numa_node.clone())).collect();
        assert_eq!(
            cards,
            [("0000:03:00.0", Fact::Unknown(UnknownReason::NotSupported)), ("0000:17:00.0", Fact::Known(1)),]
        );
        assert_eq!(found.switches.len(), 1);
        assert_eq!(found.switches[0].device_id.as_str(), "0x22a3");
    }
}
