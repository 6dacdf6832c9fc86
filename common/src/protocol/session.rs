//! Opening and ending a session.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::identity::{BootId, Sha256Digest, SpoolId};
use crate::units::EpochMs;
use crate::wire::{BoundedString, Message, ProtocolVersion};

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's version.
    pub agent_version: BoundedString<64>,
    /// Oldest protocol version the agent speaks.
    pub protocol_min: ProtocolVersion,
    /// Newest protocol version the agent speaks.
    pub protocol_max: ProtocolVersion,
    /// The ALPN the agent saw negotiated; compared with what the coordinator saw (QUI-03).
    pub alpn: BoundedString<32>,
    /// Optional features, one bit each; none is defined yet.
    pub features: u64,
    /// This boot of the node.
    pub boot_id: BootId,
    /// SHA-256 of `/etc/machine-id`; only compared, never an identity.
    pub machine_id_sha256: Option<Sha256Digest>,
    /// Hash of the whole inventory; nothing is sent again where the coordinator holds it.
    pub inventory_sha256: Sha256Digest,
    /// Hash of the series table; likewise.
    pub series_sha256: Sha256Digest,
    /// The spool that records will come from.
    pub spool_id: SpoolId,
    /// Sequence of the oldest record still in the spool; one past the newest when it is empty.
    pub spool_first: u64,
    /// The agent's wall clock.
    pub clock: EpochMs,
    /// When the agent's process began.
    pub started: EpochMs,
}

/// The coordinator's answer: from here on the node is present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The coordinator's version.
    pub coordinator_version: BoundedString<64>,
    /// The protocol version of this session.
    pub protocol: ProtocolVersion,
    /// The coordinator's wall clock.
    pub clock: EpochMs,
    /// Reporting interval in milliseconds.
    pub report_interval_ms: u32,
    /// The coordinator does not hold this inventory: put it into the spool.
    pub inventory_wanted: bool,
    /// The coordinator does not hold this series table: send it before the first report. Either way the first report is
    /// against zeros.
    pub series_wanted: bool,
    /// Highest sequence of this spool up to which everything is durable.
    pub acknowledged: Option<u64>,
}

/// Records of a spool are durable up to and including a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The spool.
    pub spool_id: SpoolId,
    /// Highest contiguous sequence that is durable.
    pub sequence: u64,
}

/// Report at this interval until the time is over; a new LiveMode replaces the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveMode {
    /// Reporting interval in milliseconds, at least 1,000.
    pub interval_ms: u32,
    /// For how long, in milliseconds; 0 ends it.
    pub duration_ms: u32,
}

/// Why a side leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoodbyeCause {
    /// The agent's service was stopped.
    AgentStopped,
    /// The node is shutting down or rebooting.
    NodeShutdown,
    /// The agent was replaced by another version of itself.
    AgentUpgrade,
    /// The agent goes to renew its certificate or to use a new one.
    CertificateChange,
    /// The coordinator is stopping.
    CoordinatorStopping,
    /// The identity was revoked.
    Revoked,
    /// The certificate ran out.
    CertificateExpired,
}

/// The sender is about to close the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Why.
    pub cause: GoodbyeCause,
}

impl Message for Hello {
    const KIND: Kind = Kind::Hello;
}
impl Message for Welcome {
    const KIND: Kind = Kind::Welcome;
}
impl Message for Ack {
    const KIND: Kind = Kind::Ack;
}
impl Message for LiveMode {
    const KIND: Kind = Kind::LiveMode;
}
impl Message for Goodbye {
    const KIND: Kind = Kind::Goodbye;
}
