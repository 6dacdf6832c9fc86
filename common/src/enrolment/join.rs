//! The join string: all that a node needs to enrol, and to know the coordinator before it sends anything.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::{Nonce, Secret, TokenId, TokenSignature};
use crate::identity::{NodeName, Sha256Digest, TrustDomain};

const PREFIX: &str = "aim1.";
/// Longest join string: sixteen addresses of 255 bytes and the rest.
const MAX_LEN: usize = 16 * 1024;
const MAX_ADDRESSES: usize = 16;

/// Why a text is not a join string. It never repeats the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JoinError {
    /// It does not begin with the prefix.
    #[error(
        "the join string does not begin with \"aim1.\"; copy the whole line that `aimctl token create` printed"
    )]
    Prefix,
    /// It is cut or changed.
    #[error("the join string is damaged ({0}); copy the whole line that `aimctl token create` printed")]
    Damaged(&'static str),
}

/// The parts of a join string.
#[derive(Clone)]
pub struct JoinString {
    /// HTTPS addresses of the coordinator, `host:port` each, tried in order.
    pub addresses: Vec<String>,
    /// SHA-256 of the root certificate in DER: the one trust anchor.
    pub root_sha256: Sha256Digest,
    /// The trust domain, from which the expected server name follows.
    pub trust_domain: TrustDomain,
    /// The token.
    pub token: TokenId,
    /// The token's signature.
    pub signature: TokenSignature,
    /// The token's nonce.
    pub nonce: Nonce,
    /// The name that the node will have.
    pub node: NodeName,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    addresses: Vec<String>,
    root_sha256: Sha256Digest,
    trust_domain: TrustDomain,
    token: String,
    signature: String,
    nonce: String,
    node: NodeName,
}

impl JoinString {
    /// Writes the string; it holds the token, so it comes as a [`Secret`].
    pub fn to_secret(&self) -> Secret {
        let wire = Wire {
            addresses: self.addresses.clone(),
            root_sha256: self.root_sha256,
            trust_domain: self.trust_domain.clone(),
            token: self.token.expose(),
            signature: self.signature.expose(),
            nonce: self.nonce.expose(),
            node: self.node.clone(),
        };
        let json = serde_json::to_vec(&wire).unwrap_or_default();
        Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }
}

impl FromStr for JoinString {
    type Err = JoinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinError::Prefix)?;
        if body.len() > MAX_LEN {
            return Err(JoinError::Damaged("too long"));
        }
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinError::Damaged("not base64url"))?;
        if crate::json::is_too_deep(&json) {
            return Err(JoinError::Damaged("nested too deep"));
        }
        let wire: Wire =
            serde_json::from_slice(&json).map_err(|_| JoinError::Damaged("fields missing or unknown"))?;
        if wire.addresses.is_empty() || wire.addresses.len() > MAX_ADDRESSES {
            return Err(JoinError::Damaged("no address, or more than 16"));
        }
        Ok(Self {
            addresses: wire.addresses,
            root_sha256: wire.root_sha256,
            trust_domain: wire.trust_domain,
            token: wire.token.parse().map_err(|_| JoinError::Damaged("token"))?,
            signature: wire.signature.parse().map_err(|_| JoinError::Damaged("signature"))?,
            nonce: wire.nonce.parse().map_err(|_| JoinError::Damaged("nonce"))?,
            node: wire.node,
        })
    }
}
