use proptest::num::f64::ANY;
use proptest::prelude::*;

use super::*;
use crate::units::EpochMs;
use crate::wire::BoundedString;

fn key(metric: Metric, instance: &str) -> SeriesKey {
    SeriesKey { metric, instance: BoundedString::from(instance) }
}

fn table(series: Vec<SeriesKey>) -> SeriesTable {
    let entries: Vec<SeriesEntry> = series.into_iter().map(SeriesEntry::from).collect();
    SeriesTable { series: BoundedVec::try_from(entries).unwrap() }
}

fn report(changes: impl Into<Vec<SeriesChange>>) -> GaugeReport {
    GaugeReport {
        end: EpochMs(1),
        interval_ms: 10_000,
        late: false,
        dropped_before: 0,
        changes: BoundedVec::try_from(changes.into()).unwrap(),
    }
}

/// Gauges at even places, counters at odd ones.
fn mixed_table(len: usize) -> SeriesTable {
    let metric = |i: usize| if i.is_multiple_of(2) { Metric::Temperature } else { Metric::DiskReads };
    table((0..len).map(|i| key(metric(i), &i.to_string())).collect())
}

fn last(decoder: &SeriesDecoder) -> Vec<Option<Reading>> {
    decoder.readings().map(|(_, reading)| reading).collect()
}

/// Mostly small numbers near each other, so that unchanged series happen, and any number at all.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -3..3_i64, 2 => 0..1_000_000_i64, 1 => any::<i64>()]
}

fn unknown() -> impl Strategy<Value = Reading> {
    prop_oneof![Just(UnknownReason::ReadFailed), Just(UnknownReason::NotPresent)].prop_map(Reading::Unknown)
}

fn reading(index: usize) -> BoxedStrategy<Reading> {
    if index.is_multiple_of(2) {
        let gauge = (number(), number(), number());
        let gauge = gauge.prop_map(|(min, average, max)| Reading::Gauge { min, average, max }.normalized());
        prop_oneof![5 => gauge, 1 => unknown()].boxed()
    } else {
        let counter = number().prop_map(|steps| Reading::Counter(steps).normalized());
        prop_oneof![5 => counter, 1 => unknown()].boxed()
    }
}

fn rounds() -> impl Strategy<Value = Vec<Vec<Reading>>> {
    (1..9_usize).prop_flat_map(|len| {
        let round: Vec<_> = (0..len).map(reading).collect();
        proptest::collection::vec(round, 1..12)
    })
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(rounds in rounds()) {
        let len = rounds[0].len();
        let mut encoder = SeriesEncoder::new(len);
        let mut decoder = SeriesDecoder::new(mixed_table(len)).unwrap();
        for round in rounds {
            decoder.apply(&report(encoder.encode(&round).into_vec())).unwrap();
            let expected: Vec<_> = round.iter().copied().map(Some).collect();
            prop_assert_eq!(last(&decoder), expected);
            prop_assert!(encoder.encode(&round).is_empty(), "an unchanged round is empty");
        }
    }

    #[test]
    fn inj_09_hostile_changes_never_panic_and_a_refusal_changes_nothing(
        changes in proptest::collection::vec(
            (0..4_u16, any::<i64>(), any::<u32>(), any::<u32>(), 0..3_u8), 0..20)
    ) {
        let mut decoder = SeriesDecoder::new(mixed_table(6)).unwrap();
        for (skip, delta, below, above, shape) in changes {
            let change = match shape {
                0 => Change::Gauge { average_delta: delta, below, above },
                1 => Change::Counter { delta },
                _ => Change::Unknown(UnknownReason::NotYet),
            };
            let fine = SeriesChange { skip: 0, change: Change::Unknown(UnknownReason::NotPresent) };
            let before = last(&decoder);
            if decoder.apply(&report([fine, SeriesChange { skip, change }])).is_err() {
                prop_assert_eq!(last(&decoder), before);
            }
            for (_, reading) in decoder.readings() {
                prop_assert_eq!(reading.map(Reading::normalized), reading);
            }
        }
    }

    #[test]
    fn inj_09_any_float_gives_a_reading_that_travels(a in ANY, b in ANY, c in ANY) {
        for metric in Metric::ALL {
            for value in [Value::Gauge { min: a, average: b, max: c }, Value::Counter(a)] {
                let reading = Reading::of(*metric, value);
                prop_assert_eq!(reading.normalized(), reading);
            }
        }
    }

    #[test]
    fn steps_and_values_convert_without_loss(steps in -(1_i64 << 40)..(1_i64 << 40)) {
        for metric in Metric::ALL {
            prop_assert_eq!(metric.to_steps(metric.from_steps(steps)), Some(steps));
        }
    }
}

#[test]
fn inj_09_what_is_not_a_number_is_unknown_and_never_zero() {
    let malformed = Reading::Unknown(UnknownReason::Malformed);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Reading::of(Metric::DiskReads, Value::Counter(bad)), malformed);
        let gauge = Value::Gauge { min: 0.0, average: bad, max: 1.0 };
        assert_eq!(Reading::of(Metric::Load1, gauge), malformed);
    }
    assert_eq!(Reading::of(Metric::DiskReads, Value::Counter(-1.0)), malformed);
    assert_eq!(Reading::of(Metric::DiskReads, Value::Counter(1e300)), Reading::Counter(MAX_STEPS));
}

#[test]
fn the_base_is_kept_across_unknown() {
    let mut encoder = SeriesEncoder::new(1);
    encoder.encode(&[Reading::Counter(1_000)]);
    encoder.encode(&[Reading::Unknown(UnknownReason::ReadFailed)]);
    let back = encoder.encode(&[Reading::Counter(1_007)]);
    assert_eq!(back[0].change, Change::Counter { delta: 7 });
}

#[test]
fn a_zero_is_said_once_so_that_it_differs_from_never_reported() {
    let mut encoder = SeriesEncoder::new(2);
    let mut decoder = SeriesDecoder::new(mixed_table(2)).unwrap();
    assert_eq!(last(&decoder), [None, None]);
    let zero = [Reading::Gauge { min: 0, average: 0, max: 0 }, Reading::Counter(0)];
    decoder.apply(&report(encoder.encode(&zero).into_vec())).unwrap();
    assert_eq!(last(&decoder), zero.map(Some));
}

#[test]
fn a_reset_decoder_follows_a_new_encoder_over_the_same_table() {
    let mut decoder = SeriesDecoder::new(mixed_table(2)).unwrap();
    let readings = [Reading::Gauge { min: 1, average: 2, max: 3 }, Reading::Counter(70)];
    for _ in 0..2 {
        decoder.reset();
        assert_eq!(last(&decoder), [None, None]);
        let first = SeriesEncoder::new(2).encode(&readings);
        decoder.apply(&report(first.into_vec())).unwrap();
        assert_eq!(last(&decoder), readings.map(Some));
    }
}

#[test]
fn hostile_tables_and_reports_are_refused() {
    let twice = vec![key(Metric::Load1, ""), key(Metric::Load5, ""), key(Metric::Load1, "")];
    let duplicate = TableError::Duplicate(Box::new(key(Metric::Load1, "").into()));
    assert_eq!(SeriesDecoder::new(table(twice)).unwrap_err(), duplicate);

    let mut decoder = SeriesDecoder::new(mixed_table(2)).unwrap();
    let gauge = |average_delta| Change::Gauge { average_delta, below: 0, above: 0 };
    let mut refusal = |skip, change| decoder.apply(&report([SeriesChange { skip, change }])).unwrap_err();
    assert_eq!(refusal(2, gauge(1)), ApplyError::BeyondTable { index: 2, len: 2 });
    assert_eq!(refusal(u16::MAX, gauge(1)), ApplyError::BeyondTable { index: 65_535, len: 2 });
    assert_eq!(refusal(1, gauge(1)), ApplyError::Kind { metric: Metric::DiskReads });
    let counter = Change::Counter { delta: 1 };
    assert_eq!(refusal(0, counter), ApplyError::Kind { metric: Metric::Temperature });
    for far in [i64::MAX, i64::MIN] {
        assert_eq!(refusal(0, gauge(far)), ApplyError::Overflow { metric: Metric::Temperature });
    }
}

#[test]
fn a_newer_series_is_passed_over_and_the_others_are_taken() {
    let newer = SeriesEntry::Unknown { number: 60_000, instance: BoundedString::from("x") };
    let entries = vec![key(Metric::Temperature, "a").into(), newer, key(Metric::DiskReads, "sda").into()];
    let table = SeriesTable { series: BoundedVec::try_from(entries).unwrap() };
    assert_eq!((table.skipped(), table.known().count()), (1, 2));
    let mut decoder = SeriesDecoder::new(table).unwrap();
    // Whatever a newer series says, its neighbours are read right.
    for of_unknown in [
        Change::Counter { delta: i64::MAX },
        Change::Gauge { average_delta: i64::MIN, below: 1, above: 1 },
        Change::Unknown(UnknownReason::ReadFailed),
    ] {
        decoder.reset();
        let changes = [
            SeriesChange { skip: 0, change: Change::Gauge { average_delta: 5, below: 1, above: 2 } },
            SeriesChange { skip: 0, change: of_unknown },
            SeriesChange { skip: 0, change: Change::Counter { delta: 70 } },
        ];
        decoder.apply(&report(changes)).unwrap();
        let expected = [Reading::Gauge { min: 4, average: 5, max: 7 }, Reading::Counter(70)];
        assert_eq!(last(&decoder), expected.map(Some));
    }
}
