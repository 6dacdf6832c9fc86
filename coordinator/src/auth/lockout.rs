//! Brute force: few guesses a minute per account and per address, then waiting times that double (AUT-06).
//!
//! A pure state machine: time is a parameter. An attempt counts when it begins, so that parallel guesses gain nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Guesses a minute on one account.
pub const PER_ACCOUNT: usize = 5;
/// Guesses a minute from one address.
pub const PER_ADDRESS: usize = 20;
/// Over what they are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// The first waiting time.
const FIRST_WAIT: Duration = Duration::from_mins(1);
/// The longest: nobody is kept out for longer.
pub const LONGEST_WAIT: Duration = Duration::from_mins(15);
/// After this long without an attempt everything is forgiven.
const FORGIVEN: Duration = Duration::from_hours(1);
/// Accounts and addresses remembered; some 500 bytes each at most.
const REMEMBERED: usize = 10_000;

/// What is remembered of one account or address.
#[derive(Debug, Clone, Default)]
struct Record {
    /// When the attempts of the last minute began; any minute counts, not only one that began with an attempt.
    recent: VecDeque<Duration>,
    locks: u32,
    locked_until: Duration,
    last: Duration,
}

impl Record {
    fn forget_before(&mut self, now: Duration) {
        while self.recent.front().is_some_and(|begun| now.saturating_sub(*begun) >= WINDOW) {
            self.recent.pop_front();
        }
    }
}

/// Attempts of all accounts, or of all addresses.
#[derive(Debug)]
pub struct Lockout<K> {
    per_window: usize,
    records: HashMap<K, Record>,
}

impl<K: Eq + Hash + Clone> Lockout<K> {
    /// So many attempts a minute.
    pub fn new(per_window: usize) -> Self {
        Self { per_window, records: HashMap::new() }
    }

    /// An attempt begins, or has to wait.
    pub fn begin(&mut self, key: &K, now: Duration) -> Result<(), Duration> {
        self.forget(now);
        let record = self.records.entry(key.clone()).or_default();
        if now < record.locked_until {
            return Err(record.locked_until.saturating_sub(now));
        }
        record.forget_before(now);
        record.last = now;
        if record.recent.len() >= self.per_window {
            let wait = FIRST_WAIT.saturating_mul(1 << record.locks.min(8)).min(LONGEST_WAIT);
            record.locks = record.locks.saturating_add(1);
            record.locked_until = now + wait;
            return Err(wait);
        }
        record.recent.push_back(now);
        Ok(())
    }

    /// The attempt was right: it does not count.
    pub fn succeeded(&mut self, key: &K) {
        if let Some(record) = self.records.get_mut(key) {
            record.recent.pop_back();
        }
    }

    /// Everything is forgiven: the one who knows the password has come.
    pub fn clear(&mut self, key: &K) {
        self.records.remove(key);
    }

    fn forget(&mut self, now: Duration) {
        if self.records.len() < REMEMBERED {
            return;
        }
        self.records.retain(|_, record| {
            now < record.locked_until
                || now.saturating_sub(record.last) < FORGIVEN && record.locks > 0
                || now.saturating_sub(record.last) < WINDOW
        });
        if self.records.len() < REMEMBERED {
            return;
        }
        // A flood of names: the one that was quiet for longest makes room, and a lock is the last to go.
        let place = |record: &Record| (now < record.locked_until, record.last);
        let quietest = self.records.iter().min_by_key(|(_, record)| place(record));
        if let Some(key) = quietest.map(|(key, _)| key.clone()) {
            self.records.remove(&key);
        }
    }
}

/// The one form of a user name that counters and look-ups share; `None` where no user can be called so.
pub fn canonical(username: &str) -> Option<String> {
    let name = username.trim().to_lowercase();
    let usable = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    usable.then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn aut_06_five_guesses_a_minute_then_doubling_waits_up_to_fifteen_minutes() {
        let mut lockout = Lockout::new(PER_ACCOUNT);
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..7 {
            for _ in 0..PER_ACCOUNT {
                assert_eq!(lockout.begin(&"admin", now), Ok(()));
            }
            let wait = lockout.begin(&"admin", now).unwrap_err();
            waits.push(wait.as_secs() / 60);
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(lockout.begin(&"other", now), Ok(()), "accounts do not share a counter");
    }

    #[test]
    fn aut_06_whoever_waits_as_told_comes_in_within_fifteen_minutes_whatever_others_do() {
        let mut lockout = Lockout::new(PER_ACCOUNT);
        let mut longest = Duration::ZERO;
        let mut locked_since = None;
        for second in 0..4 * 3600 {
            let now = SECOND * second;
            // Somebody guesses every second; the lock is never prolonged by that.
            let refused = lockout.begin(&"admin", now).is_err();
            let since = *locked_since.get_or_insert(now);
            if refused {
                longest = longest.max((now + SECOND).saturating_sub(since));
            } else {
                locked_since = None;
            }
        }
        assert!(longest <= LONGEST_WAIT + SECOND && LONGEST_WAIT <= SECOND * 15 * 60, "{longest:?}");
        assert!(longest + SECOND >= LONGEST_WAIT, "the lock was never at its longest: {longest:?}");
    }

    #[test]
    fn aut_06_variants_of_a_name_share_one_counter() {
        for variant in ["Admin", "ADMIN", " admin ", "admin\t"] {
            assert_eq!(canonical(variant).as_deref(), Some("admin"), "{variant:?}");
        }
        // A look-alike cannot be a user at all.
        for foreign in ["аdmin", "ad min", "admin\0", "", "ﬁ", &"a".repeat(65)] {
            assert_eq!(canonical(foreign), None, "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn aut_06_no_schedule_of_guesses_beats_the_limit(
            gaps in proptest::collection::vec(prop_oneof![Just(0_u64), 0_u64..90], 1..300),
        ) {
            let mut lockout = Lockout::new(PER_ACCOUNT);
            let mut now = Duration::ZERO;
            let mut allowed: Vec<Duration> = Vec::new();
            for gap in gaps {
                now += SECOND * u32::try_from(gap).unwrap();
                match lockout.begin(&"admin", now) {
                    Ok(()) => allowed.push(now),
                    Err(wait) => prop_assert!(wait <= LONGEST_WAIT),
                }
                let recent = allowed.iter().filter(|at| now.saturating_sub(**at) < WINDOW).count();
                prop_assert!(recent <= PER_ACCOUNT, "{recent} in one minute");
            }
        }

        #[test]
        fn aut_06_memory_is_bounded(names in proptest::collection::vec(0_u32..1_000_000, 0..50)) {
            let mut lockout = Lockout::new(PER_ACCOUNT);
            for round in 0..400_u32 {
                for name in &names {
                    let _ = lockout.begin(&name.wrapping_add(round), SECOND * round);
                }
            }
            prop_assert!(lockout.records.len() <= REMEMBERED);
        }
    }
}
