//! The live change feed, `GET /api/v1/changes` (SSE).

use serde::{Deserialize, Serialize};

use super::events::EventView;
use super::nodes::NodeSummary;
use crate::identity::NodeId;

/// One change. The SSE event's name is `change`; after `lagged` the client reads its lists again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// A node is new or changed (presence, labels, conditions, inventory).
    Node {
        /// The node as it is now.
        node: Box<NodeSummary>,
    },
    /// A node was deleted.
    NodeDeleted {
        /// Its id.
        id: NodeId,
    },
    /// An event was stored.
    Event {
        /// The event.
        event: Box<EventView>,
    },
    /// The client was too slow; so many changes are missing.
    Lagged {
        /// How many.
        missed: u64,
    },
}
