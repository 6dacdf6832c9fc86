//! The end of an identity: journal first, then memory, then the live sessions, then the database (PKI-10, PKI-12).

use aim_common::api::certificates::RevokeResponse;
use aim_common::identity::NodeId;
use aim_common::protocol::CloseCode;

use super::KeyVault;
use super::error::{Requester, VaultError};
use super::journal::{Record, RevocationRecord};
use super::news::NodeNews;
use super::pending::Pending;

/// Longest reason.
const MAX_REASON: usize = 500;

impl KeyVault {
    /// Revokes a living node; when this returns, the revocation is in force.
    pub async fn revoke(
        &self,
        node: NodeId,
        reason: &str,
        requester: &Requester,
    ) -> Result<RevokeResponse, VaultError> {
        if !(1..=MAX_REASON).contains(&reason.chars().count()) {
            return Err(VaultError::invalid("/reason", "say why in 1 to 500 characters"));
        }
        let name = self.identities.read().node(node).map(|known| known.name.to_string());
        let revocation = RevocationRecord {
            node,
            name: name.ok_or(VaultError::NotFound("the node"))?,
            at: self.clock.now(),
            actor: requester.actor.clone(),
            source: requester.source.clone(),
            reason: reason.to_owned(),
            request_id: requester.request_id.clone(),
        };
        self.journal.append(&Record::Revoked(revocation.clone())).await?;
        self.identities.write().remove_node(node);
        let sessions_closed = self.sessions.close_node(node, CloseCode::Refused);
        self.tell(NodeNews::Revoked(node));
        let revoked_at = revocation.at;
        let stored = self.write_or_keep(Pending::Revocation(revocation)).await;
        Ok(RevokeResponse { node_id: node, revoked_at, sessions_closed, database_pending: !stored })
    }

    /// Puts a node into quarantine: it may report, and nothing else is done for it (PKI-09).
    pub async fn quarantine(&self, node: NodeId, reason: &str) {
        if self.identities.write().quarantine(node) {
            self.write_quarantine(node, reason).await;
        }
    }

    /// Likewise from where nothing may wait.
    pub fn suspect_clone(&self, node: NodeId, reason: &'static str) {
        self.clone_alarms.raise(&self.identities, node, reason);
    }

    /// Writes down and tells what is in force in memory already.
    pub(super) async fn write_quarantine(&self, node: NodeId, reason: &str) {
        tracing::error!(node.id = %node, reason, "node put into quarantine");
        self.tell(NodeNews::Quarantined { node, reason: reason.to_owned() });
        self.write_or_keep(Pending::Quarantine { node, reason: reason.to_owned(), at: self.clock.now() })
            .await;
    }
}
