//! Block devices: what `lsblk -d` shows, from `/sys/block`; their counters from `/proc/diskstats`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use aim_common::inventory::{Disk, Disks, Fact, List, Partition, Section, Text, UnknownReason};
use aim_common::metric::Metric;

use super::source::{self, KeptFile, float};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// The kernel counts sizes and transfers in these, whatever the device's own block size is.
const SECTOR_BYTES: u64 = 512;
/// Major number of RAM disks, which lsblk leaves out.
const RAM_MAJOR: &[u8] = b"1:";
/// Major number of loop devices, left out while they hold no file.
const LOOP_MAJOR: &[u8] = b"7:";

/// Reads block devices.
#[derive(Debug)]
pub(super) struct DiskCollector {
    block: PathBuf,
    diskstats: KeptFile,
    /// Names of `/proc/diskstats` that were looked at: whether they are whole disks. Forgotten at each inventory.
    whole: HashMap<Vec<u8>, bool>,
    skipped: u64,
    buffer: Vec<u8>,
}

impl DiskCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            block: roots.sys.join("block"),
            diskstats: KeptFile::new(roots.proc.join("diskstats")),
            whole: HashMap::new(),
            skipped: 0,
            buffer: Vec::new(),
        }
    }
}

impl Collector for DiskCollector {
    fn name(&self) -> &'static str {
        "disks"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        self.whole.clear();
        let (names, skipped) =
            source::entries(&self.block).map_err(|error| source::failure(&self.block, error))?;
        self.skipped += skipped;
        let shown = names.iter().filter(|name| is_shown(&self.block.join(name)));
        let disks = shown.map(|name| disk(&self.block.join(name), name)).collect();
        Ok(Some(Section::Disks(Disks { disks: List::truncated(disks).0 })))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        if sink.round == Round::Within {
            return Ok(());
        }
        let diskstats = match self.diskstats.read_records(&mut self.buffer) {
            Ok(diskstats) => diskstats,
            Err(error) => return Err(source::failure(self.diskstats.path(), error)),
        };
        for line in source::lines(diskstats).filter(|line| !line.is_empty()) {
            let Some((name, counters)) = parse_line(line) else {
                self.skipped += 1;
                continue;
            };
            let whole = match self.whole.get(name) {
                Some(whole) => *whole,
                None => is_whole_disk(&self.block, name, &mut self.whole),
            };
            if whole {
                emit(&source::text(name), counters, sink);
            }
        }
        sink.counter(Metric::AgentSkippedEntries, self.name(), float(self.skipped));
        Ok(())
    }
}

/// Name and the first eleven counters of a line of `/proc/diskstats` (Linux: Documentation/admin-guide/iostats.rst).
fn parse_line(line: &[u8]) -> Option<(&[u8], [u64; 11])> {
    let mut words = source::words(line);
    let (_major, _minor) = (source::number(words.next()?)?, source::number(words.next()?)?);
    let name = words.next()?;
    let mut counters = [0; 11];
    for counter in &mut counters {
        *counter = source::number(words.next()?)?;
    }
    Some((name, counters))
}

fn emit(disk: &str, counters: [u64; 11], sink: &mut SampleSink) {
    let [reads, _, read_sectors, read_ms, writes, _, written_sectors, write_ms, in_progress, io_ms, _] =
        counters;
    let bytes = |sectors: u64| float(sectors) * float(SECTOR_BYTES);
    let seconds = |milliseconds: u64| float(milliseconds) / 1e3;
    sink.counter(Metric::DiskReadBytes, disk, bytes(read_sectors));
    sink.counter(Metric::DiskWrittenBytes, disk, bytes(written_sectors));
    sink.counter(Metric::DiskReads, disk, float(reads));
    sink.counter(Metric::DiskWrites, disk, float(writes));
    sink.counter(Metric::DiskIoTime, disk, seconds(io_ms));
    sink.counter(Metric::DiskReadTime, disk, seconds(read_ms));
    sink.counter(Metric::DiskWriteTime, disk, seconds(write_ms));
    sink.gauge(Metric::DiskIoInProgress, disk, float(in_progress));
}

/// Whether the name is of a whole disk that the inventory shows; remembered for the rounds that follow.
fn is_whole_disk(block: &Path, name: &[u8], known: &mut HashMap<Vec<u8>, bool>) -> bool {
    // A partition has no directory of its own in /sys/block.
    let directory = str::from_utf8(name).ok().map(|name| block.join(name.replace('/', "!")));
    let whole = directory.is_some_and(|directory| is_shown(&directory));
    known.insert(name.to_vec(), whole);
    whole
}

/// What `lsblk -d` shows: no RAM disk, no loop device without a file, no hidden path of a multipath device, and
/// nothing that is built upon another device.
fn is_shown(directory: &Path) -> bool {
    let Ok(number) = source::fact(&directory.join("dev")) else { return false };
    let hidden = source::fact(&directory.join("hidden")).is_ok_and(|hidden| hidden == b"1");
    let built_on_others =
        fs::read_dir(directory.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    let empty_loop = number.starts_with(LOOP_MAJOR)
        && source::number_fact(&directory.join("size")) == Ok(0)
        && !directory.join("loop/backing_file").exists();
    !number.starts_with(RAM_MAJOR) && !hidden && !built_on_others && !empty_loop
}

fn disk(directory: &Path, name: &str) -> Disk {
    // NVMe and SCSI keep identity at the controller or target (`device/`), virtio at the disk itself.
    let first =
        |names: &[&str]| first_known(names.iter().map(|name| source::text_fact(&directory.join(name))));
    let serial = first(&["device/serial", "serial"]);
    let serial = match &serial {
        Fact::Unknown(_) => first_known([vpd_serial(&directory.join("device/vpd_pg80")), serial]),
        Fact::Known(_) => serial,
    };
    Disk {
        name: Text::truncated(&device_name(name)),
        size_bytes: size(directory).into(),
        model: first(&["device/model"]),
        serial,
        firmware: first(&["device/firmware_rev", "device/rev"]),
        wwn: first(&["wwid", "device/wwid"]),
        rotational: source::flag_fact(&directory.join("queue/rotational")),
        removable: source::flag_fact(&directory.join("removable")),
        read_only: source::flag_fact(&directory.join("ro")),
        partitions: partitions(directory),
    }
}

/// In the order of their numbers.
fn partitions(disk: &Path) -> List<Partition> {
    let (names, _) = source::entries(disk).unwrap_or_default();
    let mut found: Vec<(u64, Partition)> = names
        .iter()
        .filter_map(|name| {
            let directory = disk.join(name);
            let number = source::number_fact(&directory.join("partition")).ok()?;
            let partition =
                Partition { name: Text::truncated(&device_name(name)), size_bytes: size(&directory).into() };
            Some((number, partition))
        })
        .collect();
    found.sort_by_key(|(number, _)| *number);
    List::truncated(found.into_iter().map(|(_, partition)| partition).collect()).0
}

/// sysfs writes the `/` in a device's name as `!`.
fn device_name(name: &str) -> String {
    name.replace('!', "/")
}

fn size(directory: &Path) -> Result<u64, UnknownReason> {
    let sectors = source::number_fact(&directory.join("size"))?;
    sectors.checked_mul(SECTOR_BYTES).ok_or(UnknownReason::Malformed)
}

/// The first known one; else the reason that says most: any other before "not present".
fn first_known(facts: impl IntoIterator<Item = Fact<Text>>) -> Fact<Text> {
    let mut unknown = UnknownReason::NotPresent;
    for fact in facts {
        match fact {
            Fact::Known(_) => return fact,
            Fact::Unknown(UnknownReason::NotPresent) => {}
            Fact::Unknown(reason) => unknown = reason,
        }
    }
    Fact::Unknown(unknown)
}

/// SCSI's unit serial number page: two bytes, a length of two bytes, the number.
fn vpd_serial(page: &Path) -> Fact<Text> {
    let serial = fs::read(page).map_err(|error| source::reason(&error)).and_then(|page| {
        let [_, 0x80, high, low, rest @ ..] = page.as_slice() else { return Err(UnknownReason::Malformed) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        source::some_text(rest.get(..length).ok_or(UnknownReason::Malformed)?)
    });
    serial.into()
}
