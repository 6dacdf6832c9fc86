//! The inventory of a synthetic node: the sections that an agent on a machine with 8 GPUs sends.

use aim_common::identity::BootId;
use aim_common::inventory::{
    AgentFacts, CollectorState, CollectorStatus, Cpu, Disk, Disks, Fact, Gpu, GpuLibraryState, GpuState,
    Gpus, Infiniband, InfinibandDevice, InfinibandPort, LinkLayer, List, Memory, Network, NetworkInterface,
    NumaNode, PcieLink, Section, System, Text, UnknownReason,
};
use aim_common::units::EpochMs;

use super::{Faults, GPU_MEMORY_MIB, GPUS, MEMORY_KIB, Node};

/// All sections as they are now.
pub(crate) fn sections(node: &Node, faults: &Faults, boot_id: BootId, booted: EpochMs) -> Vec<Section> {
    vec![
        Section::System(system(node, boot_id, booted)),
        Section::Cpu(cpu()),
        Section::Memory(memory()),
        Section::Disks(Disks { disks: list((0..2).map(|index| disk(node, index))) }),
        Section::Network(Network { interfaces: list((0..2).map(|index| interface(node, faults, index))) }),
        Section::Infiniband(Infiniband { devices: list((0..2).map(|index| device(node, faults, index))) }),
        Section::Gpus(gpus(node, faults)),
        Section::Agent(agent()),
    ]
}

fn list<T>(items: impl Iterator<Item = T>) -> List<T> {
    List::truncated(items.collect()).0
}

fn text(text: impl AsRef<str>) -> Fact<Text> {
    Fact::Known(Text::truncated(text.as_ref()))
}

const fn root_only<T>() -> Fact<T> {
    Fact::Unknown(UnknownReason::NeedsRoot)
}

fn system(node: &Node, boot_id: BootId, booted: EpochMs) -> System {
    System {
        hostname: node.name.as_str().into(),
        kernel_release: "6.1.0-18-amd64".into(),
        kernel_version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)".into(),
        architecture: "x86_64".into(),
        os_name: text("Debian GNU/Linux 12 (bookworm)"),
        boot_id,
        booted,
        machine_id_sha256: Fact::Known(node.machine_id_sha256()),
        kernel_command_line: text("BOOT_IMAGE=/vmlinuz root=/dev/nvme0n1p2 ro iommu=pt"),
        virtualization: text("none"),
    }
}

fn cpu() -> Cpu {
    let numa = |id: u32| NumaNode {
        id,
        cpus: Text::truncated(if id == 0 { "0-63,128-191" } else { "64-127,192-255" }),
        memory_bytes: Fact::Known(MEMORY_KIB.unsigned_abs() * 512),
    };
    Cpu {
        model: text("AMD EPYC 9554 64-Core Processor"),
        vendor: text("AuthenticAMD"),
        microcode: text("0xa101148"),
        sockets: Fact::Known(2),
        cores: Fact::Known(128),
        threads: Fact::Known(256),
        online: text("0-255"),
        offline: text(""),
        max_frequency_khz: Fact::Known(3_762_988),
        governor: text("performance"),
        numa_nodes: list((0..2).map(numa)),
    }
}

fn memory() -> Memory {
    Memory {
        total_bytes: Fact::Known(MEMORY_KIB.unsigned_abs() * 1024),
        swap_bytes: Fact::Known(0),
        hugepages: List::default(),
        dimms: root_only(),
    }
}

fn disk(node: &Node, index: u64) -> Disk {
    Disk {
        name: Text::truncated(&format!("nvme{index}n1")),
        size_bytes: Fact::Known(1_920_383_410_176),
        model: text("SAMSUNG MZQL21T9HCJR-00A07"),
        serial: text(format!("S64GNE0T{:06}", node.number(0x800 + index) % 1_000_000)),
        firmware: text("GDC5602Q"),
        wwn: text(format!("eui.{:016x}", node.number(0x810 + index))),
        rotational: Fact::Known(false),
        removable: Fact::Known(false),
        read_only: Fact::Known(false),
        partitions: List::default(),
    }
}

fn interface(node: &Node, faults: &Faults, index: u64) -> NetworkInterface {
    let is_infiniband = index == 1;
    let down = is_infiniband && faults.link_is_down();
    let [a, b, c, ..] = node.number(0x820 + index).to_le_bytes();
    NetworkInterface {
        name: Text::truncated(if is_infiniband { "ib0" } else { "eno1" }),
        mac: text(format!("b8:ce:f6:{a:02x}:{b:02x}:{c:02x}")),
        mtu: Fact::Known(if is_infiniband { 2044 } else { 9000 }),
        state: text(if down { "down" } else { "up" }),
        speed_mbps: Fact::Known(if is_infiniband { 400_000 } else { 25_000 }),
        full_duplex: Fact::Known(true),
        driver: text(if is_infiniband { "mlx5_core[ib_ipoib]" } else { "bnxt_en" }),
        pci_address: text(format!("0000:{:02x}:00.0", 0xa1 + index)),
        numa_node: Fact::Known(1),
    }
}

fn device(node: &Node, faults: &Faults, index: u64) -> InfinibandDevice {
    let down = index == 0 && faults.link_is_down();
    let port = InfinibandPort {
        number: 1,
        link_layer: Fact::Known(LinkLayer::Infiniband),
        state: text(if down { "DOWN" } else { "ACTIVE" }),
        physical_state: text(if down { "Polling" } else { "LinkUp" }),
        rate_mbps: Fact::Known(400_000),
        rate: text("400 Gb/sec (4X NDR)"),
        lid: Fact::Known(u32::try_from(node.number(0x830 + index) % 48_000).unwrap_or_default()),
        sm_lid: Fact::Known(1),
        netdev: text(format!("ib{index}")),
    };
    InfinibandDevice {
        name: Text::truncated(&format!("mlx5_{index}")),
        board_id: text("MT_0000000838"),
        firmware: text("28.39.1002"),
        hca_type: text("MT4129"),
        node_guid: text(format!("{:016x}", node.number(0x840 + index))),
        pci_address: text(format!("0000:{:02x}:00.0", 0xb1 + index)),
        numa_node: Fact::Known(u32::try_from(index).unwrap_or_default()),
        ports: list(std::iter::once(port)),
    }
}

fn gpus(node: &Node, faults: &Faults) -> Gpus {
    Gpus {
        library: GpuLibraryState::Working,
        driver_version: text("550.90.07"),
        cuda_version: text("12.4"),
        library_version: text("12.550.90.07"),
        kernel_module_version: text("550.90.07"),
        gpus: list((0..GPUS).map(|index| gpu(node, faults, index))),
        switches: List::default(),
    }
}

fn gpu(node: &Node, faults: &Faults, index: u32) -> Gpu {
    let lost = faults.lost_gpu() == Some(index);
    Gpu {
        index,
        uuid: text(node.gpu_uuid(index)),
        model: text("NVIDIA H100 80GB HBM3"),
        serial: text(node.gpu_serial(index)),
        pci_address: text(Node::gpu_pci_address(index)),
        vbios: text("96.00.89.00.01"),
        inforom: text("G520.0200.00.05"),
        memory_bytes: Fact::Known(GPU_MEMORY_MIB.unsigned_abs() * 1024 * 1024),
        default_power_limit_milliwatts: Fact::Known(700_000),
        max_power_limit_milliwatts: Fact::Known(700_000),
        pcie: PcieLink { max_generation: Fact::Known(5), max_width: Fact::Known(16) },
        ecc_enabled: Fact::Known(true),
        persistence_mode: Fact::Known(true),
        compute_mode: text("default"),
        mig_enabled: Fact::Known(false),
        mig_instances: List::default(),
        nvlinks: List::default(),
        numa_node: Fact::Known(index / (GPUS / 2)),
        state: if lost { GpuState::Lost } else { GpuState::Working },
    }
}

fn agent() -> AgentFacts {
    let names = ["agent", "system", "cpu", "memory", "disks", "network", "infiniband", "gpu"];
    let status = |name: &&str| CollectorStatus { name: (*name).into(), state: CollectorState::Working };
    AgentFacts { version: env!("CARGO_PKG_VERSION").into(), collectors: list(names.iter().map(status)) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aim_agent::inventory::InventoryTracker;

    use super::*;
    use crate::node::Script;

    #[test]
    fn every_section_encodes_and_a_fault_changes_the_inventory_until_it_ends() {
        let node = Node::new("n1".parse().unwrap(), 1);
        let boot_id = BootId::from_random([1; 16]);
        let hash = |faults: &Faults| {
            let sections = sections(&node, faults, boot_id, EpochMs(0));
            assert!(sections.iter().all(|section| section.encode().is_ok()));
            InventoryTracker::new(&sections).hash()
        };
        let healthy = hash(&Faults::default());
        let mut script = Script::new(&node, 3600, Duration::ZERO);
        let mut changed = false;
        for second in 0..600 {
            script.due(&node, Duration::from_secs(second));
            changed |= hash(script.faults()) != healthy;
        }
        assert!(changed, "no fault in ten minutes at one a second");
        script.stop();
        script.due(&node, Duration::from_hours(1));
        assert_eq!(hash(script.faults()), healthy);
    }
}
