//! What a run counts. Everything is a number that only the run's end or its progress line reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A number that many tasks change.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// The sum.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one for as long as the guard lives.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }
}

/// One that is counted while it is there.
pub(crate) struct Held<'a>(&'a Count);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counts of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Honest agents with a session now.
    pub(crate) present: Count,
    /// Agents that connect now.
    pub(crate) connecting: Count,
    /// Sessions opened.
    pub(crate) opened: Count,
    /// Sessions that ended though nobody here wished it.
    pub(crate) lost: Count,
    /// Attempts that gave no session.
    pub(crate) failed: Count,
    /// Attempts and sessions that ended because the coordinator refuses the identity.
    pub(crate) refused: Count,
    /// Reports sent as they were due.
    pub(crate) reports: Count,
    /// Reports that waited for a connection and were sent late.
    pub(crate) late_reports: Count,
    /// Reports that were dropped.
    pub(crate) dropped_reports: Count,
    /// Events that happened.
    pub(crate) events: Count,
    /// Events acknowledged.
    pub(crate) events_acknowledged: Count,
    /// Records of any sort put into spools.
    pub(crate) records: Count,
    /// Records acknowledged.
    pub(crate) records_acknowledged: Count,
    /// Records dropped for want of room.
    pub(crate) records_lost: Count,
    /// Certificates renewed.
    pub(crate) renewals: Count,
    /// Renewals that failed.
    pub(crate) renewals_failed: Count,
    /// Times the coordinator asked for live mode.
    pub(crate) live_modes: Count,
    /// Attacks and slow sessions that the coordinator cut.
    pub(crate) cut: Count,
    /// Floods that the coordinator held back to its rate.
    pub(crate) held_back: Count,
    /// Attacks that got through.
    pub(crate) unpunished: Count,
    /// From dialling to Welcome.
    pub(crate) handshakes: Histogram,
    reasons: Mutex<BTreeMap<String, u64>>,
}

/// Different reasons kept; more would only be noise.
const MAX_REASONS: usize = 100;

impl Tally {
    /// One more session or attempt ended for this reason.
    pub(crate) fn because(&self, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if reasons.len() < MAX_REASONS || reasons.contains_key(reason) {
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }

    /// Why sessions and attempts ended.
    pub(crate) fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Parts of each doubling: a quantile is at most an eighth too high.
const PARTS: u64 = 8;
/// From 1 µs to a day.
const BUCKETS: usize = 8 * 36;

/// Times in buckets.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Vec<AtomicU64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect() }
    }
}

/// The bucket of a number.
fn bucket(number: u64) -> usize {
    let bucket = if number < PARTS {
        number
    } else {
        let doublings = u64::from(number.ilog2() - PARTS.ilog2());
        (doublings + 1) * PARTS + ((number >> doublings) & (PARTS - 1))
    };
    usize::try_from(bucket).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The largest number of a bucket.
fn upper(bucket: u64) -> u64 {
    if bucket < PARTS {
        return bucket;
    }
    let (doublings, part) = (bucket / PARTS - 1, bucket % PARTS);
    ((PARTS + part + 1) << doublings) - 1
}

impl Histogram {
    /// Takes a time.
    pub(crate) fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.buckets.get(bucket(micros)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The time below which so many of a thousand lie; none where nothing was recorded.
    pub(crate) fn quantile(&self, of_thousand: u64) -> Option<Duration> {
        let counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total * of_thousand).div_ceil(1000).max(1);
        let mut seen = 0;
        (0_u64..).zip(counts).find_map(|(bucket, count)| {
            seen += count;
            (seen >= wanted).then(|| Duration::from_micros(upper(bucket)))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quantile_is_never_below_the_true_one_and_at_most_an_eighth_above(
            mut micros in proptest::collection::vec(0_u64..10_000_000_000, 1..200), of_thousand in 1_u64..=1000,
        ) {
            let histogram = Histogram::default();
            for number in &micros {
                histogram.record(Duration::from_micros(*number));
            }
            micros.sort_unstable();
            let place = (micros.len() as u64 * of_thousand).div_ceil(1000).max(1) - 1;
            let exact = micros[usize::try_from(place).unwrap()];
            let told = u64::try_from(histogram.quantile(of_thousand).unwrap().as_micros()).unwrap();
            prop_assert!(exact <= told && told <= exact + exact / 8 + 1, "{told} for {exact}");
        }
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(990), None);
    }
}
