//! The connections of each identity, and which of them is the node's session.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aim_common::identity::{CertificateSerial, NodeId};
use aim_common::protocol::{CloseCode, Goodbye, GoodbyeCause};
use aim_common::units::EpochMs;
use aim_common::wire::{Message, ProtocolVersion, encode};
use quinn::Connection;
use tokio::sync::{mpsc, oneshot};

use super::endpoint::close;
use super::presence::{Observation, Presence};
use super::takeover::Claim;
use crate::clock::Clock;
use crate::inventory::Node;

/// Connections of one identity at once: the session, its successor, and two that are dying (QUI-06).
const PER_IDENTITY: usize = 4;
/// Control frames that wait for a slow peer; an acknowledgement is 30 bytes.
pub(super) const CONTROL_QUEUE: usize = 32;
/// How long a Goodbye may take to arrive before the connection is closed anyway.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);

/// What the control stream's writer is asked to send.
pub(super) enum Outgoing {
    Frame(Vec<u8>),
    /// The last frame; answered once the peer has it.
    Last(Vec<u8>, oneshot::Sender<()>),
}

/// A session that was admitted.
pub(super) struct Session {
    pub(super) node: Arc<Node>,
    pub(super) connection: Connection,
    pub(super) serial: CertificateSerial,
    pub(super) claim: Claim,
    pub(super) protocol: ProtocolVersion,
    pub(super) since: EpochMs,
    pub(super) control: mpsc::Sender<Outgoing>,
    /// Welcome is in the queue: other messages may follow it.
    pub(super) welcomed: AtomicBool,
    pub(super) presence: Mutex<Presence>,
    pub(super) address: Mutex<SocketAddr>,
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its address now.
    pub address: SocketAddr,
    /// The certificate in use.
    pub serial: CertificateSerial,
    /// Since when.
    pub since: EpochMs,
}

impl Session {
    pub(super) fn info(&self) -> SessionInfo {
        SessionInfo {
            address: self.connection.remote_address(),
            serial: self.serial.clone(),
            since: self.since,
        }
    }

    /// What the connection's counters say now.
    pub(super) fn observe(connection: &Connection, clock: &dyn Clock) -> Observation {
        let stats = connection.stats();
        Observation {
            at: clock.monotonic(),
            datagrams: stats.udp_rx.datagrams,
            sent: stats.path.sent_packets,
            lost: stats.path.lost_packets,
        }
    }

    /// Sends on the control stream, if the peer reads it.
    pub(super) fn send<M: Message>(&self, message: &M) {
        if !self.welcomed.load(Ordering::Acquire) {
            return;
        }
        match encode(self.protocol, message) {
            // A full queue means a peer that does not read: presence and the idle time-out deal with it.
            Ok(frame) => drop(self.control.try_send(Outgoing::Frame(frame))),
            Err(error) => tracing::error!(%error, "a message to a node could not be written"),
        }
    }

    /// Tells the peer why, gives it a moment to hear it, and closes.
    pub(super) async fn leave(&self, cause: GoodbyeCause, code: CloseCode) {
        if let Ok(frame) = encode(self.protocol, &Goodbye { cause }) {
            let (done, heard) = oneshot::channel();
            if self.control.try_send(Outgoing::Last(frame, done)).is_ok() {
                let _ = tokio::time::timeout(GOODBYE_WITHIN, heard).await;
            }
        }
        close(&self.connection, code);
    }

    /// The coordinator is stopping.
    pub(super) async fn stop(&self) {
        self.leave(GoodbyeCause::CoordinatorStopping, CloseCode::Unavailable).await;
    }
}

#[derive(Default)]
struct Identity {
    connections: Vec<Connection>,
    active: Option<Arc<Session>>,
    /// When a session that still answered was last replaced.
    taken_over: Option<Duration>,
}

/// All identities with a connection.
#[derive(Default)]
pub(super) struct Registry {
    identities: Mutex<HashMap<NodeId, Identity>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Identity>> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn active(&self, node: NodeId) -> Option<Arc<Session>> {
        self.lock().get(&node).and_then(|identity| identity.active.clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().filter_map(|identity| identity.active.clone()).collect()
    }

    /// Makes the session the node's, if the one that is there is still the one that was judged.
    pub(super) fn activate(
        &self,
        session: &Arc<Session>,
        judged: Option<&Arc<Session>>,
        takeover: Option<Duration>,
    ) -> bool {
        let mut identities = self.lock();
        let Some(identity) = identities.get_mut(&session.node.id) else { return false };
        let same = match (&identity.active, judged) {
            (None, _) => true,
            (Some(there), Some(judged)) => Arc::ptr_eq(there, judged),
            (Some(_), None) => false,
        };
        if same {
            identity.active = Some(Arc::clone(session));
            identity.taken_over = takeover.or(identity.taken_over);
        }
        same
    }

    /// The session ended; says whether it was the node's.
    pub(super) fn deactivate(&self, session: &Arc<Session>) -> bool {
        let mut identities = self.lock();
        let Some(identity) = identities.get_mut(&session.node.id) else { return false };
        let was = identity.active.as_ref().is_some_and(|there| Arc::ptr_eq(there, session));
        if was {
            identity.active = None;
        }
        was
    }

    pub(super) fn last_takeover(&self, node: NodeId) -> Option<Duration> {
        self.lock().get(&node).and_then(|identity| identity.taken_over)
    }

    /// Closes every connection of the node and says how many there were.
    pub(super) fn close_all(&self, node: NodeId, code: CloseCode) -> u32 {
        let connections: Vec<Connection> = {
            let identities = self.lock();
            identities.get(&node).map(|identity| identity.connections.clone()).unwrap_or_default()
        };
        for connection in &connections {
            close(connection, code);
        }
        u32::try_from(connections.len()).unwrap_or(u32::MAX)
    }
}

/// A connection's place among those of its identity.
pub(super) struct Slot<'a> {
    registry: &'a Registry,
    node: NodeId,
    connection: usize,
}

impl<'a> Slot<'a> {
    /// Takes a place; none is left beyond [`PER_IDENTITY`].
    pub(super) fn take(registry: &'a Registry, node: NodeId, connection: &Connection) -> Option<Self> {
        let mut identities = registry.lock();
        let identity = identities.entry(node).or_default();
        if identity.connections.len() >= PER_IDENTITY {
            return None;
        }
        identity.connections.push(connection.clone());
        Some(Self { registry, node, connection: connection.stable_id() })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut identities = self.registry.lock();
        if let Some(identity) = identities.get_mut(&self.node) {
            identity.connections.retain(|connection| connection.stable_id() != self.connection);
            // The time of the last takeover is worth keeping only while somebody is there to take over from.
            if identity.connections.is_empty() {
                identities.remove(&self.node);
            }
        }
    }
}
