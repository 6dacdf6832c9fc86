//! Two sessions with one identity: a restart, a takeover, or a clone. A pure decision (PKI-09, QUI-06, FLT-43).

use std::time::Duration;

use aim_common::identity::BootId;

/// Takeovers from a session that still answers are this far apart at least, so that two of them cannot play ping-pong.
pub(super) const TAKEOVER_EVERY: Duration = Duration::from_mins(1);

/// What tells two sessions of one identity apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// Generation of the certificate: rises with each renewal, and no two have the same.
    pub generation: i64,
    /// The boot.
    pub boot_id: BootId,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The older session is dead, or gives way: close it, the newer one is the node.
    Replace,
    /// The newer one comes too soon after another takeover: let it come back.
    Later,
    /// One identity is in two places: alarm, quarantine, the older one stays.
    Clone,
}

/// Decides between the session that is there and the one that comes.
///
/// `older_answers` says whether the older one passed its liveness probe; `since_takeover` how long ago the last
/// takeover from an answering session was.
pub(super) fn decide(
    older: Claim,
    newer: Claim,
    older_answers: bool,
    since_takeover: Option<Duration>,
) -> Verdict {
    if !older_answers {
        return Verdict::Replace;
    }
    if newer.generation <= older.generation || newer.boot_id != older.boot_id {
        return Verdict::Clone;
    }
    match since_takeover {
        Some(since) if since < TAKEOVER_EVERY => Verdict::Later,
        _ => Verdict::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(generation: i64, boot: u8) -> Claim {
        Claim { generation, boot_id: BootId::from_random([boot; 16]) }
    }

    #[test]
    fn a_dead_older_session_is_simply_replaced() {
        for newer in [claim(1, 1), claim(1, 2), claim(2, 1), claim(2, 2), claim(0, 1)] {
            assert_eq!(decide(claim(1, 1), newer, false, Some(Duration::ZERO)), Verdict::Replace);
        }
    }

    #[test]
    fn idn_08_the_same_certificate_twice_or_another_boot_is_a_clone() {
        assert_eq!(decide(claim(1, 1), claim(1, 1), true, None), Verdict::Clone);
        assert_eq!(decide(claim(1, 1), claim(2, 2), true, None), Verdict::Clone);
        assert_eq!(decide(claim(2, 1), claim(1, 1), true, None), Verdict::Clone);
    }

    #[test]
    fn a_newer_certificate_of_the_same_boot_takes_over_once_a_minute() {
        assert_eq!(decide(claim(1, 1), claim(2, 1), true, None), Verdict::Replace);
        assert_eq!(decide(claim(2, 1), claim(3, 1), true, Some(Duration::from_secs(59))), Verdict::Later);
        assert_eq!(decide(claim(2, 1), claim(3, 1), true, Some(TAKEOVER_EVERY)), Verdict::Replace);
    }
}
