//! When to sample, to report and to look at the inventory. Pure: times are a process's monotonic time.

use std::time::Duration;

use aim_common::protocol::LiveMode;

use crate::config::Report;

/// Until the coordinator says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// The second look at the inventory, when the probes have answered.
const FIRST_INVENTORY: Duration = Duration::from_secs(5);

/// The times.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    sample_interval: Duration,
    inventory_interval: Duration,
    own_interval: Option<Duration>,
    told_interval: Duration,
    /// The interval and the end of live mode.
    live: Option<(Duration, Duration)>,
    next_sample: Duration,
    /// The first step is this share of a whole one, so that nodes that started together do not report together.
    phase: Option<f64>,
    /// The next sample is reported whatever the interval.
    hurried: bool,
    interval_began: Duration,
    next_inventory: Duration,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Due {
    pub(super) sample: bool,
    /// Close the interval, this long in milliseconds.
    pub(super) report_ms: Option<u32>,
    pub(super) inventory: bool,
    /// Live mode is over.
    pub(super) live_ended: bool,
}

impl Pace {
    pub(super) fn new(report: &Report, now: Duration, phase: f64) -> Self {
        let inventory_interval = report.inventory_interval_ms.as_millis();
        Self {
            sample_interval: report.sample_interval_ms.as_millis(),
            inventory_interval,
            own_interval: report.interval_ms.map(crate::config::Within::as_millis),
            told_interval: DEFAULT_INTERVAL,
            live: None,
            next_sample: now,
            phase: Some(phase.clamp(0.0, 1.0)),
            hurried: false,
            interval_began: now,
            // The probes answer a moment after the start.
            next_inventory: now + inventory_interval.min(FIRST_INVENTORY),
        }
    }

    /// The coordinator's wish; the configuration's own interval goes before it.
    pub(super) fn told(&mut self, interval_ms: u32) {
        self.told_interval = Duration::from_millis(interval_ms.into());
    }

    /// Report faster for a while.
    pub(super) fn live(&mut self, wish: LiveMode, now: Duration) {
        let interval = Duration::from_millis(wish.interval_ms.into());
        let until = now + Duration::from_millis(wish.duration_ms.into());
        self.live = (until > now).then_some((interval, until));
        self.next_sample = self.next_sample.min(now);
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    fn report_interval(&self) -> Duration {
        let calm = self.own_interval.unwrap_or(self.told_interval);
        self.live.map_or(calm, |(interval, _)| interval.min(calm))
    }

    fn sample_interval(&self) -> Duration {
        self.sample_interval.min(self.report_interval())
    }

    /// The next moment at which something is due.
    pub(super) fn next(&self) -> Duration {
        self.next_sample
    }

    /// Asks for a report at the next sample, whatever the interval.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.next_sample = self.next_sample.min(now);
        self.hurried = true;
    }

    /// What is due now. Everything falls on a sample, so that a node wakes up once and not three times.
    pub(super) fn due(&mut self, now: Duration) -> Due {
        let live_ended = self.live.is_some_and(|(_, until)| now >= until);
        if live_ended {
            self.live = None;
        }
        if now < self.next_sample {
            return Due { live_ended, ..Due::default() };
        }
        let step = self.sample_interval();
        self.next_sample += self.phase.take().map_or(step, |phase| step.mul_f64(phase));
        // After a suspend or a stall nothing is made up for.
        if self.next_sample <= now {
            self.next_sample = now + step;
        }
        let length = now.saturating_sub(self.interval_began);
        let is_due = std::mem::take(&mut self.hurried) || length + step / 2 >= self.report_interval();
        let report_ms = is_due.then(|| u32::try_from(length.as_millis()).unwrap_or(u32::MAX).max(1));
        if is_due {
            self.interval_began = now;
        }
        let inventory = now >= self.next_inventory;
        if inventory {
            self.next_inventory = now + self.inventory_interval;
        }
        Due { sample: true, report_ms, inventory, live_ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Runs from wake-up to wake-up; gives the seconds at which reports were due.
    fn reports(pace: &mut Pace, from: u64, until: u64) -> Vec<u64> {
        let mut now = seconds(from);
        let mut at = Vec::new();
        while now < seconds(until) {
            if pace.due(now).report_ms.is_some() {
                at.push(now.as_secs());
            }
            now = pace.next();
        }
        at
    }

    #[test]
    fn samples_every_5_s_reports_every_10_s_and_live_mode_runs_out() {
        let mut pace = Pace::new(&Report::default(), Duration::ZERO, 1.0);
        assert_eq!(reports(&mut pace, 0, 31), [10, 20, 30]);
        pace.live(LiveMode { interval_ms: 1000, duration_ms: 3000 }, seconds(31));
        assert_eq!(reports(&mut pace, 31, 56), [31, 32, 33, 44, 54]);
    }

    #[test]
    fn nodes_that_start_together_report_at_different_times() {
        let first_report = |phase| {
            let mut pace = Pace::new(&Report::default(), Duration::ZERO, phase);
            let mut now = Duration::ZERO;
            while pace.due(now).report_ms.is_none() {
                now = pace.next();
            }
            now
        };
        let times: Vec<Duration> = [0.1, 0.3, 0.5, 0.7, 0.9].map(first_report).into();
        assert!(times.iter().enumerate().all(|(i, time)| !times[..i].contains(time)), "{times:?}");
        let within = Duration::from_millis(7_500)..=Duration::from_millis(12_500);
        assert!(times.iter().all(|time| within.contains(time)), "{times:?}");
    }

    #[test]
    fn a_suspended_node_makes_nothing_up() {
        let mut pace = Pace::new(&Report::default(), Duration::ZERO, 1.0);
        pace.due(Duration::ZERO);
        let due = pace.due(seconds(1000));
        assert_eq!((due.report_ms, due.inventory), (Some(1_000_000), true));
        assert_eq!(pace.next(), seconds(1005));
    }

    #[test]
    fn the_first_report_of_a_process_is_not_waited_for() {
        let mut pace = Pace::new(&Report::default(), Duration::ZERO, 1.0);
        pace.due(Duration::ZERO);
        pace.hurry(seconds(1));
        assert!(pace.due(seconds(1)).report_ms.is_some());
    }
}
