//! The one owner of the agent's state. Each method is one turn of the loop's hand; none waits.

use std::sync::Arc;
use std::time::Duration;

use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::Sha256Digest;
use aim_common::protocol::{GpuProcesses, Record, SeriesTable};
use aim_common::units::EpochMs;
use aim_common::wire::{BoundedString, BoundedVec};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError};

use super::acklog::AckLog;
use super::conditions::{Conditions, RENEWAL_FAILED, SPOOL_QUARANTINED, SPOOL_UNAVAILABLE};
use super::delivery::Delivery;
use super::facts::Node;
use super::notify;
use super::pace::Pace;
use super::ring::Ring;
use super::status::{LinkState, Status, StatusWriter};
use crate::clock::SharedClock;
use crate::collect::{CollectorSet, EventDraft, Round, SampleSink};
use crate::config::Config;
use crate::entropy::random_share;
use crate::identity::Identity;
use crate::inventory::InventoryTracker;
use crate::link::{HelloFacts, LinkEvent, OpenSession, Wish};
use crate::probe::Probes;
use crate::report::{Aggregator, SessionReports};
use crate::spool::{Found, Spool, SpoolWorker, WorkDone};

/// How often a failed disk is tried again.
const DISK_RETRY: Duration = Duration::from_secs(30);
/// The longest sleep: the status must be refreshed, and nothing else would wake an agent that samples rarely.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// What the agent begins with.
pub(super) struct Start {
    pub(super) collectors: CollectorSet,
    pub(super) probes: Probes,
    pub(super) spool: Spool,
    pub(super) found: Found,
    pub(super) node: Node,
    pub(super) identity: Arc<Identity>,
    pub(super) clock: SharedClock,
}

/// Where the spool stands, as its last work said.
#[derive(Debug, Clone, Copy)]
struct SpoolView {
    id: aim_common::identity::SpoolId,
    first: u64,
    next: u64,
    in_memory: bool,
    /// The first record that this process wrote under this id.
    own: u64,
}

/// The agent.
pub(super) struct Agent {
    clock: SharedClock,
    node: Node,
    identity: Arc<Identity>,
    certificate_not_after: EpochMs,
    collectors: CollectorSet,
    probes: Probes,
    aggregator: Aggregator,
    tracker: InventoryTracker,
    pace: Pace,
    ring: Ring,
    spool: SpoolWorker,
    spool_view: SpoolView,
    disk_retry_at: Duration,
    ack_log: AckLog,
    conditions: Conditions,
    conditions_unsent: bool,
    processes: Option<GpuProcesses>,
    processes_unsent: bool,
    session: Option<Delivery>,
    has_reported: bool,
    facts: watch::Sender<HelloFacts>,
    table: (Arc<SeriesTable>, Sha256Digest),
    wish: watch::Sender<Wish>,
    wishes: u64,
    link_since: EpochMs,
    last_address: Option<String>,
    last_reason: Option<String>,
    status: StatusWriter,
    watchdog: Option<Duration>,
    wake_at: Duration,
}

impl Agent {
    /// Looks at everything once, so that Hello can say what the node is.
    pub(super) fn new(config: &Config, start: Start, wish: watch::Sender<Wish>) -> Self {
        let Start { mut collectors, probes, spool, found, node, identity, clock } = start;
        let (now, wall) = (clock.monotonic(), clock.now());
        let mut sink = SampleSink::new(Round::Full);
        let tracker = InventoryTracker::new(&collectors.inventory(&mut sink));
        let table = Arc::new(SeriesTable::default());
        let view = SpoolView {
            id: spool.id(),
            first: spool.first(),
            next: spool.next(),
            in_memory: spool.trouble().is_some(),
            own: spool.next(),
        };
        let facts = HelloFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: node.boot_id,
            machine_id_sha256: node.machine_id_sha256,
            inventory_sha256: tracker.hash(),
            series_sha256: table.sha256(),
            spool_id: view.id,
            spool_first: view.first,
            started: node.started,
        };
        let mut conditions = Conditions::default();
        if let Some(reason) = spool.trouble() {
            conditions.set(SPOOL_UNAVAILABLE, &in_memory(reason), wall);
        }
        let mut agent = Self {
            node,
            certificate_not_after: identity.not_after(),
            identity,
            collectors,
            probes,
            aggregator: Aggregator::new(),
            tracker,
            pace: Pace::new(&config.report, now, random_share()),
            ring: Ring::new(usize::try_from(config.ring.max_reports.get()).unwrap_or(usize::MAX)),
            spool: SpoolWorker::new(spool),
            spool_view: view,
            disk_retry_at: now + DISK_RETRY,
            ack_log: AckLog::new(config.link.ack_log.then(|| config.state_dir.join("acked.log"))),
            conditions,
            conditions_unsent: true,
            processes: None,
            processes_unsent: false,
            session: None,
            has_reported: false,
            facts: watch::Sender::new(facts),
            table: (Arc::clone(&table), table.sha256()),
            wish,
            wishes: 0,
            link_since: wall,
            last_address: None,
            last_reason: None,
            status: StatusWriter::new(config.status_path()),
            watchdog: notify::watchdog_interval(),
            wake_at: now,
            clock,
        };
        agent.keep(started(sink.events));
        agent.quarantined(&found);
        agent.turn();
        agent
    }

    /// What Hello says, as it changes.
    pub(super) fn facts(&self) -> watch::Receiver<HelloFacts> {
        self.facts.subscribe()
    }

    /// How long the loop may sleep.
    pub(super) fn next_wake(&self) -> Duration {
        self.wake_at.saturating_sub(self.clock.monotonic())
    }

    /// The end of the spool's work under way.
    pub(super) async fn spool_done(&mut self) -> Result<WorkDone, JoinError> {
        self.spool.done().await
    }

    /// Everything that is due, and everything that can go out.
    pub(super) fn turn(&mut self) {
        let now = self.clock.monotonic();
        self.collect(now);
        let replay = self.send(now);
        if self.session.as_mut().is_some_and(|session| session.is_silent(now)) {
            tracing::warn!("no packet from the coordinator for 10 s");
            self.session = None;
            self.connect_anew();
        }
        if self.spool_view.in_memory && now >= self.disk_retry_at {
            self.disk_retry_at = now + DISK_RETRY;
            self.spool.waiting().retry_disk = true;
        }
        self.spool.start();
        self.publish_facts();
        let status = self.status_now();
        let status_at = self.status.offer(status, now);
        if self.watchdog.is_some() {
            notify::watchdog();
        }
        let longest = now + self.watchdog.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        let due = [Some(self.pace.next()), Some(longest), replay, status_at];
        self.wake_at = due.into_iter().flatten().min().unwrap_or(longest);
    }

    fn collect(&mut self, now: Duration) {
        let due = self.pace.due(now);
        if due.live_ended {
            self.probes.set_live(false);
        }
        if !due.sample {
            return;
        }
        let mut sink = SampleSink::new(if due.report_ms.is_some() { Round::Full } else { Round::Within });
        self.collectors.sample(&mut sink);
        if due.inventory {
            let sections = self.collectors.inventory(&mut sink);
            for record in self.tracker.update(&sections) {
                self.spool.append(record);
            }
        }
        self.keep(std::mem::take(&mut sink.events));
        self.aggregator.add(sink.samples);
        self.conditions.collected(self.collectors.conditions(self.clock.now()));
        if let Some(processes) = self.collectors.gpu_processes() {
            self.processes = Some(processes);
            self.processes_unsent = true;
        }
        if let Some(interval_ms) = due.report_ms {
            self.report(interval_ms);
        }
    }

    fn report(&mut self, interval_ms: u32) {
        let interval = self.aggregator.close(self.clock.now(), interval_ms);
        if !Arc::ptr_eq(&interval.table, &self.table.0) {
            self.table = (Arc::clone(&interval.table), interval.table.sha256());
        }
        self.has_reported = true;
        // Order is kept: while older intervals wait, new ones wait behind them.
        let unsent = match &mut self.session {
            Some(session) if self.ring.is_empty() => session.send_interval(interval).err(),
            _ => Some(interval),
        };
        if let Some(interval) = unsent {
            self.ring.push(interval.pack());
        }
    }

    /// Into the open session, as far as it takes more; gives the time of the next late report.
    fn send(&mut self, now: Duration) -> Option<Duration> {
        self.conditions_unsent |= self.conditions.take_changed();
        let session = self.session.as_mut()?;
        if self.conditions_unsent {
            self.conditions_unsent = !session.send_conditions(&self.conditions.message());
        }
        if self.processes_unsent
            && let Some(processes) = &self.processes
        {
            self.processes_unsent = !session.send_processes(processes);
        }
        let view = self.spool_view;
        if session.spool_id() == view.id && session.wants_batch(view.next) {
            session.reading = true;
            self.spool.waiting().read_from = Some((view.id, session.next_record));
        }
        session.replay(&mut self.ring, now)
    }

    /// The link says something.
    pub(super) fn on_link(&mut self, event: LinkEvent) {
        let wall = self.clock.now();
        match event {
            LinkEvent::Opened(open) => self.opened(*open, wall),
            LinkEvent::Acknowledged(ack) if ack.spool_id == self.spool_view.id => {
                if let Some(session) = &mut self.session {
                    self.ack_log.write(ack.spool_id, session.acknowledged(ack.sequence));
                    self.spool.waiting().acknowledged = Some((ack.spool_id, ack.sequence));
                }
            }
            // Of a spool that was left: its records are given anew under other keys, or wait on the disk.
            LinkEvent::Acknowledged(_) => {}
            LinkEvent::Live(wish) => {
                self.pace.live(wish, self.clock.monotonic());
                self.probes.set_live(self.pace.is_live());
            }
            LinkEvent::Closed { reason } => {
                tracing::info!(%reason, "disconnected");
                notify::status("not connected");
                self.session = None;
                self.link_since = wall;
                self.last_reason = Some(reason);
            }
            LinkEvent::Failed { address, trouble, reason, attempt } => {
                tracing::info!(%address, %reason, attempt, "cannot connect");
                self.conditions.link_trouble(trouble, &format!("{address}: {reason}"), attempt, wall);
                self.last_address = Some(address);
                self.last_reason = Some(reason);
            }
            LinkEvent::Waiting { trouble, reason } => {
                tracing::warn!(%reason, "not connecting");
                // What is waited for was tried long enough.
                self.conditions.link_trouble(trouble, &reason, u32::MAX, wall);
                self.last_reason = Some(reason);
            }
            LinkEvent::CertificateRenewed { not_after } => {
                tracing::info!(%not_after, "certificate renewed");
                self.certificate_not_after = not_after;
                self.conditions.clear(RENEWAL_FAILED);
            }
            LinkEvent::RenewalFailed { reason } => {
                let detail =
                    format!("{reason}; the old certificate is good until {}", self.certificate_not_after);
                self.conditions.set(RENEWAL_FAILED, &detail, wall);
            }
        }
    }

    fn opened(&mut self, open: OpenSession, wall: EpochMs) {
        tracing::info!(coordinator = %open.address, version = %open.welcome.coordinator_version, "connected");
        notify::status(&format!("connected to {}", open.address));
        self.conditions.link_works();
        self.conditions.clock_ahead(wall.since_ms(open.welcome.clock), wall);
        self.conditions_unsent = true;
        self.processes_unsent = self.processes.is_some();
        self.link_since = wall;
        self.last_address = Some(open.address.clone());
        self.last_reason = None;
        self.pace.told(open.welcome.report_interval_ms);
        if !self.has_reported {
            self.pace.hurry(self.clock.monotonic());
        }
        if open.welcome.inventory_wanted {
            for record in self.tracker.all_records() {
                self.spool.append(record);
            }
        }
        let view = self.spool_view;
        let acknowledged = open.welcome.acknowledged.unwrap_or_default();
        if open.facts.spool_id != view.id {
            self.connect_anew();
        } else if acknowledged >= view.next {
            tracing::error!(
                acknowledged,
                next = view.next,
                "the spool's disk went back in time; a new spool begins"
            );
            self.spool.waiting().begin_anew = Some(view.own);
        } else if acknowledged > 0 {
            let first = view.first;
            self.ack_log.write(view.id, (first..=acknowledged).collect());
            self.spool.waiting().acknowledged = Some((view.id, acknowledged));
        }
        // The coordinator keeps the table that Hello named; any other one is sent.
        let held = (!open.welcome.series_wanted && open.facts.series_sha256 == self.table.1)
            .then(|| Arc::clone(&self.table.0));
        // What Hello named as first is where the coordinator expects to go on.
        let next_record = acknowledged.saturating_add(1);
        self.session = Some(Delivery::new(open, SessionReports::new(held), next_record));
    }

    /// The spool's work is done.
    pub(super) fn on_spool(&mut self, done: Result<WorkDone, JoinError>) {
        let wall = self.clock.now();
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                self.conditions.set(
                    SPOOL_UNAVAILABLE,
                    &format!("the spool broke: {error}; restart the agent"),
                    wall,
                );
                return;
            }
        };
        match &done.trouble {
            Some(reason) => self.conditions.set(SPOOL_UNAVAILABLE, &in_memory(reason), wall),
            None => self.conditions.clear(SPOOL_UNAVAILABLE),
        }
        let is_new = done.id != self.spool_view.id;
        let own = if is_new { done.first } else { self.spool_view.own };
        let in_memory = done.trouble.is_some();
        self.spool_view = SpoolView { id: done.id, first: done.first, next: done.next, in_memory, own };
        if is_new && self.session.is_some() {
            self.connect_anew();
        }
        if done.appended > 0 && !in_memory && self.spool.waiting().append.is_empty() {
            self.collectors.committed();
        }
        self.quarantined(&Found { quarantined: done.quarantined });
        if let Some(session) = &mut self.session
            && std::mem::take(&mut session.reading)
            && !done.batch.is_empty()
        {
            session.send_batch(done.id, done.batch);
        }
    }

    /// One session, one spool: another spool needs another Hello.
    fn connect_anew(&mut self) {
        self.publish_facts();
        self.wishes += 1;
        // The link's end is seen by the loop.
        self.wish.send_replace(Wish::Anew(self.wishes));
    }

    fn quarantined(&mut self, found: &Found) {
        for damage in &found.quarantined {
            let (path, saved) = (damage.path.display(), damage.saved);
            let detail = format!(
                "a damaged part of the spool was set aside as {path}; {saved} records of it were saved"
            );
            self.conditions.set(SPOOL_QUARANTINED, &format!("{detail}; see to the disk"), self.clock.now());
            self.keep(vec![EventDraft {
                kind: EventKind::SpoolQuarantined,
                severity: Severity::Warning,
                occurred: None,
                subject: String::new(),
                message: detail,
                attributes: Vec::new(),
            }]);
        }
    }

    fn keep(&mut self, drafts: Vec<EventDraft>) {
        let wall = self.clock.now();
        for draft in drafts {
            self.spool.append(Record::Event(event(draft, self.node, wall)));
        }
    }

    fn publish_facts(&mut self) {
        let (inventory, series, view) = (self.tracker.hash(), self.table.1, self.spool_view);
        self.facts.send_if_modified(|facts| {
            let former = facts.clone();
            facts.inventory_sha256 = inventory;
            facts.series_sha256 = series;
            facts.spool_id = view.id;
            facts.spool_first = view.first;
            *facts != former
        });
    }

    fn status_now(&self) -> Status {
        let session = self.session.as_ref();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            written_at: self.clock.now(),
            started_at: self.node.started,
            node_id: self.identity.node_id.to_string(),
            node_name: self.identity.node_name.to_string(),
            link: if session.is_some() { LinkState::Connected } else { LinkState::Disconnected },
            link_since: self.link_since,
            coordinator: session
                .map(|session| session.address().to_owned())
                .or_else(|| self.last_address.clone()),
            reason: self.last_reason.clone(),
            certificate_not_after: self.certificate_not_after,
            spool_waiting: self.spool_view.next.saturating_sub(self.spool_view.first),
            reports_waiting: self.ring.len() as u64,
            conditions: self.conditions.message().conditions.into_vec(),
        }
    }

    /// The link shall say Goodbye.
    pub(super) fn wish_to_stop(&self) {
        self.wish.send_replace(Wish::Stop);
    }

    /// Until everything given is on the disk.
    pub(super) async fn finish_spool(&mut self) {
        loop {
            self.spool.waiting().read_from = None;
            self.spool.start();
            if self.spool.is_idle() {
                return;
            }
            if let Err(error) = self.spool.done().await {
                tracing::error!(%error, "the spool broke; its last records may be lost");
                return;
            }
        }
    }

    /// The tasks of its probes; one that has ended will never tell anything again.
    pub(super) fn probes_tasks(&self) -> impl Iterator<Item = (&'static str, AbortHandle)> {
        self.probes.tasks()
    }

    /// Ends the probes and says in the status that nothing runs any more.
    pub(super) async fn end(mut self) {
        self.session = None;
        self.last_reason = Some("the agent stopped".to_owned());
        self.link_since = self.clock.now();
        let status = self.status_now();
        self.status.last_word(status);
        self.probes.shutdown().await;
    }
}

fn in_memory(reason: &str) -> String {
    format!("events wait in memory only: {reason}; mend the state directory, a restart would lose them")
}

fn started(mut events: Vec<EventDraft>) -> Vec<EventDraft> {
    let start = EventDraft {
        kind: EventKind::AgentStarted,
        severity: Severity::Info,
        occurred: None,
        subject: String::new(),
        message: format!("aim-agent {} started", env!("CARGO_PKG_VERSION")),
        attributes: Vec::new(),
    };
    events.insert(0, start);
    events
}

fn event(draft: EventDraft, node: Node, now: EpochMs) -> Event {
    let attribute =
        |(name, value): (String, String)| (BoundedString::truncated(&name), BoundedString::truncated(&value));
    Event {
        kind: draft.kind,
        severity: draft.severity,
        occurred: draft.occurred.unwrap_or(now),
        boot_id: node.boot_id,
        subject: BoundedString::truncated(&draft.subject),
        message: BoundedString::truncated(&draft.message),
        attributes: BoundedVec::truncated(draft.attributes.into_iter().map(attribute).collect()).0,
    }
}
