//! Nodes that wait for approval.

use serde::{Deserialize, Serialize};

use crate::identity::NodeName;
use crate::units::EpochMs;

/// One row of `GET /api/v1/enrolment-requests`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolmentRequestView {
    /// Its number.
    pub id: i64,
    /// The name wished for.
    pub node: NodeName,
    /// SHA-256 of the public key; compare it with what `aim-agent enroll` printed on the node.
    pub public_key_sha256: String,
    /// Address it came from.
    pub source: String,
    /// First seen.
    pub requested_at: EpochMs,
    /// What the node says of itself; not trusted.
    pub inventory: serde_json::Value,
    /// `pending`, `approved`, `rejected`.
    pub state: String,
    /// Who decided.
    pub decided_by: Option<String>,
}
