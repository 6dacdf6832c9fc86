//! The end of an identity: journal first, then memory, then the live sessions, then the database (PKI-10, PKI-12).

use aim_common::api::certificates::RevokeResponse;
use aim_common::identity::NodeId;
use aim_common::protocol::CloseCode;

use super::KeyVault;
use super::error::{Requester, VaultError};
use super::journal::{Record, RevocationRecord, RevokedCertificate};
use super::news::NodeNews;
use super::pending::Pending;

/// Longest reason.
const MAX_REASON: usize = 500;
/// Certificates that a revocation names, the newest first: a node has two that may be used, and a line of the journal has
/// its length.
const MAX_CERTIFICATES: usize = 8;

/// Refuses a reason that says nothing, or a novel.
pub(super) fn check_reason(reason: &str) -> Result<(), VaultError> {
    if (1..=MAX_REASON).contains(&reason.chars().count()) {
        Ok(())
    } else {
        Err(VaultError::invalid("/reason", "say why in 1 to 500 characters"))
    }
}

impl KeyVault {
    /// Revokes a living node; when this returns, the revocation is in force.
    pub async fn revoke(
        &self,
        node: NodeId,
        reason: &str,
        requester: &Requester,
    ) -> Result<RevokeResponse, VaultError> {
        check_reason(reason)?;
        let (name, certificates) = {
            let registry = self.identities.read();
            let known = registry.node(node).ok_or(VaultError::NotFound("the node"))?;
            let newest = registry.certificates_of(node).into_iter().take(MAX_CERTIFICATES);
            let named = newest.map(|certificate| RevokedCertificate {
                serial: certificate.serial.clone(),
                public_key_sha256: certificate.public_key,
            });
            (known.name.to_string(), named.collect())
        };
        let revocation = RevocationRecord {
            node,
            name,
            at: self.clock.now(),
            actor: requester.actor.clone(),
            source: requester.source.clone(),
            reason: reason.to_owned(),
            request_id: requester.request_id.clone(),
            certificates,
        };
        self.journal.append(&Record::Revoked(revocation.clone())).await?;
        self.identities.write().remove_node(node);
        let sessions_closed = self.sessions.close_node(node, CloseCode::Refused);
        self.tell(NodeNews::Revoked(node));
        let revoked_at = revocation.at;
        let stored = self.write_or_keep(Pending::Revocation(revocation)).await;
        Ok(RevokeResponse { node_id: node, revoked_at, sessions_closed, database_pending: !stored })
    }
}
