//! How many refusals of one source are recorded: a pure state machine.

use std::collections::HashMap;
use std::time::Duration;

/// Records a minute of one source.
const PER_SOURCE: u32 = 10;
/// Records a minute of all sources together; a flood from many addresses adds some 30 MB a day at most.
const IN_ALL: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Sources remembered.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    began: Duration,
    recorded: u32,
    left_out: u64,
}

impl Share {
    /// How many were left out since the last record, if this one may be recorded.
    fn take(&mut self, most: u32, now: Duration) -> Option<u64> {
        if now.saturating_sub(self.began) >= WINDOW {
            *self = Self { began: now, recorded: 0, left_out: self.left_out };
        }
        if self.recorded >= most {
            self.left_out += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The shares of all sources.
#[derive(Debug, Default)]
pub(super) struct DeniedLimiter {
    sources: HashMap<String, Share>,
    all: Share,
    swept: Duration,
}

impl DeniedLimiter {
    /// Whether a refusal of this source is recorded now, and how many were left out before it.
    pub(super) fn admit(&mut self, source: &str, now: Duration) -> Option<u64> {
        if self.sources.len() >= REMEMBERED && !self.sweep(now) {
            self.all.left_out += 1;
            return None;
        }
        let share = self.sources.entry(source.to_owned()).or_insert(Share { began: now, ..Share::default() });
        let of_source = share.take(PER_SOURCE, now)?;
        let Some(of_all) = self.all.take(IN_ALL, now) else {
            share.left_out += of_source + 1;
            return None;
        };
        Some(of_source + of_all)
    }

    /// Forgets sources that were quiet, once a second at most: a flood must not cost a walk each time.
    fn sweep(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.swept) >= Duration::from_secs(1) {
            self.swept = now;
            self.sources.retain(|_, share| now.saturating_sub(share.began) < WINDOW);
        }
        self.sources.len() < REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_04_a_flood_of_refusals_leaves_few_records_and_the_count() {
        let mut limiter = DeniedLimiter::default();
        let now = Duration::from_secs(1_000);
        let recorded = (0..1_000).filter(|_| limiter.admit("10.0.0.1", now).is_some()).count();
        assert_eq!(recorded, PER_SOURCE as usize);
        assert_eq!(limiter.admit("10.0.0.2", now), Some(0), "another source has its own share");
        assert_eq!(limiter.admit("10.0.0.1", now + WINDOW), Some(990));
    }

    #[test]
    fn log_04_a_flood_from_many_addresses_is_bounded_too() {
        let mut limiter = DeniedLimiter::default();
        let now = Duration::from_secs(1_000);
        let recorded = (0..50_000).filter(|n| limiter.admit(&n.to_string(), now).is_some()).count();
        assert_eq!(recorded, IN_ALL as usize);
        assert!(limiter.sources.len() <= REMEMBERED);
    }
}
