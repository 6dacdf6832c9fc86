//! What the audit trail's keeper does by itself: signed checkpoints outside the database, and the end of old records.

use std::sync::Arc;
use std::time::Duration;

use aim_common::units::EpochMs;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::witness::Witness;
use crate::clock::SharedClock;
use crate::conditions::Conditions;
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::{Store, StoreError};

/// What the record of a deletion is called; the check of the chain looks for it.
pub(super) const PRUNE: &str = "audit.prune";
/// Between two checkpoints; what an intruder removes from the end within this time is not found.
const EVERY: Duration = Duration::from_mins(10);
/// Old records are looked for each so many rounds.
const ROUNDS_TO_PRUNE: u64 = 6;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Records deleted in one transaction, so that no other change waits long for it.
const AT_ONCE: i64 = 10_000;
/// Name of the condition.
const CONDITION: &str = "audit_checkpoint_unwritable";

/// The keeper.
pub struct Keeper {
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: SharedClock,
    /// Degraded modes.
    pub conditions: Arc<Conditions>,
    /// Key and checkpoint file.
    pub witness: Arc<Witness>,
    /// Days that records are kept; 0 keeps them all.
    pub days: u32,
    /// The database may be a restored backup: nothing is signed and nothing is deleted.
    pub is_fenced: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Keeper {
    /// Runs until stopped; the last checkpoint is that of the stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut last = None;
        for round in 0_u64.. {
            last = self.checkpoint(last).await;
            // Not at the start: the journal is marked first with how far the trail has come.
            if round > 0 && round.is_multiple_of(ROUNDS_TO_PRUNE) {
                self.prune().await;
            }
            if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                break;
            }
        }
        self.checkpoint(last).await;
    }

    /// Signs how far the trail has come, where that is not `last`; gives what is signed now.
    async fn checkpoint(&self, last: Option<i64>) -> Option<i64> {
        if (self.is_fenced)() {
            return last;
        }
        let (sequence, hash) = match self.store.audit_last().await {
            Ok(Some(row)) => row,
            Ok(None) => return last,
            Err(error) => {
                tracing::warn!(%error, "the audit trail has no new checkpoint; trying again later");
                return last;
            }
        };
        if last == Some(sequence) {
            return last;
        }
        let (witness, now) = (Arc::clone(&self.witness), self.clock.now());
        let written = tokio::task::spawn_blocking(move || witness.append(sequence, &hash, now)).await;
        let problem = match written {
            Ok(Ok(())) => {
                self.conditions.leave(CONDITION, "audit");
                return Some(sequence);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.conditions.enter(CONDITION, "audit", now, &problem);
        last
    }

    async fn prune(&self) {
        if self.days == 0 || (self.is_fenced)() {
            return;
        }
        match prune(&self.store, &self.witness, self.days, self.clock.now()).await {
            Ok(None) => {}
            Ok(Some(through)) => {
                tracing::info!(through, days = self.days, "audit records past their time were deleted");
            }
            Err(error) => {
                tracing::warn!(%error, "audit records past their time could not be deleted; trying again later");
            }
        }
    }
}

/// Deletes the records that are older than `days`, once a day's worth is there; gives the last one deleted.
///
/// The trail says so itself: a signed record tells behind which record it begins from now on.
pub async fn prune(
    store: &Store,
    witness: &Witness,
    days: u32,
    now: EpochMs,
) -> Result<Option<i64>, StoreError> {
    let before = now.plus_ms(-i64::from(days) * DAY_MS);
    let record = |through: i64, hash: &str| NewAuditRecord {
        at: now,
        actor: "coordinator".to_owned(),
        source: String::new(),
        action: PRUNE,
        target: format!("record:{through}"),
        decision: Decision::Allowed,
        detail: json!({"days": days, "hash": hash, "signature": witness.sign_beginning(through, hash), "through": through}),
        request_id: String::new(),
    };
    let mut deleted = None;
    loop {
        let overdue = before.plus_ms(-DAY_MS);
        match store.audit_prune(before, overdue, AT_ONCE, &record).await? {
            Some(through) => deleted = Some(through),
            None => return Ok(deleted),
        }
    }
}
