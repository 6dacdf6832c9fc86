//! When something was received: wall time for people, monotonic time for ages, which a clock step must not change.

use std::time::Duration;

use aim_common::units::EpochMs;

use crate::clock::Clock;

/// A point in time on both clocks; a time read back from the database has only the wall's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock.
    pub wall: EpochMs,
    /// The monotonic clock of this process.
    pub monotonic: Option<Duration>,
}

impl Moment {
    /// Now.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), monotonic: Some(clock.monotonic()) }
    }

    /// A time that an earlier process stored.
    pub const fn stored(wall: EpochMs) -> Self {
        Self { wall, monotonic: None }
    }

    /// Milliseconds from `self` to `now`; never negative.
    pub fn age_ms(self, now: Self) -> u64 {
        match (self.monotonic, now.monotonic) {
            (Some(then), Some(now)) => {
                u64::try_from(now.saturating_sub(then).as_millis()).unwrap_or(u64::MAX)
            }
            _ => u64::try_from(now.wall.since_ms(self.wall)).unwrap_or_default(),
        }
    }
}
