//! Request rates: one bucket for each key, refilled by time (API-03). A pure state machine.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Seconds' worth that may come at once.
const BURST_S: f64 = 5.0;
/// Keys remembered; a full bucket is worth nothing and is forgotten first.
const REMEMBERED: usize = 20_000;

/// Buckets of one kind of caller.
#[derive(Debug)]
pub struct Rate<K> {
    per_second: f64,
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl<K: Eq + Hash + Clone> Rate<K> {
    /// So many requests a second, five seconds' worth at once.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: HashMap::new() }
    }

    /// Takes one request's worth, or says how long to wait.
    pub fn take(&mut self, key: &K, now: Duration) -> Result<(), Duration> {
        if self.buckets.len() >= REMEMBERED {
            self.forget(now);
        }
        let full = self.per_second * BURST_S;
        let bucket = self.buckets.entry(key.clone()).or_insert(Bucket { tokens: full, at: now });
        let gained = now.saturating_sub(bucket.at).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(full);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Buckets that are full again say nothing; where all are in use, everybody starts anew.
    fn forget(&mut self, now: Duration) {
        let refill = Duration::from_secs_f64(BURST_S);
        self.buckets.retain(|_, bucket| now.saturating_sub(bucket.at) < refill);
        if self.buckets.len() >= REMEMBERED {
            self.buckets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn api_03_a_burst_then_the_rate() {
        let mut rate = Rate::new(10);
        let now = Duration::from_secs(100);
        for _ in 0..50 {
            assert_eq!(rate.take(&1, now), Ok(()));
        }
        assert!(rate.take(&1, now).is_err());
        assert_eq!(rate.take(&2, now), Ok(()), "keys do not share a bucket");
        assert_eq!(rate.take(&1, now + Duration::from_millis(100)), Ok(()));
        assert!(rate.take(&1, now + Duration::from_millis(100)).is_err());
    }

    proptest! {
        #[test]
        fn api_03_never_more_than_burst_and_rate(gaps in proptest::collection::vec(0_u64..300, 1..500)) {
            let mut rate = Rate::new(10);
            let mut now = Duration::ZERO;
            let mut passed = 0.0;
            for gap in gaps {
                now += Duration::from_millis(gap);
                if rate.take(&(), now).is_ok() {
                    passed += 1.0;
                }
                prop_assert!(passed <= 50.0 + now.as_secs_f64() * 10.0 + 0.001);
            }
        }
    }
}
