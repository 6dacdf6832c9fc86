//! Quarantine: an identity that seems to be in two places may report, and nothing else is done for it, until an operator
//! decides (PKI-09).

use aim_common::api::certificates::ReleaseResponse;
use aim_common::identity::NodeId;

use super::KeyVault;
use super::error::{Requester, VaultError};
use super::news::NodeNews;
use super::pending::Pending;
use super::revocation::check_reason;
use crate::store::audit::Decision;

impl KeyVault {
    /// Puts a node into quarantine.
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

    /// An operator found the clone and ended it: the node is trusted again. The next use of an older generation puts it
    /// back into quarantine.
    pub async fn release(
        &self,
        node: NodeId,
        reason: &str,
        requester: &Requester,
    ) -> Result<ReleaseResponse, VaultError> {
        check_reason(reason)?;
        let quarantined =
            self.identities.read().node(node).ok_or(VaultError::NotFound("the node"))?.quarantined;
        if !quarantined {
            return Err(VaultError::Conflict("the node is not in quarantine".to_owned()));
        }
        // A quarantine that waits for the database must not come after its own end.
        self.write_kept().await?;
        let detail = serde_json::json!({ "reason": reason });
        let record = self.audit(requester, "node.release", format!("node:{node}"), Decision::Allowed, detail);
        let released_at = record.at;
        // The other way round than quarantine: what is trusted again is durable first.
        if !self.store.node_release(node, &record).await? {
            return Err(VaultError::Conflict("the node is not in quarantine".to_owned()));
        }
        self.identities.write().release(node);
        tracing::info!(node.id = %node, reason, "node released from quarantine");
        self.tell(NodeNews::Released(node));
        Ok(ReleaseResponse { node_id: node, released_at })
    }
}
