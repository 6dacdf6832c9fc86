//! The node's connection to the coordinator.
//!
//! Enters: an identity, what Hello says ([`HelloFacts`]), frames to be sent, a wish to stop. Leaves: [`LinkEvent`]s.
//! Never: blocks its caller, sends anything before Welcome, trusts a server without the coordinator's name, listens.
//!
//! [`connect`] and [`serve`] need nothing of the agent's process, so that many sessions fit into one.
// What a peer sends reaches this code: no index and no slice without a check (SUP-02).
#![warn(clippy::indexing_slicing, clippy::string_slice)]

mod addresses;
mod connection;
mod dial;
mod renew;
mod session;
mod supervisor;
mod transport;

use aim_common::identity::{BootId, Sha256Digest, SpoolId};
use aim_common::protocol::{Ack, GoodbyeCause, LiveMode, Welcome};
use aim_common::units::EpochMs;
use tokio::sync::mpsc;

pub use addresses::resolve;
pub use connection::{Ended, LinkError, Opened, RenewalError, Served, connect, serve};
pub use renew::{Issued, Renewal, RenewalFailure};
pub use session::{Effect, Session, WELCOME_WITHIN};
pub use supervisor::{BACKOFF, Link, LinkEnd, REFUSED_DELAY, SupervisorOptions, supervise};
pub use transport::{client_config, client_socket, endpoint};

/// Frames that may wait for one stream; more would only be memory, since the network takes no more.
pub const STREAM_QUEUE: usize = 8;

/// What Hello says at the moment of connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloFacts {
    /// The agent's version.
    pub agent_version: String,
    /// This boot.
    pub boot_id: BootId,
    /// Hash of the machine's id.
    pub machine_id_sha256: Option<Sha256Digest>,
    /// Hash of the whole inventory.
    pub inventory_sha256: Sha256Digest,
    /// Hash of the series table.
    pub series_sha256: Sha256Digest,
    /// The spool that records come from.
    pub spool_id: SpoolId,
    /// Sequence of its oldest record.
    pub spool_first: u64,
    /// When the process began.
    pub started: EpochMs,
}

/// What the agent wants of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Be connected.
    #[default]
    Connected,
    /// Connect anew: what Hello said is no longer so. The number makes each wish a change.
    Anew(u64),
    /// Say Goodbye and end.
    Stop,
}

/// What the link tells the agent.
#[derive(Debug)]
pub enum LinkEvent {
    /// The node is present; frames go into these queues until the session ends.
    Opened(Box<OpenSession>),
    /// Records are durable.
    Acknowledged(Ack),
    /// Report faster for a while.
    Live(LiveMode),
    /// The session ended.
    Closed {
        /// In words.
        reason: String,
    },
    /// An attempt failed.
    Failed {
        /// The address.
        address: String,
        /// Which sort of failure.
        trouble: Trouble,
        /// In words.
        reason: String,
        /// Rounds over all addresses since the last session.
        attempt: u32,
    },
    /// Nothing can be tried now.
    Waiting {
        /// Which sort of trouble.
        trouble: Trouble,
        /// In words.
        reason: String,
    },
    /// The node has a new certificate.
    CertificateRenewed {
        /// Good until.
        not_after: EpochMs,
    },
    /// A renewal failed; it is tried again.
    RenewalFailed {
        /// In words.
        reason: String,
    },
}

/// Sorts of trouble: each is a condition of its own, because each has another remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No packet came back: UDP may be blocked.
    NoAnswer,
    /// The name does not resolve.
    Name,
    /// The server is not the coordinator.
    NotTheCoordinator,
    /// A certificate is not good at this machine's time.
    Clock,
    /// The coordinator refuses this node.
    Refused,
    /// The coordinator says to come back later, or broke off.
    Unavailable,
    /// The certificate expired and could not be renewed.
    Expired,
    /// The local machine refuses: no route, no socket.
    Local,
}

/// A session that is open.
#[derive(Debug)]
pub struct OpenSession {
    /// The coordinator's address.
    pub address: String,
    /// The connection, for its figures.
    pub connection: quinn::Connection,
    /// What this node said in Hello.
    pub facts: HelloFacts,
    /// What it said.
    pub welcome: Welcome,
    /// Whole frames for the samples stream.
    pub samples: mpsc::Sender<Vec<u8>>,
    /// Whole frames for the durable stream.
    pub durable: mpsc::Sender<Vec<u8>>,
}

/// Why this side leaves.
pub(crate) fn goodbye_of(wish: Wish) -> Option<GoodbyeCause> {
    match wish {
        Wish::Stop => Some(GoodbyeCause::AgentStopped),
        Wish::Anew(_) | Wish::Connected => None,
    }
}
