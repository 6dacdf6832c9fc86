//! The fence: a database that is older than the journal is a restored backup, and nobody is enrolled until an operator
//! decided (ENR-15, DAT-02, DAT-03).

use std::sync::PoisonError;

use aim_common::api::certificates::FenceView;
use aim_common::identity::Sha256Digest;
use aim_common::units::EpochMs;

use super::KeyVault;
use super::error::{Requester, VaultError};
use super::journal::{AuditMark, DatabaseView, JournalState, Record};
use super::pending::Pending;
use crate::store::StoreError;
use crate::store::audit::Decision;

/// Name of the condition.
const CONDITION: &str = "fenced";

impl KeyVault {
    /// Refuses while the fence is up.
    pub(super) fn check_fence(&self) -> Result<(), VaultError> {
        if self.fence().fenced { Err(VaultError::Fenced) } else { Ok(()) }
    }

    /// Whether the fence is up, and why.
    pub fn fence(&self) -> FenceView {
        self.fence.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares the database with the journal, puts the fence up where it is older, and mends what the journal decides.
    pub(super) async fn compare(
        &self,
        journal: &JournalState,
        journal_was_there: bool,
    ) -> Result<(), VaultError> {
        // A fence that nobody lifted stays up: what follows mends the very traces it was raised for.
        if let Some(reason) = &journal.fence {
            self.raise_fence(reason.clone());
        } else if let Some(reason) = self.database_is_older(journal, journal_was_there).await? {
            let raised = Record::FenceRaised { at: self.clock.now(), reason: reason.clone() };
            self.journal.append(&raised).await?;
            self.raise_fence(reason);
        }
        // The journal decides whatever the operator does about the fence: what is dead stays dead.
        let now = self.clock.now();
        for (token, redeemed) in &journal.redeemed {
            self.remember_redeemed(*token, redeemed.expires_at);
            self.store.token_expire(token, now).await?;
        }
        for revocation in journal.revoked.values() {
            if self.store.is_node_living(revocation.record.node).await? {
                self.write_or_keep(Pending::Revocation(revocation.record.clone())).await;
            }
        }
        Ok(())
    }

    async fn database_is_older(
        &self,
        journal: &JournalState,
        journal_was_there: bool,
    ) -> Result<Option<String>, StoreError> {
        if !journal_was_there && self.store.has_certificates().await? {
            return Ok(Some("the journal is missing, but the database holds certificates".to_owned()));
        }
        Ok(journal.contradiction(&self.database_view(journal).await?))
    }

    /// What the database says about what the journal remembers.
    async fn database_view(&self, journal: &JournalState) -> Result<DatabaseView, StoreError> {
        let mut view = DatabaseView::default();
        if let Some(mark) = &journal.mark {
            view.mark_hash = self.store.audit_hash(mark.sequence).await?;
        }
        for token in journal.redeemed.keys() {
            if self.store.is_token_outstanding(token).await? {
                view.outstanding.insert(*token);
            }
        }
        for node in journal.revoked.keys() {
            if self.store.is_node_living(*node).await? {
                view.living.insert(*node);
            }
        }
        Ok(view)
    }

    fn raise_fence(&self, reason: String) {
        let since = self.clock.now();
        self.conditions.enter(CONDITION, "keyvault", since, &reason);
        *self.fence.write().unwrap_or_else(PoisonError::into_inner) =
            FenceView { fenced: true, since: Some(since), reason: Some(reason) };
    }

    /// An operator accepts the database as it is.
    pub async fn lift_fence(&self, requester: &Requester) -> Result<FenceView, VaultError> {
        let fence = self.fence();
        if fence.fenced {
            let detail = serde_json::json!({ "reason": fence.reason });
            let record =
                self.audit(requester, "fence.lift", "keyvault".to_owned(), Decision::Allowed, detail);
            self.store.audit_append(&record).await?;
            let lifted = Record::FenceLifted { at: record.at, actor: record.actor };
            self.journal.append(&lifted).await?;
            self.mark_audit().await?;
            *self.fence.write().unwrap_or_else(PoisonError::into_inner) = FenceView::default();
            self.conditions.leave(CONDITION, "keyvault");
        }
        Ok(self.fence())
    }

    /// Writes into the journal how far the audit trail has come, where that changed.
    pub(super) async fn mark_audit(&self) -> Result<(), VaultError> {
        let Some((sequence, hash)) = self.store.audit_last().await? else { return Ok(()) };
        let mark = AuditMark { sequence, hash };
        let known = |last: &Option<AuditMark>| last.as_ref() == Some(&mark);
        if known(&self.last_mark.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        self.journal.append(&Record::Mark(mark.clone())).await?;
        *self.last_mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark);
        Ok(())
    }

    /// The journal says that the token was redeemed.
    pub(super) fn journal_has_redeemed(&self, token: &Sha256Digest) -> bool {
        self.redeemed.lock().unwrap_or_else(PoisonError::into_inner).contains_key(token)
    }

    pub(super) fn remember_redeemed(&self, token: Sha256Digest, expires_at: EpochMs) {
        self.redeemed.lock().unwrap_or_else(PoisonError::into_inner).insert(token, expires_at);
    }
}
