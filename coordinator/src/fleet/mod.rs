//! The QUIC endpoint, its sessions, and who is present.
//!
//! Enters: datagrams of agents, whose identity is their certificate. Leaves: reports and records to `inventory/`,
//! presence, answers on the same session. Never: a word about another node, an internal text in a close reason, an
//! identity taken from an address or a message.
// What a peer sends reaches this code: no index and no slice without a check (SUP-02).
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod control;
mod counters;
mod endpoint;
mod link;
mod live_mode;
pub mod news;
mod presence;
mod rate;
mod registry;
mod rules;
mod session;
mod stream;
mod takeover;
mod tls;
mod watch;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aim_common::identity::NodeId;
use aim_common::protocol::{CloseCode, LiveMode};

use self::control::SessionControl;
use self::live_mode::LiveDemands;
use self::registry::Registry;
use crate::clock::SharedClock;
use crate::inventory::Inventory;
use crate::keyvault::KeyVault;
use crate::supervise::Tasks;

pub use self::counters::LinkCounters;
pub use self::registry::SessionInfo;
pub use self::tls::LinkError;

/// Reporting interval that Welcome names.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The sessions of the fleet. Made before the endpoint, since the KeyVault needs it to cut sessions.
pub struct Fleet {
    clock: SharedClock,
    inventory: Arc<Inventory>,
    registry: Registry,
    live: std::sync::Mutex<LiveDemands>,
    counters: LinkCounters,
    /// Connections so far: each has its number.
    connections: AtomicU64,
    /// The coordinator stops: the end of a session says nothing of its node any more.
    stopping: AtomicBool,
}

/// Too many nodes are looked at live.
#[derive(Debug, thiserror::Error)]
#[error("{} nodes are in live mode already; close one of their views and try again", live_mode::MAX_NODES)]
pub struct TooManyLive;

impl Fleet {
    /// A fleet without any session.
    pub fn new(clock: SharedClock, inventory: Arc<Inventory>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            inventory,
            registry: Registry::default(),
            live: std::sync::Mutex::default(),
            counters: LinkCounters::default(),
            connections: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// The session of a node, if there is one.
    pub fn session_of(&self, node: NodeId) -> Option<SessionInfo> {
        self.registry.active(node).map(|session| session.info())
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.registry.all().len()
    }

    /// What the link has counted.
    pub fn counters(&self) -> &LinkCounters {
        &self.counters
    }

    /// The coordinator is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Puts a node into live mode for as long as the guard lives, and a little longer.
    pub fn set_live(self: &Arc<Self>, node: NodeId) -> Result<LiveGuard, TooManyLive> {
        let told = self.demands().enter(node, self.clock.monotonic()).map_err(|_| TooManyLive)?;
        if let Some(message) = told {
            self.tell_live(node, message);
        }
        Ok(LiveGuard { fleet: Arc::clone(self), node })
    }

    fn demands(&self) -> std::sync::MutexGuard<'_, LiveDemands> {
        self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn tell_live(&self, node: NodeId, message: LiveMode) {
        if let Some(session) = self.registry.active(node) {
            session.send(&message);
        }
    }
}

impl SessionControl for Fleet {
    fn close_node(&self, node: NodeId, code: CloseCode) -> u32 {
        // The cause stands before the connection is seen to be closed.
        if code == CloseCode::Refused {
            self.inventory.mark_revoked(node);
        }
        let closed = self.registry.close_all(node, code);
        (0..closed).for_each(|_| self.counters.closed(code));
        closed
    }
}

/// Keeps a node in live mode.
pub struct LiveGuard {
    fleet: Arc<Fleet>,
    node: NodeId,
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let now = self.fleet.clock.monotonic();
        self.fleet.demands().leave(self.node, now);
    }
}

/// Starts to listen on the socket, among the caller's tasks.
pub fn start(
    fleet: &Arc<Fleet>,
    keyvault: &Arc<KeyVault>,
    socket: UdpSocket,
    tasks: &mut Tasks,
) -> Result<(), LinkError> {
    let endpoint = endpoint::open(keyvault, socket)?;
    let stop = tasks.stop_token();
    tasks.spawn("link", endpoint::accept(Arc::clone(fleet), Arc::clone(keyvault), endpoint, stop.clone()));
    tasks.spawn("presence", watch::run(Arc::clone(fleet), stop));
    Ok(())
}

#[cfg(test)]
mod tests;
