//! InfiniBand and RoCE: devices, ports and their counters from `/sys/class/infiniband`.

use std::path::{Path, PathBuf};

use aim_common::inventory::{
    Fact, Infiniband, InfinibandDevice, InfinibandPort, LinkLayer, List, Section, Text, UnknownReason,
};
use aim_common::metric::Metric;

use super::source::{self, KeptFile, float};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// Data counters are in words of four octets (Linux: Documentation/ABI/stable/sysfs-class-infiniband).
const OCTETS_PER_WORD: f64 = 4.0;

/// Counters of every port, in `counters`: metric, files to be added up, factor.
const COUNTERS: [(Metric, &[&str], f64); 16] = [
    (Metric::InfinibandReceiveBytes, &["port_rcv_data"], OCTETS_PER_WORD),
    (Metric::InfinibandTransmitBytes, &["port_xmit_data"], OCTETS_PER_WORD),
    (Metric::InfinibandReceivePackets, &["port_rcv_packets"], 1.0),
    (Metric::InfinibandTransmitPackets, &["port_xmit_packets"], 1.0),
    (Metric::InfinibandSymbolErrors, &["symbol_error"], 1.0),
    (Metric::InfinibandLinkDowned, &["link_downed"], 1.0),
    (Metric::InfinibandLinkRecovery, &["link_error_recovery"], 1.0),
    (Metric::InfinibandReceiveErrors, &["port_rcv_errors"], 1.0),
    (Metric::InfinibandTransmitDiscards, &["port_xmit_discards"], 1.0),
    (Metric::InfinibandTransmitWait, &["port_xmit_wait"], 1.0),
    (Metric::InfinibandLocalIntegrityErrors, &["local_link_integrity_errors"], 1.0),
    (Metric::InfinibandBufferOverruns, &["excessive_buffer_overrun_errors"], 1.0),
    (Metric::InfinibandReceiveRemotePhysicalErrors, &["port_rcv_remote_physical_errors"], 1.0),
    (Metric::InfinibandReceiveSwitchRelayErrors, &["port_rcv_switch_relay_errors"], 1.0),
    (Metric::InfinibandConstraintErrors, &["port_rcv_constraint_errors", "port_xmit_constraint_errors"], 1.0),
    (Metric::InfinibandVl15Dropped, &["VL15_dropped"], 1.0),
];

/// Counters in `hw_counters`, where the driver has them.
const HARDWARE_COUNTERS: [(Metric, &str); 3] = [
    (Metric::InfinibandOutOfSequence, "out_of_sequence"),
    (Metric::InfinibandPacketSequenceErrors, "packet_seq_err"),
    (Metric::InfinibandTimeouts, "local_ack_timeout_err"),
];

/// One counter of one port.
#[derive(Debug)]
struct Counter {
    metric: Metric,
    files: Vec<KeptFile>,
    factor: f64,
}

/// Reads InfiniBand and RoCE.
#[derive(Debug)]
pub(super) struct InfinibandCollector {
    class: PathBuf,
    /// Counters by port (`mlx5_0/1`); `None` until looked for, and again after each inventory.
    ports: Option<Vec<(String, Vec<Counter>)>>,
    skipped: u64,
    buffer: Vec<u8>,
}

impl InfinibandCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self { class: roots.sys.join("class/infiniband"), ports: None, skipped: 0, buffer: Vec::new() }
    }

    fn devices(&mut self) -> Result<Vec<String>, CollectError> {
        let (names, skipped) =
            source::entries(&self.class).map_err(|error| source::failure(&self.class, error))?;
        self.skipped += skipped;
        Ok(names)
    }

    fn find_ports(&mut self) -> Result<Vec<(String, Vec<Counter>)>, CollectError> {
        let mut found = Vec::new();
        for device in self.devices()? {
            let ports = self.class.join(&device).join("ports");
            for (number, name) in source::numbered(&ports, "") {
                found.push((format!("{device}/{number}"), counters(&ports.join(name))));
            }
        }
        Ok(found)
    }
}

impl Collector for InfinibandCollector {
    fn name(&self) -> &'static str {
        "infiniband"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        self.ports = None;
        let devices = self.devices()?;
        let devices = devices.iter().map(|name| device(&self.class.join(name), name)).collect();
        Ok(Some(Section::Infiniband(Infiniband { devices: List::truncated(devices).0 })))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        if sink.round == Round::Within {
            return Ok(());
        }
        let mut ports = match self.ports.take() {
            Some(ports) => ports,
            None => self.find_ports()?,
        };
        for (port, counters) in &mut ports {
            for counter in counters {
                let value = counter.read(&mut self.buffer);
                sink.counter_or_reason(counter.metric, port, value);
            }
        }
        self.ports = Some(ports);
        sink.counter(Metric::AgentSkippedEntries, self.name(), float(self.skipped));
        Ok(())
    }
}

impl Counter {
    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<f64, UnknownReason> {
        let mut sum = 0.0;
        for file in &mut self.files {
            sum += float(file.read_number(buffer)?) * self.factor;
        }
        Ok(sum)
    }
}

fn counters(port: &Path) -> Vec<Counter> {
    let file = |directory: &str, name: &str| KeptFile::new(port.join(directory).join(name));
    let mut found: Vec<Counter> = COUNTERS
        .into_iter()
        .map(|(metric, names, factor)| Counter {
            metric,
            files: names.iter().map(|name| file("counters", name)).collect(),
            factor,
        })
        .collect();
    for (metric, name) in HARDWARE_COUNTERS {
        if port.join("hw_counters").join(name).exists() {
            found.push(Counter { metric, files: vec![file("hw_counters", name)], factor: 1.0 });
        }
    }
    found
}

fn device(directory: &Path, name: &str) -> InfinibandDevice {
    let (pci_address, numa_node) = source::pci_place(&directory.join("device"));
    let ports = directory.join("ports");
    let numbers = source::numbered(&ports, "").into_iter();
    InfinibandDevice {
        name: Text::truncated(name),
        board_id: source::text_fact(&directory.join("board_id")),
        firmware: source::text_fact(&directory.join("fw_ver")),
        hca_type: source::text_fact(&directory.join("hca_type")),
        node_guid: source::text_fact(&directory.join("node_guid")),
        pci_address,
        numa_node,
        ports: List::truncated(
            numbers.map(|(number, name)| port(&ports.join(name), number, directory)).collect(),
        )
        .0,
    }
}

fn port(directory: &Path, number: u32, device: &Path) -> InfinibandPort {
    let rate = source::fact(&directory.join("rate"));
    let rate_mbps = rate.clone().and_then(|rate| megabits(&rate).ok_or(UnknownReason::Malformed));
    InfinibandPort {
        number,
        link_layer: source::fact(&directory.join("link_layer")).map(|word| link_layer(&word)).into(),
        state: state_name(&directory.join("state")).into(),
        physical_state: state_name(&directory.join("phys_state")).into(),
        rate_mbps: rate_mbps.into(),
        rate: rate.and_then(|rate| source::some_text(&rate)).into(),
        lid: local_id(&directory.join("lid")).into(),
        sm_lid: local_id(&directory.join("sm_lid")).into(),
        netdev: netdev(directory, number, device),
    }
}

fn link_layer(word: &[u8]) -> LinkLayer {
    match word {
        b"InfiniBand" => LinkLayer::Infiniband,
        b"Ethernet" => LinkLayer::Ethernet,
        other => LinkLayer::Other(source::text(other)),
    }
}

/// `4: ACTIVE` → `ACTIVE`.
fn state_name(file: &Path) -> Result<Text, UnknownReason> {
    let state = source::fact(file)?;
    let name = state.split(|byte| *byte == b':').nth(1).ok_or(UnknownReason::Malformed)?;
    source::some_text(name)
}

/// `400 Gb/sec (4X NDR)` → 400,000; also `2.5 Gb/sec (1X SDR)`.
fn megabits(rate: &[u8]) -> Option<u64> {
    let mut words = source::words(rate);
    let (gigabits, unit) = (words.next()?, words.next()?);
    if unit != b"Gb/sec" {
        return None;
    }
    let mut parts = gigabits.splitn(2, |byte| *byte == b'.');
    let whole = source::number(parts.next()?)?.checked_mul(1000)?;
    let tenths = match parts.next() {
        None => 0,
        Some([digit @ b'0'..=b'9']) => u64::from(digit - b'0') * 100,
        Some(_) => return None,
    };
    whole.checked_add(tenths)
}

/// LIDs are written in hexadecimal, `0x1a`.
fn local_id(file: &Path) -> Result<u32, UnknownReason> {
    let id = source::fact(file)?;
    let digits = id.strip_prefix(b"0x").and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(UnknownReason::Malformed)
}

/// RoCE names its interface at the port's first GID; IPoIB's is the device's own with this port's number.
fn netdev(port: &Path, number: u32, device: &Path) -> Fact<Text> {
    let named = source::text_fact(&port.join("gid_attrs/ndevs/0"));
    if matches!(named, Fact::Known(_)) {
        return named;
    }
    let interfaces = device.join("device/net");
    let (names, _) = source::entries(&interfaces).unwrap_or_default();
    let is_of_port = |name: &&String| {
        source::number_fact(&interfaces.join(name).join("dev_port"))
            == Ok(u64::from(number.saturating_sub(1)))
    };
    match names.iter().find(is_of_port) {
        Some(name) => Fact::Known(Text::truncated(name)),
        None => Fact::Unknown(UnknownReason::NotPresent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_the_kernel_writes_them() {
        assert_eq!(megabits(b"400 Gb/sec (4X NDR)"), Some(400_000));
        assert_eq!(megabits(b"2.5 Gb/sec (1X SDR)"), Some(2_500));
        for bad in
            [&b""[..], b"400", b"fast Gb/sec", b"-1 Gb/sec", b"1.25 Gb/sec", b"18446744073709551615 Gb/sec"]
        {
            assert_eq!(megabits(bad), None);
        }
    }
}
