//! Clone alarms from where nothing may wait (a handshake, a session): in force at once, written down by the KeyVault.

use aim_common::identity::NodeId;
use tokio::sync::mpsc;

use super::identities::Identities;

/// Alarms that wait to be written down; one for each node in quarantine, so that more means trouble elsewhere.
const WAITING: usize = 256;

/// An alarm, and why.
pub(super) type CloneAlarm = (NodeId, &'static str);

/// Where alarms are raised.
#[derive(Debug, Clone)]
pub(super) struct CloneAlarms {
    sender: mpsc::Sender<CloneAlarm>,
}

impl CloneAlarms {
    /// The two ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<CloneAlarm>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// Puts the node into quarantine, and has it written down unless it is there already.
    pub(super) fn raise(&self, identities: &Identities, node: NodeId, reason: &'static str) {
        if identities.write().quarantine(node) && self.sender.try_send((node, reason)).is_err() {
            tracing::error!(node.id = %node, reason, "the node is in quarantine only until the next start");
        }
    }
}
