//! One simulated agent: the real link code under a small driver, with a synthetic node behind it.
//!
//! Enters: an identity, a wish, a socket shared with others. Leaves: sessions, and counts of what happened in them.
//! Never: a task or a buffer of its own beyond the one that drives it, a frame that an agent could not send.

mod attack;
mod backlog;
mod outbox;
mod session;

use std::sync::Arc;
use std::time::Duration;

use aim_agent::entropy::{EntropyError, random_bytes};
use aim_agent::identity::{ClockView, Identity, IdentityStore, late_renewal, view_clock};
use aim_agent::inventory::InventoryTracker;
use aim_agent::link::{
    BACKOFF, HelloFacts, LinkError, Opened, REFUSED_DELAY, Trouble, client_config, connect, resolve,
};
use aim_common::backoff::{Backoff, InvalidBackoff};
use aim_common::identity::{BootId, Sha256Digest, SpoolId};
use aim_common::inventory::Section;
use aim_common::protocol::Record;
use aim_common::units::EpochMs;
use tokio::sync::watch;

use self::backlog::Backlog;
use crate::fleet::{Fleet, State, Wish};
use crate::gate::Lane;
use crate::node::{Happening, Node, Script, sections};
use crate::random::Random;
use crate::scenario::Role;
use crate::spool::{Acknowledged, Durable};

/// Until the coordinator says otherwise.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// An expired certificate is renewed at most this often.
const LATE_RENEWAL_EVERY: Duration = Duration::from_mins(1);

/// Why an agent cannot begin.
#[derive(Debug)]
pub(crate) enum BeginError {
    /// No randomness.
    Entropy(EntropyError),
    /// The backoff's numbers are wrong.
    Backoff(InvalidBackoff),
}

impl std::fmt::Display for BeginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entropy(error) => error.fmt(f),
            Self::Backoff(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BeginError {}

/// What an agent begins with.
pub(crate) struct Start {
    /// What it runs on.
    pub(crate) node: Node,
    /// Where its identity is kept.
    pub(crate) store: IdentityStore,
    /// Its identity.
    pub(crate) identity: Arc<Identity>,
    /// A renewed one that was not proven yet.
    pub(crate) next: Option<Arc<Identity>>,
    /// Its socket.
    pub(crate) lane: Arc<Lane>,
    /// What it shall do.
    pub(crate) wish: watch::Receiver<Wish>,
    /// What it is.
    pub(crate) role: Role,
    /// It connects after this time.
    pub(crate) delay: Duration,
}

/// One agent.
pub(crate) struct Agent {
    fleet: Arc<Fleet>,
    start: Start,
    random: Random,
    backoff: Backoff,
    boot_id: BootId,
    booted: EpochMs,
    inventory_sha256: Sha256Digest,
    series_sha256: Sha256Digest,
    durable: Durable,
    backlog: Backlog,
    script: Script,
    has_reported: bool,
    attacks: usize,
}

/// What follows a session or an attempt.
enum After {
    Reconnect,
    BackOff,
    Refused,
}

impl Agent {
    /// An agent that was just started.
    pub(crate) fn new(fleet: Arc<Fleet>, start: Start) -> Result<Self, BeginError> {
        let (now, wall) = (fleet.clock.monotonic(), fleet.clock.now());
        let (base, cap, reset_after) = BACKOFF;
        let mut random = Random::new(start.node.seed);
        let spool_id = SpoolId::from_random(random_bytes().map_err(BeginError::Entropy)?);
        let mut agent = Self {
            backoff: Backoff::new(base, cap, reset_after).map_err(BeginError::Backoff)?,
            boot_id: BootId::from_random(random_bytes().map_err(BeginError::Entropy)?),
            booted: wall,
            inventory_sha256: Sha256Digest::of(&[]),
            series_sha256: fleet.layout.table_of(&start.node).sha256(),
            durable: Durable::new(spool_id),
            backlog: Backlog::new(now, REPORT_INTERVAL, random.next()),
            script: Script::new(&start.node, fleet.faults_per_hour, now),
            has_reported: false,
            attacks: 0,
            random,
            fleet,
            start,
        };
        agent.inventory_sha256 = InventoryTracker::new(&agent.sections()).hash();
        agent.started();
        Ok(agent)
    }

    fn sections(&self) -> Vec<Section> {
        sections(&self.start.node, self.script.faults(), self.boot_id, self.booted)
    }

    fn started(&mut self) {
        let wall = self.fleet.clock.now();
        self.keep(vec![Record::Event(Happening::started().event(self.boot_id, wall))]);
    }

    fn keep(&mut self, records: Vec<Record>) {
        let tally = &self.fleet.tally;
        let events = records.iter().filter(|record| matches!(record, Record::Event(_))).count();
        let (kept, lost) = (records.len(), self.durable.lost());
        self.durable.append(records);
        // What a hostile or slow sender keeps is never acknowledged, and no account of the run.
        if self.start.role.is_honest() {
            tally.events.add(events as u64);
            tally.records.add(kept as u64);
            tally.records_lost.add(self.durable.lost() - lost);
        }
    }

    /// Records are durable.
    fn acknowledged(&self, seen: &Acknowledged) {
        let fleet = &self.fleet;
        fleet.tally.records_acknowledged.add(seen.sequences.len() as u64);
        fleet.tally.events_acknowledged.add(seen.events);
        fleet.acks.write(self.start.identity.node_id, self.durable.id(), &seen.sequences);
    }

    /// What happened until now goes into the spool, and with it the parts of the inventory that it changed.
    fn live(&mut self, now: Duration) {
        if self.fleet.is_quiet() {
            self.script.stop();
        }
        if self.script.next() > now {
            return;
        }
        let mut tracker = InventoryTracker::new(&self.sections());
        let happened = self.script.due(&self.start.node, now);
        let wall = self.fleet.clock.now();
        let mut records: Vec<Record> = happened
            .into_iter()
            .map(|happening| Record::Event(happening.event(self.boot_id, wall)))
            .collect();
        records.extend(tracker.update(&self.sections()));
        self.inventory_sha256 = tracker.hash();
        self.keep(records);
    }

    /// Until it shall stop.
    pub(crate) async fn run(mut self) {
        self.pause(self.start.delay).await;
        // Only now the node begins: nothing was measured before.
        self.backlog.forget(self.fleet.clock.monotonic());
        loop {
            let wish = *self.start.wish.borrow_and_update();
            match wish.state {
                State::Stopped => return,
                State::Away(_) => {
                    if self.start.wish.changed().await.is_err() {
                        return;
                    }
                    if self.start.wish.borrow().state == State::Connected {
                        self.backlog.forget(self.fleet.clock.monotonic());
                        self.started();
                    }
                    continue;
                }
                State::Connected => {}
            }
            let delay = match self.attempt().await {
                After::Reconnect => continue,
                After::BackOff => self.backoff.next_delay(self.random.next()),
                After::Refused => Backoff::told_delay(REFUSED_DELAY, self.random.next()),
            };
            self.pause(delay).await;
        }
    }

    /// Waits, unless it shall not be connected any more.
    async fn pause(&mut self, delay: Duration) {
        let other = self.start.wish.wait_for(|wish| wish.state != State::Connected);
        // Either way the loop looks at the wish next.
        drop(tokio::time::timeout(delay, other).await);
    }

    async fn attempt(&mut self) -> After {
        let best = self.start.next.as_ref().unwrap_or(&self.start.identity);
        if view_clock(best.not_before(), best.not_after(), self.fleet.clock.now()) == ClockView::Expired {
            return self.renew_late().await;
        }
        let fleet = Arc::clone(&self.fleet);
        let mut wish = self.start.wish.clone();
        let connected = tokio::select! {
            connected = Box::pin(self.connect()) => connected,
            _ = wish.wait_for(|wish| wish.state != State::Connected) => return After::Reconnect,
        };
        match connected {
            Ok((opened, is_next)) => {
                fleet.tally.opened.add(1);
                if is_next {
                    self.proven().await;
                }
                let began = fleet.clock.monotonic();
                let after = Box::pin(self.session(opened)).await;
                self.backoff.record_success(fleet.clock.monotonic().saturating_sub(began));
                after
            }
            Err(error) => {
                fleet.tally.failed.add(1);
                fleet.tally.because(&format!("no session: {:?}", error.trouble));
                if error.trouble == Trouble::Refused {
                    fleet.tally.refused.add(1);
                    After::Refused
                } else {
                    After::BackOff
                }
            }
        }
    }

    /// Tries every address with every pair there is, as an agent does.
    async fn connect(&self) -> Result<(Opened, bool), LinkError> {
        let fleet = &self.fleet;
        let _connecting = fleet.tally.connecting.hold();
        let next = self.start.next.iter().map(|identity| (identity, true));
        let candidates: Vec<_> = next.chain([(&self.start.identity, false)]).collect();
        let mut last = LinkError { trouble: Trouble::Name, reason: "no address".into() };
        for address in fleet.addresses_of(&self.start.identity) {
            let found = resolve(address).await;
            let found =
                found.map_err(|error| LinkError { trouble: Trouble::Name, reason: error.to_string() })?;
            for socket_address in found {
                for (identity, is_next) in &candidates {
                    let local = |reason: String| LinkError { trouble: Trouble::Local, reason };
                    let config = client_config(identity).map_err(|error| local(error.to_string()))?;
                    let name = identity.trust_domain.coordinator_server_name();
                    let endpoint = self.start.lane.endpoint();
                    let (began, wall) = (fleet.clock.monotonic(), fleet.clock.now());
                    match connect(endpoint, config, socket_address, &name, &self.facts(), wall).await {
                        Ok(opened) => {
                            fleet.tally.handshakes.record(fleet.clock.monotonic().saturating_sub(began));
                            return Ok((opened, *is_next));
                        }
                        Err(error) => last = error,
                    }
                    // Only a refusal can differ between the pairs.
                    if last.trouble != Trouble::Refused {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn facts(&self) -> HelloFacts {
        HelloFacts {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id,
            machine_id_sha256: Some(self.start.node.machine_id_sha256()),
            inventory_sha256: self.inventory_sha256,
            series_sha256: self.series_sha256,
            spool_id: self.durable.id(),
            spool_first: self.durable.first(),
            started: self.booted,
        }
    }

    /// The renewed pair had its Welcome: the old one is of no more use.
    async fn proven(&mut self) {
        if let Some(next) = self.start.next.take() {
            self.start.identity = next;
        }
        let store = self.start.store.clone();
        // A failure leaves both files; the next start tries the renewed one first again.
        drop(tokio::task::spawn_blocking(move || store.promote_next()).await);
        self.fleet.tally.renewals.add(1);
    }

    async fn renew_late(&mut self) -> After {
        let expired = Arc::clone(self.start.next.as_ref().unwrap_or(&self.start.identity));
        match late_renewal(&self.start.store, &expired, &[]).await {
            Ok(renewed) => {
                self.start.identity = Arc::new(renewed);
                self.start.next = None;
                self.fleet.tally.renewals.add(1);
                After::Reconnect
            }
            Err(error) => {
                self.fleet.tally.renewals_failed.add(1);
                self.fleet.tally.because(&format!("late renewal: {error}"));
                self.pause(LATE_RENEWAL_EVERY).await;
                After::Reconnect
            }
        }
    }
}
