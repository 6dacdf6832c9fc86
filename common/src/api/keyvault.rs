//! The KeyVault's endpoints. The shapes of the first two are fixed: installers depend on them.

use serde::{Deserialize, Serialize};

use crate::identity::{NodeId, NodeName, TrustDomain};
use crate::units::EpochMs;

/// `POST /api/keyvault/salt/generate-token` and `POST /api/keyvault/agent/generate-token`; may be empty for Salt.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GenerateTokenRequest {
    /// One node; the answer is a [`GeneratedToken`].
    #[serde(default)]
    pub node: Option<NodeName>,
    /// A host list, one token a node; the answer is a [`GeneratedTokens`].
    #[serde(default)]
    pub hosts: Option<String>,
    /// Seconds until the token ends: 300 by default, 3,600 for a list, 86,400 at most.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// Only from this address range (`10.1.0.0/16`).
    #[serde(default)]
    pub source_cidr: Option<String>,
    /// Only for this public key: SHA-256 of its SPKI in hexadecimal. Agent tokens of one node only.
    #[serde(default)]
    pub public_key_sha256: Option<String>,
    /// A living node of the same name is superseded at redemption. Agent tokens only.
    #[serde(default)]
    pub replace: bool,
}

/// One token, shown this once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GeneratedToken {
    /// UUID.
    pub token: String,
    /// HMAC-SHA256 in lower-case hexadecimal.
    pub signature: String,
    /// 16 random bytes in hexadecimal.
    pub nonce: String,
    /// From then on it is refused.
    pub expires_at: EpochMs,
    /// The node it is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<NodeName>,
    /// The join string; agent tokens only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub join: Option<String>,
}

/// The tokens of a host list, in its order.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GeneratedTokens {
    /// One for each node.
    pub tokens: Vec<GeneratedToken>,
}

/// Answer to `generate-token`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum GenerateTokenResponse {
    /// Of a host list.
    Many(GeneratedTokens),
    /// Of one node, or of none.
    One(Box<GeneratedToken>),
}

/// `GET /api/keyvault/salt/master-pub`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MasterPubResponse {
    /// Base64 of the exact PEM bytes, last line feed included.
    pub pub_key: String,
}

/// `POST /api/keyvault/agent/enroll`
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The token.
    pub token: String,
    /// Its signature.
    pub signature: String,
    /// Its nonce.
    pub nonce: String,
    /// The node's name.
    pub node: NodeName,
    /// PKCS#10 in PEM, without any extension request.
    pub csr: String,
}

/// A node's new identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolResponse {
    /// The node's id.
    pub node_id: NodeId,
    /// The node's name.
    pub node_name: NodeName,
    /// The trust domain.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub trust_domain: TrustDomain,
    /// Leaf, issuing and root certificates in PEM, in this order.
    pub certificate_chain: String,
    /// All roots to trust, in PEM.
    pub roots: String,
    /// Addresses of the QUIC link, `host:port` each.
    pub link_addresses: Vec<String>,
    /// HTTPS addresses, for recovery and late renewal.
    pub https_addresses: Vec<String>,
}

/// `POST /api/keyvault/agent/recover` and `…/renew`, in two steps.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProofRequest {
    /// Asks for a challenge.
    Challenge {
        /// SPKI of the key to be proved, DER in base64.
        public_key: String,
    },
    /// Answers it.
    Proof {
        /// SPKI of the key, DER in base64.
        public_key: String,
        /// The challenge as received, base64.
        challenge: String,
        /// Signature over the proof input, base64.
        signature: String,
        /// Renewal only: PKCS#10 of the new key in PEM.
        #[serde(default)]
        csr: Option<String>,
    },
}

/// Answer to the first step; always given, so that it tells nothing about the key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeResponse {
    /// 32 random bytes in base64, good for 60 s and one use.
    pub challenge: String,
}

/// Answer of the two-step routes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ProofResponse {
    /// To the first step.
    Challenge(ChallengeResponse),
    /// To the second one.
    Identity(Box<EnrolResponse>),
}

/// `POST /api/keyvault/agent/request`: asks to be approved without a token. Repeat it to learn the outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// The name wished for.
    pub node: NodeName,
    /// PKCS#10 in PEM; only its key holder gets the certificate.
    pub csr: String,
    /// What the node says of itself, shown to whoever approves; 16 KiB at most, never trusted.
    #[serde(default)]
    pub inventory: serde_json::Value,
}

/// Where a request stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ApprovalResponse {
    /// Nobody decided yet; ask again after the seconds given.
    Pending {
        /// SHA-256 of the public key, to be compared by whoever approves.
        public_key_sha256: String,
        /// Seconds to wait.
        retry_after_seconds: u32,
    },
    /// Refused by a person.
    Rejected,
    /// Approved: the identity, to be fetched by recover with the same key.
    Approved {
        /// The identity.
        identity: Box<EnrolResponse>,
    },
}
