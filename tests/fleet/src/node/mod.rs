//! A synthetic node: what it is, what it measures, what happens to it. Pure: a seed and a time in, the node out.
//!
//! Nothing of it is kept: values, inventory and series are made anew from the seed each time, so that ten thousand
//! nodes take no memory of their own.

mod inventory;
mod layout;
mod script;
mod values;

use aim_common::identity::{NodeName, Sha256Digest};

pub(crate) use self::inventory::sections;
pub(crate) use self::layout::Layout;
pub(crate) use self::script::{Faults, Happening, Script};
pub(crate) use self::values::{is_busy, processes, readings};

use crate::random::join;

/// GPUs of a node.
pub(crate) const GPUS: u32 = 8;
/// Memory of a node in KiB: 2 TiB.
const MEMORY_KIB: i64 = 2 * 1024 * 1024 * 1024;
/// Frame buffer of a GPU in MiB.
const GPU_MEMORY_MIB: i64 = 81_559;

/// One node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: NodeName,
    /// What everything about it follows from.
    pub(crate) seed: u64,
}

impl Node {
    /// The node of this name in the fleet of this seed.
    pub(crate) fn new(name: NodeName, fleet_seed: u64) -> Self {
        let seed = name.as_str().bytes().fold(fleet_seed, |seed, byte| join(seed, u64::from(byte)));
        Self { name, seed }
    }

    /// A number that belongs to this node and purpose.
    fn number(&self, purpose: u64) -> u64 {
        join(self.seed, purpose)
    }

    /// A GPU's UUID as NVML writes it.
    pub(crate) fn gpu_uuid(&self, gpu: u32) -> String {
        let (high, low) = (self.number(0x100 + u64::from(gpu)), self.number(0x200 + u64::from(gpu)));
        let hex = format!("{high:016x}{low:016x}");
        let part = |from, to| hex.get(from..to).unwrap_or_default();
        format!("GPU-{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }

    /// A GPU's board serial number.
    pub(crate) fn gpu_serial(&self, gpu: u32) -> String {
        format!("165{:010}", self.number(0x300 + u64::from(gpu)) % 10_000_000_000)
    }

    /// The same on every node, as on machines of one model.
    pub(crate) fn gpu_pci_address(gpu: u32) -> String {
        format!("0000:{:02x}:00.0", 0x17 + gpu * 0x11)
    }

    /// Hash of the machine's id.
    pub(crate) fn machine_id_sha256(&self) -> Sha256Digest {
        Sha256Digest::of(&self.number(0x400).to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_node_and_no_two_nodes_share_a_gpu() {
        let node = |name: &str, seed| Node::new(name.parse().unwrap(), seed);
        assert_eq!(node("a1", 1).gpu_uuid(0), node("a1", 1).gpu_uuid(0));
        let mut seen = std::collections::HashSet::new();
        for name in ["a1", "a2", "b1"] {
            for gpu in 0..GPUS {
                assert!(seen.insert(node(name, 1).gpu_uuid(gpu)));
                assert!(seen.insert(node(name, 2).gpu_uuid(gpu)));
            }
        }
        let uuid = node("a1", 1).gpu_uuid(0);
        assert_eq!((uuid.len(), uuid.matches('-').count()), (40, 5), "{uuid}");
    }
}
