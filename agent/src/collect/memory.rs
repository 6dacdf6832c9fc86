//! Memory: `/proc/meminfo`, huge pages, pressure, OOM kills, and EDAC's error counters and modules.

use std::path::{Path, PathBuf};

use aim_common::inventory::{Dimm, Fact, HugepagePool, List, Memory, Section, UnknownReason};
use aim_common::metric::Metric;

use super::pressure::Pressure;
use super::source::{self, KeptFile, float};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// Fields of `/proc/meminfo` that are reported as they are.
const FIELDS: [(&[u8], Metric); 8] = [
    (b"MemTotal", Metric::MemoryTotal),
    (b"MemFree", Metric::MemoryFree),
    (b"MemAvailable", Metric::MemoryAvailable),
    (b"Cached", Metric::MemoryCached),
    (b"SwapTotal", Metric::SwapTotal),
    (b"SwapFree", Metric::SwapFree),
    (b"Dirty", Metric::MemoryDirty),
    (b"Slab", Metric::MemorySlab),
];

/// Two numbers of one thing with a name: a pool of huge pages or a memory controller.
#[derive(Debug)]
struct Pair {
    instance: String,
    files: [KeptFile; 2],
}

/// Reads memory.
#[derive(Debug)]
pub(super) struct MemoryCollector {
    hugepages: PathBuf,
    controllers: PathBuf,
    dmi_table: PathBuf,
    meminfo: KeptFile,
    vmstat: KeptFile,
    pressure: [Pressure; 2],
    /// Pools and controllers; `None` until looked for, and again after each inventory.
    found: Option<(Vec<Pair>, Vec<Pair>)>,
    buffer: Vec<u8>,
}

impl MemoryCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        let io = Pressure::new(roots, "io", Metric::IoPressureSome, Some(Metric::IoPressureFull));
        let some_and_full = (Metric::MemoryPressureSome, Metric::MemoryPressureFull);
        Self {
            hugepages: roots.sys.join("kernel/mm/hugepages"),
            controllers: roots.sys.join("devices/system/edac/mc"),
            dmi_table: roots.sys.join("firmware/dmi/tables/DMI"),
            meminfo: KeptFile::new(roots.proc.join("meminfo")),
            vmstat: KeptFile::new(roots.proc.join("vmstat")),
            pressure: [Pressure::new(roots, "memory", some_and_full.0, Some(some_and_full.1)), io],
            found: None,
            buffer: Vec::new(),
        }
    }

    fn sample_meminfo(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let meminfo = match self.meminfo.read_value(&mut self.buffer) {
            Ok(meminfo) => meminfo,
            Err(error) => return Err(source::failure(self.meminfo.path(), error)),
        };
        let fields = Meminfo::parse(meminfo);
        for (name, metric) in FIELDS {
            // Of the rest the extremes within an interval tell nothing that is worth its bytes.
            if sink.round == Round::Full || metric == Metric::MemoryAvailable {
                sink.gauge_or_reason(metric, "", fields.bytes(name).map(float));
            }
        }
        let used = fields.bytes(b"MemTotal").and_then(|total| {
            let available = fields.bytes(b"MemAvailable")?;
            total.checked_sub(available).ok_or(UnknownReason::Malformed)
        });
        sink.gauge_or_reason(Metric::MemoryUsed, "", used.map(float));
        Ok(())
    }

    fn sample_pairs(&mut self, sink: &mut SampleSink) {
        if self.found.is_none() {
            self.found = Some((hugepage_pools(&self.hugepages), memory_controllers(&self.controllers)));
        }
        let (pools, controllers) =
            self.found.as_mut().map_or((&mut [][..], &mut [][..]), |(pools, controllers)| {
                (pools.as_mut_slice(), controllers.as_mut_slice())
            });
        for Pair { instance, files: [total, free] } in pools {
            let (total, free) = (total.read_number(&mut self.buffer), free.read_number(&mut self.buffer));
            sink.gauge_or_reason(Metric::HugepagesTotal, instance, total.map(float));
            sink.gauge_or_reason(Metric::HugepagesFree, instance, free.map(float));
        }
        for Pair { instance, files: [ce, ue] } in controllers {
            let (ce, ue) = (ce.read_number(&mut self.buffer), ue.read_number(&mut self.buffer));
            sink.counter_or_reason(Metric::MemoryCorrectableErrors, instance, ce.map(float));
            sink.counter_or_reason(Metric::MemoryUncorrectableErrors, instance, ue.map(float));
        }
    }

    fn sample_oom_kills(&mut self, sink: &mut SampleSink) {
        let kills = match self.vmstat.read_value(&mut self.buffer) {
            // The line is there since Linux 4.13.
            Ok(vmstat) => source::lines(vmstat)
                .find_map(|line| line.strip_prefix(b"oom_kill "))
                .map_or(Err(UnknownReason::NotSupported), |kills| {
                    source::number(kills.trim_ascii()).ok_or(UnknownReason::Malformed)
                }),
            Err(error) => Err(source::reason(&error)),
        };
        sink.counter_or_reason(Metric::OomKills, "", kills.map(float));
    }

    fn dimms(&self) -> Fact<List<Dimm>> {
        let controllers = source::numbered(&self.controllers, "mc");
        let dimms: Vec<Dimm> = controllers
            .iter()
            .flat_map(|(_, controller)| {
                let directory = self.controllers.join(controller);
                // Drivers that see ranks and no modules call them so.
                let modules = ["dimm", "rank"].map(|kind| source::numbered(&directory, kind));
                let modules = modules.into_iter().flatten();
                modules.map(move |(_, module)| (directory.join(&module), format!("{controller}/{module}")))
            })
            .map(|(directory, place)| self.dimm(&directory, &place))
            .collect();
        if dimms.is_empty() {
            Fact::Unknown(UnknownReason::NotPresent)
        } else {
            Fact::Known(List::truncated(dimms).0)
        }
    }

    fn dimm(&self, directory: &Path, place: &str) -> Dimm {
        let label = source::fact(&directory.join("dimm_label")).and_then(|label| source::some_text(&label));
        let mebibytes = source::number_fact(&directory.join("size"));
        let bytes = mebibytes.and_then(|size| size.checked_mul(1024 * 1024).ok_or(UnknownReason::Malformed));
        Dimm {
            location: label.unwrap_or_else(|_| place.into()),
            size_bytes: bytes.into(),
            memory_type: source::text_fact(&directory.join("dimm_mem_type")),
            serial: Fact::Unknown(self.dimm_serial()),
        }
    }

    /// EDAC does not know serial numbers; the firmware's table does, for root.
    fn dimm_serial(&self) -> UnknownReason {
        match std::fs::File::open(&self.dmi_table) {
            Ok(_) => UnknownReason::NotSupported,
            Err(error) => source::reason(&error),
        }
    }
}

impl Collector for MemoryCollector {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        self.found = None;
        let meminfo = match self.meminfo.read_value(&mut self.buffer) {
            Ok(meminfo) => Meminfo::parse(meminfo),
            Err(error) => return Err(source::failure(self.meminfo.path(), error)),
        };
        let pools = pool_names(&self.hugepages).into_iter().filter_map(|(page_kib, directory)| {
            let pages = source::number_fact(&directory.join("nr_hugepages")).ok()?;
            Some(HugepagePool { page_kib, pages })
        });
        Ok(Some(Section::Memory(Memory {
            total_bytes: meminfo.bytes(b"MemTotal").into(),
            swap_bytes: meminfo.bytes(b"SwapTotal").into(),
            hugepages: List::truncated(pools.collect()).0,
            dimms: self.dimms(),
        })))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let meminfo = self.sample_meminfo(sink);
        if sink.round == Round::Full {
            self.sample_pairs(sink);
            self.sample_oom_kills(sink);
            for pressure in &mut self.pressure {
                pressure.sample(&mut self.buffer, sink);
            }
        }
        meminfo
    }
}

/// The fields of [`FIELDS`], in kB.
struct Meminfo([Result<u64, UnknownReason>; FIELDS.len()]);

impl Meminfo {
    fn parse(text: &[u8]) -> Self {
        let mut fields = [Err(UnknownReason::NotPresent); FIELDS.len()];
        for line in source::lines(text) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, rest) = line.split_at(colon);
            let Some(place) = FIELDS.iter().position(|(field, _)| *field == name) else { continue };
            let value = rest.get(1..).and_then(|rest| source::words(rest).next()).and_then(source::number);
            if let Some(field) = fields.get_mut(place) {
                *field = value.ok_or(UnknownReason::Malformed);
            }
        }
        Self(fields)
    }

    fn bytes(&self, name: &[u8]) -> Result<u64, UnknownReason> {
        let named = FIELDS.iter().zip(self.0).find(|((field, _), _)| *field == name);
        let kilobytes = named.map_or(Err(UnknownReason::NotPresent), |(_, value)| value)?;
        kilobytes.checked_mul(1024).ok_or(UnknownReason::Malformed)
    }
}

/// Page size in KiB and directory of each pool, smallest first.
fn pool_names(hugepages: &Path) -> Vec<(u64, PathBuf)> {
    let (names, _) = source::entries(hugepages).unwrap_or_default();
    let size = |name: &str| source::number(name.strip_prefix("hugepages-")?.strip_suffix("kB")?.as_bytes());
    let mut pools: Vec<_> =
        names.iter().filter_map(|name| Some((size(name)?, hugepages.join(name)))).collect();
    pools.sort_unstable();
    pools
}

fn hugepage_pools(hugepages: &Path) -> Vec<Pair> {
    let file = |directory: &Path, name| KeptFile::new(directory.join(name));
    let pair = |(size, directory): (u64, PathBuf)| Pair {
        instance: size.to_string(),
        files: [file(&directory, "nr_hugepages"), file(&directory, "free_hugepages")],
    };
    pool_names(hugepages).into_iter().map(pair).collect()
}

fn memory_controllers(controllers: &Path) -> Vec<Pair> {
    let file = |name: &str, counter| KeptFile::new(controllers.join(name).join(counter));
    let pair = |(_, name): (u32, String)| Pair {
        files: [file(&name, "ce_count"), file(&name, "ue_count")],
        instance: name,
    };
    source::numbered(controllers, "mc").into_iter().map(pair).collect()
}
