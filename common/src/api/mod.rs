//! The public API's requests and answers: what coordinator and CLI agree on. Plain serde types, one file a resource.

pub mod audit;
pub mod auth;
pub mod certificates;
pub mod changes;
pub mod enrolment_requests;
pub mod events;
pub mod keyvault;
pub mod nodes;
pub mod problem;
pub mod roles;
pub mod salt;
pub mod system;
pub mod tokens;
pub mod users;

use serde::{Deserialize, Serialize};

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items, at most `limit`.
    pub items: Vec<T>,
    /// Give it as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
    /// How many items match in all, within the caller's scope; `null` where counting them would take too long.
    pub total: Option<u64>,
}
