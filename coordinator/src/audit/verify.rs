//! The check of the chain: each record's hash covers its fields and the former hash, without gaps.

use aim_common::api::audit::AuditVerification;

use crate::store::audit::GENESIS;
use crate::store::{Store, StoreError};

/// Records read at once.
const PAGE: u32 = 1_000;

/// Walks the whole trail.
pub async fn verify(store: &Store) -> Result<AuditVerification, StoreError> {
    let (mut checked, mut previous) = (0_i64, GENESIS.to_owned());
    loop {
        let page = store.audit_chain(checked, PAGE).await?;
        if page.is_empty() {
            let detail = format!("{checked} records, the last one with hash {previous}");
            return Ok(AuditVerification { intact: true, checked, broken_at: None, detail });
        }
        for record in page {
            let expected = checked + 1;
            let wrong = if record.sequence != expected {
                Some(format!("record {expected} is missing"))
            } else if record.previous_hash != previous {
                Some(format!("record {expected} does not follow the one before it"))
            } else if record.hash != record.expected_hash() {
                Some(format!("record {expected} was changed"))
            } else {
                None
            };
            if let Some(detail) = wrong {
                let broken_at = Some(expected);
                return Ok(AuditVerification { intact: false, checked, broken_at, detail });
            }
            checked = expected;
            previous = record.hash;
        }
    }
}
