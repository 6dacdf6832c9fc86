//! File systems through the real helper process: against `df`, and beside a FUSE mount whose server never answers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod own_mounts;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aim_agent::clock::{SharedClock, SystemClock};
use aim_agent::collect::filesystems::{FilesystemCollector, FilesystemsConfig};
use aim_agent::collect::gpu::GpuConfig;
use aim_agent::collect::{Collector, EventDraft, Roots, SampleSink, SampleValue};
use aim_agent::probe::{Probes, ProbesConfig};
use aim_common::event::EventKind;
use aim_common::inventory::{Fact, Filesystem, FilesystemState, Section, UnknownReason};
use aim_common::metric::Metric;
use own_mounts::{has_own_mounts, run, text};

/// Far beyond what is waited for on any machine; a test that reaches it has failed.
const GIVE_UP: Duration = Duration::from_mins(1);

struct Node {
    probes: Probes,
    collector: FilesystemCollector,
    sink: SampleSink,
    events: Vec<EventDraft>,
}

impl Node {
    fn start() -> Self {
        let filesystems =
            FilesystemsConfig { interval_ms: 200, deadline_ms: 1_000, ..FilesystemsConfig::default() };
        let config = ProbesConfig {
            program: env!("CARGO_BIN_EXE_aim-agent").into(),
            gpu: GpuConfig { enabled: false, ..GpuConfig::default() },
            filesystems,
        };
        let clock: SharedClock = Arc::new(SystemClock::new());
        let probes = Probes::start(&config, &Roots::default(), &clock);
        let collector = FilesystemCollector::new(probes.filesystems().unwrap(), clock);
        Self { probes, collector, sink: SampleSink::default(), events: Vec::new() }
    }

    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&mut Self) -> Option<T>) -> T {
        let looking = async {
            loop {
                self.sink = SampleSink::default();
                self.collector.sample(&mut self.sink).unwrap();
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

    fn filesystems(&mut self) -> Vec<Filesystem> {
        match self.collector.inventory().unwrap() {
            Some(Section::Filesystems(section)) => section.filesystems.into_vec(),
            Some(other) => panic!("{other:?}"),
            None => Vec::new(),
        }
    }

    fn state(&mut self, mount_point: &Path) -> Option<FilesystemState> {
        let found = |filesystem: &Filesystem| filesystem.mount_point.as_str() == text(mount_point);
        self.filesystems().into_iter().find(found).map(|filesystem| filesystem.state)
    }

    fn size(&self, mount_point: &Path) -> Option<SampleValue> {
        let mut samples = self.sink.samples.iter();
        let found = samples.find(|sample| {
            sample.key.metric == Metric::FilesystemSize && sample.key.instance.as_str() == text(mount_point)
        });
        found.map(|sample| sample.value)
    }

    fn count(&self, kind: EventKind) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }
}

/// A FUSE mount that answers nothing as long as the file lives, and fails when it is gone.
fn dead_mount(mount_point: &Path) -> File {
    let server = File::options().read(true).write(true).open("/dev/fuse");
    let server = server.unwrap_or_else(|error| panic!("this test needs /dev/fuse: {error}"));
    let mounted = Command::new("mount")
        .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "dead"])
        .arg(mount_point)
        .stdin(Stdio::from(server.try_clone().unwrap()))
        .status()
        .unwrap();
    assert!(mounted.success(), "cannot mount (which needs root)");
    server
}

fn helper() -> Option<u32> {
    let me = std::process::id();
    let children = std::fs::read_dir(format!("/proc/{me}/task"))
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    children.collect::<String>().split_whitespace().find_map(|pid| pid.parse().ok())
}

#[tokio::test]
async fn the_same_file_systems_with_the_same_sizes_as_df() {
    if !has_own_mounts("the_same_file_systems_with_the_same_sizes_as_df") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spaced = folder.path().join("with a space");
    let bound = folder.path().join("with a space, bound elsewhere");
    for mount_point in [&spaced, &bound] {
        std::fs::create_dir(mount_point).unwrap();
    }
    run("mount", &["-t", "tmpfs", "-o", "size=1m,ro", "small", text(&spaced)]);
    run("mount", &["--bind", text(&spaced), text(&bound)]);
    let df = Command::new("df").args(["-B1", "--output=source,fstype,size,target"]).output().unwrap();
    let wanted: BTreeSet<(String, String, u64, String)> = String::from_utf8(df.stdout)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let (source, kind) = (words.next().unwrap(), words.next().unwrap());
            let size = words.next().unwrap().parse().unwrap();
            (source, kind, size, words.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert!(wanted.iter().any(|(_, _, size, target)| *size == 1_048_576 && target.contains("with a space")));
    let mut node = Node::start();
    let seen = node
        .until("every file system", |node| {
            let list = node.filesystems();
            let answered = |filesystem: &Filesystem| filesystem.state == FilesystemState::Responding;
            (!list.is_empty() && list.iter().all(answered)).then_some(list)
        })
        .await;
    let read_only = seen.iter().find(|seen| seen.mount_point.as_str() == text(&spaced)).unwrap().read_only;
    assert!(read_only);
    let seen: BTreeSet<(String, String, u64, String)> = seen
        .into_iter()
        .map(|seen| {
            let size = seen.size_bytes.known().copied().unwrap();
            (seen.source.into_string(), seen.fs_type.into_string(), size, seen.mount_point.into_string())
        })
        .collect();
    assert_eq!(seen, wanted);
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_36_a_mount_that_never_answers_is_named_and_the_others_go_on() {
    if !has_own_mounts("flt_36_a_mount_that_never_answers_is_named_and_the_others_go_on") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (dead, alive) = (folder.path().join("dead"), folder.path().join("alive"));
    for mount_point in [&dead, &alive] {
        std::fs::create_dir(mount_point).unwrap();
    }
    let server = dead_mount(&dead);
    run("mount", &["-t", "tmpfs", "-o", "size=2m", "alive", text(&alive)]);
    let mut node = Node::start();
    node.until("the hang", |node| (node.count(EventKind::FilesystemUnresponsive) == 1).then_some(())).await;
    assert_eq!(node.state(&dead), Some(FilesystemState::Unresponsive));
    assert_eq!(node.size(&dead), Some(SampleValue::Unknown(UnknownReason::Unresponsive)));
    node.until("the other's size", |node| {
        (node.size(&alive) == Some(SampleValue::Gauge(2_097_152.0))).then_some(())
    })
    .await;
    let conditions = node.collector.conditions();
    assert_eq!(conditions.len(), 1);
    assert_eq!(
        (conditions[0].name.as_str(), conditions[0].subject.as_str()),
        ("filesystem_unresponsive", text(&dead))
    );
    // The others' answers are new ones: what is mounted now is seen now.
    run("mount", &["-t", "tmpfs", "-o", "size=3m", "later", text(&alive)]);
    node.until("the later mount", |node| {
        (node.size(&alive) == Some(SampleValue::Gauge(3_145_728.0))).then_some(())
    })
    .await;
    let pid = helper().unwrap();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    assert_eq!(threads, 3, "one listens, one is stuck, one goes on");
    // The server dies: the call returns, and the mount fails from now on.
    drop(server);
    node.until("the end of the hang", |node| (node.count(EventKind::FilesystemRecovered) == 1).then_some(()))
        .await;
    assert_eq!(node.state(&dead), Some(FilesystemState::Failed));
    assert_eq!(node.count(EventKind::FilesystemUnresponsive), 1);
    assert!(node.collector.conditions().is_empty());
    node.probes.shutdown().await;
}

#[tokio::test]
async fn flt_36_eight_dead_mounts_stall_neither_the_reply_nor_the_agents_end() {
    if !has_own_mounts("flt_36_eight_dead_mounts_stall_neither_the_reply_nor_the_agents_end") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut servers = Vec::new();
    for number in 0..10 {
        let mount_point = folder.path().join(format!("dead{number}"));
        std::fs::create_dir(&mount_point).unwrap();
        servers.push(dead_mount(&mount_point));
    }
    let mut node = Node::start();
    node.until("eight hangs", |node| (node.count(EventKind::FilesystemUnresponsive) == 8).then_some(()))
        .await;
    let pid = helper().unwrap();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    assert_eq!(threads, 9, "one listens, eight are stuck, and none more");
    // The statement's own bound: 10 s.
    tokio::time::timeout(Duration::from_secs(10), node.probes.shutdown()).await.unwrap();
    assert_eq!(node.events.iter().filter(|event| event.kind == EventKind::FilesystemRecovered).count(), 0);
    drop(servers);
}

/// The helper of file systems may be cut off in its call, so that it is gone with its agent.
#[tokio::test]
async fn flt_36_the_helper_ends_with_its_agent_although_a_call_hangs() {
    if !has_own_mounts("flt_36_the_helper_ends_with_its_agent_although_a_call_hangs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = dead_mount(folder.path());
    let mut node = Node::start();
    node.until("the hang", |node| (node.count(EventKind::FilesystemUnresponsive) == 1).then_some(())).await;
    assert_eq!(
        node.filesystems()
            .iter()
            .filter(|one| one.size_bytes == Fact::Unknown(UnknownReason::Unresponsive))
            .count(),
        1
    );
    node.probes.shutdown().await;
    assert_eq!(helper(), None, "it ended within the shutdown's bound");
    drop(server);
}
