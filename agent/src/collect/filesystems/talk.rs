//! What the `filesystem` helper is asked, and what is known from its replies.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aim_common::inventory::FilesystemState;
use rustix::io::Errno;
use tokio::sync::watch;

use super::mountinfo::{self, Mount};
use super::usage::{Answer, Question, Usage};
use super::{FilesystemsConfig, df};
use crate::collect::{Roots, source};
use crate::probe::{Conversation, Hang, HangEdge, Hangs, InFlight, Keyed, Next, Reply};

/// Mounts that are looked at; the section holds no more.
const MOST_MOUNTS: usize = 1024;
/// Hangs that wait for the collector to report them.
const MOST_EDGES: usize = 64;
/// Intervals after which an answer is no longer current.
const STALE_INTERVALS: u32 = 3;

/// What is known of the file systems at a moment.
#[derive(Debug, Clone, Default)]
pub struct FilesystemView {
    /// The file systems to show, by mount point.
    pub filesystems: Vec<FilesystemNow>,
    /// Mounts that are not looked at for want of room.
    pub left_out: usize,
    /// The calls that hang now; the key is the mount point.
    pub hangs: Vec<Hang>,
    /// Hangs that began and ended, numbered from 1; the last ones.
    pub edges: VecDeque<(u64, HangEdge)>,
    /// Why the kernel's list cannot be read.
    pub failure: Option<String>,
    /// Everything has been answered once, or hangs.
    pub settled: bool,
}

/// One file system.
#[derive(Debug, Clone)]
pub struct FilesystemNow {
    /// The mount.
    pub mount: Mount,
    /// Whether it answers.
    pub state: FilesystemState,
    /// Size and use; only while it answers.
    pub usage: Option<Usage>,
}

/// The collector's end of the talk.
pub type FilesystemFeed = watch::Receiver<Arc<FilesystemView>>;

/// The talk with the helper.
pub struct FilesystemTalk {
    config: FilesystemsConfig,
    mountinfo: PathBuf,
    mounts: Vec<Mount>,
    /// By mount point.
    answers: BTreeMap<Vec<u8>, (Answer, Duration)>,
    view: FilesystemView,
    published: watch::Sender<Arc<FilesystemView>>,
    hangs: Hangs,
    edges: u64,
}

impl FilesystemTalk {
    /// The talk, and where its results are seen.
    pub fn new(config: FilesystemsConfig, roots: &Roots) -> (Self, FilesystemFeed) {
        let (published, feed) = watch::channel(Arc::default());
        let talk = Self {
            config,
            mountinfo: roots.proc.join("self/mountinfo"),
            mounts: Vec::new(),
            answers: BTreeMap::new(),
            view: FilesystemView::default(),
            published,
            hangs: Hangs::default(),
            edges: 0,
        };
        (talk, feed)
    }

    fn read_mounts(&mut self) -> io::Result<()> {
        let excluded = &self.config.exclude_types;
        let keep = |mount: &Mount| df::is_candidate(mount) && !excluded.contains(&mount.fs_type);
        let file = BufReader::new(File::open(&self.mountinfo)?);
        (self.mounts, self.view.left_out) = mountinfo::read(file, MOST_MOUNTS, keep)?;
        let mounts = &self.mounts;
        self.answers.retain(|mount_point, _| mounts.iter().any(|mount| mount.mount_point == *mount_point));
        Ok(())
    }

    fn observe(&mut self, now: Duration, in_flight: &[InFlight], deadline: Duration) {
        for edge in self.hangs.observe(now, in_flight, |_| deadline) {
            self.edges += 1;
            self.view.edges.push_back((self.edges, edge));
            if self.view.edges.len() > MOST_EDGES {
                self.view.edges.pop_front();
            }
        }
        self.view.hangs = self.hangs.open().cloned().collect();
    }

    fn state_of(&self, mount: &Mount, now: Duration) -> (FilesystemState, Option<Usage>) {
        if self.hangs.is_hanging(&key(&mount.mount_point)) {
            return (FilesystemState::Unresponsive, None);
        }
        let stale = Duration::from_millis(self.config.interval_ms) * STALE_INTERVALS;
        match self.answers.get(&mount.mount_point) {
            None => (FilesystemState::NotYet, None),
            // Not asked for so long only where every worker hangs in another one.
            Some((_, at)) if now.saturating_sub(*at) > stale => (FilesystemState::Unresponsive, None),
            Some((Answer::Usage(usage), _)) => (FilesystemState::Responding, Some(*usage)),
            Some((Answer::Failed(_), _)) => (FilesystemState::Failed, None),
        }
    }

    /// As `df` shows them: without what has no blocks, may not be seen, or is shown already.
    fn publish(&mut self, now: Duration) {
        let visible: Vec<FilesystemNow> = self
            .mounts
            .iter()
            .filter(|mount| match self.answers.get(&mount.mount_point) {
                Some((Answer::Usage(usage), _)) => usage.size_bytes > 0,
                Some((Answer::Failed(error), _)) => {
                    ![Errno::ACCESS, Errno::NOENT].contains(&Errno::from_raw_os_error(*error))
                }
                None => true,
            })
            .map(|mount| {
                let (state, usage) = self.state_of(mount, now);
                FilesystemNow { mount: mount.clone(), state, usage }
            })
            .collect();
        let devices: Vec<_> =
            visible.iter().map(|now| (&now.mount, now.usage.map(|usage| usage.device))).collect();
        let mut filesystems: Vec<FilesystemNow> = df::without_duplicates(&devices)
            .into_iter()
            .filter_map(|place| visible.get(place).cloned())
            .collect();
        filesystems.sort_by(|a, b| a.mount.mount_point.cmp(&b.mount.mount_point));
        filesystems.dedup_by(|a, b| a.mount.mount_point == b.mount.mount_point);
        self.view.settled = filesystems.iter().all(|now| now.state != FilesystemState::NotYet);
        self.view.filesystems = filesystems;
        self.published.send_replace(Arc::new(self.view.clone()));
    }
}

impl Conversation for FilesystemTalk {
    type Question = Question;
    type Answer = Answer;

    fn questions(&mut self, _now: Duration) -> Vec<Keyed<Question>> {
        self.view.failure = self.read_mounts().err().map(|error| {
            let path = self.mountinfo.display();
            format!("cannot read {path}: {error}")
        });
        let mut points: Vec<&[u8]> = self.mounts.iter().map(|mount| mount.mount_point.as_slice()).collect();
        points.sort_unstable();
        points.dedup();
        // Those that waited longest come first: a slow one must not keep the same others away each time.
        points.sort_by_key(|point| self.answers.get(*point).map(|(_, at)| *at));
        points.into_iter().map(|point| Keyed { key: key(point), body: Question::new(point) }).collect()
    }

    fn replied(&mut self, now: Duration, reply: Reply<Answer>) -> Next {
        for answer in reply.answers {
            let asked = self.mounts.iter().find(|mount| key(&mount.mount_point) == answer.key);
            if let Some(mount) = asked {
                self.answers.insert(mount.mount_point.clone(), (answer.body, now));
            }
        }
        self.observe(now, &reply.in_flight, Duration::from_millis(self.config.deadline_ms));
        self.publish(now);
        let waiting = reply.in_flight.iter().any(|call| !self.hangs.is_hanging(&call.key));
        if waiting { Next::Soon } else { Next::Normally }
    }

    fn fell_silent(&mut self, now: Duration, since: Duration) {
        let for_ms = u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        let silence = InFlight { key: String::new(), call: "the probe process itself".into(), for_ms };
        self.observe(now, &[silence], Duration::ZERO);
        self.publish(now);
    }

    fn ended(&mut self, now: Duration) {
        self.observe(now, &[], Duration::ZERO);
        self.publish(now);
    }
}

/// Every question that one round asks; for `probe filesystem --once`.
pub fn questions_once(proc: &std::path::Path) -> Vec<Keyed<Question>> {
    let roots = Roots { proc: proc.to_owned(), ..Roots::default() };
    let (mut talk, _) = FilesystemTalk::new(FilesystemsConfig::default(), &roots);
    talk.questions(Duration::ZERO)
}

/// A mount point as it is named in hangs: harmless, and the same for the same mount point.
fn key(mount_point: &[u8]) -> String {
    source::text(mount_point).into_string()
}
