//! Renewal: a new key and certificate for a node that still has the old one.

use aim_common::identity::{NodeId, Sha256Digest};
use aim_common::protocol::{RenewRefusal, RenewResponse};
use aim_common::wire::{BoundedBytes, BoundedVec};
use rustls_pki_types::CertificateDer;

use super::KeyVault;
use super::ca::IssuedCertificate;
use super::csr;
use super::enrol::{known, new_certificate};
use super::error::{Requester, VaultError};
use super::identities::{PeerIdentity, Standing};
use super::pending::Pending;
use super::public_key::NodePublicKey;
use crate::store::audit::Decision;

/// A node may renew this many times in a lifetime at most: once a minute with 24 h (PKI-18).
const RENEWALS_PER_LIFETIME: i64 = 1_440;

/// The certificate of an enrolment.
const FIRST_GENERATION: i64 = 1;

impl KeyVault {
    /// Renews over the node's own session; `source` is the peer's address.
    pub async fn renew(&self, peer: &PeerIdentity, csr_der: &[u8], source: &str) -> RenewResponse {
        let requester = Requester {
            actor: format!("node:{}", peer.node_id),
            source: source.to_owned(),
            request_id: String::new(),
        };
        let usable = {
            let (registry, now) = (self.identities.read(), self.clock.now());
            matches!(registry.standing(&peer.serial), Standing::Good(node, certificate)
                if node.id == peer.node_id && !node.quarantined && now < certificate.not_after)
        };
        let key = csr::public_key_of_der(csr_der);
        let fingerprint = key.as_ref().ok().map(NodePublicKey::fingerprint);
        let outcome = match key {
            _ if !usable => Err(VaultError::Refused),
            Ok(key) => self.renew_for(peer.node_id, &key, &requester).await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(issued) => self.renewed(&issued),
            Err(error) => {
                self.record_refused_renewal(peer, fingerprint, &error, &requester).await;
                RenewResponse::Refused(match error {
                    VaultError::Csr(_) | VaultError::Conflict(_) => RenewRefusal::BadRequest,
                    VaultError::Refused => RenewRefusal::NotAllowed,
                    _ => RenewRefusal::Unavailable,
                })
            }
        }
    }

    fn renewed(&self, issued: &IssuedCertificate) -> RenewResponse {
        let bounded = |certificates: Vec<CertificateDer<'_>>| {
            let bytes = certificates
                .into_iter()
                .map(|certificate| BoundedBytes::try_from(certificate.to_vec()))
                .collect::<Result<Vec<_>, _>>()
                .ok()?;
            BoundedVec::try_from(bytes).ok()
        };
        let roots = self.ca.roots().iter().map(|root| root.der.clone()).collect();
        if let (Some(chain_der), Some(roots_der)) = (bounded(self.ca.chain_der(&issued.der)), bounded(roots))
        {
            return RenewResponse::Issued { chain_der, roots_der };
        }
        tracing::error!("a certificate of the CA is larger than the protocol allows");
        RenewResponse::Refused(RenewRefusal::Unavailable)
    }

    /// Issues the next generation for a living node; the caller has proven that it may.
    pub(super) async fn renew_for(
        &self,
        node: NodeId,
        key: &NodePublicKey,
        requester: &Requester,
    ) -> Result<IssuedCertificate, VaultError> {
        let now = self.clock.now();
        let lifetime_ms = self.node_lifetime_ms();
        let generation = {
            let registry = self.identities.read();
            let known = registry.node(node).ok_or(VaultError::Refused)?;
            // Whoever does not use what it got may not ask for more at once.
            let unused = known.newest_generation > known.active_generation;
            if unused && now.since_ms(known.last_issued) < lifetime_ms / RENEWALS_PER_LIFETIME {
                return Err(VaultError::TooMany { retry_after_seconds: 60 });
            }
            known.newest_generation + 1
        };
        let issued = self.ca.issue_node(node, key, lifetime_ms, now)?;
        let certificate = new_certificate(node, generation, key, &issued, now);
        let detail = serde_json::json!({
            "serial": issued.serial,
            "public_key_sha256": key.fingerprint(),
            "generation": generation,
        });
        let record =
            self.audit(requester, "certificate.renew", format!("node:{node}"), Decision::Allowed, detail);
        if !self.store.certificate_add(&certificate, &record).await? {
            return Err(VaultError::Conflict("this key is recorded already; make a new one".to_owned()));
        }
        self.identities.write().add_certificate(known(&certificate), now);
        Ok(issued)
    }

    /// Writes a refused renewal into the audit trail; a database that is away must not hide the refusal itself.
    async fn record_refused_renewal(
        &self,
        peer: &PeerIdentity,
        key: Option<Sha256Digest>,
        reason: &VaultError,
        requester: &Requester,
    ) {
        let node = peer.node_id;
        let detail = serde_json::json!({
            "serial": peer.serial,
            "public_key_sha256": key,
            "reason": reason.to_string(),
        });
        let record =
            self.audit(requester, "certificate.renew", format!("node:{node}"), Decision::Denied, detail);
        if let Err(error) = self.store.audit_append(&record).await {
            tracing::warn!(node.id = %node, %error, %reason, "a refused renewal could not be recorded");
        }
    }

    /// The node uses this certificate: those before it are superseded from now on (PKI-08).
    pub async fn mark_first_used(&self, peer: &PeerIdentity) {
        if !self.identities.write().mark_used(&peer.serial) {
            return;
        }
        let first_use = Pending::FirstUse {
            node: peer.node_id,
            serial: peer.serial.clone(),
            generation: peer.generation,
            at: self.clock.now(),
        };
        if peer.generation <= FIRST_GENERATION {
            // It supersedes nothing, so that a crash may forget it; a new fleet's admissions wait for no disk.
            self.keep(first_use);
        } else {
            self.write_or_keep(first_use).await;
        }
    }
}
