//! GPUs through the real helper process, with the stand-in for NVIDIA's library.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod own_mounts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aim_agent::clock::{SharedClock, SystemClock};
use aim_agent::collect::filesystems::FilesystemsConfig;
use aim_agent::collect::gpu::{GpuCollector, GpuConfig};
use aim_agent::collect::{Collector, EventDraft, Roots, SampleSink, SampleValue};
use aim_agent::probe::{Probes, ProbesConfig};
use aim_common::event::EventKind;
use aim_common::inventory::{Fact, GpuLibraryState, GpuState, Gpus, Section, UnknownReason};
use aim_common::metric::Metric;
use nvidia_ml::Installed;
use own_mounts::{has_own_mounts, run, text};

/// Far beyond what is waited for on any machine; a test that reaches it has failed.
const GIVE_UP: Duration = Duration::from_mins(1);

struct Node {
    folder: tempfile::TempDir,
    fake: Installed,
    roots: Roots,
    probes: Probes,
    collector: GpuCollector,
    sink: SampleSink,
    events: Vec<EventDraft>,
}

impl Node {
    /// A node with this scenario; questions each 200 ms, and a call hangs after a second.
    fn start(scenario: &str) -> Self {
        Self::with_library(scenario, None)
    }

    fn with_library(scenario: &str, library: Option<PathBuf>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Installed::into_folder(folder.path()).unwrap();
        fake.scenario(scenario).unwrap();
        let roots = Roots { sys: folder.path().join("sys"), ..Roots::default() };
        let config = ProbesConfig {
            program: env!("CARGO_BIN_EXE_aim-agent").into(),
            gpu: GpuConfig {
                nvml_library: Some(library.unwrap_or_else(|| fake.library.clone())),
                interval_ms: 200,
                deadline_ms: 1_000,
                ..GpuConfig::default()
            },
            filesystems: FilesystemsConfig { enabled: false, ..FilesystemsConfig::default() },
        };
        let clock: SharedClock = Arc::new(SystemClock::new());
        let probes = Probes::start(&config, &roots, &clock);
        let collector = GpuCollector::new(probes.gpu().unwrap(), &roots, clock);
        Self { folder, fake, roots, probes, collector, sink: SampleSink::default(), events: Vec::new() }
    }

    /// Looks until the node is as wanted.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&mut Self) -> Option<T>) -> T {
        let looking = async {
            loop {
                self.sink = SampleSink::default();
                // How the collector does is asked where it matters.
                let _ = self.collector.sample(&mut self.sink);
                self.events.append(&mut self.sink.events);
                if let Some(found) = wanted(self) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(GIVE_UP, looking).await;
        found.unwrap_or_else(|_| panic!("never saw {what}"))
    }

    fn gpus(&mut self) -> Option<Gpus> {
        match self.collector.inventory().unwrap()? {
            Section::Gpus(gpus) => Some(gpus),
            other => panic!("{other:?}"),
        }
    }

    fn states(&mut self) -> Vec<GpuState> {
        self.gpus().map(|gpus| gpus.gpus.iter().map(|gpu| gpu.state.clone()).collect()).unwrap_or_default()
    }

    fn number(&self, metric: Metric, instance: &str) -> Option<SampleValue> {
        let found = |sample: &&aim_agent::collect::Sample| {
            sample.key.metric == metric && sample.key.instance.as_str() == instance
        };
        self.sink.samples.iter().find(found).map(|sample| sample.value)
    }

    fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }

    fn conditions(&self) -> Vec<String> {
        self.collector.conditions().iter().map(|condition| condition.name.to_string()).collect()
    }

    /// The processes that have this node's library loaded: its helpers.
    fn helpers(&self) -> Vec<u32> {
        let library = self.folder.path().to_str().unwrap();
        let has_library = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains(library))
        };
        let pids = std::fs::read_dir("/proc").unwrap();
        pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(has_library).collect()
    }
}

fn uuid(index: usize) -> String {
    format!("GPU-00000000-0000-4000-8000-{index:012x}")
}

#[tokio::test]
async fn eight_healthy_cards_with_all_numbers_and_processes() {
    let me = std::process::id();
    let mut node = Node::start(&format!(
        r#"{{"gpus": [{{"processes": [{{"pid": {me}, "memory": 1024}}]}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}, {{}}]}}"#
    ));
    let gpus = node.until("eight cards", |node| node.gpus().filter(|gpus| gpus.gpus.len() == 8)).await;
    assert_eq!(gpus.library, GpuLibraryState::Working);
    assert_eq!(gpus.cuda_version, Fact::Known("12.4".into()));
    assert_eq!(gpus.driver_version, Fact::Known("550.54.15".into()));
    let card = &gpus.gpus[7];
    assert_eq!(card.uuid, Fact::Known(uuid(7).as_str().into()));
    assert_eq!(card.pci_address, Fact::Known("0000:87:00.0".into()));
    assert_eq!(card.model, Fact::Known("NVIDIA H100 80GB HBM3".into()));
    assert_eq!(card.max_power_limit_milliwatts, Fact::Known(700_000));
    assert_eq!((card.nvlinks.len(), &card.nvlinks[0].active), (18, &Fact::Known(true)));
    assert_eq!(card.compute_mode, Fact::Known("default".into()));
    node.until("numbers", |node| node.number(Metric::GpuTemperature, &uuid(7))).await;
    for (metric, value) in [
        (Metric::GpuUtilization, SampleValue::Gauge(0.93)),
        (Metric::GpuMemoryTemperature, SampleValue::Gauge(61.0)),
        (Metric::GpuPower, SampleValue::Gauge(612.345)),
        (Metric::GpuEnergy, SampleValue::Counter(123_456.789)),
        (Metric::GpuSmClock, SampleValue::Gauge(1_980_000_000.0)),
        (Metric::GpuRowRemapPending, SampleValue::Gauge(0.0)),
        (Metric::GpuEccUncorrectedVolatile, SampleValue::Counter(0.0)),
        (Metric::GpuPcieWidth, SampleValue::Gauge(16.0)),
        (Metric::GpuRetiredPagesDoubleBit, SampleValue::Unknown(UnknownReason::NotSupported)),
        (Metric::GpuFanSpeed, SampleValue::Unknown(UnknownReason::NotSupported)),
    ] {
        assert_eq!(node.number(metric, &uuid(7)), Some(value), "{metric:?}");
    }
    let link = format!("{}/17", uuid(7));
    assert_eq!(node.number(Metric::GpuNvlinkCrcErrors, &link), Some(SampleValue::Counter(0.0)));
    // Every GPU metric is there, known or not.
    let there: std::collections::BTreeSet<Metric> =
        node.sink.samples.iter().map(|sample| sample.key.metric).collect();
    for metric in Metric::ALL.iter().filter(|metric| metric.name().starts_with("gpu_")) {
        assert!(there.contains(metric) || *metric == Metric::MigMemoryUsed, "{metric:?} is missing");
    }
    let processes = node.collector.gpu_processes().unwrap();
    assert_eq!(processes.processes.len(), 1);
    assert_eq!((processes.processes[0].pid, processes.processes[0].memory_bytes), (me, Some(1024)));
    assert!(node.collector.gpu_processes().is_none(), "nothing changed");
    assert!(node.events.is_empty() && node.conditions().is_empty());
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_33_a_lost_card_is_an_event_stays_listed_and_the_others_go_on() {
    let mut node = Node::start(r#"{"gpus": [{}, {}, {}]}"#);
    node.until("three cards", |node| (node.states() == [const { GpuState::Working }; 3]).then_some(())).await;
    node.fake.scenario(r#"{"gpus": [{}, {"lost": true}, {"temperature": 77}]}"#).unwrap();
    node.until("the loss", |node| (node.states().get(1) == Some(&GpuState::Lost)).then_some(())).await;
    node.until("the others' numbers", |node| {
        (node.number(Metric::GpuTemperature, &uuid(2)) == Some(SampleValue::Gauge(77.0))).then_some(())
    })
    .await;
    let gone = SampleValue::Unknown(UnknownReason::Unresponsive);
    assert_eq!(node.number(Metric::GpuTemperature, &uuid(1)), Some(gone));
    assert_eq!(node.states(), [GpuState::Working, GpuState::Lost, GpuState::Working]);
    assert_eq!(node.gpus().unwrap().gpus[1].serial, Fact::Known("1650223000001".into()));
    assert_eq!(node.conditions(), ["gpu_lost"]);
    let lost = node.events.iter().find(|event| event.kind == EventKind::GpuLost).unwrap();
    assert_eq!(lost.subject, uuid(1));
    node.fake.scenario(r#"{"gpus": [{}, {}, {}]}"#).unwrap();
    node.until("its return", |node| (node.states() == [const { GpuState::Working }; 3]).then_some(())).await;
    assert_eq!((node.count(EventKind::GpuLost), node.count(EventKind::GpuRecovered)), (1, 1));
    assert!(node.conditions().is_empty());
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_33_a_card_that_is_no_longer_listed_is_lost() {
    let mut node = Node::start(r#"{"gpus": [{}, {}]}"#);
    node.until("two cards", |node| (node.states() == [const { GpuState::Working }; 2]).then_some(())).await;
    node.fake.scenario(r#"{"gpus": [{}]}"#).unwrap();
    let lost = [GpuState::Working, GpuState::Lost];
    node.until("the loss", |node| (node.states() == lost).then_some(())).await;
    assert_eq!(node.count(EventKind::GpuLost), 1);
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_32_a_hang_is_named_costs_the_others_nothing_and_ends_by_itself() {
    let mut node = Node::start(r#"{"gpus": [{}, {}, {}, {}]}"#);
    node.until("four cards", |node| (node.states() == [const { GpuState::Working }; 4]).then_some(())).await;
    let helpers = node.helpers();
    assert_eq!(helpers.len(), 1);
    node.fake
        .scenario(
            r#"{"gpus": [{}, {}, {"temperature": 60}, {"temperature": 61}],
                "faults": [{"function": "nvmlDeviceGetTemperature", "gpu": 1, "effect": "hang"}]}"#,
        )
        .unwrap();
    node.until("the hang", |node| {
        node.conditions().contains(&"gpu_probe_unresponsive".to_owned()).then_some(())
    })
    .await;
    node.until("the others' numbers", |node| {
        (node.number(Metric::GpuTemperature, &uuid(3)) == Some(SampleValue::Gauge(61.0))).then_some(())
    })
    .await;
    let hang = node.events.iter().find(|event| event.kind == EventKind::GpuProbeUnresponsive).unwrap();
    assert!(hang.message.starts_with("nvmlDeviceGetTemperature on GPU 1"), "{}", hang.message);
    assert_eq!(hang.subject, uuid(1));
    let call = GpuLibraryState::Unresponsive("nvmlDeviceGetTemperature on GPU 1".into());
    assert_eq!(node.gpus().unwrap().library, call);
    assert!(matches!(&node.states()[1], GpuState::Failing(why) if why.contains("nvmlDeviceGetTemperature")));
    let gone = SampleValue::Unknown(UnknownReason::Unresponsive);
    assert_eq!(node.number(Metric::GpuTemperature, &uuid(1)), Some(gone));
    assert_eq!(node.helpers(), helpers, "the same helper and no other");
    node.fake.scenario(r#"{"gpus": [{}, {}, {}, {}]}"#).unwrap();
    node.until("its end", |node| (node.states() == [const { GpuState::Working }; 4]).then_some(())).await;
    assert_eq!(
        (node.count(EventKind::GpuProbeUnresponsive), node.count(EventKind::GpuProbeRecovered)),
        (1, 1)
    );
    assert_eq!((node.count(EventKind::GpuLost), node.count(EventKind::GpuRecovered)), (0, 0));
    assert!(node.conditions().is_empty());
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_33_library_missing_mismatched_or_reloaded_needs_no_restart() {
    let mut node = Node::with_library("{}", Some("/nonexistent/libnvidia-ml.so.1".into()));
    let gpus = node.until("an answer", Node::gpus).await;
    assert_eq!((gpus.library, gpus.gpus.len()), (GpuLibraryState::NotPresent, 0));
    let known = node.roots.sys.join("bus/pci/devices/0000:17:00.0");
    assert!(!known.exists(), "without a card on the bus there is nothing to miss");
    node.probes.shutdown().await;

    let mut node = Node::start(r#"{"init_error": 18}"#);
    node.until("the mismatch", |node| {
        (node.gpus()?.library == GpuLibraryState::DriverMismatch).then_some(())
    })
    .await;
    assert_eq!(node.conditions(), ["gpu_driver_mismatch"]);
    node.fake.scenario(r#"{"gpus": [{}]}"#).unwrap();
    node.until("the repair", |node| (node.states() == [GpuState::Working]).then_some(())).await;
    // The driver is unloaded under the loaded library, and another version comes back.
    node.fake
        .scenario(
            r#"{"gpus": [{}], "init_error": 9,
                "faults": [{"function": "nvmlDeviceGetCount_v2", "effect": {"error": 9}}]}"#,
        )
        .unwrap();
    node.until("the unloading", |node| {
        (node.gpus()?.library == GpuLibraryState::DriverNotLoaded).then_some(())
    })
    .await;
    node.fake.scenario(r#"{"gpus": [{}, {}], "driver_version": "570.1.2"}"#).unwrap();
    node.until("the new driver", |node| {
        (node.gpus()?.driver_version == Fact::Known("570.1.2".into())).then_some(())
    })
    .await;
    node.until("both cards", |node| (node.states() == [const { GpuState::Working }; 2]).then_some(())).await;
    assert_eq!(node.count(EventKind::GpuLost), 0, "a driver that is reloaded loses no card");
    node.probes.shutdown().await;
}

#[tokio::test]
async fn ecc_errors_and_remapped_rows_are_events_once() {
    let mut node = Node::start(r#"{"gpus": [{"ecc_uncorrected": [5, 9], "remapped_rows": [2, 1, 0, 0]}]}"#);
    node.until("the card", |node| node.number(Metric::GpuPower, &uuid(0))).await;
    assert!(node.events.is_empty(), "what was there before is no news: {:?}", node.events);
    node.fake.scenario(r#"{"gpus": [{"ecc_uncorrected": [7, 11], "remapped_rows": [2, 2, 1, 0]}]}"#).unwrap();
    node.until("the counters", |node| {
        (node.number(Metric::GpuEccUncorrectedVolatile, &uuid(0)) == Some(SampleValue::Counter(7.0)))
            .then_some(())
    })
    .await;
    let ecc = node.events.iter().find(|event| event.kind == EventKind::GpuEccUncorrectable).unwrap();
    assert!(ecc.attributes.contains(&("errors".into(), "2".into())));
    node.fake.scenario(r#"{"gpus": [{"ecc_uncorrected": [7, 11], "remapped_rows": [2, 2, 1, 1]}]}"#).unwrap();
    node.until("the failed remapping", |node| (node.count(EventKind::GpuRowRemap) == 2).then_some(())).await;
    assert_eq!(node.count(EventKind::GpuEccUncorrectable), 1);
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_33_mig_instances_come_and_go() {
    let me = std::process::id();
    let mut node = Node::start(r#"{"gpus": [{}]}"#);
    node.until("the card", |node| (node.states() == [GpuState::Working]).then_some(())).await;
    node.fake
        .scenario(&format!(
            r#"{{"gpus": [{{"mig_enabled": true, "utilization": null,
                "mig": [{{"uuid": "MIG-1", "name": "MIG 1g.10gb", "memory_total": 100, "memory_used": 7,
                          "processes": [{{"pid": {me}, "memory": null}}]}}]}}]}}"#
        ))
        .unwrap();
    node.until("the instance", |node| {
        let gpus = node.gpus()?;
        let instances = &gpus.gpus[0].mig_instances;
        (instances.len() == 1 && instances[0].name == Fact::Known("MIG 1g.10gb".into())).then_some(())
    })
    .await;
    assert_eq!(node.number(Metric::MigMemoryUsed, "MIG-1"), Some(SampleValue::Gauge(7.0)));
    let not_supported = SampleValue::Unknown(UnknownReason::NotSupported);
    assert_eq!(node.number(Metric::GpuUtilization, &uuid(0)), Some(not_supported));
    let processes = node.collector.gpu_processes().unwrap();
    assert_eq!(processes.processes[0].gpu_uuid.as_str(), "MIG-1");
    assert_eq!(processes.processes[0].memory_bytes, None);
    node.probes.shutdown().await;
}

/// A small file system that can be frozen: who writes to it sleeps uninterruptibly until it is thawed.
struct Freezer {
    mount_point: PathBuf,
}

impl Freezer {
    fn new(folder: &std::path::Path) -> Self {
        let (image, mount_point) = (folder.join("image"), folder.join("frozen"));
        std::fs::File::create(&image).unwrap().set_len(8 * 1024 * 1024).unwrap();
        std::fs::create_dir(&mount_point).unwrap();
        run("mkfs.ext4", &["-q", text(&image)]);
        run("mount", &["-o", "loop", text(&image), text(&mount_point)]);
        run("fsfreeze", &["--freeze", text(&mount_point)]);
        Self { mount_point }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Also after a failure: nothing may stay frozen.
        let _ = std::process::Command::new("fsfreeze").args(["--unfreeze", text(&self.mount_point)]).status();
        let _ = std::process::Command::new("umount").args(["--lazy", text(&self.mount_point)]).status();
    }
}

fn is_uninterruptible(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .into_iter()
        .any(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('D')))
}

#[tokio::test]
async fn flt_32_an_uninterruptible_driver_call_neither_stops_the_agent_nor_is_killed() {
    if !has_own_mounts("flt_32_an_uninterruptible_driver_call_neither_stops_the_agent_nor_is_killed") {
        return;
    }
    let mut node = Node::start(r#"{"gpus": [{}, {}]}"#);
    node.until("two cards", |node| (node.states() == [const { GpuState::Working }; 2]).then_some(())).await;
    let freezer = Freezer::new(node.folder.path());
    let file = freezer.mount_point.join("wedge");
    node.fake
        .scenario(&format!(
            r#"{{"gpus": [{{}}, {{}}], "faults": [
                {{"function": "nvmlDeviceGetPowerUsage", "gpu": 0, "effect": {{"write_to": "{}"}}}}]}}"#,
            text(&file)
        ))
        .unwrap();
    node.until("the hang", |node| (node.count(EventKind::GpuProbeUnresponsive) == 1).then_some(())).await;
    let helpers = node.helpers();
    assert_eq!(helpers.len(), 1);
    assert!(is_uninterruptible(helpers[0]), "the call is one that no signal ends");
    // The statement's own bound: 10 s.
    tokio::time::timeout(Duration::from_secs(10), node.probes.shutdown()).await.unwrap();
    let alive = || std::path::Path::new(&format!("/proc/{}/stat", helpers[0])).exists();
    assert!(alive(), "AGT-09: it is left to itself");
    drop(freezer);
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{}/maps", helpers[0])).is_ok_and(|maps| !maps.is_empty())
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(GIVE_UP, gone).await.expect("it ends when its call returns");
}
