//! The `[keyvault]` section of coordinator.toml, and the addresses that nodes are told.

use aim_common::identity::TrustDomain;
use serde::{Deserialize, Serialize};

/// What an operator may set; every field has a default that is safe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyVaultConfig {
    /// The trust domain; frozen when the CA is made.
    pub trust_domain: TrustDomain,
    /// Hours that a node's certificate lives.
    pub node_certificate_hours: u32,
    /// Days after its end in which a node's certificate can still be renewed by proof of its key; 0 = never.
    pub late_renewal_days: u32,
    /// Nodes may ask to be approved without a token.
    pub approval_queue: bool,
    /// `master-pub` accepts token, signature and nonce in its query, for old installers.
    pub master_pub_query: bool,
    /// Most tokens outstanding at once.
    pub outstanding_tokens_max: u32,
}

impl Default for KeyVaultConfig {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            node_certificate_hours: 24,
            late_renewal_days: 14,
            approval_queue: false,
            master_pub_query: false,
            outstanding_tokens_max: 100_000,
        }
    }
}

/// Where nodes and people reach the coordinator.
#[derive(Debug, Clone, Default)]
pub struct PublicAddresses {
    /// DNS names and IP addresses in the server's certificate, next to `coordinator.<trust domain>`.
    pub names: Vec<String>,
    /// HTTPS, `host:port` each.
    pub https: Vec<String>,
    /// The QUIC link, `host:port` each.
    pub link: Vec<String>,
}
