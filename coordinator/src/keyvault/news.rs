//! What the KeyVault tells whoever keeps a picture of the nodes.

use aim_common::identity::NodeId;

/// Something happened to a node's identity. It is durable, or in the journal, when it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeNews {
    /// A node was enrolled.
    Enrolled(NodeId),
    /// Another identity took the node's name.
    Superseded(NodeId),
    /// The node's identity was revoked.
    Revoked(NodeId),
    /// The node is suspected to be a clone.
    Quarantined {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// An operator trusts the node again.
    Released(NodeId),
}
