//! Which certificates are a living node's, in memory: what each handshake is checked against.
//!
//! Enters: rows at start, issues, first uses, revocations. Leaves: the peer of a certificate, or why it is refused.
//! Never: the database (a handshake must not wait for it), anything that a peer says of itself.

mod registry;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aim_common::identity::{CertificateSerial, NodeId, NodeName, Sha256Digest, SpiffeId, TrustDomain};
use aim_common::units::EpochMs;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

pub use registry::{KnownCertificate, KnownNode, Registry, Standing};

/// Who a certificate says the peer is, after every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node.
    pub node_id: NodeId,
    /// Its name; a label.
    pub node_name: NodeName,
    /// The certificate.
    pub serial: CertificateSerial,
    /// Its generation.
    pub generation: i64,
    /// The session ends with it.
    pub not_after: EpochMs,
    /// Suspected to be a clone: reports are stored and flagged, nothing else is done for it (PKI-09).
    pub quarantined: bool,
}

/// Why a certificate is refused; for the journal, never for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// It is not a certificate.
    #[error("the certificate is malformed")]
    Malformed,
    /// It is not for clients only: a server certificate is no node's (PKI-16).
    #[error("the certificate is not for client authentication only")]
    Usage,
    /// It has no, several, or other names than one node of this trust domain (PKI-14).
    #[error("the certificate does not name exactly one node of this trust domain")]
    Name,
    /// Before its time, or after.
    #[error("the certificate is not valid at this time")]
    Expired,
    /// Never issued to a living node, or revoked since.
    #[error("the certificate is not a living node's")]
    Unknown,
    /// A newer one of the same node was used already (PKI-09).
    #[error("a newer certificate of node {0} was used already")]
    Superseded(NodeId),
    /// The database is away for so long that revocations may have been missed (PKI-12).
    #[error("the registry of identities is too old to admit anybody")]
    Stale,
}

/// The registry behind its lock.
pub struct Identities {
    trust_domain: TrustDomain,
    registry: RwLock<Registry>,
    stale: AtomicBool,
}

impl Identities {
    /// An empty registry of a trust domain.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, registry: RwLock::default(), stale: AtomicBool::new(false) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// No new peer is admitted while true; sessions that are there stay.
    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.store(stale, Ordering::Release);
    }

    /// Who the peer with this certificate is. The chain up to a root must have been verified by TLS.
    pub fn check(&self, leaf_der: &[u8], now: EpochMs) -> Result<PeerIdentity, PeerRefusal> {
        let (rest, leaf) =
            x509_parser::parse_x509_certificate(leaf_der).map_err(|_| PeerRefusal::Malformed)?;
        if !rest.is_empty() {
            return Err(PeerRefusal::Malformed);
        }
        let named = self.node_of(&leaf)?;
        let serial = CertificateSerial::from_bytes(leaf.raw_serial());
        let registry = self.read();
        let (node, certificate) = match registry.standing(&serial) {
            Standing::Good(node, certificate) => (node, certificate),
            Standing::Superseded(node) => return Err(PeerRefusal::Superseded(node.id)),
            Standing::Unknown => return Err(PeerRefusal::Unknown),
        };
        if certificate.node != named || certificate.public_key != Sha256Digest::of(leaf.public_key().raw) {
            return Err(PeerRefusal::Unknown);
        }
        if now < certificate.not_before || now >= certificate.not_after {
            return Err(PeerRefusal::Expired);
        }
        if self.stale.load(Ordering::Acquire) {
            return Err(PeerRefusal::Stale);
        }
        Ok(PeerIdentity {
            node_id: node.id,
            node_name: node.name.clone(),
            serial,
            generation: certificate.generation,
            not_after: certificate.not_after,
            quarantined: node.quarantined,
        })
    }

    /// Exactly one URI SAN, of our trust domain, in a certificate for clients only.
    fn node_of(&self, leaf: &X509Certificate<'_>) -> Result<NodeId, PeerRefusal> {
        let usage = leaf.extended_key_usage().ok().flatten().ok_or(PeerRefusal::Usage)?.value;
        if !usage.client_auth || usage.server_auth || usage.any || leaf.is_ca() {
            return Err(PeerRefusal::Usage);
        }
        let names = leaf.subject_alternative_name().ok().flatten().ok_or(PeerRefusal::Name)?.value;
        let [GeneralName::URI(uri)] = names.general_names.as_slice() else { return Err(PeerRefusal::Name) };
        let identity: SpiffeId = uri.parse().map_err(|_| PeerRefusal::Name)?;
        if identity.trust_domain == self.trust_domain { Ok(identity.node) } else { Err(PeerRefusal::Name) }
    }

    /// The living node that a text means: its id, or its name ignoring case.
    pub fn resolve(&self, text: &str) -> Option<(NodeId, NodeName)> {
        let registry = self.read();
        let node = match text.parse::<NodeId>() {
            Ok(id) => registry.node(id),
            Err(_) => registry.node_named(&text.parse().ok()?),
        }?;
        Some((node.id, node.name.clone()))
    }

    /// The node is in quarantine.
    pub fn is_quarantined(&self, node: NodeId) -> bool {
        self.read().node(node).is_some_and(|node| node.quarantined)
    }
}
