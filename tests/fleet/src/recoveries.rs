//! From the first agent missing to the last one back. Pure.

use std::time::Duration;

use serde::Serialize;

/// Recoveries kept; the longest is kept always.
const MAX_KEPT: usize = 200;

/// One time in which agents were missing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Recovery {
    /// Seconds after the run's beginning.
    pub(crate) began_s: f64,
    /// Seconds until all were back.
    pub(crate) lasted_s: f64,
    /// Most that were missing at once.
    pub(crate) most_missing: u64,
}

/// Watches how many are missing.
#[derive(Debug, Default)]
pub(crate) struct Recoveries {
    missing_since: Option<(Duration, u64)>,
    ended: Vec<Recovery>,
    count: u64,
}

/// What a summary tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecoverySummary {
    /// How many there were.
    count: u64,
    /// The longest.
    longest: Option<Recovery>,
    /// The first ones, in order.
    first: Vec<Recovery>,
}

impl Recoveries {
    /// At this moment so many of the agents that should be connected are not.
    pub(crate) fn observe(&mut self, now: Duration, missing: u64) {
        match &mut self.missing_since {
            None if missing > 0 => self.missing_since = Some((now, missing)),
            None => {}
            Some((_, most)) if missing > 0 => *most = missing.max(*most),
            Some((since, most)) => {
                let recovery = Recovery {
                    began_s: since.as_secs_f64(),
                    lasted_s: now.saturating_sub(*since).as_secs_f64(),
                    most_missing: *most,
                };
                self.missing_since = None;
                self.count += 1;
                self.keep(recovery);
            }
        }
    }

    fn keep(&mut self, recovery: Recovery) {
        if self.ended.len() < MAX_KEPT {
            self.ended.push(recovery);
        } else if let Some(last) = self.ended.last_mut().filter(|last| last.lasted_s < recovery.lasted_s) {
            *last = recovery;
        }
    }

    /// All that have ended.
    pub(crate) fn summary(&self) -> RecoverySummary {
        let longest = self.ended.iter().copied().max_by(|one, other| one.lasted_s.total_cmp(&other.lasted_s));
        let first = self.ended.iter().take(20).copied().collect();
        RecoverySummary { count: self.count, longest, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_lasts_from_the_first_missing_to_the_last_back() {
        let mut recoveries = Recoveries::default();
        for (second, missing) in [(1, 0), (2, 5), (3, 200), (7, 1), (9, 0), (10, 0), (20, 1), (21, 0)] {
            recoveries.observe(Duration::from_secs(second), missing);
        }
        let summary = recoveries.summary();
        let longest = Recovery { began_s: 2.0, lasted_s: 7.0, most_missing: 200 };
        assert_eq!((summary.count, summary.longest, summary.first.len()), (2, Some(longest), 2));
    }

    #[test]
    fn the_longest_is_kept_however_many_there_are() {
        let mut recoveries = Recoveries::default();
        for number in 0..1_000 {
            recoveries.observe(Duration::from_secs(number * 100), 1);
            let lasted = if number == 700 { 50 } else { 1 };
            recoveries.observe(Duration::from_secs(number * 100 + lasted), 0);
        }
        assert_eq!(recoveries.ended.len(), MAX_KEPT);
        assert!((recoveries.summary().longest.unwrap().lasted_s - 50.0).abs() < 1e-9);
    }
}
