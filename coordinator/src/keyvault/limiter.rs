//! Failures by source address: who fails too often is answered before any MAC or database work (ENR-12).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures of one address within any [`WINDOW`] after which it is refused.
const MAX_FAILURES: usize = 10;
/// How long a failure counts.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses remembered at once, 8 MiB; beyond that the oldest are forgotten.
const MAX_ADDRESSES: usize = 32_768;

/// When the last failures of an address were: a ring, so that the window slides and no edge of it lets twice as many by.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    at: [Option<Duration>; MAX_FAILURES],
    next: usize,
}

impl Failures {
    fn add(&mut self, now: Duration) {
        if let Some(oldest) = self.at.get_mut(self.next) {
            *oldest = Some(now);
        }
        self.next = (self.next + 1) % MAX_FAILURES;
    }

    /// The failure that must be a window old before there is room for another one.
    fn oldest(&self) -> Option<Duration> {
        self.at.get(self.next).copied().flatten()
    }

    fn newest(&self) -> Option<Duration> {
        self.at.iter().copied().flatten().max()
    }
}

/// Counts failures.
#[derive(Debug, Default)]
pub(super) struct FailureLimiter {
    addresses: Mutex<HashMap<IpAddr, Failures>>,
}

impl FailureLimiter {
    /// Seconds to wait where the address failed too often; `now` is monotonic.
    pub(super) fn refused_for(&self, address: IpAddr, now: Duration) -> Option<u64> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = addresses.get(&subscriber(address))?.oldest()?;
        let left = (oldest + WINDOW).checked_sub(now).filter(|left| !left.is_zero())?;
        Some(left.as_secs().max(1))
    }

    /// The address failed once more.
    pub(super) fn failed(&self, address: IpAddr, now: Duration) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MAX_ADDRESSES {
            addresses.retain(|_, failures| failures.newest().is_some_and(|newest| newest + WINDOW > now));
        }
        if addresses.len() >= MAX_ADDRESSES {
            let oldest = addresses.iter().min_by_key(|(_, failures)| failures.newest()).map(|(key, _)| *key);
            oldest.and_then(|key| addresses.remove(&key));
        }
        addresses.entry(subscriber(address)).or_default().add(now);
    }
}

/// An IPv6 subscriber has a /64 and could use a new address for each try.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn enr_12_ten_failures_in_a_minute_close_the_door() {
        let limiter = FailureLimiter::default();
        let (bad, good): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for second in 0..10 {
            assert_eq!(limiter.refused_for(bad, SECOND * second), None, "after {second} failures");
            limiter.failed(bad, SECOND * second);
        }
        assert_eq!(limiter.refused_for(bad, SECOND * 10), Some(50));
        assert_eq!(limiter.refused_for(good, SECOND * 10), None);
        assert_eq!(limiter.refused_for(bad, WINDOW), None, "a minute after the first failure");
        limiter.failed(bad, WINDOW);
        assert_eq!(limiter.refused_for(bad, WINDOW), Some(1), "nine of the former ones still count");
    }

    proptest! {
        /// However the tries are spread, no minute holds more than ten that were let by.
        #[test]
        fn enr_12_no_minute_lets_more_than_ten_failures_by(pauses in prop::collection::vec(0_u64..4_000, 1..120)) {
            let limiter = FailureLimiter::default();
            let address: IpAddr = "10.0.0.1".parse().unwrap();
            let (mut now, mut let_by) = (Duration::ZERO, Vec::new());
            for pause in pauses {
                now += Duration::from_millis(pause);
                if limiter.refused_for(address, now).is_none() {
                    limiter.failed(address, now);
                    let_by.push(now);
                }
            }
            for (at, first) in let_by.iter().enumerate() {
                let within = let_by[at..].iter().filter(|failure| **failure < *first + Duration::from_mins(1));
                prop_assert!(within.count() <= 10, "{let_by:?}");
            }
        }
    }

    #[test]
    fn enr_12_a_v6_network_and_a_mapped_address_are_one_source() {
        let limiter = FailureLimiter::default();
        for host in 0..MAX_FAILURES {
            limiter.failed(format!("fd00:1:2:3::{host:x}").parse().unwrap(), Duration::ZERO);
            limiter.failed("::ffff:10.0.0.1".parse().unwrap(), Duration::ZERO);
        }
        assert!(limiter.refused_for("fd00:1:2:3:ffff::1".parse().unwrap(), SECOND).is_some());
        assert!(limiter.refused_for("fd00:1:2:4::1".parse().unwrap(), SECOND).is_none());
        assert!(limiter.refused_for("10.0.0.1".parse().unwrap(), SECOND).is_some());
    }

    #[test]
    fn the_memory_is_bounded() {
        let limiter = FailureLimiter::default();
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() + 100 {
            limiter.failed(std::net::Ipv4Addr::from(number).into(), Duration::from_micros(number.into()));
        }
        assert_eq!(limiter.addresses.lock().unwrap().len(), MAX_ADDRESSES);
    }
}
