//! Points in time at and beyond the ends of what can be written.

use aim_common::units::EpochMs;
use proptest::prelude::*;

proptest! {
    #[test]
    fn times_are_read_as_written(ms in 0..=EpochMs::MAX.0) {
        prop_assert_eq!(EpochMs::from_rfc3339(&EpochMs(ms).to_rfc3339()), Some(EpochMs(ms)));
    }

    #[test]
    fn inj_09_no_time_overflows_or_panics(ms in any::<i64>(), other in any::<i64>(), text in "\\PC{0,40}|[0-9TZ:.+-]{0,40}") {
        let written = EpochMs(ms).to_rfc3339();
        let read = EpochMs::from_rfc3339(&written).unwrap();
        prop_assert_eq!(read.0, ms.clamp(0, EpochMs::MAX.0), "{}", written);
        let _ = (EpochMs(ms).plus_ms(other), EpochMs(ms).since_ms(EpochMs(other)), EpochMs::from_rfc3339(&text));
    }
}

#[test]
fn inj_09_times_out_of_range_are_clamped() {
    assert_eq!(EpochMs(i64::MIN).to_rfc3339(), "1970-01-01T00:00:00.000Z");
    assert_eq!(EpochMs(i64::MAX).to_rfc3339(), "9999-12-31T23:59:59.999Z");
    assert_eq!(EpochMs(i64::MAX).plus_ms(1), EpochMs(i64::MAX));
    assert_eq!(EpochMs(i64::MIN).since_ms(EpochMs(i64::MAX)), i64::MIN);
    for text in ["", "2026-13-01T00:00:00Z", "2026-01-01", "10000-01-01T00:00:00Z", "2026-01-01T25:00:00Z"] {
        assert_eq!(EpochMs::from_rfc3339(text), None, "{text}");
    }
    assert_eq!(EpochMs::from_rfc3339("2026-11-23T06:00:00.1239+01:00"), Some(EpochMs(1_795_410_000_123)));
}
