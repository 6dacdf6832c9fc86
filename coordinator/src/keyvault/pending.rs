//! Decisions that are in force already and must reach the database when it is back.

use std::sync::PoisonError;
use std::time::Duration;

use aim_common::identity::{CertificateSerial, NodeId};
use aim_common::units::EpochMs;

use super::KeyVault;
use super::error::Requester;
use super::journal::{Record, RevocationRecord};
use crate::store::StoreError;
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::enrolment::FirstUse;

/// Longest wait for the database before a decision is kept for later.
const PATIENCE: Duration = Duration::from_secs(2);
/// First uses of one transaction: a new fleet's come by the thousand.
const GROUP: usize = 500;

/// One decision; writing it twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pending {
    /// A node was revoked; the journal holds it.
    Revocation(RevocationRecord),
    /// A node is suspected to be a clone.
    Quarantine { node: NodeId, reason: String, at: EpochMs },
    /// A certificate was used for the first time.
    FirstUse { node: NodeId, serial: CertificateSerial, generation: i64, at: EpochMs },
}

impl KeyVault {
    /// Writes the decision, or keeps it where the database does not answer in time. True where it was written.
    pub(super) async fn write_or_keep(&self, decision: Pending) -> bool {
        let written = tokio::time::timeout(PATIENCE, self.write_decision(&decision)).await;
        match written {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%error, ?decision, "kept a decision until the database is back"),
            Err(_) => tracing::warn!(?decision, "kept a decision: the database did not answer in time"),
        }
        self.keep(decision);
        false
    }

    /// Keeps the decision for the next round of maintenance.
    pub(super) fn keep(&self, decision: Pending) {
        // One of each sort for each node, so that the list is bounded by the living nodes.
        let mut kept = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains(&decision) {
            kept.push(decision);
        }
    }

    /// Writes what was kept, in order, until the first refusal.
    pub(super) async fn write_kept(&self) -> Result<(), StoreError> {
        loop {
            let next = next_group(&self.pending.lock().unwrap_or_else(PoisonError::into_inner));
            match next.as_slice() {
                [] => return Ok(()),
                [decision] => self.write_decision(decision).await?,
                group => {
                    let first_uses: Vec<FirstUse> = group.iter().filter_map(first_use).collect();
                    self.store.certificates_used(&first_uses).await?;
                }
            }
            // Others only append: what was written is still in front.
            self.pending.lock().unwrap_or_else(PoisonError::into_inner).drain(..next.len());
        }
    }

    async fn write_decision(&self, decision: &Pending) -> Result<(), StoreError> {
        match decision {
            Pending::Revocation(revocation) => {
                self.store.node_revoke(revocation.node, &revocation_audit(revocation)).await?;
                let stored = Record::RevocationStored { node: revocation.node };
                if let Err(error) = self.journal.append(&stored).await {
                    tracing::warn!(%error, "the journal does not know that a revocation is stored; it is written again");
                }
            }
            Pending::Quarantine { node, reason, at } => {
                let detail = serde_json::json!({ "reason": reason });
                let record = self.audit(
                    &Requester::coordinator(),
                    "node.quarantine",
                    format!("node:{node}"),
                    Decision::Allowed,
                    detail,
                );
                self.store.node_quarantine(*node, reason, &NewAuditRecord { at: *at, ..record }).await?;
            }
            Pending::FirstUse { node, serial, generation, at } => {
                let first_use = FirstUse { node: *node, serial, generation: *generation, at: *at };
                self.store.certificates_used(&[first_use]).await?;
            }
        }
        Ok(())
    }
}

/// What is written next: one decision, or as many first uses as stand in front together.
fn next_group(kept: &[Pending]) -> Vec<Pending> {
    let first_uses = kept.iter().take_while(|decision| first_use(decision).is_some()).take(GROUP).count();
    kept.iter().take(first_uses.max(1)).cloned().collect()
}

fn first_use(decision: &Pending) -> Option<FirstUse<'_>> {
    match decision {
        Pending::FirstUse { node, serial, generation, at } => {
            Some(FirstUse { node: *node, serial, generation: *generation, at: *at })
        }
        Pending::Revocation(_) | Pending::Quarantine { .. } => None,
    }
}

/// The audit record that the journal carries for a revocation.
pub(super) fn revocation_audit(revocation: &RevocationRecord) -> NewAuditRecord {
    NewAuditRecord {
        at: revocation.at,
        actor: revocation.actor.clone(),
        source: revocation.source.clone(),
        action: "node.revoke",
        target: format!("node:{}", revocation.node),
        decision: Decision::Allowed,
        detail: serde_json::json!({
            "name": revocation.name,
            "reason": revocation.reason,
            "certificates": revocation.certificates,
        }),
        request_id: revocation.request_id.clone(),
    }
}
