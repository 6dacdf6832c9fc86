//! Network interfaces: `/sys/class/net` for what they are, `/proc/net/dev` for what they carry.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aim_common::inventory::{List, Network, NetworkInterface, Section, Text, UnknownReason};
use aim_common::metric::Metric;

use super::source::{self, KeptFile, float};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// Virtual interfaces with series, the oldest first: containers must not fill a node's table.
const MAX_VIRTUAL: usize = 32;
/// Hardware interfaces with series.
const MAX_HARDWARE: usize = 128;

/// Counters of `/proc/net/dev` by their column after the name.
const COLUMNS: [(usize, Metric); 8] = [
    (0, Metric::NetworkReceiveBytes),
    (1, Metric::NetworkReceivePackets),
    (2, Metric::NetworkReceiveErrors),
    (3, Metric::NetworkReceiveDrops),
    (8, Metric::NetworkTransmitBytes),
    (9, Metric::NetworkTransmitPackets),
    (10, Metric::NetworkTransmitErrors),
    (11, Metric::NetworkTransmitDrops),
];

/// Reads network interfaces.
#[derive(Debug)]
pub(super) struct NetworkCollector {
    class: PathBuf,
    dev: KeptFile,
    /// Interfaces with series, each with its count of carrier changes; `None` until looked for, and again after each
    /// inventory.
    sampled: Option<HashMap<Vec<u8>, KeptFile>>,
    skipped: u64,
    buffer: Vec<u8>,
    small: Vec<u8>,
}

impl NetworkCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            class: roots.sys.join("class/net"),
            dev: KeptFile::new(roots.proc.join("net/dev")),
            sampled: None,
            skipped: 0,
            buffer: Vec::new(),
            small: Vec::new(),
        }
    }

    /// Directories of the interfaces; `bonding_masters` beside them is a file.
    fn interfaces(&mut self) -> Result<Vec<String>, CollectError> {
        let (mut names, skipped) =
            source::entries(&self.class).map_err(|error| source::failure(&self.class, error))?;
        self.skipped += skipped;
        names.retain(|name| self.class.join(name).is_dir());
        Ok(names)
    }

    /// Hardware first, then the oldest of the virtual ones.
    fn choose(&mut self) -> HashMap<Vec<u8>, KeptFile> {
        let class = self.class.clone();
        let index =
            |name: &String| source::number_fact(&class.join(name).join("ifindex")).unwrap_or(u64::MAX);
        let mut names = self.interfaces().unwrap_or_default();
        names.sort_by_cached_key(index);
        let (hardware, virtual_ones): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| class.join(name).join("device").exists());
        let virtual_ones = virtual_ones.into_iter().filter(|name| !is_pair_end(&class.join(name)));
        let chosen = hardware.into_iter().take(MAX_HARDWARE).chain(virtual_ones.take(MAX_VIRTUAL));
        let carrier = |name: String| {
            let file = KeptFile::new(class.join(&name).join("carrier_changes"));
            (name.into_bytes(), file)
        };
        chosen.map(carrier).collect()
    }
}

impl Collector for NetworkCollector {
    fn name(&self) -> &'static str {
        "network"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        self.sampled = None;
        let names = self.interfaces()?;
        let interfaces = names.iter().map(|name| interface(&self.class.join(name), name)).collect();
        Ok(Some(Section::Network(Network { interfaces: List::truncated(interfaces).0 })))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        if sink.round == Round::Within {
            return Ok(());
        }
        let mut sampled = self.sampled.take().unwrap_or_else(|| self.choose());
        let dev = match self.dev.read_records(&mut self.buffer) {
            Ok(dev) => dev,
            Err(error) => return Err(source::failure(self.dev.path(), error)),
        };
        // Two lines of headings stand before the interfaces.
        for line in source::lines(dev).skip(2).filter(|line| !line.is_empty()) {
            let Some((name, columns)) = parse_line(line) else {
                self.skipped += 1;
                continue;
            };
            let Some(carrier_changes) = sampled.get_mut(name) else { continue };
            let interface = source::text(name);
            for (column, metric) in COLUMNS {
                sink.counter(metric, &interface, columns.get(column).copied().map_or(f64::NAN, float));
            }
            let changes = carrier_changes.read_number(&mut self.small).map(float);
            sink.counter_or_reason(Metric::NetworkCarrierChanges, &interface, changes);
        }
        self.sampled = Some(sampled);
        sink.counter(Metric::AgentSkippedEntries, self.name(), float(self.skipped));
        Ok(())
    }
}

/// `  eth0: 16 numbers`. The kernel refuses `:` and white space in an interface's name, so that the first colon ends it.
fn parse_line(line: &[u8]) -> Option<(&[u8], [u64; 16])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii();
    let mut words = source::words(line.get(colon + 1..)?);
    let mut columns = [0; 16];
    for column in &mut columns {
        *column = source::number(words.next()?)?;
    }
    (!name.is_empty()).then_some((name, columns))
}

/// One end of a veth pair: it names a peer in another network namespace and nothing below itself.
fn is_pair_end(interface: &Path) -> bool {
    let (Ok(index), Ok(peer)) =
        (source::number_fact(&interface.join("ifindex")), source::number_fact(&interface.join("iflink")))
    else {
        return false;
    };
    let is_lower = |name: &String| name.starts_with("lower_");
    let has_lower = || source::entries(interface).is_ok_and(|(names, _)| names.iter().any(is_lower));
    peer != 0 && peer != index && !has_lower()
}

fn interface(directory: &Path, name: &str) -> NetworkInterface {
    let device = directory.join("device");
    let (pci_address, numa_node) = source::pci_place(&device);
    NetworkInterface {
        name: Text::truncated(name),
        mac: source::text_fact(&directory.join("address")),
        mtu: source::small_number_fact(&directory.join("mtu")).into(),
        state: source::text_fact(&directory.join("operstate")),
        speed_mbps: speed(directory).into(),
        full_duplex: full_duplex(directory).into(),
        driver: source::link_name(&device.join("driver")).map(|driver| Text::truncated(&driver)).into(),
        pci_address,
        numa_node,
    }
}

/// -1, or no answer at all, where the link is down or the device has no speed.
fn speed(interface: &Path) -> Result<u64, UnknownReason> {
    let bytes = source::fact(&interface.join("speed"))?;
    if bytes.starts_with(b"-") {
        return Err(UnknownReason::NotSupported);
    }
    source::number(&bytes).ok_or(UnknownReason::Malformed)
}

fn full_duplex(interface: &Path) -> Result<bool, UnknownReason> {
    match source::fact(&interface.join("duplex"))?.as_slice() {
        b"full" => Ok(true),
        b"half" => Ok(false),
        _ => Err(UnknownReason::NotSupported),
    }
}
