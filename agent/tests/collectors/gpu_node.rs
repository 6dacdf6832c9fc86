//! Every collector on the tree of an 8-GPU, 8-HCA node.

use aim_agent::collect::{Round, SampleValue};
use aim_common::identity::Sha256Digest;
use aim_common::inventory::{CollectorState, Fact, LinkLayer, Text, UnknownReason};
use aim_common::metric::Metric;
use aim_common::units::EpochMs;

use crate::section;
use crate::support::host_tree::{HCAS, HostTree, as_ordinary_user};
use crate::view::View;

fn text(text: &str) -> Fact<Text> {
    Fact::Known(text.into())
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn every_collector_works() {
    let tree = HostTree::gpu_node();
    let mut view = View::new(&tree.roots());
    view.full().sections();
    for (name, state) in view.set.states() {
        assert_eq!(state, CollectorState::Working, "{name}");
    }
}

#[test]
fn cpu_time_is_shares_of_what_went_by() {
    let tree = HostTree::of(&[HostTree::cpus]);
    let mut view = View::new(&tree.roots());
    view.full();
    assert_eq!(view.reason(Metric::CpuUtilization, ""), UnknownReason::NotYet);
    assert!(close(view.number(Metric::CpuUserSeconds, ""), 12.0));
    assert!(close(view.number(Metric::CpuSystemSeconds, ""), 4.1));
    // 100 ticks: 20 user, 10 nice, 5 system, 50 idle, 8 iowait, 1 irq, 2 softirq, 4 steal.
    tree.stat("1020 210 305 5050 408 51 62 74 0 0");
    view.round(Round::Within);
    assert!(close(view.number(Metric::CpuUtilization, ""), 0.42));
    assert!(close(view.number(Metric::CpuIowait, ""), 0.08));
    assert!(close(view.number(Metric::CpuSteal, ""), 0.04));
    assert!(close(view.number(Metric::ProcessesRunning, ""), 17.0));
    assert!(close(view.number(Metric::ProcessesBlocked, ""), 3.0));
}

#[test]
fn load_frequency_pressure_and_uptime() {
    let tree = HostTree::of(&[HostTree::cpus, HostTree::memory]);
    let mut view = View::new(&tree.roots());
    view.full();
    for (metric, value) in [
        (Metric::Load1, 12.5),
        (Metric::Load5, 8.25),
        (Metric::Load15, 4.0),
        (Metric::Uptime, 86400.55),
        (Metric::ContextSwitches, 123_456_789.0),
        (Metric::CpuFrequency, 2.8e9),
        (Metric::CpuPressure, 1.5),
        (Metric::MemoryPressureSome, 2.5),
        (Metric::MemoryPressureFull, 2.5),
        (Metric::IoPressureSome, 3.5),
        (Metric::IoPressureFull, 3.5),
    ] {
        assert!(close(view.number(metric, ""), value), "{metric:?}");
    }
}

#[test]
fn processors_are_counted_by_package_core_and_thread() {
    let tree = HostTree::of(&[HostTree::cpus]);
    let cpu = section!(View::new(&tree.roots()), Cpu);
    assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (Fact::Known(2), Fact::Known(32), Fact::Known(64)));
    assert_eq!(cpu.model, text("Intel(R) Xeon(R) Platinum 8462Y+"));
    assert_eq!((cpu.vendor, cpu.microcode), (text("GenuineIntel"), text("0x2b0004d0")));
    assert_eq!((cpu.online, cpu.offline), (text("0-63"), text("")));
    assert_eq!((cpu.max_frequency_khz, cpu.governor), (Fact::Known(4_100_000), text("performance")));
    let nodes: Vec<_> = cpu.numa_nodes.iter().map(|node| (node.id, node.cpus.as_str())).collect();
    assert_eq!(nodes, [(0, "0-15,32-47"), (1, "16-31,48-63")]);
    assert_eq!(cpu.numa_nodes[1].memory_bytes, Fact::Known(1_056_563_200 * 1024));
}

#[test]
fn memory_pools_and_modules() {
    let tree = HostTree::of(&[HostTree::memory]);
    let mut view = View::new(&tree.roots());
    view.full();
    let kib = |metric| view.number(metric, "") / 1024.0;
    assert!(close(kib(Metric::MemoryTotal), 2_113_126_400.0));
    assert!(close(kib(Metric::MemoryUsed), 113_126_400.0));
    assert!(close(kib(Metric::MemoryCached), 100_000_000.0));
    assert!(close(kib(Metric::SwapFree), 8_388_000.0));
    assert!(close(view.number(Metric::HugepagesFree, "1048576"), 16.0));
    assert!(close(view.number(Metric::HugepagesTotal, "2048"), 1024.0));
    assert!(close(view.number(Metric::OomKills, ""), 3.0));
    assert!(close(view.number(Metric::MemoryCorrectableErrors, "mc7"), 5.0));
    assert!(close(view.number(Metric::MemoryUncorrectableErrors, "mc0"), 0.0));

    let memory = as_ordinary_user(|| section!(View::new(&tree.roots()), Memory));
    let pools: Vec<_> = memory.hugepages.iter().map(|pool| (pool.page_kib, pool.pages)).collect();
    assert_eq!(pools, [(2048, 1024), (1_048_576, 64)]);
    let dimms = memory.dimms.known().expect("EDAC has modules");
    assert_eq!(dimms.len(), 16);
    assert_eq!(dimms[15].location.as_str(), "CPU_SrcID#1_MC#3_Chan#1_DIMM#0");
    assert_eq!(dimms[0].size_bytes, Fact::Known(128 << 30));
    assert_eq!(dimms[0].memory_type, text("Registered-DDR5"));
    assert_eq!(dimms[0].serial, Fact::Unknown(UnknownReason::NeedsRoot));
}

#[test]
fn disks_are_those_of_lsblk() {
    let tree = HostTree::of(&[HostTree::disks]);
    let mut view = View::new(&tree.roots());
    let disks = section!(view, Disks).disks;
    let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["loop1", "nvme0n1", "nvme1n1", "nvme2n1", "nvme3n1", "sda"]);
    let nvme = &disks[1];
    assert_eq!(nvme.size_bytes, Fact::Known(3_840_755_982_336));
    assert_eq!((&nvme.model, &nvme.serial), (&text("SAMSUNG MZQL23T8HCLS-00A07"), &text("S6CXNN0W800")));
    assert_eq!((&nvme.firmware, &nvme.wwn), (&text("GDC5902Q"), &text("eui.364346305880000")));
    assert_eq!((&nvme.rotational, &nvme.read_only), (&Fact::Known(false), &Fact::Known(false)));
    let partitions: Vec<_> =
        nvme.partitions.iter().map(|p| (p.name.as_str(), p.size_bytes.clone())).collect();
    let sizes = [Fact::Known(1_128_267_776), Fact::Known(3_839_626_313_728)];
    assert_eq!(partitions, [("nvme0n1p1", sizes[0].clone()), ("nvme0n1p2", sizes[1].clone())]);
    let sata = &disks[5];
    assert_eq!((&sata.serial, &sata.firmware), (&text("MSA1234"), &text("A001")));
    assert_eq!((&sata.rotational, &sata.read_only), (&Fact::Known(true), &Fact::Known(true)));

    view.full();
    assert_eq!(
        view.instances(Metric::DiskReads),
        ["nvme0n1", "nvme1n1", "nvme2n1", "nvme3n1", "loop1", "sda"]
    );
    for (metric, value) in [
        (Metric::DiskReads, 100.0),
        (Metric::DiskReadBytes, 2048.0 * 512.0),
        (Metric::DiskReadTime, 0.5),
        (Metric::DiskWrites, 200.0),
        (Metric::DiskWrittenBytes, 4096.0 * 512.0),
        (Metric::DiskWriteTime, 0.6),
        (Metric::DiskIoInProgress, 3.0),
        (Metric::DiskIoTime, 0.7),
    ] {
        assert!(close(view.number(metric, "nvme3n1"), value), "{metric:?}");
    }
}

#[test]
fn network_interfaces_with_their_cards() {
    let tree = HostTree::of(&[HostTree::network]);
    let mut view = View::new(&tree.roots());
    let interfaces = section!(view, Network).interfaces;
    let names: Vec<_> = interfaces.iter().map(|interface| interface.name.to_string()).collect();
    let fabric = (0..8).map(|number| format!("ib{number}"));
    let mut expected: Vec<_> = ["bond0", "eno1", "ens1f0np0", "ens1f1np1", "lo", "veth1a2b"]
        .map(str::to_owned)
        .into_iter()
        .chain(fabric)
        .collect();
    expected.sort();
    assert_eq!(names, expected);
    let named = |name: &str| interfaces.iter().find(|interface| interface.name.as_str() == name).unwrap();
    let roce = named("ens1f1np1");
    assert_eq!((&roce.mac, &roce.mtu), (&text("7c:c2:55:00:00:01"), &Fact::Known(9000)));
    assert_eq!((&roce.speed_mbps, &roce.full_duplex), (&Fact::Known(200_000), &Fact::Known(true)));
    assert_eq!((&roce.driver, &roce.pci_address), (&text("mlx5_core"), &text("0000:71:00.1")));
    assert_eq!((&roce.state, &roce.numa_node), (&text("up"), &Fact::Known(0)));
    assert_eq!(named("ib7").numa_node, Fact::Known(1));
    assert_eq!(named("eno1").speed_mbps, Fact::Unknown(UnknownReason::NotSupported));
    assert_eq!(named("lo").pci_address, Fact::Unknown(UnknownReason::NotPresent));

    view.full();
    let sampled = view.instances(Metric::NetworkReceiveBytes);
    assert!(!sampled.contains(&"veth1a2b".to_owned()), "{sampled:?}");
    assert_eq!(sampled.len(), 13);
    for (metric, value) in [
        (Metric::NetworkReceiveBytes, 2000.0),
        (Metric::NetworkReceivePackets, 200.0),
        (Metric::NetworkReceiveErrors, 1.0),
        (Metric::NetworkReceiveDrops, 2.0),
        (Metric::NetworkTransmitBytes, 2001.0),
        (Metric::NetworkTransmitPackets, 201.0),
        (Metric::NetworkTransmitErrors, 3.0),
        (Metric::NetworkTransmitDrops, 4.0),
        (Metric::NetworkCarrierChanges, 2.0),
    ] {
        assert!(close(view.number(metric, "ens1f0np0"), value), "{metric:?}");
    }
}

#[test]
fn infiniband_ports_with_link_layer_state_rate_and_counters() {
    let tree = HostTree::of(&[HostTree::network, HostTree::infiniband]);
    let mut view = View::new(&tree.roots());
    let devices = section!(view, Infiniband).devices;
    assert_eq!(devices.len(), 9);
    for (number, address) in HCAS.iter().enumerate() {
        let device = &devices[number];
        assert_eq!(
            (device.name.to_string(), &device.pci_address),
            (format!("mlx5_{number}"), &text(address))
        );
        assert_eq!(device.numa_node, Fact::Known(u32::from(number >= 4)));
        let port = &device.ports[0];
        assert_eq!((port.number, &port.link_layer), (1, &Fact::Known(LinkLayer::Infiniband)));
        assert_eq!((&port.state, &port.physical_state), (&text("ACTIVE"), &text("LinkUp")));
        assert_eq!((&port.rate_mbps, &port.rate), (&Fact::Known(400_000), &text("400 Gb/sec (4X NDR)")));
        assert_eq!(port.lid, Fact::Known(0x1a + u32::try_from(number).unwrap()));
        assert_eq!(port.netdev, text(&format!("ib{number}")));
    }
    let roce = &devices[8];
    assert_eq!((roce.name.as_str(), &roce.firmware), ("mlx5_bond_0", &text("28.39.3004")));
    assert_eq!(roce.ports[0].link_layer, Fact::Known(LinkLayer::Ethernet));
    assert_eq!((&roce.ports[0].lid, &roce.ports[0].netdev), (&Fact::Known(0), &text("bond0")));

    view.full();
    for (metric, value) in [
        (Metric::InfinibandReceiveBytes, 4000.0),
        (Metric::InfinibandTransmitBytes, 8000.0),
        (Metric::InfinibandReceivePackets, 30.0),
        (Metric::InfinibandSymbolErrors, 5.0),
        (Metric::InfinibandLinkDowned, 1.0),
        (Metric::InfinibandTransmitWait, 77.0),
        (Metric::InfinibandConstraintErrors, 5.0),
    ] {
        assert!(close(view.number(metric, "mlx5_3/1"), value), "{metric:?}");
    }
    assert_eq!(view.reason(Metric::InfinibandVl15Dropped, "mlx5_0/1"), UnknownReason::NotSupported);
    assert!(close(view.number(Metric::InfinibandTimeouts, "mlx5_bond_0/1"), 13.0));
    assert_eq!(view.find(Metric::InfinibandTimeouts, "mlx5_0/1"), None, "its driver has no such counter");
}

#[test]
fn sensors_have_names_of_their_own() {
    let tree = HostTree::of(&[HostTree::sensors]);
    let mut view = View::new(&tree.roots());
    view.full();
    let temperatures = view.instances(Metric::Temperature);
    assert_eq!(
        temperatures,
        [
            "coretemp@coretemp.0/Package id 0",
            "coretemp@coretemp.1/Package id 1",
            "nct6798/temp1",
            "thermal_zone0/acpitz"
        ]
    );
    assert!(close(view.number(Metric::Temperature, "coretemp@coretemp.0/Package id 0"), 41.0));
    assert!(close(view.number(Metric::Temperature, "nct6798/temp1"), -5.5));
    assert!(close(view.number(Metric::FanSpeed, "nct6798/FAN"), 8400.0));
    assert!(close(view.number(Metric::FanSpeed, "nct6798/FAN#2"), 8500.0));
    assert!(close(view.number(Metric::SensorPower, "nct6798/power1"), 2150.5));
}

#[test]
fn serials_for_root_only_are_unknown_with_that_reason() {
    let tree = HostTree::of(&[HostTree::system]);
    let dmi = section!(View::new(&tree.roots()), Dmi);
    assert_eq!(dmi.product_serial, text("S555555X4444444"));
    for file in ["product_serial", "product_uuid", "board_serial", "chassis_serial"] {
        tree.for_root_only(&format!("sys/class/dmi/id/{file}"));
    }
    let dmi = as_ordinary_user(|| section!(View::new(&tree.roots()), Dmi));
    let needs_root = Fact::Unknown(UnknownReason::NeedsRoot);
    assert_eq!((&dmi.product_serial, &dmi.product_uuid), (&needs_root, &needs_root));
    assert_eq!((&dmi.board_serial, &dmi.chassis_serial), (&needs_root, &needs_root));
    assert_eq!((dmi.system_vendor, dmi.product_name), (text("Supermicro"), text("SYS-821GE-TNHR")));
}

#[test]
fn the_system_names_itself_its_kernel_and_its_boot() {
    let tree = HostTree::of(&[HostTree::system, HostTree::cpus]);
    let mut view = View::new(&tree.roots());
    let system = section!(view, System);
    assert_eq!((system.hostname.as_str(), system.kernel_release.as_str()), ("gpu042", "5.15.0-113-generic"));
    assert_eq!(system.boot_id.to_string(), "0f5c9d2e-8a3b-4c1d-9e7f-a1b2c3d4e5f6");
    assert_eq!(system.booted, EpochMs(1_760_000_000_000));
    assert_eq!((system.os_name, system.virtualization), (text("Ubuntu 22.04.4 LTS"), text("none")));
    let digest = Sha256Digest::of(b"0123456789abcdef0123456789abcdef");
    assert_eq!(system.machine_id_sha256, Fact::Known(digest));

    let stat = std::fs::read_to_string(tree.path("proc/stat")).unwrap();
    for (correction, booted) in [("1760000001", 1_760_000_000_000), ("1760000300", 1_760_000_300_000)] {
        std::fs::write(tree.path("proc/stat"), stat.replace("1760000000", correction)).unwrap();
        assert_eq!(
            section!(view, System).booted,
            EpochMs(booted),
            "the clock's small corrections are no new boot"
        );
    }
}

#[test]
fn the_agent_counts_itself_and_its_helpers() {
    let tree = HostTree::of(&[HostTree::system]);
    let mut view = View::new(&tree.roots());
    view.full();
    assert!(close(view.number(Metric::AgentCpuSeconds, ""), 4.5));
    let page = u32::try_from(rustix::param::page_size()).unwrap();
    assert!(close(view.number(Metric::AgentResidentMemory, ""), f64::from(1536 * page)));
}

#[test]
fn an_unchanged_node_has_an_unchanged_inventory() {
    let tree = HostTree::gpu_node();
    let mut view = View::new(&tree.roots());
    view.full();
    let first = view.sections();
    tree.stat("2000 200 300 9000 400 50 60 70 0 0");
    tree.write("proc/loadavg", "99.0 50.0 20.0 1/2 3");
    view.full();
    assert_eq!(view.sections(), first);
}

#[test]
fn a_round_within_an_interval_reads_only_what_moves() {
    let tree = HostTree::of(&[HostTree::cpus, HostTree::memory]);
    let mut view = View::new(&tree.roots());
    view.round(Round::Within);
    assert_eq!(view.samples().len(), 7, "{:?}", view.samples());
    assert!(view.samples().iter().all(|sample| !matches!(sample.value, SampleValue::Counter(_))));
}
