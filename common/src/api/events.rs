//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Severity;
use crate::identity::{BootId, NodeId, NodeName};
use crate::units::EpochMs;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    /// Its number, rising in the order of storing.
    pub id: i64,
    /// The node it happened on.
    pub node_id: NodeId,
    /// The node's name.
    pub node_name: NodeName,
    /// What happened (`gpu.xid`).
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// When, by the node's clock.
    pub occurred_at: EpochMs,
    /// When the coordinator stored it.
    pub stored_at: EpochMs,
    /// The boot it happened in; absent on events of the coordinator.
    pub boot_id: Option<BootId>,
    /// What it happened to, or empty.
    pub subject: String,
    /// One line for a person.
    pub message: String,
    /// Details by name.
    pub attributes: BTreeMap<String, String>,
}
