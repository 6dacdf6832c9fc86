//! Samples of an interval to one reading for each series.

use std::collections::BTreeMap;
use std::sync::Arc;

use aim_common::inventory::UnknownReason;
use aim_common::metric::Metric;
use aim_common::protocol::{MAX_SERIES, Reading, SeriesEntry, SeriesKey, SeriesTable, Value};
use aim_common::units::EpochMs;
use aim_common::wire::{BoundedString, BoundedVec};

use super::Interval;
use crate::collect::{Sample, SampleValue, float};

/// Intervals that a series stays in the table without a sample, as "not present": a device that is away for a moment
/// must not cost two new tables.
const SILENT_INTERVALS: u8 = 6;

/// Place kept in the table for the count of what found none.
const RESERVED: usize = 1;

/// Holds the series and what was sampled of them since the last interval was closed.
#[derive(Debug, Default)]
pub struct Aggregator {
    series: BTreeMap<SeriesKey, Series>,
    table: Arc<SeriesTable>,
    set_changed: bool,
    dropped_samples: u64,
}

#[derive(Debug)]
struct Series {
    sampled: Sampled,
    silent_intervals: u8,
}

/// What was sampled of one series in this interval.
#[derive(Debug, Clone, Copy)]
enum Sampled {
    Nothing,
    Gauge { min: f64, max: f64, sum: f64, count: u32 },
    Counter(f64),
    Unknown(UnknownReason),
}

impl Sampled {
    /// Known samples outweigh unknown ones for a gauge; a counter is what it was last.
    fn add(&mut self, value: SampleValue) {
        *self = match (*self, value) {
            (Self::Gauge { min, max, sum, count }, SampleValue::Gauge(value)) => Self::Gauge {
                min: min.min(value),
                max: max.max(value),
                sum: sum + value,
                count: count.saturating_add(1),
            },
            (gauge @ Self::Gauge { .. }, SampleValue::Unknown(_)) => gauge,
            (_, SampleValue::Gauge(value)) => Self::Gauge { min: value, max: value, sum: value, count: 1 },
            (_, SampleValue::Counter(value)) => Self::Counter(value),
            (_, SampleValue::Unknown(reason)) => Self::Unknown(reason),
        };
    }

    fn value(self) -> Value {
        match self {
            Self::Nothing => Value::Unknown(UnknownReason::NotPresent),
            Self::Gauge { min, max, sum, count } => {
                Value::Gauge { min, average: sum / f64::from(count), max }
            }
            Self::Counter(value) => Value::Counter(value),
            Self::Unknown(reason) => Value::Unknown(reason),
        }
    }
}

impl Aggregator {
    /// Without any series yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the samples of one round. A new series beyond [`MAX_SERIES`] is dropped and counted.
    pub fn add(&mut self, samples: impl IntoIterator<Item = Sample>) {
        for Sample { key, value } in samples {
            if let Some(series) = self.series.get_mut(&key) {
                series.sampled.add(value);
            } else if self.series.len() < MAX_SERIES - RESERVED {
                self.insert(key, value);
            } else {
                self.dropped_samples += 1;
            }
        }
    }

    fn insert(&mut self, key: SeriesKey, value: SampleValue) {
        let mut sampled = Sampled::Nothing;
        sampled.add(value);
        self.series.insert(key, Series { sampled, silent_intervals: 0 });
        self.set_changed = true;
    }

    /// What was dropped is said, once something was.
    fn count_dropped(&mut self) {
        if self.dropped_samples > 0 {
            let instance = BoundedString::truncated("series");
            let key = SeriesKey { metric: Metric::AgentSkippedEntries, instance };
            let value = SampleValue::Counter(float(self.dropped_samples));
            match self.series.get_mut(&key) {
                Some(series) => series.sampled.add(value),
                None => self.insert(key, value),
            }
        }
    }

    /// Ends the interval: a reading for every series, in the order of the table.
    pub fn close(&mut self, end: EpochMs, interval_ms: u32) -> Interval {
        self.count_dropped();
        let before = self.series.len();
        self.series.retain(|_, series| {
            let silent = matches!(series.sampled, Sampled::Nothing);
            series.silent_intervals = if silent { series.silent_intervals.saturating_add(1) } else { 0 };
            series.silent_intervals <= SILENT_INTERVALS
        });
        if self.set_changed || self.series.len() != before {
            self.table = Arc::new(table_of(self.series.keys()));
            self.set_changed = false;
        }
        let reading = |(key, series): (&SeriesKey, &mut Series)| {
            let value = std::mem::replace(&mut series.sampled, Sampled::Nothing).value();
            Reading::of(key.metric, value)
        };
        let readings = self.series.iter_mut().map(reading).collect();
        Interval { end, interval_ms, table: Arc::clone(&self.table), readings }
    }

    /// The series of the last closed interval: its hash goes into Hello.
    pub fn table(&self) -> Arc<SeriesTable> {
        Arc::clone(&self.table)
    }
}

fn table_of<'a>(keys: impl Iterator<Item = &'a SeriesKey>) -> SeriesTable {
    SeriesTable { series: BoundedVec::truncated(keys.cloned().map(SeriesEntry::from).collect()).0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(metric: Metric, instance: &str, value: SampleValue) -> Sample {
        Sample { key: SeriesKey { metric, instance: BoundedString::truncated(instance) }, value }
    }

    fn gauge(value: f64) -> Sample {
        sample(Metric::Temperature, "cpu", SampleValue::Gauge(value))
    }

    fn counter(value: f64) -> Sample {
        sample(Metric::DiskReads, "sda", SampleValue::Counter(value))
    }

    fn close(aggregator: &mut Aggregator) -> Interval {
        aggregator.close(EpochMs(0), 10_000)
    }

    #[test]
    fn gauges_are_minimum_mean_and_maximum_and_counters_are_the_last() {
        let mut aggregator = Aggregator::new();
        aggregator.add([gauge(20.0), counter(7.0)]);
        aggregator.add([gauge(50.0), counter(9.0)]);
        aggregator.add([gauge(35.0)]);
        let interval = close(&mut aggregator);
        assert_eq!(
            interval.readings,
            [Reading::Counter(9), Reading::Gauge { min: 200, average: 350, max: 500 }]
        );
    }

    #[test]
    fn unknown_is_neither_zero_nor_the_former_value() {
        let unknown = Reading::Unknown(UnknownReason::ReadFailed);
        let failed = || sample(Metric::Temperature, "cpu", SampleValue::Unknown(UnknownReason::ReadFailed));
        let mut aggregator = Aggregator::new();
        aggregator.add([gauge(20.0), failed()]);
        assert_eq!(close(&mut aggregator).readings, [Reading::Gauge { min: 200, average: 200, max: 200 }]);
        aggregator.add([failed()]);
        assert_eq!(close(&mut aggregator).readings, [unknown]);
        assert_eq!(close(&mut aggregator).readings, [Reading::Unknown(UnknownReason::NotPresent)]);
    }

    #[test]
    fn a_series_that_fell_silent_leaves_the_table_after_a_while() {
        let mut aggregator = Aggregator::new();
        aggregator.add([gauge(20.0), counter(1.0)]);
        let first = close(&mut aggregator).table;
        for _ in 0..SILENT_INTERVALS {
            aggregator.add([gauge(20.0)]);
            assert!(Arc::ptr_eq(&close(&mut aggregator).table, &first), "the table stays the same");
        }
        aggregator.add([gauge(20.0)]);
        let last = close(&mut aggregator);
        assert_eq!((first.series.len(), last.table.series.len(), last.readings.len()), (2, 1, 1));
    }

    #[test]
    fn series_beyond_the_limit_are_dropped_and_counted() {
        let mut aggregator = Aggregator::new();
        let many = |_| {
            (0..MAX_SERIES + 5).map(|i| sample(Metric::DiskReads, &i.to_string(), SampleValue::Counter(1.0)))
        };
        aggregator.add((0..2).flat_map(many));
        let interval = close(&mut aggregator);
        assert_eq!((interval.readings.len(), interval.table.series.len()), (MAX_SERIES, MAX_SERIES));
        let counted = interval.table.known().position(|key| key.metric == Metric::AgentSkippedEntries);
        assert_eq!(interval.readings[counted.unwrap()], Reading::Counter(12));
    }

    proptest! {
        #[test]
        fn inj_09_a_reading_lies_within_its_samples_whatever_they_are(
            values in proptest::collection::vec(proptest::num::f64::ANY, 1..20)
        ) {
            let mut aggregator = Aggregator::new();
            let mut sink = crate::collect::SampleSink::default();
            for value in &values {
                sink.gauge(Metric::Temperature, "cpu", *value);
            }
            aggregator.add(sink.samples);
            match close(&mut aggregator).readings[0] {
                Reading::Gauge { min, average, max } => prop_assert!(min <= average && average <= max),
                Reading::Unknown(_) => {}
                Reading::Counter(_) => prop_assert!(false, "a gauge became a counter"),
            }
        }
    }
}
