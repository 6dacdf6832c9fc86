//! Gauges that wait for a connection: a bounded ring of closed intervals, the oldest dropped and counted.

use std::collections::VecDeque;

use crate::report::PackedInterval;

/// Most bytes, whatever the number: the agent's footprint counts also during a long partition.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The ring.
#[derive(Debug)]
pub(super) struct Ring {
    intervals: VecDeque<PackedInterval>,
    bytes: usize,
    max_reports: usize,
    dropped: u32,
}

impl Ring {
    /// Of this many reports at most.
    pub(super) fn new(max_reports: usize) -> Self {
        Self { intervals: VecDeque::new(), bytes: 0, max_reports: max_reports.max(1), dropped: 0 }
    }

    /// Takes an interval that cannot be sent now.
    pub(super) fn push(&mut self, interval: PackedInterval) {
        self.bytes += interval.size();
        self.intervals.push_back(interval);
        while self.intervals.len() > self.max_reports || (self.bytes > MAX_BYTES && self.intervals.len() > 1)
        {
            if let Some(oldest) = self.intervals.pop_front() {
                self.bytes -= oldest.size();
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }

    /// The oldest interval, and how many were dropped before it.
    pub(super) fn pop(&mut self) -> Option<(PackedInterval, u32)> {
        let oldest = self.intervals.pop_front()?;
        self.bytes -= oldest.size();
        Some((oldest, std::mem::take(&mut self.dropped)))
    }

    /// Intervals that wait.
    pub(super) fn len(&self) -> usize {
        self.intervals.len()
    }

    /// None waits.
    pub(super) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use aim_common::units::EpochMs;
    use proptest::prelude::*;

    use super::*;
    use crate::report::Aggregator;

    fn interval(end: i64) -> PackedInterval {
        Aggregator::new().close(EpochMs(end), 1000).pack()
    }

    proptest! {
        #[test]
        fn what_is_given_comes_back_in_order_or_is_counted(max in 1..20_usize, steps in proptest::collection::vec(any::<bool>(), 0..80)) {
            let mut ring = Ring::new(max);
            let (mut given, mut expected) = (0_i64, 0_i64);
            for push in steps {
                if push {
                    ring.push(interval(given));
                    given += 1;
                } else if let Some((oldest, dropped)) = ring.pop() {
                    expected += i64::from(dropped);
                    prop_assert_eq!(oldest.end(), EpochMs(expected));
                    expected += 1;
                }
                prop_assert!(ring.len() <= max);
            }
            prop_assert!(expected <= given);
        }
    }
}
