//! Outstanding tokens; never their secrets.

use serde::{Deserialize, Serialize};

use crate::identity::NodeName;
use crate::units::EpochMs;

/// One row of `GET /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Number of the row; not the token.
    pub id: i64,
    /// `agent-enrol` or `salt-master-pub`.
    pub purpose: String,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// Address range it is bound to.
    pub source_cidr: Option<String>,
    /// When it was issued.
    pub created_at: EpochMs,
    /// When it ends.
    pub expires_at: EpochMs,
    /// Who issued it.
    pub created_by: String,
    /// `outstanding`, `redeemed`, `revoked`, `expired`.
    pub state: String,
}
