//! The helper's inside: workers that make the calls, while the helper's main thread goes on listening.
//!
//! One worker makes all calls, one after the other. When it is stuck in one, the next worker takes what is left, so
//! that one wedged card or mount costs the others nothing. A stuck worker is free again when its call returns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::messages::{Ask, InFlight, Keyed, Reply};
use crate::clock::{Clock, SystemClock};

/// How long a round waits for one answer before the next worker goes on with the next question.
const PATIENCE_EACH: Duration = Duration::from_millis(500);
/// How long a round may take in all; well below the agent's deadline for the reply.
const PATIENCE_ROUND: Duration = Duration::from_secs(3);
/// A worker's stack; drivers' libraries are not known for restraint.
const STACK_BYTES: usize = 1024 * 1024;

/// Something that asks a driver or the kernel, and may hang in it.
pub trait Probe: Send + Sync + 'static {
    /// What can be asked.
    type Question: Send + 'static;
    /// What comes back.
    type Answer: Send + 'static;
    /// Workers at most, and with that calls that may be stuck at a time (FLT-36: 8).
    const MOST_WORKERS: usize;

    /// Answers one question, naming each call before making it.
    fn answer(&self, question: Self::Question, calls: &Calls) -> Self::Answer;
}

/// Where a worker says which call it is about to make.
#[derive(Debug)]
pub struct Calls {
    clock: SystemClock,
    now: Mutex<CallNow>,
}

#[derive(Debug, Default)]
struct CallNow {
    function: &'static str,
    subject: String,
    since: Duration,
}

impl Calls {
    /// For one worker.
    pub fn new() -> Self {
        Self { clock: SystemClock::new(), now: Mutex::default() }
    }

    /// What the calls that follow are about (`GPU 3`), or nothing.
    pub fn about(&self, subject: impl Into<String>) {
        self.lock().subject = subject.into();
    }

    /// The function that is called next.
    pub fn enter(&self, function: &'static str) {
        let since = self.clock.monotonic();
        let mut now = self.lock();
        now.function = function;
        now.since = since;
    }

    fn in_flight(&self, key: &str) -> InFlight {
        let now = self.lock();
        let call = match (now.function, now.subject.as_str()) {
            (function, "") => function.to_owned(),
            (function, subject) => format!("{function} on {subject}"),
        };
        let lasted = self.clock.monotonic().saturating_sub(now.since);
        InFlight { key: key.to_owned(), call, for_ms: u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CallNow> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self::new()
    }
}

struct Worker<Q> {
    questions: SyncSender<Keyed<Q>>,
    calls: Arc<Calls>,
    /// The key of the question it works on.
    busy: Option<String>,
}

struct Done<A> {
    worker: usize,
    key: String,
    /// `None` where the probe panicked.
    answer: Option<A>,
}

/// The workers of one helper.
pub struct Pool<P: Probe> {
    probe: Arc<P>,
    clock: SystemClock,
    workers: Vec<Worker<P::Question>>,
    done: Receiver<Done<P::Answer>>,
    report: SyncSender<Done<P::Answer>>,
}

impl<P: Probe> Pool<P> {
    /// Without a worker yet.
    pub fn new(probe: P) -> Self {
        // Every worker has at most one answer under way.
        let (report, done) = sync_channel(P::MOST_WORKERS);
        Self { probe: Arc::new(probe), clock: SystemClock::new(), workers: Vec::new(), done, report }
    }

    /// Asks what can be asked and says what is known after a bounded time.
    pub fn round(&mut self, ask: Ask<P::Question>) -> Reply<P::Answer> {
        let mut reply =
            Reply { round: ask.round, answers: Vec::new(), in_flight: Vec::new(), not_asked: Vec::new() };
        let end = self.clock.monotonic() + PATIENCE_ROUND;
        while let Ok(done) = self.done.try_recv() {
            self.take(done, &mut reply);
        }
        for question in ask.questions {
            if self.is_busy_with(&question.key) {
                continue;
            }
            let key = question.key.clone();
            if self.clock.monotonic() < end && self.give(question) {
                self.wait_for(&key, end, &mut reply);
            } else {
                reply.not_asked.push(key);
            }
        }
        reply.in_flight = self.in_flight();
        reply
    }

    /// Waits until no worker is in a call.
    pub fn wait_until_idle(&mut self) {
        while self.workers.iter().any(|worker| worker.busy.is_some()) {
            let Ok(done) = self.done.recv() else { return };
            if let Some(worker) = self.workers.get_mut(done.worker) {
                worker.busy = None;
            }
        }
    }

    fn is_busy_with(&self, key: &str) -> bool {
        self.workers.iter().any(|worker| worker.busy.as_deref() == Some(key))
    }

    fn in_flight(&self) -> Vec<InFlight> {
        self.workers
            .iter()
            .filter_map(|worker| worker.busy.as_deref().map(|key| worker.calls.in_flight(key)))
            .collect()
    }

    /// Gives the question to a free worker; false where there is none.
    fn give(&mut self, question: Keyed<P::Question>) -> bool {
        let free = self.workers.iter().position(|worker| worker.busy.is_none());
        let Some(index) = free.or_else(|| self.hire()) else { return false };
        let Some(worker) = self.workers.get_mut(index) else { return false };
        let key = question.key.clone();
        // The worker waits for a question: there is room for one.
        if worker.questions.try_send(question).is_err() {
            return false;
        }
        worker.busy = Some(key);
        true
    }

    fn hire(&mut self) -> Option<usize> {
        let index = self.workers.len();
        if index >= P::MOST_WORKERS {
            return None;
        }
        let (questions, asked) = sync_channel::<Keyed<P::Question>>(1);
        let calls = Arc::new(Calls::new());
        let (probe, report, worker_calls) =
            (Arc::clone(&self.probe), self.report.clone(), Arc::clone(&calls));
        let work = move || {
            for Keyed { key, body } in asked {
                worker_calls.about("");
                worker_calls.enter("start");
                // A panic of the probe costs one answer, not the worker.
                let answer = catch_unwind(AssertUnwindSafe(|| probe.answer(body, &worker_calls))).ok();
                if report.send(Done { worker: index, key, answer }).is_err() {
                    return;
                }
            }
        };
        // The thread is not joined: it may be stuck in a call for ever, and ends with the process.
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).ok()?;
        self.workers.push(Worker { questions, calls, busy: None });
        Some(index)
    }

    fn wait_for(&mut self, key: &str, end: Duration, reply: &mut Reply<P::Answer>) {
        let until = end.min(self.clock.monotonic() + PATIENCE_EACH);
        while self.is_busy_with(key) {
            let left = until.saturating_sub(self.clock.monotonic());
            match self.done.recv_timeout(left) {
                Ok(done) => self.take(done, reply),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, done: Done<P::Answer>, reply: &mut Reply<P::Answer>) {
        if let Some(worker) = self.workers.get_mut(done.worker) {
            worker.busy = None;
        }
        match done.answer {
            Some(body) => reply.answers.push(Keyed { key: done.key, body }),
            None => reply.not_asked.push(done.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// Answers with the question, and hangs in odd ones until released.
    #[derive(Default)]
    struct Gate {
        open: Mutex<bool>,
        opened: Condvar,
    }

    struct Stubborn(Arc<Gate>);

    impl Probe for Stubborn {
        type Question = u32;
        type Answer = u32;
        const MOST_WORKERS: usize = 2;

        fn answer(&self, question: u32, calls: &Calls) -> u32 {
            calls.about(format!("number {question}"));
            calls.enter("wait");
            assert_ne!(question, 13, "a bug in a probe");
            if question % 2 == 1 {
                let open = self.0.open.lock().unwrap();
                drop(self.0.opened.wait_while(open, |open| !*open).unwrap());
            }
            question
        }
    }

    fn ask(round: u64, questions: impl IntoIterator<Item = u32>) -> Ask<u32> {
        let keyed = |number: u32| Keyed { key: number.to_string(), body: number };
        Ask { round, questions: questions.into_iter().map(keyed).collect() }
    }

    fn keys(reply: &Reply<u32>) -> Vec<&str> {
        reply.answers.iter().map(|answer| answer.key.as_str()).collect()
    }

    #[test]
    fn flt_36_a_stuck_call_is_named_asked_once_and_costs_the_others_nothing() {
        let gate = Arc::new(Gate::default());
        let mut pool = Pool::new(Stubborn(Arc::clone(&gate)));
        let reply = pool.round(ask(1, [2, 1, 4]));
        assert_eq!(keys(&reply), ["2", "4"]);
        assert_eq!(reply.in_flight.len(), 1);
        assert_eq!(reply.in_flight[0].call, "wait on number 1");
        let again = pool.round(ask(2, [1, 2]));
        assert_eq!(keys(&again), ["2"]);
        assert!(again.in_flight[0].for_ms >= reply.in_flight[0].for_ms);
        assert_eq!(pool.workers.len(), 2, "one stuck, one for the rest");
        *gate.open.lock().unwrap() = true;
        gate.opened.notify_all();
        pool.wait_until_idle();
        assert_eq!(keys(&pool.round(ask(3, [1]))), ["1"]);
    }

    #[test]
    fn flt_36_no_more_workers_are_stuck_than_allowed() {
        let gate = Arc::new(Gate::default());
        let mut pool = Pool::new(Stubborn(Arc::clone(&gate)));
        let reply = pool.round(ask(1, [1, 3, 5, 7, 2]));
        assert_eq!(reply.in_flight.len(), 2);
        assert_eq!(reply.not_asked, ["5", "7", "2"]);
        *gate.open.lock().unwrap() = true;
        gate.opened.notify_all();
    }

    #[test]
    fn a_panic_costs_one_answer() {
        let mut pool = Pool::new(Stubborn(Arc::default()));
        let mut reply = pool.round(ask(1, [13, 2]));
        assert_eq!(keys(&reply), ["2"]);
        // Telling of the panic may take longer than a round waits for one answer.
        for round in 2..1500 {
            if !reply.not_asked.is_empty() {
                break;
            }
            assert_eq!(reply.in_flight.len(), 1, "neither answered nor under way");
            std::thread::sleep(Duration::from_millis(20));
            reply = pool.round(ask(round, []));
        }
        assert_eq!(reply.not_asked, ["13"]);
    }
}
