//! GPUs and the library that speaks for them. NVML's names.

use serde::{Deserialize, Serialize};

use super::{Fact, List, Text};

/// GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// How the vendor's library does.
    pub library: GpuLibraryState,
    /// Driver version.
    pub driver_version: Fact<Text>,
    /// Highest CUDA version of the driver (`12.4`).
    pub cuda_version: Fact<Text>,
    /// Version of the library.
    pub library_version: Fact<Text>,
    /// Version of the loaded kernel module, from `/proc/driver/nvidia/version`.
    pub kernel_module_version: Fact<Text>,
    /// The GPUs, in the order of the PCI addresses; a lost one stays listed.
    pub gpus: List<Gpu>,
    /// NVSwitch devices seen on the PCI bus.
    pub switches: List<SwitchDevice>,
}

/// How the vendor's library does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuLibraryState {
    /// It answers.
    Working,
    /// No library and no card on the PCI bus.
    NotPresent,
    /// Cards on the PCI bus, but no library.
    LibraryMissing,
    /// No driver is loaded.
    DriverNotLoaded,
    /// Library and kernel module are of different versions.
    DriverMismatch,
    /// A call hangs; names it.
    Unresponsive(Text),
    /// It fails; says how.
    Failing(Text),
}

/// Whether one GPU answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuState {
    /// It answers.
    Working,
    /// It fell off the bus.
    Lost,
    /// It asks for a reset.
    ResetRequired,
    /// Its calls fail; says how.
    Failing(Text),
}

/// A PCIe link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcieLink {
    /// Highest generation of card and slot together.
    pub max_generation: Fact<u32>,
    /// Most lanes of card and slot together.
    pub max_width: Fact<u32>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's index at this moment.
    pub index: u32,
    /// UUID (`GPU-…`).
    pub uuid: Fact<Text>,
    /// Product name.
    pub model: Fact<Text>,
    /// Board serial number.
    pub serial: Fact<Text>,
    /// PCI address, `0000:17:00.0` in lower case.
    pub pci_address: Fact<Text>,
    /// VBIOS version.
    pub vbios: Fact<Text>,
    /// InfoROM image version.
    pub inforom: Fact<Text>,
    /// Frame buffer in bytes.
    pub memory_bytes: Fact<u64>,
    /// Default power cap in mW.
    pub default_power_limit_milliwatts: Fact<u64>,
    /// Highest power cap in mW.
    pub max_power_limit_milliwatts: Fact<u64>,
    /// PCIe link.
    pub pcie: PcieLink,
    /// ECC is on.
    pub ecc_enabled: Fact<bool>,
    /// Persistence mode is on.
    pub persistence_mode: Fact<bool>,
    /// Compute mode (`default`, `exclusive_process`, `prohibited`).
    pub compute_mode: Fact<Text>,
    /// MIG mode is on.
    pub mig_enabled: Fact<bool>,
    /// MIG instances.
    pub mig_instances: List<MigInstance>,
    /// NVLinks.
    pub nvlinks: List<NvLink>,
    /// NUMA node, from sysfs.
    pub numa_node: Fact<u32>,
    /// Whether it answers.
    pub state: GpuState,
}

/// One MIG instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigInstance {
    /// UUID (`MIG-…`).
    pub uuid: Fact<Text>,
    /// GPU instance id.
    pub gpu_instance: Fact<u32>,
    /// Compute instance id.
    pub compute_instance: Fact<u32>,
    /// Profile or name.
    pub name: Fact<Text>,
    /// Frame buffer in bytes.
    pub memory_bytes: Fact<u64>,
}

/// One NVLink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NvLink {
    /// Its number.
    pub link: u32,
    /// It is active.
    pub active: Fact<bool>,
    /// Version.
    pub version: Fact<u32>,
    /// PCI address of the far end.
    pub remote_pci_address: Fact<Text>,
}

/// An NVSwitch on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchDevice {
    /// PCI address.
    pub pci_address: Text,
    /// PCI device id (`0x22a3`).
    pub device_id: Text,
}
