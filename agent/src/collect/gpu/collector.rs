//! The collector: lays the helper's last answers into the section, the numbers, the events.

use std::sync::Arc;
use std::time::Duration;

use aim_common::event::{EventKind, Severity};
use aim_common::inventory::{Fact, GpuLibraryState, GpuState, Gpus, List, Section, Text, UnknownReason};
use aim_common::metric::{Metric, MetricKind};
use aim_common::protocol::{Condition, GpuProcesses};
use aim_common::units::EpochMs;

use super::answers::{Number, Reading};
use super::cards::Cards;
use super::pci::{self, PciDevices};
use super::talk::{GpuFeed, GpuNow, GpuView, hang_of, uuid_of_hang};
use super::watch::Watch;
use super::{NVIDIA, processes};
use crate::clock::SharedClock;
use crate::collect::standing::{Degraded, Standing};
use crate::collect::{CollectError, Collector, EventDraft, Roots, Round, SampleSink, source};
use crate::probe::{Hang, HangEdge};

/// The PCI bus is looked through this often; it changes with cables and resets, not with load.
const BUS_EVERY: Duration = Duration::from_secs(30);
/// An answer that is older is no longer current.
const STALE_AFTER: Duration = Duration::from_secs(20);
/// What moves within an interval.
const LIVELY: [Metric; 7] = [
    Metric::GpuUtilization,
    Metric::GpuMemoryUtilization,
    Metric::GpuMemoryUsed,
    Metric::GpuMemoryFree,
    Metric::GpuTemperature,
    Metric::GpuPower,
    Metric::GpuSmClock,
];

/// Reads the feed of the `gpu` helper.
pub struct GpuCollector {
    feed: GpuFeed,
    roots: Roots,
    clock: SharedClock,
    bus: PciDevices,
    bus_at: Option<Duration>,
    cards: Cards,
    watch: Watch,
    replies: u64,
    edges: u64,
    processes: GpuProcesses,
    processes_changed: bool,
    standing: Standing,
}

impl GpuCollector {
    /// Over this feed.
    pub fn new(feed: GpuFeed, roots: &Roots, clock: SharedClock) -> Self {
        Self {
            feed,
            roots: roots.clone(),
            clock,
            bus: PciDevices::default(),
            bus_at: None,
            cards: Cards::default(),
            watch: Watch::default(),
            replies: 0,
            edges: 0,
            processes: GpuProcesses::default(),
            processes_changed: false,
            standing: Standing::default(),
        }
    }

    fn look(&mut self) -> Arc<GpuView> {
        let now = self.clock.monotonic();
        if self.bus_at.is_none_or(|at| now.saturating_sub(at) >= BUS_EVERY) {
            self.bus = pci::scan(&self.roots.sys, NVIDIA);
            self.bus_at = Some(now);
        }
        let view = self.feed.borrow_and_update().clone();
        self.cards.update(&view, &self.bus);
        view
    }

    /// Events and processes out of a view that is new.
    fn take_news(&mut self, view: &GpuView, sink: &mut SampleSink) {
        for (number, edge) in &view.edges {
            if *number > self.edges {
                self.edges = *number;
                sink.event(self.hang_event(view, edge));
            }
        }
        let is_new = view.replies != self.replies;
        self.replies = view.replies;
        for (key, gpu) in self.cards.list() {
            let reading = view.gpus.get(&gpu.index).filter(|_| is_new).map(|now| now.reading.as_ref());
            for event in self.watch.look(key, gpu, reading) {
                sink.event(event);
            }
        }
        if is_new {
            let holders = view.gpus.values().flat_map(|gpu| &gpu.reading.processes);
            let now = processes::describe(&self.roots.proc, holders);
            self.processes_changed |= now != self.processes;
            self.processes = now;
        }
    }

    fn hang_event(&self, view: &GpuView, edge: &HangEdge) -> EventDraft {
        let (kind, severity, hang, message) = match edge {
            HangEdge::Began(hang) => {
                let message =
                    format!("{} does not return: the driver hangs; other GPUs are still read", hang.call);
                (EventKind::GpuProbeUnresponsive, Severity::Critical, hang, message)
            }
            HangEdge::Ended(hang) => {
                (EventKind::GpuProbeRecovered, Severity::Info, hang, format!("{} returned", hang.call))
            }
        };
        let since = self.wall(hang.since);
        EventDraft {
            kind,
            severity,
            occurred: matches!(edge, HangEdge::Began(_)).then_some(since),
            subject: uuid_of_hang(view, hang).map(Text::into_string).unwrap_or_default(),
            message,
            attributes: vec![("call".into(), hang.call.clone()), ("since".into(), since.to_string())],
        }
    }

    fn wall(&self, monotonic: Duration) -> EpochMs {
        let ago = self.clock.monotonic().saturating_sub(monotonic);
        self.clock.now().plus_ms(-i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
    }

    fn numbers(&self, view: &GpuView, sink: &mut SampleSink) {
        let now = self.clock.monotonic();
        for (index, gpu) in &view.gpus {
            let is_current = hang_of(view, *index).is_none() && now.saturating_sub(gpu.at) <= STALE_AFTER;
            let Some(uuid) = gpu.reading.uuid.known() else { continue };
            for number in &gpu.reading.numbers {
                if sink.round == Round::Full || LIVELY.contains(&number.metric) {
                    put(sink, uuid, number, is_current);
                }
            }
        }
    }

    fn degraded(&self, view: &GpuView) -> Vec<Degraded> {
        let hang = |hang: &Hang| Degraded {
            name: "gpu_probe_unresponsive",
            subject: uuid_of_hang(view, hang).map(Text::into_string).unwrap_or_default(),
            detail: format!(
                "{} does not return; the driver hangs, and a reset of the node may be needed",
                hang.call
            ),
            since: Some(self.wall(hang.since)),
        };
        let mut degraded: Vec<Degraded> = view.hangs.iter().map(hang).collect();
        for (key, gpu) in self.cards.list() {
            if matches!(gpu.state, GpuState::Lost | GpuState::ResetRequired) {
                let subject = gpu.uuid.known().unwrap_or(key).as_str().to_owned();
                let detail = format!("GPU at {} does not work; drain the node and reset it", key.as_str());
                degraded.push(Degraded { name: "gpu_lost", subject, detail, since: None });
            }
        }
        let has_cards = self.cards.list().next().is_some();
        let state = view.library.as_ref().map(|library| &library.state);
        let library = match state {
            Some(GpuLibraryState::LibraryMissing) if has_cards => Some((
                "gpu_library_missing",
                "install the driver's libnvidia-ml.so.1, or set gpu.nvml_library",
            )),
            Some(GpuLibraryState::DriverNotLoaded) if has_cards => Some((
                "gpu_driver_not_loaded",
                "cards on the PCI bus, but the kernel module nvidia is not loaded",
            )),
            Some(GpuLibraryState::DriverMismatch) => Some((
                "gpu_driver_mismatch",
                "library and kernel module are of different versions: reload the module or reboot",
            )),
            Some(GpuLibraryState::Failing(why)) => Some(("gpu_library_failing", why.as_str())),
            _ => None,
        };
        degraded.extend(library.map(|(name, detail)| Degraded {
            name,
            subject: String::new(),
            detail: detail.into(),
            since: None,
        }));
        degraded
    }

    fn outcome(&self, view: &GpuView) -> Result<(), CollectError> {
        let what = || "NVIDIA's library".to_owned();
        if let Some(hang) = view.hangs.first() {
            return Err(CollectError::Unresponsive { what: what(), call: hang.call.clone() });
        }
        match (self.library_state(view), self.cards.list().next()) {
            (GpuLibraryState::NotPresent | GpuLibraryState::LibraryMissing, None) => {
                Err(CollectError::NotPresent("a GPU".into()))
            }
            (GpuLibraryState::Working | GpuLibraryState::NotPresent, _) => Ok(()),
            (state, _) => {
                let why = format!("{state:?}");
                Err(CollectError::Read { what: what(), source: std::io::Error::other(why) })
            }
        }
    }

    fn library_state(&self, view: &GpuView) -> GpuLibraryState {
        if let Some(hang) = view.hangs.first() {
            return GpuLibraryState::Unresponsive(Text::truncated(&hang.call));
        }
        let no_cards = self.cards.list().next().is_none();
        match view.library.as_ref().map(|library| &library.state) {
            None | Some(GpuLibraryState::LibraryMissing | GpuLibraryState::DriverNotLoaded) if no_cards => {
                GpuLibraryState::NotPresent
            }
            None => GpuLibraryState::Failing(Text::truncated("it has not answered yet")),
            Some(state) => state.clone(),
        }
    }
}

impl Collector for GpuCollector {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        let view = self.look();
        if !view.settled && view.library.is_none() && view.hangs.is_empty() {
            return Ok(None);
        }
        let state = self.library_state(&view);
        let version = |read: fn(&super::answers::Library) -> &Fact<Text>| match (&view.library, &state) {
            (_, GpuLibraryState::NotPresent) | (None, _) => Fact::Unknown(UnknownReason::NotPresent),
            (Some(library), _) => read(library).clone(),
        };
        let mut gpus: Vec<_> = self.cards.list().map(|(_, gpu)| gpu.clone()).collect();
        for (place, gpu) in (0..).zip(&mut gpus) {
            // A card that the library never listed is known by its place alone.
            gpu.index = if gpu.index == u32::MAX { place } else { gpu.index };
        }
        Ok(Some(Section::Gpus(Gpus {
            driver_version: version(|library| &library.driver_version),
            cuda_version: version(|library| &library.cuda_version),
            library_version: version(|library| &library.library_version),
            kernel_module_version: module_version(&self.roots),
            library: state,
            gpus: List::truncated(gpus).0,
            switches: List::truncated(self.bus.switches.clone()).0,
        })))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let before = self.replies;
        let view = self.look();
        self.take_news(&view, sink);
        if sink.round == Round::Full || before != self.replies {
            self.numbers(&view, sink);
        }
        let degraded = self.degraded(&view);
        self.standing.replace(self.clock.now(), degraded);
        self.outcome(&view)
    }

    fn conditions(&self) -> Vec<Condition> {
        self.standing.list()
    }

    fn gpu_processes(&mut self) -> Option<GpuProcesses> {
        std::mem::take(&mut self.processes_changed).then(|| self.processes.clone())
    }
}

fn put(sink: &mut SampleSink, uuid: &Text, number: &Number, is_current: bool) {
    let joined;
    let instance = match number.part.as_str() {
        "" => uuid.as_str(),
        part if number.metric == Metric::MigMemoryUsed => part,
        part => {
            joined = format!("{}/{part}", uuid.as_str());
            &joined
        }
    };
    let value = match (&number.value, is_current) {
        (_, false) => Err(UnknownReason::Unresponsive),
        (Fact::Known(value), true) => Ok(*value),
        (Fact::Unknown(reason), true) => Err(*reason),
    };
    match number.metric.kind() {
        MetricKind::Gauge => sink.gauge_or_reason(number.metric, instance, value),
        MetricKind::Counter => sink.counter_or_reason(number.metric, instance, value),
    }
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar …`: the first word that is a version.
fn module_version(roots: &Roots) -> Fact<Text> {
    let version = source::fact(&roots.proc.join("driver/nvidia/version")).and_then(|text| {
        let line = source::lines(&text).find(|line| line.starts_with(b"NVRM version:")).unwrap_or_default();
        let is_version = |word: &&[u8]| {
            word.contains(&b'.') && word.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        };
        source::words(line).find(is_version).map(source::text).ok_or(UnknownReason::Malformed)
    });
    version.into()
}

/// The reading of one GPU at a moment; for tests and fixtures.
impl From<(Reading, Duration)> for GpuNow {
    fn from((mut reading, at): (Reading, Duration)) -> Self {
        let facts = reading.facts.take().map(Arc::new);
        Self { reading: Arc::new(reading), facts, at }
    }
}
