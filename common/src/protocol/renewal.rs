//! A certificate for a new key, asked for over the node's own session.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::wire::{BoundedBytes, BoundedVec, Message};

/// Asks for a certificate for the key that signed the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// PKCS#10 in DER, without any extension request.
    pub csr_der: BoundedBytes<8192>,
}

/// Why no certificate was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewRefusal {
    /// The request is malformed or breaks the key policy.
    BadRequest,
    /// The identity may not renew (revoked, quarantined).
    NotAllowed,
    /// The coordinator cannot issue now; try again later.
    Unavailable,
}

/// The answer to [`RenewRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewResponse {
    /// The new certificate; the old one dies when the new one is first used.
    Issued {
        /// Leaf, issuing, root: DER each.
        chain_der: BoundedVec<BoundedBytes<8192>, 4>,
        /// All roots to trust from now on, DER each: two while the CA rotates.
        roots_der: BoundedVec<BoundedBytes<8192>, 4>,
    },
    /// No certificate.
    Refused(RenewRefusal),
}

impl Message for RenewRequest {
    const KIND: Kind = Kind::RenewRequest;
}
impl Message for RenewResponse {
    const KIND: Kind = Kind::RenewResponse;
}
