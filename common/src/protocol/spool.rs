//! What is never lost: events and inventory changes, kept on the node until the coordinator holds them durably.

use serde::{Deserialize, Serialize};

use super::Kind;
use crate::event::Event;
use crate::identity::{Sha256Digest, SpoolId};
use crate::inventory::EncodedSection;
use crate::wire::{BoundedVec, Message};

/// One thing worth keeping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An event.
    Event(Event),
    /// One section of the inventory as it is now; replaces the section of the same tag.
    InventorySection(EncodedSection),
    /// The inventory is complete up to here: its hash, and the tags that exist; others are gone.
    InventoryComplete {
        /// The hash that the next Hello carries.
        inventory_sha256: Sha256Digest,
        /// The tags of the sections that exist.
        tags: BoundedVec<u16, 64>,
    },
    /// Records that the spool had to drop before this one, because it was full or damaged.
    Gap {
        /// How many, at least; 0 where it cannot be known.
        dropped: u64,
    },
}

/// A record with its place in the spool: (node, spool id, sequence) names it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRecord {
    /// Its sequence, strictly rising; jumps only over a [`Record::Gap`].
    pub sequence: u64,
    /// The record.
    pub record: Record,
}

/// Records in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolBatch {
    /// The spool they come from.
    pub spool_id: SpoolId,
    /// The records, in rising sequence.
    pub records: BoundedVec<SpoolRecord, 512>,
}

impl Message for SpoolBatch {
    const KIND: Kind = Kind::SpoolBatch;
}
