//! The audit trail.

use serde::{Deserialize, Serialize};

use crate::units::EpochMs;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecordView {
    /// Its place in the chain, from 1 without gaps.
    pub sequence: i64,
    /// When.
    pub at: EpochMs,
    /// Who: `user:NAME`, `node:ID`, `anonymous`, `coordinator`, `host:USER` (a command on the coordinator's host).
    pub actor: String,
    /// Address it came from, or empty.
    pub source: String,
    /// What was tried (`token.create`, `node.revoke`, `login`).
    pub action: String,
    /// On what.
    pub target: String,
    /// `allowed`, `denied` or `failed`.
    pub decision: String,
    /// Details; never a secret.
    pub detail: serde_json::Value,
    /// The request's id, or empty.
    pub request_id: String,
    /// Hash of this record with the former one's, in hexadecimal.
    pub hash: String,
}

/// `GET /api/v1/audit/verify`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditVerification {
    /// The chain is whole.
    pub intact: bool,
    /// Records checked.
    pub checked: i64,
    /// The first record that does not fit, and why.
    pub broken_at: Option<i64>,
    /// One line for a person.
    pub detail: String,
}
