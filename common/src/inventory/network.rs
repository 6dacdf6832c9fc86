//! Network interfaces.

use serde::{Deserialize, Serialize};

use super::{Fact, List, Text};

/// Network interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// In the order of their names.
    pub interfaces: List<NetworkInterface>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Its name.
    pub name: Text,
    /// Its hardware address.
    pub mac: Fact<Text>,
    /// Largest packet in bytes.
    pub mtu: Fact<u32>,
    /// `operstate` as the kernel writes it (`up`, `down`, `unknown`, …).
    pub state: Fact<Text>,
    /// Speed in Mbit/s.
    pub speed_mbps: Fact<u64>,
    /// Full duplex.
    pub full_duplex: Fact<bool>,
    /// Driver.
    pub driver: Fact<Text>,
    /// PCI address of the device.
    pub pci_address: Fact<Text>,
    /// NUMA node of the device.
    pub numa_node: Fact<u32>,
}
