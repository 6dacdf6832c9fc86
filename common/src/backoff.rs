//! One backoff for every retry: exponential, with full jitter also at the cap, reset only by a success that lasted.

use std::time::Duration;

/// Why the numbers do not form a backoff.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("backoff from {base:?} to {cap:?} is not usable: the base must be over 0 and not over the cap")]
pub struct InvalidBackoff {
    base: Duration,
    cap: Duration,
}

/// Delays of `random(0..=min(cap, base * 2^attempt))`, never under `base / 2`.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    reset_after: Duration,
    attempt: u32,
}

impl Backoff {
    /// A backoff whose attempts start anew after a success of at least `reset_after` (FLT-24).
    pub fn new(base: Duration, cap: Duration, reset_after: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() || base > cap {
            return Err(InvalidBackoff { base, cap });
        }
        Ok(Self { base, cap, reset_after, attempt: 0 })
    }

    /// The delay before the next attempt; `random` is a uniformly random number given by the caller.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let doubled = 2_u32.checked_pow(self.attempt).and_then(|factor| self.base.checked_mul(factor));
        let ceiling = doubled.map_or(self.cap, |delay| delay.min(self.cap));
        self.attempt = self.attempt.saturating_add(1);
        let floor = self.base / 2;
        let spread = u64::try_from(ceiling.saturating_sub(floor).as_millis()).unwrap_or(u64::MAX);
        floor + Duration::from_millis(if spread == 0 { 0 } else { random % (spread + 1) })
    }

    /// The peer told when to come back: at least that, with jitter of a quarter on top.
    pub fn told_delay(told: Duration, random: u64) -> Duration {
        let spread = u64::try_from((told / 4).as_millis()).unwrap_or(u64::MAX).max(1);
        told + Duration::from_millis(random % spread)
    }

    /// Says how long the last success lived; a short one does not reset the delays.
    pub fn record_success(&mut self, lived: Duration) {
        if lived >= self.reset_after {
            self.attempt = 0;
        }
    }

    /// Attempts since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }
}
