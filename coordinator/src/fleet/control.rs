//! What the KeyVault may ask of the fleet: to cut a node's live sessions.

use aim_common::identity::NodeId;
use aim_common::protocol::CloseCode;

/// The live sessions, as far as revocation needs them.
pub trait SessionControl: Send + Sync + 'static {
    /// Closes every session of the node with this code and gives their number; returns when they are closed.
    fn close_node(&self, node: NodeId, code: CloseCode) -> u32;
}

/// No sessions: for tools on the coordinator's host, and for tests without a link.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSessions;

impl SessionControl for NoSessions {
    fn close_node(&self, _node: NodeId, _code: CloseCode) -> u32 {
        0
    }
}
