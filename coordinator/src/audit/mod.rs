//! Who did what: records of every change and every refusal, and the check of their chain.
//!
//! Enters: what was decided, by whom, on what. Leaves: rows of the audit trail, signed checkpoints of it outside the
//! database, and whether it is whole. Never: a secret in a detail, a change that becomes durable without its record, a
//! flood that pushes out what was before, a deletion that the trail does not tell of.

mod denied;
mod keeper;
mod verify;
mod witness;

use std::sync::{Arc, Mutex, PoisonError};

use aim_common::api::audit::AuditVerification;
use aim_common::units::EpochMs;
use serde_json::json;

use self::denied::DeniedLimiter;
pub use self::keeper::{Keeper, prune};
pub use self::verify::{VerifyError, verify};
pub use self::witness::{Witness, WitnessError};
use crate::auth::Caller;
use crate::clock::SharedClock;
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::{Store, StoreError};

/// The record of something that a caller did; goes into the transaction that does it.
pub fn allowed(
    caller: &Caller,
    at: EpochMs,
    action: &'static str,
    target: impl Into<String>,
    detail: serde_json::Value,
) -> NewAuditRecord {
    NewAuditRecord {
        at,
        actor: caller.actor(),
        source: caller.source.clone(),
        action,
        target: target.into(),
        decision: Decision::Allowed,
        detail,
        request_id: caller.request_id.clone(),
    }
}

/// Records refusals, few per source (LOG-04).
pub struct Audit {
    store: Store,
    clock: SharedClock,
    witness: Arc<Witness>,
    limiter: Mutex<DeniedLimiter>,
}

impl Audit {
    /// Writes to this store.
    pub fn new(store: Store, clock: SharedClock, witness: Arc<Witness>) -> Self {
        Self { store, clock, witness, limiter: Mutex::new(DeniedLimiter::default()) }
    }

    /// Checks the whole trail.
    pub async fn verify(&self) -> Result<AuditVerification, VerifyError> {
        verify(&self.store, &self.witness).await
    }

    /// The key and the checkpoint file.
    pub fn witness(&self) -> &Arc<Witness> {
        &self.witness
    }

    /// Records a refusal unless its source had its share; how many were left out is told with the next one.
    ///
    /// The refusal stands whether it could be recorded or not.
    pub async fn denied(&self, mut record: NewAuditRecord) {
        let now = self.clock.monotonic();
        let left_out = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            match limiter.admit(&record.source, now) {
                Some(left_out) => left_out,
                None => return,
            }
        };
        if left_out > 0
            && let Some(detail) = record.detail.as_object_mut()
        {
            detail.insert("left_out_before".to_owned(), json!(left_out));
        }
        record.decision = Decision::Denied;
        if let Err(error) = self.store.audit_append(&record).await {
            tracing::warn!(%error, action = record.action, "a refusal could not be recorded");
        }
    }

    /// Records something that has no transaction of its own.
    pub async fn append(&self, record: &NewAuditRecord) -> Result<i64, StoreError> {
        self.store.audit_append(record).await
    }
}
