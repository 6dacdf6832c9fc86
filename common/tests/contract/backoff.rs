//! The one backoff.

use std::time::Duration;

use aim_common::backoff::Backoff;
use proptest::prelude::*;

const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_mins(1);
const LASTED: Duration = Duration::from_secs(30);

fn backoff() -> Backoff {
    Backoff::new(BASE, CAP, LASTED).unwrap()
}

#[test]
fn a_backoff_needs_a_base_within_its_cap() {
    assert!(Backoff::new(Duration::ZERO, CAP, LASTED).is_err());
    assert!(Backoff::new(CAP, BASE, LASTED).is_err());
    assert!(Backoff::new(CAP, CAP, LASTED).is_ok());
}

#[test]
fn only_a_success_that_lasted_resets() {
    let mut backoff = backoff();
    let mut longest = |lived| {
        backoff.record_success(lived);
        backoff.next_delay(u64::MAX - u64::MAX % 501)
    };
    for _ in 0..10 {
        longest(LASTED.checked_sub(Duration::from_millis(1)).unwrap());
    }
    backoff.record_success(Duration::ZERO);
    assert_eq!(backoff.attempts(), 10);
    backoff.record_success(LASTED);
    assert_eq!(backoff.attempts(), 0);
    assert!(backoff.next_delay(u64::MAX) <= BASE);
}

proptest! {
    #[test]
    fn delays_stay_between_half_the_base_and_the_doubled_cap(
        base_ms in 1_u64..100_000, more_ms in 0_u64..10_000_000, randoms in prop::collection::vec(any::<u64>(), 1..80),
    ) {
        let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(base_ms + more_ms));
        let mut backoff = Backoff::new(base, cap, LASTED).unwrap();
        for (attempt, random) in (0_u32..).zip(randoms) {
            let delay = backoff.next_delay(random);
            let ceiling = base.saturating_mul(2_u32.saturating_pow(attempt)).min(cap);
            prop_assert!(base / 2 <= delay && delay <= ceiling, "attempt {}: {:?}", attempt, delay);
        }
    }

    #[test]
    fn the_whole_range_is_used_also_at_the_cap(attempts in 10_u32..40) {
        let mut backoff = backoff();
        for _ in 0..attempts {
            backoff.next_delay(0);
        }
        let spread = u64::try_from(CAP.as_millis() - (BASE / 2).as_millis()).unwrap();
        prop_assert_eq!(backoff.clone().next_delay(0), BASE / 2);
        prop_assert_eq!(backoff.clone().next_delay(spread), CAP);
        prop_assert_eq!(backoff.next_delay(spread / 2), BASE / 2 + Duration::from_millis(spread / 2));
    }

    #[test]
    fn a_told_delay_is_kept_and_spread_by_a_quarter(told_ms in any::<u32>(), random in any::<u64>()) {
        let told = Duration::from_millis(u64::from(told_ms));
        let delay = Backoff::told_delay(told, random);
        prop_assert!(told <= delay && delay <= told + told / 4 + Duration::from_millis(1));
    }
}
