//! FLT-37 and AGT-04: what `/proc` and `/sys` do on a bad day.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use aim_agent::collect::SampleValue;
use aim_agent::report::Aggregator;
use aim_common::event::EventKind;
use aim_common::inventory::{CollectorState, Fact, Section, UnknownReason};
use aim_common::metric::Metric;
use aim_common::protocol::Reading;
use aim_common::units::EpochMs;

use crate::section;
use crate::support::host_tree::HostTree;
use crate::view::View;

#[test]
fn flt_37_missing_mem_available_is_unknown_and_so_is_what_is_used() {
    let tree = HostTree::of(&[HostTree::memory]);
    tree.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 10 kB\nCached: 5 kB");
    let mut view = View::new(&tree.roots());
    view.full();
    assert_eq!(view.reason(Metric::MemoryAvailable, ""), UnknownReason::NotPresent);
    assert_eq!(view.reason(Metric::MemoryUsed, ""), UnknownReason::NotPresent);
    assert!((view.number(Metric::MemoryFree, "") - 10240.0).abs() < 1e-9);
}

#[test]
fn flt_37_more_available_than_there_is_never_gives_a_negative_number() {
    let tree = HostTree::of(&[HostTree::memory]);
    tree.write(
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemAvailable: 2000 kB\nMemFree: -5 kB\nDirty: 18446744073709551615 kB",
    );
    let mut view = View::new(&tree.roots());
    view.full();
    for metric in [Metric::MemoryUsed, Metric::MemoryFree, Metric::MemoryDirty] {
        assert_eq!(view.reason(metric, ""), UnknownReason::Malformed, "{metric:?}");
    }
}

#[test]
fn flt_37_a_cpu_taken_away_and_ticks_that_fall_back_leave_shares_sane() {
    let tree = HostTree::of(&[HostTree::cpus]);
    let mut view = View::new(&tree.roots());
    view.full();
    tree.write("sys/devices/system/cpu/online", "0-31");
    tree.write("sys/devices/system/cpu/offline", "32-63");
    tree.stat("500 100 150 2500 200 25 30 35 0 0");
    view.full();
    assert_eq!(view.reason(Metric::CpuUtilization, ""), UnknownReason::NotYet);
    tree.stat("600 100 150 2600 100 25 30 35 0 0");
    view.full();
    assert!((view.number(Metric::CpuUtilization, "") - 0.5).abs() < 1e-9);
    let cpu = section!(view, Cpu);
    assert_eq!((cpu.threads, cpu.cores), (Fact::Known(32), Fact::Known(32)));
}

#[test]
fn flt_37_a_counter_that_was_reset_is_reported_as_it_stands() {
    let tree = HostTree::of(&[HostTree::infiniband]);
    let mut view = View::new(&tree.roots());
    let mut aggregator = Aggregator::new();
    let counter = "sys/class/infiniband/mlx5_0/ports/1/counters/port_rcv_packets";
    for value in ["18446744073709551615", "4294967295", "3"] {
        tree.write(counter, value);
        view.full();
        aggregator.add(view.samples().to_vec());
        let interval = aggregator.close(EpochMs(0), 10_000);
        let is_it = |key: &&aim_common::protocol::SeriesKey| {
            key.metric == Metric::InfinibandReceivePackets && &*key.instance == "mlx5_0/1"
        };
        let place = interval.table.known().position(|key| is_it(&key)).unwrap();
        let Reading::Counter(steps) = interval.readings[place] else {
            panic!("{:?}", interval.readings[place])
        };
        assert!(steps >= 0);
        if value != "18446744073709551615" {
            assert_eq!(steps.to_string(), value);
        }
    }
}

#[test]
fn flt_37_a_container_without_proc_entries_says_what_is_missing() {
    let tree = HostTree::empty();
    let mut view = View::new(&tree.roots());
    let sections = view.full().sections();
    let names: Vec<_> = sections.iter().map(Section::name).collect();
    assert_eq!(names, ["cpu", "agent"]);
    for collector in ["system", "memory", "disks", "network", "infiniband", "thermal", "dmi", "cpu", "agent"]
    {
        assert_eq!(view.state(collector), CollectorState::NotPresent, "{collector}");
    }
    let known = view.samples().iter().filter(|sample| {
        sample.key.metric != Metric::AgentSkippedEntries && !matches!(sample.value, SampleValue::Unknown(_))
    });
    assert_eq!(known.count(), 0, "nothing is known, so that nothing is zero");
}

#[test]
fn flt_37_pressure_switched_off_is_unknown() {
    let tree = HostTree::of(&[HostTree::cpus, HostTree::memory]);
    tree.remove("proc/pressure");
    tree.write("proc/vmstat", "nr_free_pages 12");
    let mut view = View::new(&tree.roots());
    view.full();
    assert_eq!(view.reason(Metric::CpuPressure, ""), UnknownReason::NotPresent);
    assert_eq!(view.reason(Metric::IoPressureFull, ""), UnknownReason::NotPresent);
    assert_eq!(view.reason(Metric::OomKills, ""), UnknownReason::NotSupported);
}

#[test]
fn agt_04_hostile_names_are_skipped_and_counted() {
    let tree = HostTree::gpu_node();
    for directory in ["sys/block", "sys/class/net", "sys/class/infiniband"] {
        fs::create_dir(tree.path(directory).join(OsStr::from_bytes(b"bad\xff\xfe"))).unwrap();
        fs::create_dir(tree.path(directory).join("two\nlines and spaces")).unwrap();
    }
    tree.write("sys/class/hwmon/hwmon9/name", "evil\u{1b}[2J\nchip");
    tree.write("sys/class/hwmon/hwmon9/temp1_input", "1000");
    tree.write("sys/class/hwmon/hwmon10/name", "huge");
    tree.write("sys/class/hwmon/hwmon10/temp1_input", &"9".repeat(40));
    let mut diskstats = fs::read(tree.path("proc/diskstats")).unwrap();
    diskstats.extend_from_slice(b"   8 0 ../../etc 1 2 3 4 5 6 7 8 9 10 11\n   8 0 short 1\n   8 0 \xff\xfe 1 2 3 4 5 6 7 8 9 10 11\n\x00\n");
    fs::write(tree.path("proc/diskstats"), diskstats).unwrap();
    let mut dev = fs::read(tree.path("proc/net/dev")).unwrap();
    dev.extend_from_slice(b"no colon here\n : 1 2 3\n  lo2: 1 2 -3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
    fs::write(tree.path("proc/net/dev"), dev).unwrap();

    let mut view = View::new(&tree.roots());
    let sections = view.sections();
    view.full();
    for collector in ["disks", "network", "infiniband"] {
        assert_eq!(view.state(collector), CollectorState::Working, "{collector}");
        assert!(view.number(Metric::AgentSkippedEntries, collector) >= 1.0, "{collector}");
    }
    assert!(view.number(Metric::AgentSkippedEntries, "disks") >= 3.0);
    assert!(view.number(Metric::AgentSkippedEntries, "network") >= 4.0);
    for section in sections {
        let json = section.to_json().to_string();
        assert!(!json.contains("\\n") && !json.contains("\\u001b"), "{json}");
        section.encode().unwrap();
    }
    for sample in view.samples() {
        assert!(!sample.key.instance.chars().any(char::is_control), "{:?}", sample.key);
    }
    assert_eq!(view.reason(Metric::Temperature, "huge/temp1"), UnknownReason::Malformed);
    assert_eq!(view.instances(Metric::DiskReads).len(), 6, "no disk was made up");
}

#[test]
fn flt_37_a_device_that_goes_and_comes_back_is_not_present_in_between() {
    let tree = HostTree::of(&[HostTree::infiniband]);
    let mut view = View::new(&tree.roots());
    view.full();
    let counters = tree.path("sys/class/infiniband/mlx5_2/ports/1/counters");
    let away = tree.path("away");
    fs::rename(&counters, &away).unwrap();
    let file = "port_rcv_data";
    // A kept-open file of a removed device answers with an error; here its content goes away instead.
    fs::write(away.join(file), "").unwrap();
    view.full();
    assert_eq!(view.reason(Metric::InfinibandReceiveBytes, "mlx5_2/1"), UnknownReason::Malformed);
    view.sections();
    view.full();
    assert_eq!(view.reason(Metric::InfinibandReceiveBytes, "mlx5_2/1"), UnknownReason::NotPresent);
    fs::write(away.join(file), "500\n").unwrap();
    fs::rename(&away, &counters).unwrap();
    view.full();
    assert!((view.number(Metric::InfinibandReceiveBytes, "mlx5_2/1") - 2000.0).abs() < 1e-9);
}

#[test]
fn flt_37_disks_and_interfaces_plugged_in_later_are_found() {
    let tree = HostTree::of(&[HostTree::disks, HostTree::network]);
    let mut view = View::new(&tree.roots());
    view.full();
    tree.write_all("sys/block/sdb", &[("dev", "8:16"), ("size", "1000")]);
    let stats = fs::read_to_string(tree.path("proc/diskstats")).unwrap();
    tree.write("proc/diskstats", &format!("{stats}   8 16 sdb 9 0 0 0 0 0 0 0 0 0 0"));
    view.full();
    assert!((view.number(Metric::DiskReads, "sdb") - 9.0).abs() < 1e-9);
    tree.write_all("sys/class/net/usb0", &[("ifindex", "200"), ("iflink", "200"), ("carrier_changes", "1")]);
    let dev = fs::read_to_string(tree.path("proc/net/dev")).unwrap();
    tree.write("proc/net/dev", &format!("{dev}  usb0: 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"));
    view.sections();
    view.full();
    assert!((view.number(Metric::NetworkReceiveBytes, "usb0") - 5.0).abs() < 1e-9);
}

#[test]
fn flt_37_hundreds_of_container_interfaces_do_not_fill_the_table() {
    let tree = HostTree::of(&[HostTree::network]);
    let mut dev = vec![fs::read_to_string(tree.path("proc/net/dev")).unwrap().trim_end().to_owned()];
    for number in 0..300 {
        let (name, index) = (format!("tap{number}"), (1000 + number).to_string());
        tree.write_all(&format!("sys/class/net/{name}"), &[("ifindex", &index), ("iflink", &index)]);
        dev.push(format!("{name}: 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"));
    }
    tree.write("proc/net/dev", &dev.join("\n"));
    let mut view = View::new(&tree.roots());
    view.full();
    let sampled = view.instances(Metric::NetworkReceiveBytes);
    // 11 of hardware, and the 32 oldest virtual ones: lo, bond0 and 30 of these.
    assert_eq!(sampled.len(), 43);
    assert!(sampled.contains(&"tap29".to_owned()) && !sampled.contains(&"tap30".to_owned()));
    assert_eq!(section!(view, Network).interfaces.len(), 314);
}

#[test]
fn flt_37_a_read_that_hangs_in_a_driver_stalls_nothing_and_is_reported() {
    let tree = HostTree::of(&[HostTree::memory, HostTree::sensors, HostTree::infiniband]);
    let mut view = View::new(&tree.roots());
    view.full();
    let (port, counter) = ("mlx5_0/1", "sys/class/infiniband/mlx5_0/ports/1/counters/symbol_error");
    let counter = tree.path(counter);
    fs::remove_file(&counter).unwrap();
    // Opening a pipe without a writer does not return, as a read of a card whose firmware is stuck.
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &counter, pipe, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    view.sections();

    for _ in 0..3 {
        view.full();
        assert_eq!(view.reason(Metric::InfinibandSymbolErrors, port), UnknownReason::Unresponsive);
        assert!(view.number(Metric::MemoryTotal, "") > 0.0, "the others go on");
    }
    assert_eq!(view.state("infiniband"), CollectorState::Unresponsive);
    assert_eq!(view.state("thermal"), CollectorState::Working);
    assert_eq!(view.events(), [EventKind::CollectorFailed]);

    // The card is back, and then the read returns.
    let stuck = tree.path("stuck");
    fs::rename(&counter, &stuck).unwrap();
    fs::write(&counter, "7\n").unwrap();
    fs::write(&stuck, "").unwrap();
    view.until(|view| view.state("infiniband") == CollectorState::Working);
    assert_eq!(view.events(), [EventKind::CollectorFailed, EventKind::CollectorRecovered]);
    view.sections();
    view.full();
    assert!((view.number(Metric::InfinibandSymbolErrors, port) - 7.0).abs() < 1e-9);
}
