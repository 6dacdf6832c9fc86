//! Processors: `/proc/stat`, load, frequency, pressure; topology and NUMA from sysfs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aim_common::inventory::{Cpu, Fact, List, NumaNode, Section, Text, UnknownReason};
use aim_common::metric::Metric;

use super::pressure::Pressure;
use super::processor::Processor;
use super::source::{self, KeptFile, float};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// Ticks of `/proc/stat` in a second: `USER_HZ`, 100 on every architecture that Linux GPU nodes have.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;
/// CPUs whose frequency is read each report: on older kernels each read interrupts that CPU.
const FREQUENCY_SAMPLES: usize = 16;

/// CPU time since boot by what it went to, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
}

impl Ticks {
    /// From the first line of `/proc/stat`. Guest time is part of user and nice already.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = source::words(line);
        if words.next()? != b"cpu" {
            return None;
        }
        let mut next = || words.next().map_or(Some(0), source::number);
        let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
        let (iowait, irq, softirq, steal) = (next()?, next()?, next()?, next()?);
        let user = user.saturating_add(nice);
        let system = system.saturating_add(irq).saturating_add(softirq);
        Some(Self { user, system, idle, iowait, steal })
    }

    /// What was added since. The kernel lets single fields step back (`iowait`, CPU hot-unplug): that counts as nothing.
    fn since(self, former: Self) -> Self {
        Self {
            user: self.user.saturating_sub(former.user),
            system: self.system.saturating_sub(former.system),
            idle: self.idle.saturating_sub(former.idle),
            iowait: self.iowait.saturating_sub(former.iowait),
            steal: self.steal.saturating_sub(former.steal),
        }
    }

    /// Shares of the whole: utilisation, iowait, steal; `None` where no time went by.
    fn shares(self) -> Option<[f64; 3]> {
        let busy = float(self.user) + float(self.system) + float(self.steal);
        let whole = busy + float(self.idle) + float(self.iowait);
        (whole > 0.0).then(|| [busy / whole, float(self.iowait) / whole, float(self.steal) / whole])
    }
}

/// Reads processors.
#[derive(Debug)]
pub(super) struct CpuCollector {
    cpuinfo: PathBuf,
    cpus: PathBuf,
    nodes: PathBuf,
    stat: KeptFile,
    loadavg: KeptFile,
    uptime: KeptFile,
    pressure: Pressure,
    /// `None` until looked for, and again after each inventory.
    frequencies: Option<Vec<KeptFile>>,
    former: Option<Ticks>,
    buffer: Vec<u8>,
}

impl CpuCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            cpuinfo: roots.proc.join("cpuinfo"),
            cpus: roots.sys.join("devices/system/cpu"),
            nodes: roots.sys.join("devices/system/node"),
            stat: KeptFile::new(roots.proc.join("stat")),
            loadavg: KeptFile::new(roots.proc.join("loadavg")),
            uptime: KeptFile::new(roots.proc.join("uptime")),
            pressure: Pressure::new(roots, "cpu", Metric::CpuPressure, None),
            frequencies: None,
            former: None,
            buffer: Vec::new(),
        }
    }

    fn sample_stat(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let stat = match self.stat.read_value(&mut self.buffer) {
            Ok(stat) => stat,
            Err(error) => return Err(source::failure(self.stat.path(), error)),
        };
        let now = source::lines(stat).next().and_then(Ticks::parse);
        let shares = match (now, self.former) {
            (None, _) => Err(UnknownReason::Malformed),
            (Some(now), Some(former)) => now.since(former).shares().ok_or(UnknownReason::NotYet),
            (Some(_), None) => Err(UnknownReason::NotYet),
        };
        self.former = now;
        let metrics = [Metric::CpuUtilization, Metric::CpuIowait, Metric::CpuSteal];
        for (place, metric) in metrics.into_iter().enumerate() {
            let share = shares.map(|shares| shares.get(place).copied().unwrap_or_default());
            sink.gauge_or_reason(metric, "", share);
        }
        let counts = Counts::parse(stat);
        sink.gauge_or_reason(Metric::ProcessesRunning, "", counts.running);
        sink.gauge_or_reason(Metric::ProcessesBlocked, "", counts.blocked);
        if sink.round == Round::Full {
            sink.counter_or_reason(Metric::ContextSwitches, "", counts.context_switches);
            let seconds = |ticks: fn(Ticks) -> u64| match now {
                Some(now) => Ok(float(ticks(now)) / TICKS_PER_SECOND),
                None => Err(UnknownReason::Malformed),
            };
            sink.counter_or_reason(Metric::CpuUserSeconds, "", seconds(|ticks| ticks.user));
            sink.counter_or_reason(Metric::CpuSystemSeconds, "", seconds(|ticks| ticks.system));
        }
        Ok(())
    }

    fn sample_load(&mut self, sink: &mut SampleSink) {
        let mut loads = [Err(UnknownReason::Malformed); 3];
        match self.loadavg.read_value(&mut self.buffer) {
            Ok(line) => {
                for (load, word) in loads.iter_mut().zip(source::words(line)) {
                    *load = decimal(word);
                }
            }
            Err(error) => loads = [Err(source::reason(&error)); 3],
        }
        for (metric, load) in [Metric::Load1, Metric::Load5, Metric::Load15].into_iter().zip(loads) {
            sink.gauge_or_reason(metric, "", load);
        }
        let uptime = match self.uptime.read_value(&mut self.buffer) {
            Ok(line) => source::words(line).next().map_or(Err(UnknownReason::Malformed), decimal),
            Err(error) => Err(source::reason(&error)),
        };
        sink.gauge_or_reason(Metric::Uptime, "", uptime);
    }

    fn sample_frequency(&mut self, sink: &mut SampleSink) {
        let cpus = &self.cpus;
        let files = self.frequencies.get_or_insert_with(|| frequency_files(cpus));
        let khz: Vec<u64> =
            files.iter_mut().filter_map(|file| file.read_number(&mut self.buffer).ok()).collect();
        let mean = if khz.is_empty() {
            let none = if files.is_empty() { UnknownReason::NotPresent } else { UnknownReason::ReadFailed };
            Err(none)
        } else {
            Ok(khz.iter().copied().map(float).sum::<f64>() * 1000.0 / float(khz.len() as u64))
        };
        sink.gauge_or_reason(Metric::CpuFrequency, "", mean);
    }

    fn facts(&self) -> Cpu {
        let processor = Processor::read(&self.cpuinfo);
        let online = source::fact(&self.cpus.join("online"));
        let ids = online.clone().and_then(|list| cpu_list(&list).ok_or(UnknownReason::Malformed));
        let topology = ids.as_ref().map(|ids| Topology::read(&self.cpus, ids)).map_err(|reason| *reason);
        let threads = ids.map(|ids| ids.len()).map(count);
        Cpu {
            model: processor.model,
            vendor: processor.vendor,
            microcode: processor.microcode,
            sockets: topology.as_ref().map_err(|reason| *reason).and_then(Topology::sockets).into(),
            cores: topology.as_ref().map_err(|reason| *reason).and_then(Topology::cores).into(),
            threads: threads.into(),
            online: online.map(|list| source::text(&list)).into(),
            offline: source::fact(&self.cpus.join("offline")).map(|list| source::text(&list)).into(),
            max_frequency_khz: source::number_fact(&self.cpus.join("cpu0/cpufreq/cpuinfo_max_freq")).into(),
            governor: self.governor(),
            numa_nodes: self.numa_nodes(),
        }
    }

    /// The governor that all policies have; "not supported" where they differ, because there is no one answer.
    fn governor(&self) -> Fact<Text> {
        let cpufreq = self.cpus.join("cpufreq");
        let policies = source::numbered(&cpufreq, "policy");
        let governor = |policy: &str| source::text_fact(&cpufreq.join(policy).join("scaling_governor"));
        let mut governors = policies.iter().map(|(_, policy)| governor(policy));
        let Some(first) = governors.next() else { return Fact::Unknown(UnknownReason::NotPresent) };
        if governors.all(|other| other == first) { first } else { Fact::Unknown(UnknownReason::NotSupported) }
    }

    fn numa_nodes(&self) -> List<NumaNode> {
        let nodes = source::numbered(&self.nodes, "node").into_iter().map(|(id, name)| {
            let directory = self.nodes.join(name);
            let cpus = source::fact(&directory.join("cpulist")).unwrap_or_default();
            NumaNode { id, cpus: source::text(&cpus), memory_bytes: node_memory(&directory).into() }
        });
        List::truncated(nodes.collect()).0
    }
}

impl Collector for CpuCollector {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        self.frequencies = None;
        Ok(Some(Section::Cpu(self.facts())))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let stat = self.sample_stat(sink);
        if sink.round == Round::Full {
            self.sample_load(sink);
            self.sample_frequency(sink);
            self.pressure.sample(&mut self.buffer, sink);
        }
        stat
    }
}

/// The counts at the end of `/proc/stat`.
struct Counts {
    context_switches: Result<f64, UnknownReason>,
    running: Result<f64, UnknownReason>,
    blocked: Result<f64, UnknownReason>,
}

impl Counts {
    /// From the end, because the lines of CPUs and interrupts before take most of the file.
    fn parse(stat: &[u8]) -> Self {
        let missing = Err(UnknownReason::NotPresent);
        let mut counts = Self { context_switches: missing, running: missing, blocked: missing };
        for line in source::lines(stat).rev() {
            let mut words = source::words(line);
            let place = match words.next() {
                Some(b"procs_running") => &mut counts.running,
                Some(b"procs_blocked") => &mut counts.blocked,
                Some(b"ctxt") => &mut counts.context_switches,
                Some(b"intr" | b"cpu") => break,
                _ => continue,
            };
            *place = words.next().and_then(source::number).map(float).ok_or(UnknownReason::Malformed);
        }
        counts
    }
}

/// Packages and cores of the online CPUs.
struct Topology {
    packages: BTreeSet<Vec<u8>>,
    cores: BTreeSet<[Vec<u8>; 3]>,
}

impl Topology {
    fn read(cpus: &Path, ids: &[u32]) -> Self {
        let mut found = Self { packages: BTreeSet::new(), cores: BTreeSet::new() };
        for id in ids {
            let topology = cpus.join(format!("cpu{id}/topology"));
            let Ok(package) = source::fact(&topology.join("physical_package_id")) else { continue };
            found.packages.insert(package.clone());
            if let Ok(core) = source::fact(&topology.join("core_id")) {
                // Core ids repeat on the dies of one package.
                let die = source::fact(&topology.join("die_id")).unwrap_or_default();
                found.cores.insert([package, die, core]);
            }
        }
        found
    }

    fn sockets(&self) -> Result<u32, UnknownReason> {
        some_count(self.packages.len())
    }

    fn cores(&self) -> Result<u32, UnknownReason> {
        some_count(self.cores.len())
    }
}

fn some_count(found: usize) -> Result<u32, UnknownReason> {
    if found == 0 { Err(UnknownReason::NotPresent) } else { Ok(count(found)) }
}

fn count(found: usize) -> u32 {
    u32::try_from(found).unwrap_or(u32::MAX)
}

/// The CPUs of a kernel list, `0-3,8,10-11`; `None` where it is malformed or names more than 65,536.
fn cpu_list(list: &[u8]) -> Option<Vec<u32>> {
    let mut ids = Vec::new();
    for range in list.split(|byte| *byte == b',').filter(|range| !range.is_empty()) {
        let mut ends = range.splitn(2, |byte| *byte == b'-').map(source::number);
        let first = u32::try_from(ends.next()??).ok()?;
        let last = ends.next().map_or(Some(first), |last| u32::try_from(last?).ok())?;
        if last < first || last >= 65_536 || ids.len() > 65_536 {
            return None;
        }
        ids.extend(first..=last);
    }
    Some(ids)
}

/// `Node 0 MemTotal:  131072 kB`, in bytes.
fn node_memory(directory: &Path) -> Result<u64, UnknownReason> {
    let meminfo = source::fact(&directory.join("meminfo"))?;
    let total = source::lines(&meminfo).find_map(|line| {
        let mut words = source::words(line).skip_while(|word| *word != b"MemTotal:").skip(1);
        source::number(words.next()?)?.checked_mul(1024)
    });
    total.ok_or(UnknownReason::Malformed)
}

/// At most [`FREQUENCY_SAMPLES`] of the frequency policies, evenly spread.
fn frequency_files(cpus: &Path) -> Vec<KeptFile> {
    let cpufreq = cpus.join("cpufreq");
    let policies = source::numbered(&cpufreq, "policy");
    let step = policies.len().div_ceil(FREQUENCY_SAMPLES).max(1);
    let file = |policy: &str| KeptFile::new(cpufreq.join(policy).join("scaling_cur_freq"));
    policies.iter().step_by(step).map(|(_, policy)| file(policy)).collect()
}

/// A decimal fraction as the kernel writes it (`0.42`).
fn decimal(word: &[u8]) -> Result<f64, UnknownReason> {
    let value = str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
    value.filter(|value| value.is_finite() && *value >= 0.0).ok_or(UnknownReason::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list(b"0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(cpu_list(b""), Some(vec![]));
        for bad in [&b"3-1"[..], b"0-4294967295", b"a", b"1-", b"0-70000"] {
            assert_eq!(cpu_list(bad), None);
        }
    }

    #[test]
    fn flt_37_a_field_that_steps_back_counts_as_no_time() {
        let former = [1000; 8];
        for (field, sevenths) in [(3, [6.0, 1.0, 1.0]), (4, [6.0, 0.0, 1.0]), (7, [5.0, 1.0, 0.0])] {
            let mut now = former.map(|ticks| ticks + 10);
            now[field] = 1;
            let shares = ticks(now).since(ticks(former)).shares().unwrap();
            for (share, sevenths) in shares.iter().zip(sevenths) {
                assert!((share * 7.0 - sevenths).abs() < 1e-9, "field {field}: {shares:?}");
            }
        }
    }

    fn ticks(fields: [u64; 8]) -> Ticks {
        let line = fields.iter().fold("cpu".to_owned(), |line, field| format!("{line} {field}"));
        Ticks::parse(line.as_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn flt_37_shares_stay_between_zero_and_one_whatever_the_ticks_do(
            former in proptest::array::uniform8(any::<u64>()), now in proptest::array::uniform8(any::<u64>())
        ) {
            if let Some(shares) = ticks(now).since(ticks(former)).shares() {
                prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", shares);
            }
        }
    }
}
