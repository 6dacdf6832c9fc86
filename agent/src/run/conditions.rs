//! The degraded modes the agent is in: each named, since when, with what to do.

use std::collections::BTreeMap;

use aim_common::protocol::{Condition, NodeConditions};
use aim_common::units::EpochMs;
use aim_common::wire::BoundedVec;

use crate::link::Trouble;

/// Failed rounds before a missing answer is more than a restarting coordinator (FLT-19).
const PATIENCE: u32 = 3;

/// Clocks that differ by more are worth a word; NTP keeps them within milliseconds.
const CLOCK_TOLERANCE_MS: i64 = 60_000;

/// Records are in memory only.
pub(super) const SPOOL_UNAVAILABLE: &str = "spool_unavailable";
/// A damaged segment of the spool was set aside.
pub(super) const SPOOL_QUARANTINED: &str = "spool_quarantined";
/// The certificate could not be renewed.
pub(super) const RENEWAL_FAILED: &str = "certificate_renewal_failed";

/// The conditions of the link; one of them at most is true.
const LINK: &[&str] = &[
    "udp_blocked",
    "coordinator_unresolvable",
    "coordinator_untrusted",
    "clock",
    "refused",
    "coordinator_unreachable",
    "certificate_expired",
];

/// The list as it is now.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    own: BTreeMap<&'static str, Condition>,
    collected: Vec<Condition>,
    changed: bool,
}

impl Conditions {
    /// Sets or refreshes one of the agent's own; keeps since when.
    pub(super) fn set(&mut self, name: &'static str, detail: &str, now: EpochMs) {
        let since = self.own.get(name).map_or(now, |former| former.since);
        let condition = Condition { name: name.into(), subject: "".into(), since, detail: detail.into() };
        if self.own.get(name) != Some(&condition) {
            tracing::warn!(condition = name, detail);
            self.own.insert(name, condition);
            self.changed = true;
        }
    }

    /// It is over.
    pub(super) fn clear(&mut self, name: &'static str) {
        if self.own.remove(name).is_some() {
            tracing::info!(condition = name, "over");
            self.changed = true;
        }
    }

    /// A trouble of the link, after `attempt` rounds.
    pub(super) fn link_trouble(&mut self, trouble: Trouble, reason: &str, attempt: u32, now: EpochMs) {
        let patient = attempt < PATIENCE;
        let (name, remedy) = match trouble {
            Trouble::NoAnswer | Trouble::Name | Trouble::Unavailable | Trouble::Local if patient => return,
            Trouble::NoAnswer => {
                ("udp_blocked", "allow UDP to the coordinator's link port on the way; run `aim-agent check`")
            }
            Trouble::Name => ("coordinator_unresolvable", "mend the name service, or set [link] addresses"),
            Trouble::NotTheCoordinator => (
                "coordinator_untrusted",
                "another server answers at this address: check DNS and [link] addresses",
            ),
            Trouble::Clock => {
                ("clock", "set this machine's clock; the key is kept and the node comes back by itself")
            }
            Trouble::Refused => (
                "refused",
                "the identity is revoked, deleted or suspected cloned: see `aimctl node show` and `aimctl cert list`",
            ),
            Trouble::Unavailable | Trouble::Local => {
                ("coordinator_unreachable", "see whether the coordinator runs; run `aim-agent check`")
            }
            Trouble::Expired => (
                "certificate_expired",
                "tried again each minute; after 14 days enrol anew with --replace-identity",
            ),
        };
        for other in LINK.iter().copied().filter(|other| *other != name) {
            self.clear(other);
        }
        self.set(name, &format!("{reason}; {remedy}"), now);
    }

    /// The link is open.
    pub(super) fn link_works(&mut self) {
        for name in LINK.iter().copied() {
            self.clear(name);
        }
    }

    /// How far this machine's clock is ahead of the coordinator's, as Welcome told.
    pub(super) fn clock_ahead(&mut self, ahead_ms: i64, now: EpochMs) {
        if ahead_ms.abs() > CLOCK_TOLERANCE_MS {
            let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
            let seconds = ahead_ms.unsigned_abs() / 1000;
            self.set("clock", &format!("{seconds} s {way} the coordinator; set this machine's clock"), now);
        }
    }

    /// What the collectors see.
    pub(super) fn collected(&mut self, collected: Vec<Condition>) {
        if self.collected != collected {
            self.collected = collected;
            self.changed = true;
        }
    }

    /// All of them, for the coordinator and the status.
    pub(super) fn message(&self) -> NodeConditions {
        let all = self.own.values().chain(&self.collected).cloned().collect();
        NodeConditions { conditions: BoundedVec::truncated(all).0 }
    }

    /// Whether the list changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(conditions: &Conditions) -> Vec<String> {
        conditions.message().conditions.iter().map(|condition| condition.name.to_string()).collect()
    }

    #[test]
    fn flt_19_udp_is_called_blocked_after_three_rounds_and_since_is_kept() {
        let mut conditions = Conditions::default();
        conditions.link_trouble(Trouble::NoAnswer, "no answer", 1, EpochMs(1));
        conditions.link_trouble(Trouble::NoAnswer, "no answer", 2, EpochMs(2));
        assert!(names(&conditions).is_empty());
        conditions.link_trouble(Trouble::NoAnswer, "no answer", 3, EpochMs(3));
        conditions.link_trouble(Trouble::NoAnswer, "no answer", 4, EpochMs(4));
        assert_eq!(names(&conditions), ["udp_blocked"]);
        assert_eq!(conditions.message().conditions[0].since, EpochMs(3));
        conditions.link_works();
        assert!(names(&conditions).is_empty());
    }

    #[test]
    fn agt_11_a_wrong_clock_is_said_at_once_and_replaces_other_troubles_of_the_link() {
        let mut conditions = Conditions::default();
        conditions.link_trouble(Trouble::NoAnswer, "no answer", 5, EpochMs(1));
        conditions.link_trouble(Trouble::Clock, "not yet valid", 1, EpochMs(2));
        assert_eq!(names(&conditions), ["clock"]);
        assert!(conditions.take_changed() && !conditions.take_changed());
    }
}
