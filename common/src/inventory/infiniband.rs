//! InfiniBand and RoCE devices, from `/sys/class/infiniband`.

use serde::{Deserialize, Serialize};

use super::{Fact, List, Text};

/// InfiniBand and RoCE devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infiniband {
    /// In the order of their names.
    pub devices: List<InfinibandDevice>,
}

/// One device (HCA).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfinibandDevice {
    /// Its name (`mlx5_0`).
    pub name: Text,
    /// `board_id`.
    pub board_id: Fact<Text>,
    /// `fw_ver`.
    pub firmware: Fact<Text>,
    /// `hca_type`.
    pub hca_type: Fact<Text>,
    /// `node_guid`.
    pub node_guid: Fact<Text>,
    /// PCI address.
    pub pci_address: Fact<Text>,
    /// NUMA node.
    pub numa_node: Fact<u32>,
    /// Its ports.
    pub ports: List<InfinibandPort>,
}

/// What runs below the verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkLayer {
    /// InfiniBand.
    Infiniband,
    /// Ethernet, that is RoCE.
    Ethernet,
    /// Another word of the kernel's.
    Other(Text),
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfinibandPort {
    /// Its number, from 1.
    pub number: u32,
    /// `link_layer`.
    pub link_layer: Fact<LinkLayer>,
    /// `state` as the kernel names it (`ACTIVE`).
    pub state: Fact<Text>,
    /// `phys_state` as the kernel names it (`LinkUp`).
    pub physical_state: Fact<Text>,
    /// `rate` in Mbit/s.
    pub rate_mbps: Fact<u64>,
    /// The rate as the kernel writes it (`400 Gb/sec (4X NDR)`).
    pub rate: Fact<Text>,
    /// LID; 0 on Ethernet.
    pub lid: Fact<u32>,
    /// LID of the subnet manager.
    pub sm_lid: Fact<u32>,
    /// Network interface on the same port, for RoCE and IPoIB.
    pub netdev: Fact<Text>,
}
