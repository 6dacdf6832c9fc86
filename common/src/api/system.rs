//! Health, readiness, version.

use serde::{Deserialize, Serialize};

use super::nodes::Condition;

/// `GET /readyz`: 200 when ready, 503 otherwise; the degraded modes are named either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Readiness {
    /// It can serve.
    pub ready: bool,
    /// Degraded modes (`database_unavailable`, `fenced`, `admin_password_unchanged`, …).
    pub conditions: Vec<Condition>,
}

/// `GET /api/v1/version`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Version {
    /// The coordinator's version.
    pub version: String,
    /// Oldest and newest protocol version of the link.
    pub protocol: (u16, u16),
}
