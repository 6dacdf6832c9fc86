//! Which calls hang: edges out of the calls in flight of each reply. Pure: time is a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use super::messages::InFlight;

/// A call that does not return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hang {
    /// The question (`gpu 3`, `/mnt/home`).
    pub key: String,
    /// The call it is stuck in.
    pub call: String,
    /// Since when, on the monotonic clock.
    pub since: Duration,
}

/// A hang began or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HangEdge {
    /// The call is over its deadline.
    Began(Hang),
    /// It returned, or the process that made it is gone.
    Ended(Hang),
}

/// The hangs of one helper; bounded by the helper's workers.
#[derive(Debug, Default)]
pub struct Hangs {
    open: BTreeMap<String, Hang>,
}

impl Hangs {
    /// The calls that hang now, by key.
    pub fn open(&self) -> impl Iterator<Item = &Hang> {
        self.open.values()
    }

    /// Whether this question hangs.
    pub fn is_hanging(&self, key: &str) -> bool {
        self.open.contains_key(key)
    }

    /// Takes the calls in flight of one reply (none where the helper is gone), each with its deadline.
    pub fn observe(
        &mut self,
        now: Duration,
        in_flight: &[InFlight],
        deadline: impl Fn(&InFlight) -> Duration,
    ) -> Vec<HangEdge> {
        let late: BTreeMap<&str, &InFlight> = in_flight
            .iter()
            .filter(|call| Duration::from_millis(call.for_ms) >= deadline(call))
            .map(|call| (call.key.as_str(), call))
            .collect();
        let returned: Vec<String> =
            self.open.keys().filter(|key| !late.contains_key(key.as_str())).cloned().collect();
        let mut edges: Vec<HangEdge> =
            returned.iter().filter_map(|key| self.open.remove(key)).map(HangEdge::Ended).collect();
        for (key, call) in late {
            if self.open.contains_key(key) {
                continue;
            }
            let since = now.saturating_sub(Duration::from_millis(call.for_ms));
            let hang = Hang { key: key.to_owned(), call: call.call.clone(), since };
            self.open.insert(key.to_owned(), hang.clone());
            edges.push(HangEdge::Began(hang));
        }
        edges
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn flt_32_edges_alternate_and_agree_with_the_late_calls(
            rounds in proptest::collection::vec(proptest::collection::btree_map(0_u8..4, 0_u64..20_000, 0..4), 1..40),
        ) {
            let mut hangs = Hangs::default();
            let mut hanging = std::collections::BTreeSet::new();
            for (at, round) in rounds.iter().enumerate() {
                let flights: Vec<InFlight> = round
                    .iter()
                    .map(|(key, for_ms)| InFlight { key: key.to_string(), call: "c".into(), for_ms: *for_ms })
                    .collect();
                let now = Duration::from_secs(100 + at as u64);
                for edge in hangs.observe(now, &flights, |_| Duration::from_secs(5)) {
                    match edge {
                        HangEdge::Began(hang) => prop_assert!(hanging.insert(hang.key)),
                        HangEdge::Ended(hang) => prop_assert!(hanging.remove(&hang.key)),
                    }
                }
                let late: std::collections::BTreeSet<String> =
                    round.iter().filter(|(_, for_ms)| **for_ms >= 5_000).map(|(key, _)| key.to_string()).collect();
                prop_assert_eq!(&hanging, &late);
            }
        }
    }
}
