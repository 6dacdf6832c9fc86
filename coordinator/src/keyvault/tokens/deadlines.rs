//! When outstanding tokens end by the monotonic clock, which nobody can set back (ENR-06).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aim_common::identity::Sha256Digest;
use aim_common::units::EpochMs;

use super::Moment;

/// Deadlines by keyed hash; bounded by the cap of outstanding tokens, because each ends.
#[derive(Debug, Default)]
pub(in crate::keyvault) struct Deadlines {
    by_hash: Mutex<HashMap<Sha256Digest, Duration>>,
}

impl Deadlines {
    /// The token's deadline; one that this process did not see before gets it now.
    pub(in crate::keyvault) fn of(&self, hash: &Sha256Digest, expires_at: EpochMs, now: Moment) -> Duration {
        let left = u64::try_from(expires_at.since_ms(now.wall)).unwrap_or(0);
        let mut by_hash = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        *by_hash.entry(*hash).or_insert(now.monotonic + Duration::from_millis(left))
    }

    /// The token ended otherwise.
    pub(in crate::keyvault) fn forget(&self, hash: &Sha256Digest) {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// Takes out the tokens whose deadline is over.
    pub(in crate::keyvault) fn take_expired(&self, now: Duration) -> Vec<Sha256Digest> {
        let mut by_hash = self.by_hash.lock().unwrap_or_else(PoisonError::into_inner);
        by_hash.extract_if(|_, deadline| *deadline <= now).map(|(hash, _)| hash).collect()
    }
}

#[cfg(test)]
impl Deadlines {
    /// How many tokens are remembered.
    pub(in crate::keyvault) fn len(&self) -> usize {
        self.by_hash.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enr_06_the_first_deadline_stands_whatever_the_wall_clock_does() {
        let deadlines = Deadlines::default();
        let (hash, expires) = (Sha256Digest::of(b"token"), EpochMs(10_000));
        let at = |wall, monotonic| Moment { wall: EpochMs(wall), monotonic: Duration::from_secs(monotonic) };
        assert_eq!(deadlines.of(&hash, expires, at(4_000, 100)), Duration::from_secs(106));
        assert_eq!(deadlines.of(&hash, expires, at(-600_000, 101)), Duration::from_secs(106), "stepped back");
        assert!(deadlines.take_expired(Duration::from_secs(105)).is_empty());
        assert_eq!(deadlines.take_expired(Duration::from_secs(106)), [hash]);
        assert!(deadlines.take_expired(Duration::from_secs(200)).is_empty());
    }
}
