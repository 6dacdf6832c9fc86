//! When to renew, and whether the clock can be believed. Pure.

use aim_common::identity::BACK_DATE_MS;
use aim_common::units::EpochMs;

use super::Identity;

/// How this machine's clock stands to the node's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockView {
    /// The certificate is good now.
    Good,
    /// The certificate begins in the future: the clock is behind (AGT-11).
    Early,
    /// The certificate ended a plausible while ago.
    Expired,
    /// The certificate ended so long ago that the clock is likelier to be wrong than the node to have been off (AGT-11).
    Absurd,
}

/// A node that was off longer than this is likelier to have a wrong clock: ten years.
const ABSURD_MS: i64 = 10 * 365 * 86_400_000;

/// Judges the clock by the certificate.
pub fn view_clock(not_before: EpochMs, not_after: EpochMs, now: EpochMs) -> ClockView {
    if now < not_before {
        ClockView::Early
    } else if now < not_after {
        ClockView::Good
    } else if now.since_ms(not_after) > ABSURD_MS {
        ClockView::Absurd
    } else {
        ClockView::Expired
    }
}

/// When to renew: uniformly between 37.5 % and 62.5 % of the certificate's life (PKI-07); `random` is the caller's.
/// Life begins when it was issued: the back-dating would make a short-lived certificate due at once, again and again.
pub fn renewal_time(identity: &Identity, random: u64) -> EpochMs {
    time_between(identity.not_before().plus_ms(BACK_DATE_MS), identity.not_after(), random)
}

fn time_between(issued: EpochMs, not_after: EpochMs, random: u64) -> EpochMs {
    let life = not_after.since_ms(issued).max(0);
    let spread = u64::try_from(life / 4).unwrap_or_default();
    let jitter = i64::try_from(random % (spread + 1)).unwrap_or_default();
    issued.plus_ms(life / 8 * 3).plus_ms(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pki_07_renewal_falls_between_three_and_five_eighths_of_life(
            start in 0_i64..4_000_000_000_000, life in 8_i64..40_000_000_000, random: u64,
        ) {
            let at = time_between(EpochMs(start), EpochMs(start + life), random).since_ms(EpochMs(start));
            prop_assert!(at >= life / 8 * 3, "{at} of {life}");
            prop_assert!(at <= life / 8 * 5 + 8, "{at} of {life}");
        }
    }

    #[test]
    fn agt_11_wrong_clocks_are_told_from_a_long_absence() {
        let (begin, end) = (EpochMs(1_790_000_000_000), EpochMs(1_790_086_400_000));
        let twenty_years = 20 * 365 * 86_400_000;
        assert_eq!(view_clock(begin, end, EpochMs(0)), ClockView::Early);
        assert_eq!(view_clock(begin, end, begin), ClockView::Good);
        assert_eq!(view_clock(begin, end, end), ClockView::Expired);
        assert_eq!(view_clock(begin, end, end.plus_ms(3 * 86_400_000)), ClockView::Expired);
        assert_eq!(view_clock(begin, end, end.plus_ms(twenty_years)), ClockView::Absurd);
    }
}
