//! A network namespace with one veth pair, whose counters show every byte that an agent sends and receives.

use std::process::Command;

use anyhow::{Context, ensure};

/// Bytes of the Ethernet header, which the veth counts and a wire figure does not.
const ETHERNET_HEADER: u64 = 14;

/// The namespace; dropping it removes it with its link.
pub(crate) struct Namespace {
    name: String,
    host_link: String,
    /// Address of the host's end, where the coordinator listens.
    pub(crate) host_address: String,
}

/// Packets and IP bytes so far, both directions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Traffic {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { packets: self.packets - earlier.packets, bytes: self.bytes - earlier.bytes }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("cannot run ip (package iproute2)")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {} failed: {}", arguments.join(" "), complaint.trim());
    Ok(())
}

/// The same with the arguments in one line; none of them holds a space.
fn ip_words(line: &str) -> anyhow::Result<()> {
    ip(&line.split(' ').collect::<Vec<_>>())
}

impl Namespace {
    /// Makes namespace number `index`, with 198.18.`index`.1 on the host and .2 inside (RFC 2544's test range).
    pub(crate) fn create(index: u8) -> anyhow::Result<Self> {
        let unique = std::process::id() % 10_000;
        let name = format!("aimb{unique}x{index}");
        let host_link = format!("aimbh{unique}x{index}");
        let host_address = format!("198.18.{index}.1");
        ip(&["netns", "add", &name])?;
        let namespace = Self { name, host_link, host_address };
        let (host, inside) = (&namespace.host_link, "eth0");
        let (host_mac, inside_mac) =
            (format!("02:00:00:00:{index:02x}:01"), format!("02:00:00:00:{index:02x}:02"));
        let netns = namespace.name.as_str();
        ip_words(&format!(
            "link add {host} address {host_mac} type veth peer name {inside} address {inside_mac} netns {netns}"
        ))?;
        let (gateway, address) = (&namespace.host_address, format!("198.18.{index}.2"));
        ip_words(&format!("addr add {gateway}/24 dev {host}"))?;
        ip_words(&format!("link set {host} up"))?;
        ip_words(&format!("-n {netns} addr add {address}/24 dev {inside}"))?;
        ip_words(&format!("-n {netns} link set lo up"))?;
        ip_words(&format!("-n {netns} link set {inside} up"))?;
        // Known to each other for ever: ARP is neither the agent's nor IP's.
        ip_words(&format!("neigh replace {address} lladdr {inside_mac} dev {host} nud permanent"))?;
        ip_words(&format!(
            "-n {netns} neigh replace {gateway} lladdr {host_mac} dev {inside} nud permanent"
        ))?;
        Ok(namespace)
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// What has crossed the link so far.
    pub(crate) fn traffic(&self) -> anyhow::Result<Traffic> {
        let read = |counter: &str| -> anyhow::Result<u64> {
            let path = format!("/sys/class/net/{}/statistics/{counter}", self.host_link);
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            Ok(text.trim().parse()?)
        };
        let packets = read("rx_packets")? + read("tx_packets")?;
        let bytes = read("rx_bytes")? + read("tx_bytes")?;
        Ok(Traffic { packets, bytes: bytes.saturating_sub(packets * ETHERNET_HEADER) })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["link", "delete", &self.host_link]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}
