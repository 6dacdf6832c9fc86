//! How much one session may send: two token buckets. Whoever sends more is read later, so that QUIC's flow control
//! slows it down and nobody else (QUI-09). Pure.

use std::time::Duration;

/// Messages a second of one session.
pub(super) const MESSAGES_PER_SECOND: f64 = 100.0;
/// Bytes a second of one session.
pub(super) const BYTES_PER_SECOND: f64 = 2.0 * 1024.0 * 1024.0;
/// Seconds of either that may come at once after a pause: a first report with its table, or the head of a backlog.
const BURST_SECONDS: f64 = 2.0;

/// A bucket that may go into debt, which is then waited for.
#[derive(Debug, Clone)]
struct Bucket {
    per_second: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    fn new(per_second: f64, now: Duration) -> Self {
        Self { per_second, level: per_second * BURST_SECONDS, at: now }
    }

    fn take(&mut self, now: Duration, amount: f64) -> Duration {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.per_second * BURST_SECONDS) - amount;
        self.at = self.at.max(now);
        if self.level >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.level / self.per_second)
        }
    }
}

/// The two buckets of a session.
#[derive(Debug, Clone)]
pub(super) struct Limiter {
    messages: Bucket,
    bytes: Bucket,
}

impl Limiter {
    /// Full buckets.
    pub(super) fn new(now: Duration) -> Self {
        Self { messages: Bucket::new(MESSAGES_PER_SECOND, now), bytes: Bucket::new(BYTES_PER_SECOND, now) }
    }

    /// How long to wait before reading on, after so many bytes arrived.
    #[expect(clippy::cast_precision_loss, reason = "a chunk is far below 2^52 bytes")]
    pub(super) fn bytes(&mut self, now: Duration, count: usize) -> Duration {
        self.bytes.take(now, count as f64)
    }

    /// How long to wait before the next message, after one arrived.
    pub(super) fn message(&mut self, now: Duration) -> Duration {
        self.messages.take(now, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whoever waits as told never gets through more than the burst and the rate times the time it took.
        #[test]
        fn qui_09_the_rate_holds_over_any_time(chunks in prop::collection::vec((0_usize..300_000, 0_u64..50), 1..200)) {
            let mut limiter = Limiter::new(Duration::ZERO);
            let (mut now, mut sent) = (Duration::ZERO, 0_usize);
            for (bytes, pause) in chunks {
                now += Duration::from_millis(pause);
                let wait = limiter.bytes(now, bytes).max(limiter.message(now));
                now += wait;
                sent += bytes;
                let allowed = BYTES_PER_SECOND * (BURST_SECONDS + now.as_secs_f64());
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let sent = sent as f64;
                prop_assert!(sent <= allowed + 1.0, "{sent} bytes in {now:?}");
            }
        }
    }

    #[test]
    fn qui_09_message_number_1000_comes_no_sooner_than_after_8_seconds() {
        let mut limiter = Limiter::new(Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            now += limiter.message(now);
        }
        assert!(now >= Duration::from_millis(7_900), "{now:?}");
    }
}
