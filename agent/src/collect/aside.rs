//! A collector on a thread of its own, for sources whose reads ask hardware and can hang in its driver: the agent waits
//! for a moment and goes on without it.
//!
//! Not a probe process: these reads end when the driver gives up (a minute at most), so that only the agent's exit can be
//! late by that.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aim_common::event::{EventKind, Severity};
use aim_common::inventory::{Section, UnknownReason};
use aim_common::protocol::SeriesKey;

use super::{CollectError, Collector, EventDraft, Round, Sample, SampleSink, SampleValue};

/// How long an answer is waited for: nine HCAs take some 20 ms, and all waiting together stays below what makes a
/// heartbeat late enough to matter (4.5 s).
const PATIENCE: Duration = Duration::from_millis(500);
/// Rounds without an answer after which the source is said to hang.
const OVERDUE_ROUNDS: u32 = 2;
/// The collectors here recurse nowhere.
const STACK_BYTES: usize = 256 * 1024;

/// A collector that is read once in an interval, aside.
pub(super) struct Aside {
    name: &'static str,
    state: State,
    /// Answers that came and were not used yet.
    sampled: Option<(Result<(), CollectError>, SampleSink)>,
    inventoried: Option<Result<Option<Section>, CollectError>>,
    /// The series of the last answer: unknown while there is none.
    known: Vec<SeriesKey>,
    overdue: u32,
}

enum State {
    /// Before the first question.
    Idle(Box<dyn Collector>),
    Running(Worker),
    /// The thread could not be started, or died.
    Dead,
}

struct Worker {
    requests: SyncSender<Request>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
    /// A request is not answered yet.
    pending: bool,
}

enum Request {
    Sample,
    Inventory,
}

enum Answer {
    Sampled(Result<(), CollectError>, SampleSink),
    Inventoried(Result<Option<Section>, CollectError>),
}

impl Aside {
    pub(super) fn new(collector: impl Collector + 'static) -> Self {
        Self {
            name: collector.name(),
            state: State::Idle(Box::new(collector)),
            sampled: None,
            inventoried: None,
            known: Vec::new(),
            overdue: 0,
        }
    }

    /// Puts the question, unless the former one is still open, and waits for what is open.
    fn ask(&mut self, request: Request) {
        self.take_answer(if self.overdue < OVERDUE_ROUNDS { PATIENCE } else { Duration::ZERO });
        let Some(worker) = self.worker() else { return };
        // Room for one request: it is taken before the next one is put.
        if !worker.pending && worker.requests.try_send(request).is_ok() {
            worker.pending = true;
            self.take_answer(PATIENCE);
        }
    }

    fn take_answer(&mut self, patience: Duration) {
        let State::Running(worker) = &mut self.state else { return };
        if !worker.pending {
            return;
        }
        match worker.answers.recv_timeout(patience) {
            Ok(answer) => {
                worker.pending = false;
                match answer {
                    Answer::Sampled(result, sink) => self.sampled = Some((result, sink)),
                    Answer::Inventoried(result) => self.inventoried = Some(result),
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.state = State::Dead,
        }
    }

    /// The thread, started at the first question.
    fn worker(&mut self) -> Option<&mut Worker> {
        if matches!(self.state, State::Idle(_))
            && let State::Idle(collector) = std::mem::replace(&mut self.state, State::Dead)
        {
            match start(self.name, collector) {
                Ok(worker) => self.state = State::Running(worker),
                Err(error) => tracing::error!(collector = self.name, %error, "cannot start its thread"),
            }
        }
        match &mut self.state {
            State::Running(worker) => Some(worker),
            State::Idle(_) | State::Dead => None,
        }
    }

    fn no_answer(&self) -> CollectError {
        match self.state {
            State::Dead => CollectError::Malformed {
                what: format!("collector {}", self.name),
                reason: "its thread ended; restart the agent".to_owned(),
            },
            _ => CollectError::Unresponsive {
                what: self.name.to_owned(),
                call: "a read of its files in /sys".to_owned(),
            },
        }
    }

    fn event(&self, kind: EventKind, severity: Severity, what: &str) -> EventDraft {
        EventDraft {
            kind,
            severity,
            occurred: None,
            subject: self.name.to_owned(),
            message: format!("collector {}: {what}", self.name),
            attributes: Vec::new(),
        }
    }
}

impl Collector for Aside {
    fn name(&self) -> &'static str {
        self.name
    }

    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        self.ask(Request::Inventory);
        self.inventoried.take().unwrap_or_else(|| Err(self.no_answer()))
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        if sink.round == Round::Within {
            return Ok(());
        }
        self.ask(Request::Sample);
        let Some((result, answer)) = self.sampled.take() else {
            let unknown = |key: &SeriesKey| Sample {
                key: key.clone(),
                value: SampleValue::Unknown(UnknownReason::Unresponsive),
            };
            sink.samples.extend(self.known.iter().map(unknown));
            self.overdue = self.overdue.saturating_add(1);
            if self.overdue == OVERDUE_ROUNDS {
                let what = "a read of its files in /sys does not return; its driver or firmware may be stuck";
                sink.event(self.event(EventKind::CollectorFailed, Severity::Warning, what));
            }
            return if self.overdue < OVERDUE_ROUNDS { Ok(()) } else { Err(self.no_answer()) };
        };
        if self.overdue >= OVERDUE_ROUNDS {
            sink.event(self.event(EventKind::CollectorRecovered, Severity::Info, "it answers again"));
        }
        self.overdue = 0;
        self.known = answer.samples.iter().map(|sample| sample.key.clone()).collect();
        sink.samples.extend(answer.samples);
        sink.events.extend(answer.events);
        result
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let State::Running(Worker { requests, answers, thread, pending }) =
            std::mem::replace(&mut self.state, State::Dead)
        else {
            return;
        };
        drop((requests, answers));
        // One that hangs ends by itself at its next answer.
        if !pending && thread.join().is_err() {
            tracing::error!(collector = self.name, "its thread panicked");
        }
    }
}

fn start(name: &'static str, mut collector: Box<dyn Collector>) -> std::io::Result<Worker> {
    let (requests, asked) = mpsc::sync_channel(1);
    let (answer, answers) = mpsc::sync_channel(1);
    let work = move || {
        for request in asked {
            let answered = answer.send(match request {
                Request::Sample => {
                    let mut sink = SampleSink::new(Round::Full);
                    Answer::Sampled(collector.sample(&mut sink), sink)
                }
                Request::Inventory => Answer::Inventoried(collector.inventory()),
            });
            if answered.is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)?;
    Ok(Worker { requests, answers, thread, pending: false })
}
