//! The collectors on this machine, beside the tools that people know.

use std::collections::BTreeMap;
use std::process::Command;

use aim_agent::collect::{Roots, SampleValue};
use aim_common::inventory::{CollectorState, Fact, Text};
use aim_common::metric::Metric;
use serde_json::Value;

use crate::section;
use crate::support::host_tree::exists;
use crate::view::View;

/// The output of a tool that a Linux machine has.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed by this test: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(program: &str, arguments: &[&str]) -> Value {
    serde_json::from_str(&output(program, arguments)).unwrap()
}

fn view() -> View {
    View::new(&Roots::default())
}

#[test]
fn no_collector_fails_here() {
    let mut view = view();
    view.full().sections();
    for (name, state) in view.set.states() {
        assert!(!matches!(state, CollectorState::Failing(_)), "{name}: {state:?}");
    }
    for name in ["system", "cpu", "memory", "disks", "network", "agent"] {
        assert_eq!(view.state(name), CollectorState::Working, "{name}");
    }
}

#[test]
fn processors_are_those_of_lscpu() {
    let cpu = section!(view(), Cpu);
    let fields = json("lscpu", &["--json"]);
    let fields: BTreeMap<String, String> = flatten(&fields["lscpu"]);
    let number = |name: &str| fields[name].parse::<u32>().unwrap();
    assert_eq!(expand(cpu.online.known().unwrap()), expand(&fields["On-line CPU(s) list:"]));
    let sockets = number("Socket(s):");
    assert_eq!(cpu.sockets, Fact::Known(sockets));
    assert_eq!(cpu.cores, Fact::Known(number("Core(s) per socket:") * sockets));
    assert_eq!(
        cpu.threads,
        Fact::Known(number("Core(s) per socket:") * sockets * number("Thread(s) per core:"))
    );
    if let Fact::Known(model) = &cpu.model {
        assert_eq!(model.as_str(), fields["Model name:"]);
    }
    if let Some(nodes) = fields.get("NUMA node(s):") {
        assert_eq!(cpu.numa_nodes.len().to_string(), *nodes);
    }
}

/// `0-2,5` → 0, 1, 2, 5.
fn expand(list: &str) -> Vec<u32> {
    let ends = |range: &str| range.split('-').map(|end| end.parse().unwrap()).collect::<Vec<u32>>();
    list.split(',').map(ends).flat_map(|ends| ends[0]..=ends[ends.len() - 1]).collect()
}

/// lscpu nests its fields since util-linux 2.37.
fn flatten(fields: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for field in fields.as_array().into_iter().flatten() {
        let text = |name: &str| field[name].as_str().unwrap_or_default().to_owned();
        found.insert(text("field"), text("data"));
        found.append(&mut flatten(&field["children"]));
    }
    found
}

#[test]
fn memory_is_that_of_free() {
    let mut view = view();
    let table = output("free", &["--bytes"]);
    view.full();
    let columns: Vec<f64> =
        table.lines().nth(1).unwrap().split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    let total = view.number(Metric::MemoryTotal, "");
    assert!((columns[0] - total).abs() < 1.0, "total: free says {}, the agent {total}", columns[0]);
    let available = view.number(Metric::MemoryAvailable, "");
    assert!(
        (columns[5] - available).abs() < total * 0.02,
        "available: free says {}, the agent {available}",
        columns[5]
    );
    assert_eq!(section!(view, Memory).total_bytes.known().map(ToString::to_string), Some(format!("{total}")));
}

#[test]
fn disks_and_partitions_are_those_of_lsblk() {
    let names_and_sizes = |list: &Value, kind: &str| -> BTreeMap<String, u64> {
        let of_kind =
            list.as_array().unwrap().iter().filter(|device| (device["type"] == "part") == (kind == "part"));
        of_kind
            .map(|device| (device["name"].as_str().unwrap().to_owned(), device["size"].as_u64().unwrap()))
            .collect()
    };
    let columns = ["--json", "--bytes", "--output", "NAME,SIZE,TYPE"];
    let top = json("lsblk", &[&["--nodeps"], &columns[..]].concat());
    let all = json("lsblk", &[&["--list"], &columns[..]].concat());
    let disks = section!(view(), Disks).disks;
    let ours: BTreeMap<String, u64> =
        disks.iter().map(|disk| (disk.name.to_string(), *disk.size_bytes.known().unwrap())).collect();
    assert_eq!(ours, names_and_sizes(&top["blockdevices"], "disk"));
    let partitions = disks.iter().flat_map(|disk| disk.partitions.iter());
    let ours: BTreeMap<String, u64> =
        partitions.map(|part| (part.name.to_string(), *part.size_bytes.known().unwrap())).collect();
    assert_eq!(ours, names_and_sizes(&all["blockdevices"], "part"));
}

#[test]
fn interfaces_are_those_of_ip_and_their_counters_lie_between_two_readings() {
    let read = || json("ip", &["-s", "-j", "link"]);
    let before = read();
    let mut view = view();
    view.full();
    let after = read();
    let interfaces = section!(view, Network).interfaces;
    let names = |list: &Value| -> Vec<String> {
        let mut names: Vec<_> =
            list.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let ours: Vec<_> = interfaces.iter().map(|interface| interface.name.to_string()).collect();
    assert_eq!(ours, names(&before));
    let links = |list: &Value| list.as_array().unwrap().clone();
    for (before, after) in links(&before).iter().zip(&links(&after)) {
        let name = before["ifname"].as_str().unwrap();
        let interface = interfaces.iter().find(|interface| interface.name.as_str() == name).unwrap();
        assert_eq!(interface.mtu.known().map(|mtu| u64::from(*mtu)), before["mtu"].as_u64(), "{name}");
        assert_eq!(interface.mac.known().map(Text::as_str), before["address"].as_str(), "{name}");
        for (direction, field, metric) in [
            ("rx", "bytes", Metric::NetworkReceiveBytes),
            ("rx", "packets", Metric::NetworkReceivePackets),
            ("tx", "bytes", Metric::NetworkTransmitBytes),
            ("tx", "packets", Metric::NetworkTransmitPackets),
        ] {
            let bound = |link: &Value| link["stats64"][direction][field].as_f64().unwrap();
            let value = view.number(metric, name);
            assert!((bound(before)..=bound(after)).contains(&value), "{name} {metric:?}: {value}");
        }
    }
}

#[test]
fn the_system_is_that_of_uname() {
    let system = section!(view(), System);
    let uname = |flag: &str| output("uname", &[flag]).trim().to_owned();
    assert_eq!(system.hostname.to_string(), uname("-n"));
    assert_eq!(system.kernel_release.to_string(), uname("-r"));
    assert_eq!(system.kernel_version.to_string(), uname("-v"));
    assert_eq!(system.architecture.to_string(), uname("-m"));
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(system.boot_id.to_string(), boot_id.trim());
    assert!(matches!(system.virtualization, Fact::Known(_)) || !exists("/proc/cpuinfo"));
}

#[test]
fn shares_of_cpu_time_are_known_from_the_second_round_on() {
    let mut view = view();
    view.full();
    // The kernel counts in hundredths of a second.
    view.until(|view| match view.find(Metric::CpuUtilization, "") {
        Some(SampleValue::Gauge(share)) => (0.0..=1.0).contains(&share),
        _ => false,
    });
}
