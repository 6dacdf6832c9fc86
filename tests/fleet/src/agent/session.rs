//! An open session: reports as they are due, records until they are acknowledged, the certificate renewed in time.

use std::sync::Arc;
use std::time::Duration;

use aim_agent::identity::{Identity, renewal_time};
use aim_agent::inventory::InventoryTracker;
use aim_agent::link::{Ended, Issued, Opened, Renewal, RenewalFailure, Served, serve};
use aim_agent::report::SessionReports;
use aim_common::backoff::Backoff;
use aim_common::protocol::{Ack, CloseCode, GoodbyeCause, LiveMode, NodeConditions};
use aim_common::units::EpochMs;
use aim_common::wire::{Message, encode};
use tokio::time::Instant;

use super::outbox::{Broken, Outbox};
use super::{After, Agent, attack};
use crate::fleet::{State, Wish};
use crate::node::{is_busy, processes, readings};
use crate::scenario::{Leaving, Role};

/// Without any packet for so long the coordinator is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After a failed renewal.
const RENEWAL_RETRY: Duration = Duration::from_mins(1);
/// Longest sleep until a time of the wall clock.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);
/// Bytes of a small frame: a slow reader takes one a second.
const SLOW_READ: Duration = Duration::from_secs(40);

/// A session and what it has sent.
struct Session<'a> {
    agent: &'a mut Agent,
    opened: Opened,
    reports: SessionReports,
    samples: Outbox,
    durable: Outbox,
    renewal: Renewal,
    /// Packets received, and since when no more.
    heard: (u64, Duration),
    /// Whether a job ran when the processes were told last.
    told_busy: Option<bool>,
    /// A slow reader takes nothing before then.
    read_at: Option<Instant>,
    cuts: u32,
}

/// Why a session ends.
enum End {
    /// The coordinator, or the network.
    Ended(Ended),
    /// A wish: leaves with these words, or without any.
    Wished(Option<GoodbyeCause>),
    /// The coordinator is silent.
    Silent,
    /// To use the renewed certificate.
    Renewed,
}

enum Turn {
    Served(Served),
    Wish,
    Written(Result<(), Broken>),
    Awake,
    RenewalDue,
    Renewed(Result<Box<Issued>, RenewalFailure>),
}

impl Agent {
    /// Serves the session to its end.
    pub(super) async fn session(&mut self, opened: Opened) -> After {
        match self.start.role {
            Role::Hostile => attack::run(self, &opened).await,
            role => {
                let fleet = Arc::clone(&self.fleet);
                let _present = role.is_honest().then(|| fleet.tally.present.hold());
                Session::begin(self, opened).run().await
            }
        }
    }
}

impl<'a> Session<'a> {
    fn begin(agent: &'a mut Agent, opened: Opened) -> Self {
        let now = agent.fleet.clock.monotonic();
        agent.backlog.told(Duration::from_millis(opened.welcome.report_interval_ms.into()));
        if !std::mem::replace(&mut agent.has_reported, true) {
            agent.backlog.hurry(now);
        }
        let seen = agent.durable.session(opened.welcome.acknowledged);
        agent.acknowledged(&seen);
        if opened.welcome.inventory_wanted {
            let records = InventoryTracker::new(&agent.sections()).all_records();
            agent.keep(records);
        }
        let held = (!opened.welcome.series_wanted).then(|| Arc::clone(&agent.fleet.layout.shape));
        let slow = agent.start.role == Role::SlowSender;
        let cuts = agent.start.wish.borrow().cuts;
        let mut session = Self {
            reports: SessionReports::new(held),
            samples: Outbox::new(&opened.connection, slow),
            durable: Outbox::new(&opened.connection, slow),
            renewal: Renewal::at(renewal_time(&agent.start.identity, agent.random.next())),
            heard: (0, now),
            told_busy: None,
            read_at: (agent.start.role == Role::SlowReader).then(Instant::now),
            cuts,
            agent,
            opened,
        };
        let conditions = session.frame(&NodeConditions::default());
        session.samples.put(&conditions);
        session
    }

    fn frame<M: Message>(&self, message: &M) -> Vec<u8> {
        // Bounded messages always encode; an empty frame would show as a report that never came.
        encode(self.opened.welcome.protocol, message).unwrap_or_default()
    }

    async fn run(mut self) -> After {
        let end = loop {
            let now = self.agent.fleet.clock.monotonic();
            if self.is_silent(now) {
                break End::Silent;
            }
            self.agent.live(now);
            self.send(now);
            let awake = self.wake_at(now).saturating_sub(now);
            let renewal_due = self.renewal.wait(self.agent.fleet.clock.now(), LONGEST_SLEEP);
            let read_at = self.read_at;
            let turn = tokio::select! {
                served = async {
                    if let Some(at) = read_at {
                        tokio::time::sleep_until(at).await;
                    }
                    serve(&mut self.opened).await
                } => Turn::Served(served),
                _ = self.agent.start.wish.changed() => Turn::Wish,
                written = self.samples.write() => Turn::Written(written),
                written = self.durable.write() => Turn::Written(written),
                () = tokio::time::sleep(awake) => Turn::Awake,
                () = renewal_due => Turn::RenewalDue,
                renewed = self.renewal.answer() => Turn::Renewed(renewed),
            };
            if let Some(end) = self.turn(turn).await {
                break end;
            }
        };
        self.end(end).await
    }

    async fn turn(&mut self, turn: Turn) -> Option<End> {
        match turn {
            Turn::Served(Served::Ended(ended)) => return Some(End::Ended(ended)),
            Turn::Served(served) => {
                if let Some(at) = &mut self.read_at {
                    *at = Instant::now() + SLOW_READ;
                }
                self.served(&served);
            }
            Turn::Wish => return self.wished(),
            // The session's own reading tells why.
            Turn::Written(Err(Broken)) => {
                let closed = tokio::time::timeout(SILENCE, self.opened.connection.closed()).await;
                let Ok(closed) = closed else { return Some(End::Silent) };
                let ended = Ended { code: code_of(&closed), cause: None, reason: closed.to_string() };
                return Some(End::Ended(ended));
            }
            Turn::Written(Ok(())) | Turn::Awake => {}
            Turn::RenewalDue => {
                if self.agent.fleet.clock.now() >= self.renewal.due()
                    && self.renewal.ask(&self.opened).is_err()
                {
                    self.renewal_failed("no key");
                }
            }
            Turn::Renewed(Ok(issued)) => match self.keep_renewed(*issued).await {
                Ok(()) => return Some(End::Renewed),
                Err(reason) => self.renewal_failed(&reason),
            },
            Turn::Renewed(Err(failure)) => self.renewal_failed(&failure.to_string()),
        }
        None
    }

    fn served(&mut self, served: &Served) {
        let agent = &mut *self.agent;
        match served {
            Served::Acknowledged(Ack { spool_id, sequence }) if *spool_id == agent.durable.id() => {
                let seen = agent.durable.acknowledged(*sequence);
                agent.acknowledged(&seen);
            }
            Served::Live(LiveMode { interval_ms, duration_ms }) => {
                let now = agent.fleet.clock.monotonic();
                let until = now + Duration::from_millis((*duration_ms).into());
                agent.backlog.live(Duration::from_millis((*interval_ms).into()), until, now);
                agent.fleet.tally.live_modes.add(1);
            }
            Served::Acknowledged(_) | Served::Ended(_) => {}
        }
    }

    fn wished(&mut self) -> Option<End> {
        let Wish { state, cuts } = *self.agent.start.wish.borrow_and_update();
        match state {
            State::Stopped => Some(End::Wished(Some(GoodbyeCause::AgentStopped))),
            State::Away(Leaving::Clean) => Some(End::Wished(Some(GoodbyeCause::NodeShutdown))),
            State::Away(Leaving::Silent) => Some(End::Wished(None)),
            State::Connected if cuts != self.cuts => Some(End::Wished(None)),
            State::Connected => None,
        }
    }

    fn is_silent(&mut self, now: Duration) -> bool {
        let received = self.opened.connection.stats().udp_rx.datagrams;
        if received != self.heard.0 {
            self.heard = (received, now);
        }
        now.saturating_sub(self.heard.1) >= SILENCE
    }

    fn wake_at(&self, now: Duration) -> Duration {
        let report = if self.samples.is_empty() { self.agent.backlog.next() } else { Duration::MAX };
        // A quiet fleet's script is stopped at the next look.
        report.min(self.agent.script.next()).min(now + LOOK_EVERY)
    }

    /// What is due, as far as the streams take more.
    fn send(&mut self, now: Duration) {
        let wall = self.agent.fleet.clock.now();
        let dropped = self.agent.backlog.pass(now, wall);
        self.agent.fleet.tally.dropped_reports.add(dropped.into());
        if self.samples.is_empty() {
            self.send_report(now, wall);
        }
        if self.durable.is_empty()
            && let Some(batch) = self.agent.durable.batch()
        {
            let frame = self.frame(&batch);
            self.durable.put(&frame);
        }
    }

    fn send_report(&mut self, now: Duration, wall: EpochMs) {
        let Some(due) = self.agent.backlog.take(now) else { return };
        let fleet = Arc::clone(&self.agent.fleet);
        let (node, faults) = (&self.agent.start.node, self.agent.script.faults());
        let interval = readings(&fleet.layout, node, faults, due.end, due.interval_ms);
        let (table, report) = self.reports.encode(&interval, due.late, due.dropped);
        if table.is_some() {
            // The shape stands for every node's table; what travels is the node's own.
            let table = self.frame(&fleet.layout.table_of(&self.agent.start.node));
            self.samples.put(&table);
        }
        let report = self.frame(&report);
        self.samples.put(&report);
        if due.late { &fleet.tally.late_reports } else { &fleet.tally.reports }.add(1);
        let busy = is_busy(&self.agent.start.node, wall);
        if self.told_busy.replace(busy) != Some(busy) {
            let processes = self.frame(&processes(&self.agent.start.node, busy));
            self.samples.put(&processes);
        }
    }

    /// The new pair is checked and on disk before anything relies on it.
    async fn keep_renewed(&mut self, issued: Issued) -> Result<(), String> {
        let former: &Identity = &self.agent.start.identity;
        let renewed = Arc::new(issued.into_identity(former).map_err(|error| error.to_string())?);
        let (store, writing) = (self.agent.start.store.clone(), Arc::clone(&renewed));
        let saved = tokio::task::spawn_blocking(move || store.save_next(&writing)).await;
        saved.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.agent.start.next = Some(renewed);
        Ok(())
    }

    fn renewal_failed(&mut self, reason: &str) {
        let delay = Backoff::told_delay(RENEWAL_RETRY, self.agent.random.next());
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        self.renewal = Renewal::at(self.agent.fleet.clock.now().plus_ms(delay_ms));
        self.agent.fleet.tally.renewals_failed.add(1);
        self.agent.fleet.tally.because(&format!("renewal: {reason}"));
    }

    async fn end(self, end: End) -> After {
        let tally = &self.agent.fleet.tally;
        match end {
            End::Wished(Some(cause)) => {
                self.opened.leave(cause).await;
                After::Reconnect
            }
            End::Renewed => {
                self.opened.leave(GoodbyeCause::CertificateChange).await;
                After::Reconnect
            }
            End::Wished(None) => {
                self.opened.connection.close(CloseCode::Done.code().into(), b"");
                After::BackOff
            }
            End::Silent => {
                self.opened.connection.close(CloseCode::Done.code().into(), b"");
                tally.because("lost: no packet for 10 s");
                tally.lost.add(1);
                After::Reconnect
            }
            End::Ended(ended) => {
                let refused = matches!(ended.code, Some(CloseCode::Refused | CloseCode::CloneSuspected))
                    || ended.cause == Some(GoodbyeCause::Revoked);
                if self.agent.start.role == Role::SlowSender && ended.code == Some(CloseCode::LimitExceeded) {
                    tally.because("cut: slow sender");
                    tally.cut.add(1);
                } else {
                    tally.because(&format!("lost: {}", ended.reason));
                    tally.lost.add(1);
                }
                if refused {
                    tally.refused.add(1);
                    After::Refused
                } else {
                    After::BackOff
                }
            }
        }
    }
}

/// The coordinator's code, where it closed.
pub(super) fn code_of(error: &quinn::ConnectionError) -> Option<CloseCode> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_code(close.error_code.into_inner())
        }
        _ => None,
    }
}
