//! Intervals to the messages of one session.

use std::sync::Arc;

use aim_common::protocol::{GaugeReport, SeriesEncoder, SeriesTable};

use super::Interval;

/// What the coordinator holds of this agent's series in this session. Made anew for every session: each starts from
/// zeros, with or without a table sent.
#[derive(Debug)]
pub struct SessionReports {
    held: Option<Arc<SeriesTable>>,
    encoder: SeriesEncoder,
}

impl SessionReports {
    /// `held` is the table whose hash went into Hello, if Welcome did not ask for one (`series_wanted` is false).
    pub fn new(held: Option<Arc<SeriesTable>>) -> Self {
        let encoder = SeriesEncoder::new(held.as_ref().map_or(0, |table| table.series.len()));
        Self { held, encoder }
    }

    /// The report of an interval, and the table to be sent before it where the series are not those that the coordinator
    /// holds. Every report made here must be sent, in this order: the next one builds on it.
    pub fn encode(
        &mut self,
        interval: &Interval,
        late: bool,
        dropped_before: u32,
    ) -> (Option<Arc<SeriesTable>>, GaugeReport) {
        let is_held = self
            .held
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, &interval.table) || *held == interval.table);
        let table = (!is_held).then(|| {
            self.encoder = SeriesEncoder::new(interval.table.series.len());
            Arc::clone(self.held.insert(Arc::clone(&interval.table)))
        });
        let report = GaugeReport {
            end: interval.end,
            interval_ms: interval.interval_ms,
            late,
            dropped_before,
            changes: self.encoder.encode(&interval.readings),
        };
        (table, report)
    }
}

#[cfg(test)]
mod tests {
    use aim_common::metric::Metric;
    use aim_common::protocol::{Reading, SeriesDecoder};
    use aim_common::units::EpochMs;
    use proptest::prelude::*;

    use super::*;
    use crate::collect::SampleSink;
    use crate::report::Aggregator;

    /// The coordinator's side: follows tables and reports.
    #[derive(Default)]
    struct Coordinator(Option<SeriesDecoder>);

    impl Coordinator {
        fn take(&mut self, (table, report): (Option<Arc<SeriesTable>>, GaugeReport)) -> Vec<Reading> {
            if let Some(table) = table {
                self.0 = Some(SeriesDecoder::new(table).unwrap());
            }
            let decoder = self.0.as_mut().expect("a table comes before the first report");
            decoder.apply(&report).unwrap();
            decoder.readings().map(|(_, reading)| reading.expect("every series is reported")).collect()
        }

        /// A new session: says what Welcome would.
        fn begin(&mut self, hello: &Arc<SeriesTable>) -> SessionReports {
            let holds = self.0.as_ref().is_some_and(|decoder| decoder.table() == hello);
            if let Some(decoder) = &mut self.0 {
                decoder.reset();
            }
            SessionReports::new(holds.then(|| Arc::clone(hello)))
        }
    }

    fn interval(aggregator: &mut Aggregator, disks: &[u32], value: f64) -> Interval {
        let mut sink = SampleSink::default();
        for disk in disks {
            sink.counter(Metric::DiskReads, &format!("disk{disk}"), value + f64::from(*disk));
            sink.gauge(Metric::DiskIoInProgress, &format!("disk{disk}"), value);
        }
        aggregator.add(sink.samples);
        aggregator.close(EpochMs(5), 10_000)
    }

    #[test]
    fn an_unchanged_round_costs_no_entries_and_no_table() {
        let mut aggregator = Aggregator::new();
        let mut reports = SessionReports::new(None);
        let first = reports.encode(&interval(&mut aggregator, &[1, 2], 3.0), false, 0);
        assert_eq!((first.0.map(|table| table.series.len()), first.1.changes.len()), (Some(4), 4));
        let second = reports.encode(&interval(&mut aggregator, &[1, 2], 3.0), false, 0);
        assert_eq!((second.0, second.1.changes.len()), (None, 0));
    }

    #[test]
    fn a_packed_interval_comes_back_whole() {
        let mut aggregator = Aggregator::new();
        let whole = interval(&mut aggregator, &(0..50).collect::<Vec<_>>(), 1e6);
        let packed = whole.pack();
        assert_eq!(packed.unpack(), whole);
        assert!(packed.size() < size_of_val(whole.readings.as_slice()), "{} bytes", packed.size());
    }

    proptest! {
        #[test]
        fn the_coordinator_sees_every_interval_through_new_sessions_and_new_series(
            steps in proptest::collection::vec(
                (proptest::collection::vec(0..6_u32, 0..6), 0..4_u32, any::<bool>(), any::<bool>()), 1..20)
        ) {
            let mut aggregator = Aggregator::new();
            let mut coordinator = Coordinator::default();
            let mut reports = SessionReports::new(None);
            for (disks, value, reconnect, late) in steps {
                if reconnect {
                    reports = coordinator.begin(&aggregator.table());
                }
                let mut interval = interval(&mut aggregator, &disks, f64::from(value));
                if late {
                    interval = interval.pack().unpack();
                }
                let seen = coordinator.take(reports.encode(&interval, late, 0));
                prop_assert_eq!(seen, interval.readings);
            }
        }
    }
}
