//! The machine itself: system, mainboard, processors, memory, and the agent on it.

use serde::{Deserialize, Serialize};

use super::{Fact, List, Text};
use crate::identity::{BootId, Sha256Digest};
use crate::units::EpochMs;

/// Host name, kernel, operating system, boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// `uname -n`.
    pub hostname: Text,
    /// `uname -r`.
    pub kernel_release: Text,
    /// `uname -v`.
    pub kernel_version: Text,
    /// `uname -m`.
    pub architecture: Text,
    /// `PRETTY_NAME` of os-release.
    pub os_name: Fact<Text>,
    /// This boot.
    pub boot_id: BootId,
    /// When it began.
    pub booted: EpochMs,
    /// SHA-256 of `/etc/machine-id`.
    pub machine_id_sha256: Fact<Sha256Digest>,
    /// The kernel's command line.
    pub kernel_command_line: Fact<Text>,
    /// `systemd-detect-virt`-like word from DMI and cpuinfo: `none`, `kvm`, `unknown hypervisor`.
    pub virtualization: Fact<Text>,
}

/// The mainboard's and chassis' identity, from `/sys/class/dmi/id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dmi {
    /// `sys_vendor`.
    pub system_vendor: Fact<Text>,
    /// `product_name`.
    pub product_name: Fact<Text>,
    /// `product_serial`, root only.
    pub product_serial: Fact<Text>,
    /// `product_uuid`, root only.
    pub product_uuid: Fact<Text>,
    /// `board_vendor`.
    pub board_vendor: Fact<Text>,
    /// `board_name`.
    pub board_name: Fact<Text>,
    /// `board_serial`, root only.
    pub board_serial: Fact<Text>,
    /// `chassis_serial`, root only.
    pub chassis_serial: Fact<Text>,
    /// `bios_vendor`.
    pub bios_vendor: Fact<Text>,
    /// `bios_version`.
    pub bios_version: Fact<Text>,
    /// `bios_date`.
    pub bios_date: Fact<Text>,
}

/// Processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// `model name` of the first processor.
    pub model: Fact<Text>,
    /// `vendor_id`.
    pub vendor: Fact<Text>,
    /// `microcode`.
    pub microcode: Fact<Text>,
    /// Packages with at least one online CPU.
    pub sockets: Fact<u32>,
    /// Distinct (package, core) pairs.
    pub cores: Fact<u32>,
    /// Online logical CPUs.
    pub threads: Fact<u32>,
    /// `/sys/devices/system/cpu/online`, as the kernel writes it (`0-127`).
    pub online: Fact<Text>,
    /// `/sys/devices/system/cpu/offline`, empty where none is.
    pub offline: Fact<Text>,
    /// Highest frequency in kHz.
    pub max_frequency_khz: Fact<u64>,
    /// Scaling governor, where all CPUs have the same one.
    pub governor: Fact<Text>,
    /// NUMA nodes.
    pub numa_nodes: List<NumaNode>,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// Its number.
    pub id: u32,
    /// Its CPUs, as the kernel writes them.
    pub cpus: Text,
    /// Its memory in bytes.
    pub memory_bytes: Fact<u64>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `MemTotal` in bytes.
    pub total_bytes: Fact<u64>,
    /// `SwapTotal` in bytes.
    pub swap_bytes: Fact<u64>,
    /// Pools of huge pages.
    pub hugepages: List<HugepagePool>,
    /// Memory modules: from EDAC where its driver is loaded.
    pub dimms: Fact<List<Dimm>>,
}

/// A pool of huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepagePool {
    /// Page size in KiB.
    pub page_kib: u64,
    /// Pages configured.
    pub pages: u64,
}

/// A memory module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimm {
    /// Its label or place (`mc0/dimm3`).
    pub location: Text,
    /// Size in bytes.
    pub size_bytes: Fact<u64>,
    /// Type (`Registered-DDR5`).
    pub memory_type: Fact<Text>,
    /// Serial number, root only.
    pub serial: Fact<Text>,
}

/// The agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Its version.
    pub version: Text,
    /// The collectors and how they do.
    pub collectors: List<CollectorStatus>,
}

/// One collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorStatus {
    /// Its name.
    pub name: Text,
    /// How it does.
    pub state: CollectorState,
}

/// How a collector does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectorState {
    /// It works.
    Working,
    /// What it reads does not exist on this node.
    NotPresent,
    /// It lacks a right; names it.
    NeedsPrivilege(Text),
    /// It fails; says why.
    Failing(Text),
    /// It hangs.
    Unresponsive,
}
