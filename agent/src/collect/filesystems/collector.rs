//! The collector: lays the helper's last answers into the section, the numbers, the events.

use std::sync::Arc;
use std::time::Duration;

use aim_common::event::{EventKind, Severity};
use aim_common::inventory::{Fact, Filesystem, FilesystemState, Filesystems, List, Section, UnknownReason};
use aim_common::metric::Metric;
use aim_common::protocol::Condition;
use aim_common::units::EpochMs;

use super::talk::{FilesystemFeed, FilesystemNow, FilesystemView};
use super::usage::Usage;
use crate::clock::SharedClock;
use crate::collect::source::{self, float};
use crate::collect::standing::{Degraded, Standing};
use crate::collect::{CollectError, Collector, EventDraft, Round, SampleSink};
use crate::probe::{Hang, HangEdge};

/// A metric and where its value is.
type Reading = (Metric, fn(&Usage) -> u64);

/// The numbers of one file system.
const NUMBERS: [Reading; 5] = [
    (Metric::FilesystemSize, |usage| usage.size_bytes),
    (Metric::FilesystemFree, |usage| usage.free_bytes),
    (Metric::FilesystemAvailable, |usage| usage.available_bytes),
    (Metric::FilesystemFiles, |usage| usage.files),
    (Metric::FilesystemFilesFree, |usage| usage.files_free),
];

/// Reads the feed of the `filesystem` helper.
pub struct FilesystemCollector {
    feed: FilesystemFeed,
    clock: SharedClock,
    edges: u64,
    standing: Standing,
}

impl FilesystemCollector {
    /// Over this feed.
    pub fn new(feed: FilesystemFeed, clock: SharedClock) -> Self {
        Self { feed, clock, edges: 0, standing: Standing::default() }
    }

    fn look(&mut self) -> Arc<FilesystemView> {
        self.feed.borrow_and_update().clone()
    }

    fn wall(&self, monotonic: Duration) -> EpochMs {
        let ago = self.clock.monotonic().saturating_sub(monotonic);
        self.clock.now().plus_ms(-i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
    }

    fn hang_event(&self, edge: &HangEdge) -> EventDraft {
        let (kind, severity, hang, message) = match edge {
            HangEdge::Began(hang) => {
                let message = format!("{} does not return: its server or device does not answer", hang.call);
                (EventKind::FilesystemUnresponsive, Severity::Critical, hang, message)
            }
            HangEdge::Ended(hang) => {
                (EventKind::FilesystemRecovered, Severity::Info, hang, format!("{} returned", hang.call))
            }
        };
        let since = self.wall(hang.since);
        EventDraft {
            kind,
            severity,
            occurred: matches!(edge, HangEdge::Began(_)).then_some(since),
            subject: hang.key.clone(),
            message,
            attributes: vec![("call".into(), hang.call.clone()), ("since".into(), since.to_string())],
        }
    }

    fn degraded(&self, view: &FilesystemView) -> Vec<Degraded> {
        let hang = |hang: &Hang| Degraded {
            name: "filesystem_unresponsive",
            subject: hang.key.clone(),
            detail: format!("{} does not return; look at its server, or unmount it lazily", hang.call),
            since: Some(self.wall(hang.since)),
        };
        let mut degraded: Vec<Degraded> = view.hangs.iter().map(hang).collect();
        if view.left_out > 0 {
            degraded.push(Degraded {
                name: "filesystems_left_out",
                subject: String::new(),
                detail: format!("{} mounts are not looked at: there are more than 1024", view.left_out),
                since: None,
            });
        }
        degraded
    }
}

impl Collector for FilesystemCollector {
    fn name(&self) -> &'static str {
        "filesystems"
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        let view = self.look();
        if !view.settled && view.filesystems.is_empty() {
            return Ok(None);
        }
        let filesystems = view.filesystems.iter().map(fact).collect();
        Ok(Some(Section::Filesystems(Filesystems { filesystems: List::truncated(filesystems).0 })))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let view = self.look();
        for (number, edge) in &view.edges {
            if *number > self.edges {
                self.edges = *number;
                sink.event(self.hang_event(edge));
            }
        }
        if sink.round == Round::Full {
            for filesystem in &view.filesystems {
                numbers(filesystem, sink);
            }
        }
        let degraded = self.degraded(&view);
        self.standing.replace(self.clock.now(), degraded);
        match &view.failure {
            Some(why) => Err(CollectError::Read {
                what: "the mounted file systems".into(),
                source: std::io::Error::other(why.clone()),
            }),
            None => Ok(()),
        }
    }

    fn conditions(&self) -> Vec<Condition> {
        self.standing.list()
    }
}

fn fact(now: &FilesystemNow) -> Filesystem {
    Filesystem {
        mount_point: source::text(&now.mount.mount_point),
        source: source::text(&now.mount.source),
        fs_type: source::text(now.mount.fs_type.as_bytes()),
        read_only: now.mount.read_only,
        size_bytes: now.usage.map_or(Fact::Unknown(reason(now.state)), |usage| Fact::Known(usage.size_bytes)),
        state: now.state,
    }
}

fn numbers(now: &FilesystemNow, sink: &mut SampleSink) {
    let mount_point = source::text(&now.mount.mount_point);
    for (metric, read) in NUMBERS {
        let value = now.usage.as_ref().map(|usage| float(read(usage))).ok_or(reason(now.state));
        sink.gauge_or_reason(metric, &mount_point, value);
    }
}

fn reason(state: FilesystemState) -> UnknownReason {
    match state {
        FilesystemState::Unresponsive => UnknownReason::Unresponsive,
        FilesystemState::NotYet => UnknownReason::NotYet,
        FilesystemState::Failed | FilesystemState::Responding => UnknownReason::ReadFailed,
    }
}
