//! Reports that are due. While there is no connection only their times are kept: their values follow from the seed.

use std::collections::VecDeque;
use std::time::Duration;

use aim_common::units::EpochMs;

/// As many as an agent keeps.
const MAX_REPORTS: usize = 360;
/// From one late report to the next, as an agent does.
const REPLAY_EVERY: Duration = Duration::from_millis(50);

/// A report to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) end: EpochMs,
    pub(super) interval_ms: u32,
    pub(super) late: bool,
    /// Reports dropped before it.
    pub(super) dropped: u32,
}

/// When reports are due, and those that wait.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: VecDeque<(EpochMs, u32)>,
    dropped: u32,
    interval: Duration,
    /// A faster interval, and its end.
    live: Option<(Duration, Duration)>,
    began: Duration,
    next: Duration,
    replay_at: Duration,
}

impl Backlog {
    /// The first report is due a part of an interval from now, so that a fleet's reports are spread.
    pub(super) fn new(now: Duration, interval: Duration, random: u64) -> Self {
        let spread = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let next = now + Duration::from_millis(random % spread);
        Self { waiting: VecDeque::new(), dropped: 0, interval, live: None, began: now, next, replay_at: now }
    }

    /// The coordinator's wish.
    pub(super) fn told(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Report faster until then.
    pub(super) fn live(&mut self, interval: Duration, until: Duration, now: Duration) {
        self.live = (until > now).then_some((interval.min(self.interval), until));
        self.next = self.next.min(now);
    }

    /// The node was off: nothing was measured.
    pub(super) fn forget(&mut self, now: Duration) {
        self.waiting.clear();
        self.dropped = 0;
        self.began = now;
        self.next = self.next.max(now);
    }

    /// The next report is due at once.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.next = self.next.min(now);
    }

    /// The next moment at which something can be sent.
    pub(super) fn next(&self) -> Duration {
        if self.waiting.is_empty() { self.next } else { self.next.min(self.replay_at) }
    }

    /// Notes every interval that ended until now; `wall` is the wall clock of now.
    pub(super) fn pass(&mut self, now: Duration, wall: EpochMs) -> u32 {
        let mut dropped = 0;
        while self.next <= now {
            let ago = i64::try_from(now.saturating_sub(self.next).as_millis()).unwrap_or(i64::MAX);
            let length = self.next.saturating_sub(self.began).as_millis();
            let interval_ms = u32::try_from(length).unwrap_or(u32::MAX).max(1);
            self.waiting.push_back((wall.plus_ms(ago.saturating_neg()), interval_ms));
            if self.waiting.len() > MAX_REPORTS {
                self.waiting.pop_front();
                self.dropped = self.dropped.saturating_add(1);
                dropped += 1;
            }
            self.began = self.next;
            self.live = self.live.filter(|(_, until)| *until > self.next);
            self.next += self.live.map_or(self.interval, |(interval, _)| interval);
        }
        dropped
    }

    /// The report that may be sent now: the newest, or the oldest of those that waited. It is late where a newer one is
    /// due already.
    pub(super) fn take(&mut self, now: Duration) -> Option<Due> {
        let late = self.waiting.len() > 1;
        if late && now < self.replay_at {
            return None;
        }
        let (end, interval_ms) = self.waiting.pop_front()?;
        self.replay_at = now + REPLAY_EVERY;
        Some(Due { end, interval_ms, late, dropped: std::mem::take(&mut self.dropped) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(now: Duration) -> EpochMs {
        EpochMs(1_790_000_000_000).plus_ms(i64::try_from(now.as_millis()).unwrap())
    }

    #[test]
    fn after_a_break_the_old_ones_come_first_and_late_and_what_found_no_room_is_counted() {
        let mut backlog = Backlog::new(Duration::ZERO, seconds(10), 0);
        assert_eq!(backlog.pass(seconds(4_000), wall(seconds(4_000))), 41);
        let first = backlog.take(seconds(4_000)).unwrap();
        assert_eq!((first.end, first.late, first.dropped), (wall(seconds(410)), true, 41));
        assert_eq!(backlog.take(seconds(4_000)), None, "late reports are spread");
        assert_eq!(backlog.next(), seconds(4_000) + REPLAY_EVERY);
    }

    #[test]
    fn live_mode_is_faster_and_runs_out() {
        let mut backlog = Backlog::new(Duration::ZERO, seconds(10), 0);
        backlog.pass(Duration::ZERO, wall(Duration::ZERO));
        backlog.take(Duration::ZERO);
        backlog.live(seconds(1), seconds(5), seconds(2));
        let mut ends = Vec::new();
        while backlog.next() < seconds(30) {
            let now = backlog.next();
            backlog.pass(now, wall(now));
            ends.extend(backlog.take(now).map(|due| (now.as_secs(), due.late)));
        }
        assert_eq!(ends, [2, 3, 4, 5, 15, 25].map(|end| (end, false)));
    }

    proptest! {
        #[test]
        fn every_interval_is_given_once_in_order_or_counted(pauses in proptest::collection::vec(1_u64..30_000, 1..200)) {
            let mut backlog = Backlog::new(Duration::ZERO, seconds(10), 0);
            let (mut now, mut given, mut dropped, mut last) = (Duration::ZERO, 0, 0, EpochMs(0));
            for pause in pauses {
                now += Duration::from_millis(pause);
                backlog.pass(now, wall(now));
                while let Some(due) = backlog.take(now) {
                    prop_assert!(due.end > last);
                    last = due.end;
                    given += 1;
                    dropped += due.dropped;
                }
            }
            let ended = u32::try_from(now.as_secs() / 10 + 1).unwrap();
            let waiting = u32::try_from(backlog.waiting.len()).unwrap();
            prop_assert_eq!(given + dropped + waiting + backlog.dropped, ended);
        }
    }
}
