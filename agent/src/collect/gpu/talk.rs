//! What the `gpu` helper is asked, and what is known from its replies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aim_common::inventory::{Fact, Gpu, GpuLibraryState, GpuState, Text};
use tokio::sync::watch;

use super::answers::{Answer, Library, Question, Reading};
use super::{GpuConfig, pci};
use crate::collect::Roots;
use crate::probe::{Conversation, Hang, HangEdge, Hangs, InFlight, Keyed, Next, Reply};

/// Intervals from one look at what changes seldom to the next.
const FACTS_INTERVALS: u32 = 3;
/// Intervals from one try of a library that does not work to the next.
const LIBRARY_INTERVALS: u32 = 3;
/// Intervals after which a fresh helper looks again while a GPU does not work: only a fresh library lists a card that
/// came back.
const RENEWAL_INTERVALS: u32 = 12;
/// GPUs of one node that are looked at.
const MOST_GPUS: u32 = 64;
/// Hangs that wait for the collector to report them; it looks at least every interval.
const MOST_EDGES: usize = 64;

/// What is known of the GPUs at a moment.
#[derive(Debug, Clone, Default)]
pub struct GpuView {
    /// How the library does, as it last said.
    pub library: Option<Library>,
    /// The GPUs by the library's index.
    pub gpus: BTreeMap<u32, GpuNow>,
    /// The calls that hang now.
    pub hangs: Vec<Hang>,
    /// Hangs that began and ended, numbered from 1; the last ones.
    pub edges: VecDeque<(u64, HangEdge)>,
    /// Replies so far.
    pub replies: u64,
    /// Everything has been answered once, or will not be: there is nothing to wait for.
    pub settled: bool,
}

/// One GPU as it last answered.
#[derive(Debug, Clone)]
pub struct GpuNow {
    /// Its last reading.
    pub reading: Arc<Reading>,
    /// Its last facts.
    pub facts: Option<Arc<Gpu>>,
    /// When it answered, on the monotonic clock.
    pub at: Duration,
}

/// The collector's end of the talk.
pub type GpuFeed = watch::Receiver<Arc<GpuView>>;

/// The talk with the helper.
pub struct GpuTalk {
    config: GpuConfig,
    roots: Roots,
    view: GpuView,
    published: watch::Sender<Arc<GpuView>>,
    hangs: Hangs,
    edges: u64,
    facts_at: Option<Duration>,
    library_at: Option<Duration>,
    renewed_at: Duration,
}

impl GpuTalk {
    /// The talk, and where its results are seen.
    pub fn new(config: GpuConfig, roots: Roots) -> (Self, GpuFeed) {
        let (published, feed) = watch::channel(Arc::default());
        let talk = Self {
            config,
            roots,
            view: GpuView::default(),
            published,
            hangs: Hangs::default(),
            edges: 0,
            facts_at: None,
            library_at: None,
            renewed_at: Duration::ZERO,
        };
        (talk, feed)
    }

    /// From question to question when nobody looks.
    fn interval(&self) -> Duration {
        Duration::from_millis(self.config.interval_ms)
    }

    fn library_works(&self) -> bool {
        self.view.library.as_ref().is_some_and(|library| library.state == GpuLibraryState::Working)
    }

    fn take_library(&mut self, now: Duration, library: Library) {
        self.library_at = Some(now);
        let former = self.view.library.replace(library);
        let count = self.count();
        if former.is_some_and(|former| former.count != count) {
            // Indices may mean other cards now.
            self.facts_at = None;
        }
        self.view.gpus.retain(|index, _| *index < count);
    }

    fn take_gpu(&mut self, now: Duration, mut reading: Reading) {
        let former = self.view.gpus.get(&reading.index);
        if reading.uuid.known().is_none() {
            // A lost card does not say its name: it is the one that had this index.
            if let Some(former) = former {
                reading.uuid = former.reading.uuid.clone();
                reading.pci_address = former.reading.pci_address.clone();
            }
        }
        let same = former.filter(|former| former.reading.uuid == reading.uuid);
        let facts = reading.facts.take().filter(|facts| facts.model.known().is_some()).map(Arc::new);
        let facts = facts.or_else(|| same.and_then(|former| former.facts.clone()));
        let index = reading.index;
        self.view.gpus.insert(index, GpuNow { reading: Arc::new(reading), facts, at: now });
    }

    fn count(&self) -> u32 {
        self.view.library.as_ref().map_or(0, |library| library.count.min(MOST_GPUS))
    }

    fn note(&mut self, edges: Vec<HangEdge>) {
        for edge in edges {
            self.edges += 1;
            self.view.edges.push_back((self.edges, edge));
            if self.view.edges.len() > MOST_EDGES {
                self.view.edges.pop_front();
            }
        }
        self.view.hangs = self.hangs.open().cloned().collect();
    }

    fn observe(&mut self, now: Duration, in_flight: &[InFlight]) {
        let deadline = Duration::from_millis(self.config.deadline_ms);
        // Without persistence mode the first call wakes every card, which takes seconds.
        let patient = |call: &InFlight| if call.call == "nvmlInit_v2" { deadline * 2 } else { deadline };
        let edges = self.hangs.observe(now, in_flight, patient);
        self.note(edges);
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.view.clone()));
    }

    /// A fresh helper is due: the library stopped working under this one, or a card may have come back.
    fn renewal_is_due(&mut self, now: Duration, worked: bool) -> bool {
        let interval = self.interval();
        let broke = worked && !self.library_works();
        let ill = self.view.gpus.values().any(|gpu| gpu.reading.state != GpuState::Working);
        let due = broke || (ill && now.saturating_sub(self.renewed_at) >= interval * RENEWAL_INTERVALS);
        if due {
            self.facts_at = None;
            self.library_at = None;
        }
        if due || !ill {
            self.renewed_at = now;
        }
        due
    }
}

impl Conversation for GpuTalk {
    type Question = Question;
    type Answer = Answer;

    fn wanted(&mut self) -> bool {
        let wanted = self.config.nvml_library.is_some()
            || self.roots.proc.join("driver/nvidia/version").exists()
            || !pci::scan(&self.roots.sys, super::NVIDIA).cards.is_empty();
        if !wanted {
            self.view.settled = true;
            self.publish();
        }
        wanted
    }

    fn questions(&mut self, now: Duration) -> Vec<Keyed<Question>> {
        let mut questions = Vec::new();
        let interval = self.interval();
        let due = |at: Option<Duration>, intervals| {
            at.is_none_or(|at| now.saturating_sub(at) >= interval * intervals)
        };
        if self.library_works() || due(self.library_at, LIBRARY_INTERVALS) {
            let body = Question::Library { path: self.config.nvml_library.clone() };
            questions.push(Keyed { key: "library".into(), body });
        }
        let facts = due(self.facts_at, FACTS_INTERVALS);
        if self.count() > 0 && facts {
            self.facts_at = Some(now);
        }
        for index in 0..self.count() {
            let facts = facts || self.view.gpus.get(&index).is_none_or(|gpu| gpu.facts.is_none());
            questions.push(Keyed { key: gpu_key(index), body: Question::Gpu { index, facts } });
        }
        questions
    }

    fn replied(&mut self, now: Duration, reply: Reply<Answer>) -> Next {
        let worked = self.library_works();
        for answer in reply.answers {
            match answer.body {
                Answer::Library(library) => self.take_library(now, library),
                // A card that the library dropped in the midst of the round is not one that fails.
                Answer::Gpu(reading) if reading.index >= self.count() => {}
                Answer::Gpu(reading) => self.take_gpu(now, *reading),
            }
        }
        self.observe(now, &reply.in_flight);
        let waiting = reply.in_flight.iter().any(|call| !self.hangs.is_hanging(&call.key));
        let unasked = (0..self.count())
            .any(|index| !self.view.gpus.contains_key(&index) && !self.hangs.is_hanging(&gpu_key(index)));
        self.view.replies += 1;
        self.view.settled = !waiting && !unasked;
        self.publish();
        if self.renewal_is_due(now, worked) {
            Next::Restart
        } else if waiting || unasked {
            Next::Soon
        } else {
            Next::Normally
        }
    }

    fn fell_silent(&mut self, now: Duration, since: Duration) {
        let for_ms = u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        let silence = InFlight { key: "helper".into(), call: "the probe process itself".into(), for_ms };
        let edges = self.hangs.observe(now, &[silence], |_| Duration::ZERO);
        self.note(edges);
        self.view.settled = true;
        self.publish();
    }

    fn ended(&mut self, now: Duration) {
        self.observe(now, &[]);
        // A fresh library may number the cards anew.
        self.facts_at = None;
        self.library_at = None;
        self.publish();
    }
}

fn gpu_key(index: u32) -> String {
    format!("gpu {index}")
}

/// The hang that keeps this GPU's answers away, if any.
pub(super) fn hang_of(view: &GpuView, index: u32) -> Option<&Hang> {
    let key = gpu_key(index);
    view.hangs.iter().find(|hang| hang.key == key || hang.key == "helper" || hang.key == "library")
}

/// The UUID that a hang is about, where it is about one GPU.
pub(super) fn uuid_of_hang(view: &GpuView, hang: &Hang) -> Option<Text> {
    let index = hang.key.strip_prefix("gpu ")?.parse().ok()?;
    match &view.gpus.get(&index)?.reading.uuid {
        Fact::Known(uuid) => Some(uuid.clone()),
        Fact::Unknown(_) => None,
    }
}
