//! Whether a token is good: a pure decision over what is stored, what is presented, and the time.

use std::net::IpAddr;
use std::time::Duration;

use aim_common::enrolment::{Nonce, TokenClaims, TokenId, TokenKey, TokenPurpose, TokenSignature};
use aim_common::identity::{NodeName, Sha256Digest};
use aim_common::units::EpochMs;
use ipnet::IpNet;

/// An outstanding token as the database holds it: no secret can be made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Number of its row.
    pub id: i64,
    /// What it is for.
    pub purpose: TokenPurpose,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// The addresses it is bound to.
    pub source: Option<IpNet>,
    /// The key it is bound to.
    pub public_key: Option<Sha256Digest>,
    /// A living node of the same name is superseded.
    pub replace: bool,
    /// When it was issued.
    pub created_at: EpochMs,
    /// From when on it is refused.
    pub expires_at: EpochMs,
}

/// What somebody presents.
pub struct Presented<'a> {
    /// What for.
    pub purpose: TokenPurpose,
    /// The token.
    pub token: &'a TokenId,
    /// Its nonce.
    pub nonce: &'a Nonce,
    /// Its signature.
    pub signature: &'a TokenSignature,
    /// The node that it says it is.
    pub node: Option<&'a NodeName>,
    /// Where it comes from.
    pub source: IpAddr,
    /// The key that it proved.
    pub public_key: Option<Sha256Digest>,
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock.
    pub wall: EpochMs,
    /// The monotonic clock.
    pub monotonic: Duration,
}

/// Why a token is refused; for the audit trail, never for whoever presents it (ENR-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Never issued, redeemed, revoked or swept.
    Unknown,
    /// The signature does not fit: the only refusal that counts against the token.
    Signature,
    /// Its time is over, or the clock went back before its issue.
    Expired,
    /// It is for something else.
    Purpose,
    /// It is bound to another node.
    Node,
    /// It is bound to other addresses.
    Source,
    /// It is bound to another key.
    PublicKey,
}

impl TokenRefusal {
    /// The word in the audit trail.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_token",
            Self::Signature => "wrong_signature",
            Self::Expired => "expired",
            Self::Purpose => "wrong_purpose",
            Self::Node => "wrong_node",
            Self::Source => "wrong_address",
            Self::PublicKey => "wrong_public_key",
        }
    }
}

/// Decides. `deadline` is the token's end by the monotonic clock, which no step of the wall clock moves (ENR-06).
///
/// One MAC is computed whatever is stored, so that the time of an answer says nothing.
pub fn decide(
    key: &TokenKey,
    stored: Option<&StoredToken>,
    presented: &Presented<'_>,
    now: Moment,
    deadline: Duration,
) -> Result<(), TokenRefusal> {
    let claims = TokenClaims {
        purpose: stored.map_or(presented.purpose, |stored| stored.purpose),
        token: presented.token.clone(),
        nonce: presented.nonce.clone(),
        expires: stored.map_or(EpochMs(0), |stored| stored.expires_at),
        node: stored.and_then(|stored| stored.node.clone()),
    };
    let signed = key.verify(&claims, presented.signature);
    let stored = stored.ok_or(TokenRefusal::Unknown)?;
    if !signed {
        return Err(TokenRefusal::Signature);
    }
    let in_time = stored.created_at <= now.wall && now.wall < stored.expires_at && now.monotonic < deadline;
    if !in_time {
        return Err(TokenRefusal::Expired);
    }
    if stored.purpose != presented.purpose {
        return Err(TokenRefusal::Purpose);
    }
    let same_node =
        |bound: &NodeName| presented.node.is_some_and(|node| node.canonical() == bound.canonical());
    // A Salt token's node is a label for people: a minion has no name to prove.
    if stored.purpose == TokenPurpose::AgentEnrol && !stored.node.as_ref().is_some_and(same_node) {
        return Err(TokenRefusal::Node);
    }
    if stored.source.is_some_and(|range| !range.contains(&presented.source.to_canonical())) {
        return Err(TokenRefusal::Source);
    }
    if stored.public_key.is_some() && stored.public_key != presented.public_key {
        return Err(TokenRefusal::PublicKey);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ISSUED: EpochMs = EpochMs(1_000_000);
    const TTL_MS: i64 = 300_000;
    const DEADLINE: Duration = Duration::from_secs(1_000);

    struct Case {
        key: TokenKey,
        stored: StoredToken,
        token: TokenId,
        nonce: Nonce,
        signature: TokenSignature,
        node: NodeName,
        source: IpAddr,
        public_key: Option<Sha256Digest>,
        purpose: TokenPurpose,
        now: Moment,
    }

    impl Case {
        fn new(purpose: TokenPurpose) -> Self {
            let stored = StoredToken {
                id: 1,
                purpose,
                node: Some("gpu1".parse().unwrap()),
                source: None,
                public_key: None,
                replace: false,
                created_at: ISSUED,
                expires_at: ISSUED.plus_ms(TTL_MS),
            };
            let (key, token, nonce) =
                (TokenKey::new([1; 32]), TokenId::from_random([2; 16]), Nonce::from_random([3; 16]));
            let claims = TokenClaims {
                purpose,
                token: token.clone(),
                nonce: nonce.clone(),
                expires: stored.expires_at,
                node: stored.node.clone(),
            };
            let signature = key.sign(&claims);
            let now = Moment { wall: ISSUED, monotonic: Duration::ZERO };
            let source = "10.1.2.3".parse().unwrap();
            let node = "GPU1".parse().unwrap();
            Self { key, stored, token, nonce, signature, node, source, public_key: None, purpose, now }
        }

        fn decide(&self) -> Result<(), TokenRefusal> {
            let presented = Presented {
                purpose: self.purpose,
                token: &self.token,
                nonce: &self.nonce,
                signature: &self.signature,
                node: Some(&self.node),
                source: self.source,
                public_key: self.public_key,
            };
            decide(&self.key, Some(&self.stored), &presented, self.now, DEADLINE)
        }
    }

    fn good() -> Case {
        Case::new(TokenPurpose::AgentEnrol)
    }

    fn flip(bytes: &mut [u8], position: prop::sample::Index, bit: u8) {
        bytes[position.index(bytes.len())] ^= 1 << bit;
    }

    #[test]
    fn enr_09_a_token_of_one_purpose_is_refused_for_the_other() {
        for (issued, used) in [
            (TokenPurpose::AgentEnrol, TokenPurpose::SaltMasterPub),
            (TokenPurpose::SaltMasterPub, TokenPurpose::AgentEnrol),
        ] {
            let mut case = Case::new(issued);
            assert_eq!(case.decide(), Ok(()));
            case.purpose = used;
            assert_eq!(case.decide(), Err(TokenRefusal::Purpose));
        }
    }

    #[test]
    fn enr_10_every_binding_is_kept() {
        let mut case = good();
        case.node = "gpu2".parse().unwrap();
        assert_eq!(case.decide(), Err(TokenRefusal::Node));

        let mut case = good();
        case.stored.source = Some("10.1.0.0/16".parse().unwrap());
        assert_eq!(case.decide(), Ok(()));
        case.source = "::ffff:10.1.9.9".parse().unwrap();
        assert_eq!(case.decide(), Ok(()), "the same address written as IPv6");
        case.source = "10.2.0.1".parse().unwrap();
        assert_eq!(case.decide(), Err(TokenRefusal::Source));

        let mut case = good();
        case.stored.public_key = Some(Sha256Digest::of(b"key"));
        assert_eq!(case.decide(), Err(TokenRefusal::PublicKey));
        case.public_key = Some(Sha256Digest::of(b"other"));
        assert_eq!(case.decide(), Err(TokenRefusal::PublicKey));
        case.public_key = Some(Sha256Digest::of(b"key"));
        assert_eq!(case.decide(), Ok(()));
    }

    #[test]
    fn enr_06_a_step_of_the_wall_clock_revives_nothing() {
        let mut case = good();
        case.now = Moment { wall: ISSUED.plus_ms(1), monotonic: DEADLINE };
        assert_eq!(case.decide(), Err(TokenRefusal::Expired), "its time is over by the monotonic clock");
    }

    proptest! {
        #[test]
        fn enr_06_accepted_exactly_from_issue_to_expiry(issue in -1000_i64..1000, ttl in 1_i64..1000, now in -3000_i64..3000, edge in 0..8) {
            // Mostly at the edges, where a wrong comparison shows.
            let now = match edge {
                0 => issue - 1,
                1 => issue,
                2 => issue + ttl - 1,
                3 => issue + ttl,
                _ => now,
            };
            let mut case = good();
            (case.stored.created_at, case.stored.expires_at) = (EpochMs(issue), EpochMs(issue + ttl));
            let claims = TokenClaims {
                purpose: case.purpose,
                token: case.token.clone(),
                nonce: case.nonce.clone(),
                expires: case.stored.expires_at,
                node: case.stored.node.clone(),
            };
            case.signature = case.key.sign(&claims);
            case.now.wall = EpochMs(now);
            prop_assert_eq!(case.decide().is_ok(), issue <= now && now < issue + ttl);
        }

        #[test]
        fn enr_07_a_flipped_bit_anywhere_is_refused(position in any::<prop::sample::Index>(), bit in 0_u8..8, part in 0..6) {
            let mut case = good();
            match part {
                0 => {
                    let mut bytes = *case.token.expose_bytes();
                    flip(&mut bytes, position, bit);
                    // Not from_random: that would write the version bits back.
                    let Ok(token) = uuid::Uuid::from_bytes(bytes).hyphenated().to_string().parse() else { return Ok(()) };
                    case.token = token;
                }
                1 => {
                    let mut bytes = *case.nonce.expose_bytes();
                    flip(&mut bytes, position, bit);
                    case.nonce = Nonce::from_random(bytes);
                }
                2 => {
                    let mut bytes = hex::decode(case.signature.expose()).unwrap();
                    flip(&mut bytes, position, bit);
                    case.signature = hex::encode(bytes).parse().unwrap();
                }
                3 => {
                    let mut bytes = case.stored.expires_at.0.to_be_bytes();
                    flip(&mut bytes, position, bit);
                    case.stored.expires_at = EpochMs(i64::from_be_bytes(bytes));
                }
                4 => case.stored.purpose = TokenPurpose::SaltMasterPub,
                _ => {
                    let mut name = case.stored.node.as_ref().unwrap().canonical().into_bytes();
                    flip(&mut name, position, bit);
                    let flipped = String::from_utf8(name).ok().and_then(|name| name.parse::<NodeName>().ok());
                    let Some(flipped) = flipped else { return Ok(()) };
                    prop_assume!(flipped.canonical() != "gpu1");
                    case.stored.node = Some(flipped);
                }
            }
            prop_assert_eq!(case.decide(), Err(TokenRefusal::Signature));
        }
    }
}
