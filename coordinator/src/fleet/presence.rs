//! Whether a session still answers: a pure state machine over packet counts. It knows no socket and no clock.
//!
//! The agent's QUIC keep-alive, every 2 s, is the heartbeat. Silence is judged by packets received, not by the idle
//! time-out, which loss alone would trigger.

use std::time::Duration;

/// Silent after so long without any packet.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(4_500);
/// The same while the path loses much: one lost keep-alive must not look like a dead node (FLT-16).
pub(super) const SILENT_AFTER_WITH_LOSS: Duration = Duration::from_secs(15);
/// Loss above which the longer bound counts.
pub(super) const MUCH_LOSS: f64 = 0.05;
/// The coordinator judges nobody while its own tick comes later than this (FLT-05).
pub(super) const LATE_TICK: Duration = Duration::from_secs(1);
/// How much of the loss seen so far counts at the next observation: 30 s at four a second fade to a tenth of a percent.
const FADE: f64 = 0.944;
/// Fewer packets than this say nothing about loss.
const ENOUGH_PACKETS: f64 = 5.0;

/// What the agent said of its own losses counts for so long: six reports, some of which come late over such a path.
const TOLD_HOLDS: Duration = Duration::from_mins(1);

/// What the connection's counters say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    /// The moment, monotonic.
    pub at: Duration,
    /// Datagrams received so far.
    pub datagrams: u64,
    /// Packets sent so far.
    pub sent: u64,
    /// Packets lost so far.
    pub lost: u64,
}

/// What an observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing came within the bound.
    FellSilent,
    /// A packet came after a silence.
    Back,
}

/// The state of one session.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    last: Observation,
    /// When the last new packet was seen.
    heard: Duration,
    silent: bool,
    sent: f64,
    lost: f64,
    /// When the agent last said how much of its packets gets lost, and the share.
    told: Option<(Duration, f64)>,
    /// The longer bound counts. A silence does not end it: while nothing comes, nothing is learnt of the path.
    wide: bool,
    /// The same at the last question.
    was_wide: bool,
}

impl Presence {
    /// A session that was opened at this moment.
    pub(super) const fn new(first: Observation) -> Self {
        Self {
            last: first,
            heard: first.at,
            silent: false,
            sent: 0.0,
            lost: 0.0,
            told: None,
            wide: false,
            was_wide: false,
        }
    }

    /// When the last packet was seen.
    pub(super) const fn heard(&self) -> Duration {
        self.heard
    }

    #[cfg(test)]
    const fn is_silent(&self) -> bool {
        self.silent
    }

    /// Share of packets lost of late, either way; 0 where too few were sent to say.
    pub(super) fn loss(&self) -> f64 {
        let own = if self.sent < ENOUGH_PACKETS { 0.0 } else { self.lost / self.sent };
        let told = self.told.filter(|(at, _)| self.last.at.saturating_sub(*at) <= TOLD_HOLDS);
        own.max(told.map_or(0.0, |(_, share)| share))
    }

    /// The agent says how many of a thousand packets it loses. It sends most of the packets, and those are what silence
    /// is judged by.
    pub(super) fn told_loss(&mut self, now: Duration, permille: u16) {
        self.told = Some((now, f64::from(permille) / 1000.0));
    }

    /// The bound, where it is another one than at the last question.
    pub(super) fn new_bound(&mut self) -> Option<Duration> {
        let was_wide = std::mem::replace(&mut self.was_wide, self.wide);
        (self.wide != was_wide).then(|| self.bound())
    }

    /// The bound at this moment.
    pub(super) fn bound(&self) -> Duration {
        if self.wide { SILENT_AFTER_WITH_LOSS } else { SILENT_AFTER }
    }

    /// Takes an observation. `late` says that the coordinator itself was stopped or starved: packets may wait unread.
    #[expect(clippy::cast_precision_loss, reason = "differences of packet counts are small")]
    pub(super) fn observe(&mut self, now: Observation, late: bool) -> Option<Change> {
        let former = std::mem::replace(&mut self.last, now);
        self.sent = self.sent * FADE + now.sent.saturating_sub(former.sent) as f64;
        self.lost = self.lost * FADE + now.lost.saturating_sub(former.lost) as f64;
        let much = self.loss() > MUCH_LOSS;
        self.wide |= much;
        if now.datagrams != former.datagrams {
            self.wide = much;
            self.heard = now.at;
            return std::mem::take(&mut self.silent).then_some(Change::Back);
        }
        if late {
            // The bound begins anew, so that what waits in the socket can be read first.
            self.heard = now.at;
            return None;
        }
        if !self.silent && now.at.saturating_sub(self.heard) >= self.bound() {
            self.silent = true;
            return Some(Change::FellSilent);
        }
        None
    }
}

/// Says whether the coordinator's own tick is late.
#[derive(Debug, Clone)]
pub(super) struct TickWatch {
    every: Duration,
    last: Duration,
}

impl TickWatch {
    /// For a tick of this period.
    pub(super) const fn new(every: Duration, now: Duration) -> Self {
        Self { every, last: now }
    }

    /// A tick came; says whether it is late.
    pub(super) fn tick(&mut self, now: Duration) -> bool {
        let gap = now.saturating_sub(std::mem::replace(&mut self.last, now));
        gap > self.every + LATE_TICK
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    fn seen(at: Duration, datagrams: u64) -> Observation {
        Observation { at, datagrams, sent: 0, lost: 0 }
    }

    #[test]
    fn qui_12_silent_after_4500_ms_and_back_with_the_next_packet() {
        let mut presence = Presence::new(seen(Duration::ZERO, 1));
        let mut at = Duration::ZERO;
        let fell = loop {
            at += TICK;
            if let Some(change) = presence.observe(seen(at, 1), false) {
                break change;
            }
        };
        assert_eq!((fell, at), (Change::FellSilent, SILENT_AFTER));
        assert_eq!(presence.observe(seen(at + TICK, 1), false), None, "told once");
        assert_eq!(presence.observe(seen(at + TICK * 2, 2), false), Some(Change::Back));
    }

    #[test]
    fn much_loss_widens_the_bound() {
        let mut presence = Presence::new(seen(Duration::ZERO, 1));
        let lossy = Observation { at: TICK, datagrams: 2, sent: 100, lost: 20 };
        assert_eq!(presence.observe(lossy, false), None);
        let later = |at| Observation { at, ..lossy };
        assert_eq!(presence.observe(later(TICK + SILENT_AFTER), false), None);
        assert_eq!(presence.observe(later(TICK + SILENT_AFTER_WITH_LOSS), false), Some(Change::FellSilent));
    }

    #[test]
    fn flt_16_what_the_agent_says_of_its_losses_widens_and_narrows_the_bound() {
        let mut presence = Presence::new(seen(Duration::ZERO, 1));
        let mut packets = 1;
        let mut told = |presence: &mut Presence, at: Duration, permille| {
            packets += 1;
            presence.told_loss(at, permille);
            assert_eq!(presence.observe(seen(at, packets), false), None);
            presence.new_bound()
        };
        assert_eq!(told(&mut presence, TICK, 50), None, "5 % is not more than 5 %");
        assert_eq!(told(&mut presence, TICK, 51), Some(SILENT_AFTER_WITH_LOSS));
        assert_eq!(told(&mut presence, TICK, 300), None, "said once");
        assert_eq!(told(&mut presence, TICK, 0), Some(SILENT_AFTER), "said to be over");
        assert_eq!(told(&mut presence, TICK, 300), Some(SILENT_AFTER_WITH_LOSS));
        let silent = seen(TICK + SILENT_AFTER_WITH_LOSS, 6);
        assert_eq!(presence.observe(seen(TICK + SILENT_AFTER, 6), false), None);
        assert_eq!(presence.observe(silent, false), Some(Change::FellSilent));
        let much_later = seen(TICK * 2 + TOLD_HOLDS, 7);
        assert_eq!(presence.observe(much_later, false), Some(Change::Back));
        assert_eq!(presence.new_bound(), Some(SILENT_AFTER), "what was told is too old");
    }

    #[test]
    fn a_silence_does_not_narrow_its_own_bound() {
        let mut presence = Presence::new(seen(Duration::ZERO, 1));
        let lossy = Observation { at: TICK, datagrams: 2, sent: 10, lost: 3 };
        assert_eq!(presence.observe(lossy, false), None);
        // The counters fade meanwhile, tick by tick.
        let mut now = lossy;
        while now.at + TICK < TICK + SILENT_AFTER_WITH_LOSS {
            now.at += TICK;
            assert_eq!(presence.observe(now, false), None, "{:?}", now.at);
        }
        now.at += TICK;
        assert_eq!(presence.observe(now, false), Some(Change::FellSilent));
    }

    #[test]
    fn a_coordinator_that_was_stopped_judges_nobody() {
        let mut presence = Presence::new(seen(Duration::ZERO, 1));
        let mut ticks = TickWatch::new(TICK, Duration::ZERO);
        let woken = Duration::from_mins(1);
        assert!(ticks.tick(woken));
        assert_eq!(presence.observe(seen(woken, 1), true), None);
        assert!(!ticks.tick(woken + TICK));
        assert_eq!(presence.observe(seen(woken + SILENT_AFTER.saturating_sub(TICK), 1), false), None);
        assert_eq!(presence.observe(seen(woken + SILENT_AFTER, 1), false), Some(Change::FellSilent));
    }

    proptest! {
        /// Silence and return alternate, silence never comes before the bound, and never waits longer than one tick.
        #[test]
        fn changes_alternate_and_keep_the_bound(
            steps in prop::collection::vec((1_u64..2_000, any::<bool>(), 0_u64..50, 0_u64..5, any::<bool>()), 1..300),
        ) {
            let mut presence = Presence::new(seen(Duration::ZERO, 0));
            let mut now = seen(Duration::ZERO, 0);
            let mut silent = false;
            let mut quiet_since = Duration::ZERO;
            for (pause, packet, sent, lost, late) in steps {
                now.at += Duration::from_millis(pause);
                now.datagrams += u64::from(packet);
                now.sent += sent;
                now.lost += lost.min(sent);
                let change = presence.observe(now, late);
                match change {
                    Some(Change::FellSilent) => {
                        prop_assert!(!silent && !packet && !late);
                        prop_assert!(now.at.saturating_sub(quiet_since) >= SILENT_AFTER);
                        silent = true;
                    }
                    Some(Change::Back) => {
                        prop_assert!(silent && packet);
                        silent = false;
                    }
                    None => prop_assert!(!(silent && packet)),
                }
                if packet || late {
                    quiet_since = now.at;
                }
                if !silent && !late {
                    prop_assert!(now.at.saturating_sub(quiet_since) < SILENT_AFTER_WITH_LOSS);
                }
                prop_assert_eq!(silent, presence.is_silent());
            }
        }
    }
}
