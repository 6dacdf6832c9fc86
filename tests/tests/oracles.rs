//! What AIM shows of this machine, against what the machine's own tools show.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use aim_tests::{Agent, Aimctl, Coordinator, run, until};
use serde_json::Value;
use tempfile::TempDir;

fn tool(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments).env("LC_ALL", "C"), Duration::from_secs(20)).success()
}

fn tool_json(program: &str, arguments: &[&str]) -> Value {
    serde_json::from_str(&tool(program, arguments)).unwrap()
}

/// A fact's value; `null` where it is unknown.
fn known(fact: &Value) -> &Value {
    &fact["known"]
}

/// The newest value of a series.
fn value(node: &Value, metric: &str, instance: &str) -> f64 {
    let values = node["values"].as_array().unwrap();
    let found = values.iter().find(|value| value["metric"] == metric && value["instance"] == instance);
    let found = found.unwrap_or_else(|| panic!("no value {metric} {instance}"));
    found["gauge"]["avg"].as_f64().or(found["counter"]["value"].as_f64()).unwrap_or_else(|| panic!("{found}"))
}

struct Shown {
    _dir: TempDir,
    _coordinator: Coordinator,
    _agent: Agent,
    aimctl: Aimctl,
}

impl Shown {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let coordinator = Coordinator::start(dir.path());
        let agent = Agent::start(dir.path(), "thismachine", &coordinator);
        let aimctl = coordinator.aimctl();
        Self { _dir: dir, _coordinator: coordinator, _agent: agent, aimctl }
    }

    fn node(&self) -> Value {
        self.aimctl.json(&["node", "show", "thismachine"])
    }

    /// The node once the section and some value of the metric are there.
    #[track_caller]
    fn node_with(&self, section: &str, metric: &str) -> Value {
        until(&format!("{section} and {metric} are shown"), Duration::from_secs(30), || {
            let node = self.node();
            let has_value = node["values"].as_array()?.iter().any(|value| value["metric"] == metric);
            (node["inventory"][section].is_object() && has_value).then_some(node)
        })
    }
}

fn lscpu() -> BTreeMap<String, String> {
    fn collect(fields: &Value, into: &mut BTreeMap<String, String>) {
        for field in fields.as_array().into_iter().flatten() {
            let text = |key: &str| field[key].as_str().unwrap_or_default().trim_end_matches(':').to_owned();
            into.insert(text("field"), text("data"));
            collect(&field["children"], into);
        }
    }
    let mut fields = BTreeMap::new();
    collect(&tool_json("lscpu", &["-J"])["lscpu"], &mut fields);
    fields
}

#[test]
fn a_node_is_shown_as_its_own_tools_show_it() {
    let shown = Shown::new();
    processors(&shown.node_with("cpu", "cpu_utilization_ratio"));
    memory(&shown);
    disks(&shown);
    file_systems(&shown.node_with("filesystems", "filesystem_size_bytes"));
    network(&shown);
}

fn processors(node: &Value) {
    let cpu = &node["inventory"]["cpu"]["content"];
    let fields = lscpu();
    let number = |field: &str| fields[field].parse::<u64>().unwrap();
    assert_eq!(*known(&cpu["threads"]), number("CPU(s)"));
    assert_eq!(*known(&cpu["sockets"]), number("Socket(s)"));
    assert_eq!(*known(&cpu["cores"]), number("Socket(s)") * number("Core(s) per socket"));
    assert_eq!(*known(&cpu["model"]), fields["Model name"]);
    assert_eq!(*known(&cpu["vendor"]), fields["Vendor ID"]);
    assert_eq!(cpu["numa_nodes"].as_array().unwrap().len() as u64, number("NUMA node(s)"));
    let usage = value(node, "cpu_utilization_ratio", "");
    assert!((0.0..=1.0).contains(&usage), "{usage}");
}

/// Rows of `free -b`: total, used, free, shared, cache, available.
fn free() -> BTreeMap<String, Vec<f64>> {
    let text = tool("free", &["-b"]);
    let rows = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    rows.map(|(name, numbers)| {
        (name.to_owned(), numbers.split_whitespace().map(|number| number.parse().unwrap()).collect())
    })
    .collect()
}

/// Counts exactly; what changes with every moment within 2 % of the whole.
fn memory(shown: &Shown) {
    let node = shown.node_with("memory", "memory_available_bytes");
    let rows = free();
    let (total, swap) = (rows["Mem"][0], rows["Swap"][0]);
    let content = &node["inventory"]["memory"]["content"];
    assert_eq!(known(&content["total_bytes"]).as_f64(), Some(total));
    assert_eq!(known(&content["swap_bytes"]).as_f64(), Some(swap));
    until("available and free memory are within 2 % of free's", Duration::from_secs(20), || {
        let node = shown.node();
        let near = |metric: &str, column: usize| {
            (value(&node, metric, "") - free()["Mem"][column]).abs() <= 0.02 * total
        };
        (near("memory_available_bytes", 5) && near("memory_free_bytes", 2)).then_some(())
    });
}

/// Name to size, of partitions too.
type Sizes = BTreeMap<String, u64>;

fn disks(shown: &Shown) {
    fn collect(devices: &Value, into: &mut Sizes) {
        for device in devices.as_array().into_iter().flatten() {
            if matches!(device["type"].as_str(), Some("disk" | "part" | "loop" | "rom")) {
                into.insert(device["name"].as_str().unwrap().to_owned(), device["size"].as_u64().unwrap());
            }
            collect(&device["children"], into);
        }
    }
    let mut expected = Sizes::new();
    collect(&tool_json("lsblk", &["-J", "-b", "-o", "NAME,SIZE,TYPE"])["blockdevices"], &mut expected);

    let node = shown.node_with("disks", "disk_written_bytes_total");
    let mut found = Sizes::new();
    for disk in node["inventory"]["disks"]["content"]["disks"].as_array().unwrap() {
        for device in [disk].into_iter().chain(disk["partitions"].as_array().unwrap()) {
            found.insert(
                device["name"].as_str().unwrap().to_owned(),
                known(&device["size_bytes"]).as_u64().unwrap(),
            );
        }
    }
    assert_eq!(found, expected);
}

fn file_systems(node: &Value) {
    let text = tool("df", &["--block-size=1", "--output=target,size,source,fstype", "-l"]);
    let expected: BTreeMap<&str, (u64, &str)> = text
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[0], (fields[1].parse().unwrap(), fields[3]))
        })
        .collect();
    let shown = node["inventory"]["filesystems"]["content"]["filesystems"].as_array().unwrap();
    let find = |mount_point: &str| shown.iter().find(|shown| shown["mount_point"] == mount_point);
    // Disks' own file systems must all be there; of kernel-made ones AIM leaves out what holds nothing.
    let on_disks = expected
        .iter()
        .filter(|(_, (_, kind))| matches!(*kind, "ext4" | "xfs" | "btrfs" | "overlay" | "vfat"));
    for (mount_point, (size, kind)) in on_disks {
        let found = find(mount_point).unwrap_or_else(|| panic!("{mount_point} is missing"));
        assert_eq!(
            (known(&found["size_bytes"]).as_u64(), found["fs_type"].as_str()),
            (Some(*size), Some(*kind))
        );
    }
    for found in shown {
        let mount_point = found["mount_point"].as_str().unwrap();
        if let Some((size, kind)) = expected.get(mount_point) {
            assert_eq!(
                (known(&found["size_bytes"]).as_u64(), found["fs_type"].as_str()),
                (Some(*size), Some(*kind))
            );
        }
    }
}

fn network(shown: &Shown) {
    let interfaces = || tool_json("ip", &["-j", "-s", "link"]).as_array().unwrap().clone();
    let before = interfaces();
    let node = shown.node_with("network", "network_receive_bytes_total");
    let described = |name: &Value, mtu: &Value, mac: &Value| (name.clone(), mtu.clone(), mac.clone());
    let mut expected: Vec<_> =
        before.iter().map(|link| described(&link["ifname"], &link["mtu"], &link["address"])).collect();
    let content = node["inventory"]["network"]["content"]["interfaces"].as_array().unwrap();
    let mut found: Vec<_> =
        content.iter().map(|nic| described(&nic["name"], known(&nic["mtu"]), known(&nic["mac"]))).collect();
    let by_name = |a: &(Value, Value, Value), b: &(Value, Value, Value)| a.0.as_str().cmp(&b.0.as_str());
    expected.sort_by(by_name);
    found.sort_by(by_name);
    assert_eq!(found, expected);

    // Counters lie between two readings of `ip`: the first is older than the value, the second newer.
    let newest = |node: &Value| -> String {
        let values = node["values"].as_array().unwrap().iter();
        let at =
            values.filter(|value| value["metric"] == "network_receive_bytes_total").map(|value| &value["at"]);
        at.filter_map(Value::as_str).max().unwrap_or_default().to_owned()
    };
    let seen = newest(&shown.node());
    let first = until("a report that began before", Duration::from_secs(20), || {
        (newest(&shown.node()) > seen).then(interfaces)
    });
    let seen = newest(&shown.node());
    let node = until("a report after the first reading", Duration::from_secs(20), || {
        let node = shown.node();
        (newest(&node) > seen).then_some(node)
    });
    let second = interfaces();
    // The agent keeps no series of a pair's end, which belongs to a container or to another test.
    let is_pair_end = |link: &Value| link.get("link_netnsid").is_some();
    let compared =
        |links: &[Value]| -> Vec<Value> { links.iter().filter(|link| !is_pair_end(link)).cloned().collect() };
    let (first, second) = (compared(&first), compared(&second));
    assert!(!first.is_empty() && first.len() == second.len(), "interfaces changed while they were read");
    for (first, second) in first.iter().zip(&second) {
        let name = first["ifname"].as_str().unwrap();
        for (metric, way, counter) in [
            ("network_receive_bytes_total", "rx", "bytes"),
            ("network_transmit_bytes_total", "tx", "bytes"),
            ("network_receive_packets_total", "rx", "packets"),
        ] {
            let reading = |link: &Value| link["stats64"][way][counter].as_f64().unwrap();
            let shown = value(&node, metric, name);
            assert!(reading(first) <= shown && shown <= reading(second), "{name} {metric}: {shown}");
        }
    }
}
