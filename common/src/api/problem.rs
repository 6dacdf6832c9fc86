//! Errors: RFC 9457 problem details.

use serde::{Deserialize, Serialize};

/// `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:aim:problem:<code>`.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// One short line, the same for each problem of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable word for programs (`not_found`, `permission_denied`, `name_taken`, …).
    pub code: String,
    /// What was tried, on what, and what to do next.
    pub detail: String,
    /// The request's id, to be looked up in the coordinator's journal.
    pub request_id: String,
    /// The field that is wrong, as a JSON pointer or parameter name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
}
