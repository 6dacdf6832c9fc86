//! What comes from nodes and must last, written in groups: one transaction for many nodes' records.
//!
//! The primary key (node, spool id, sequence) is the last guard against doubled records: a group that repeats one fails
//! as a whole with [`StoreError::Conflict`], and nothing of it is stored.

use std::collections::BTreeMap;

use aim_common::event::{EventKind, Severity};
use aim_common::identity::{BootId, NodeId, Sha256Digest, SpoolId};
use aim_common::inventory::EncodedSection;
use aim_common::units::EpochMs;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sqlx::QueryBuilder;

use super::events::severity_number;
use super::{Store, StoreError, read, write};

/// Spool records in one INSERT: five values each, far below SQLite's 32,766.
const RECORDS_AT_ONCE: usize = 500;

/// One acknowledged record of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// The node.
    pub node: NodeId,
    /// Its spool.
    pub spool: SpoolId,
    /// The place in the spool.
    pub sequence: i64,
    /// `event`, `inventory_section`, `inventory_complete` or `gap`.
    pub sort: &'static str,
}

/// An event to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The node.
    pub node: NodeId,
    /// Its place in a spool; not set on events of the coordinator.
    pub origin: Option<(SpoolId, i64)>,
    /// What happened.
    pub kind: EventKind,
    /// How bad it is.
    pub severity: Severity,
    /// When, by the node's clock (by the coordinator's for its own events).
    pub occurred: EpochMs,
    /// The boot it happened in.
    pub boot_id: Option<BootId>,
    /// What it happened to.
    pub subject: String,
    /// One line for a person.
    pub message: String,
    /// Details by name.
    pub attributes: BTreeMap<String, String>,
}

/// A section that replaces the former one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionWrite {
    /// The node.
    pub node: NodeId,
    /// The section as it travelled.
    pub section: EncodedSection,
    /// As JSON; null where this build does not know the tag.
    pub content: serde_json::Value,
}

/// One change of the inventory.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeRow {
    /// The node.
    pub node: NodeId,
    /// The section's name.
    pub section: String,
    /// Where in the section.
    pub path: String,
    /// Former value.
    pub from: serde_json::Value,
    /// Value now.
    pub to: serde_json::Value,
}

/// What is written to a node's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeWrite {
    /// A session was opened.
    Opened {
        /// The agent's version.
        agent_version: String,
        /// The boot.
        boot_id: BootId,
        /// SHA-256 of the machine-id.
        machine_id_sha256: Option<Sha256Digest>,
        /// When.
        at: EpochMs,
    },
    /// It became absent.
    Absent {
        /// Since when.
        since: EpochMs,
        /// Why.
        cause: String,
        /// The last packet.
        last_seen: EpochMs,
    },
    /// It was absent for a moment and answers again.
    Back,
    /// A packet came.
    Seen(EpochMs),
    /// The inventory held is complete and has this hash; not set where it does not match.
    InventoryHash(Option<Sha256Digest>),
}

/// Everything that becomes durable together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// When.
    pub stored_at: EpochMs,
    /// Records that are acknowledged afterwards.
    pub records: Vec<RecordRow>,
    /// Highest contiguous sequence of each spool in the group.
    pub positions: BTreeMap<(NodeId, SpoolId), i64>,
    /// Events.
    pub events: Vec<EventRow>,
    /// Sections.
    pub sections: Vec<SectionWrite>,
    /// Sections that exist no more.
    pub sections_gone: Vec<(NodeId, u16)>,
    /// Inventory changes.
    pub changes: Vec<ChangeRow>,
    /// Changes of the nodes' rows, in order.
    pub nodes: Vec<(NodeId, NodeWrite)>,
}

impl Group {
    /// An empty group.
    pub fn new(stored_at: EpochMs) -> Self {
        Self {
            stored_at,
            records: Vec::new(),
            positions: BTreeMap::new(),
            events: Vec::new(),
            sections: Vec::new(),
            sections_gone: Vec::new(),
            changes: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

impl Store {
    /// The highest contiguous sequence that is durable.
    pub async fn spool_position(&self, node: NodeId, spool: SpoolId) -> Result<Option<i64>, StoreError> {
        let row: Option<(i64,)> = read!(self, pool => {
            sqlx::query_as("SELECT acknowledged FROM spool_positions WHERE node_id = $1 AND spool_id = $2")
                .bind(node.to_string())
                .bind(spool.to_string())
                .fetch_optional(pool)
                .await?
        });
        Ok(row.map(|(sequence,)| sequence))
    }

    /// Makes the group durable; gives the numbers of its events in their order.
    pub async fn commit_group(&self, group: &Group) -> Result<Vec<i64>, StoreError> {
        let at = group.stored_at.0;
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            for rows in group.records.chunks(RECORDS_AT_ONCE) {
                let mut query = QueryBuilder::new(
                    "INSERT INTO spool_records (node_id, spool_id, sequence, sort, stored_at) ",
                );
                query.push_values(rows, |mut values, row| {
                    values
                        .push_bind(row.node.to_string())
                        .push_bind(row.spool.to_string())
                        .push_bind(row.sequence)
                        .push_bind(row.sort)
                        .push_bind(at);
                });
                query.build().execute(&mut *tx).await?;
            }
            for ((node, spool), sequence) in &group.positions {
                sqlx::query(
                    "INSERT INTO spool_positions (node_id, spool_id, acknowledged) VALUES ($1, $2, $3) \
                     ON CONFLICT (node_id, spool_id) DO UPDATE SET acknowledged = excluded.acknowledged",
                )
                .bind(node.to_string())
                .bind(spool.to_string())
                .bind(sequence)
                .execute(&mut *tx)
                .await?;
            }
            let mut ids = Vec::with_capacity(group.events.len());
            for event in &group.events {
                let (id,): (i64,) = sqlx::query_as(
                    "INSERT INTO events (node_id, spool_id, sequence, kind, kind_name, severity, occurred_at, \
                     stored_at, boot_id, subject, message, attributes) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
                )
                .bind(event.node.to_string())
                .bind(event.origin.map(|(spool, _)| spool.to_string()))
                .bind(event.origin.map(|(_, sequence)| sequence))
                .bind(i64::from(event.kind.0))
                .bind(event.kind.name().into_owned())
                .bind(severity_number(event.severity))
                .bind(event.occurred.0)
                .bind(at)
                .bind(event.boot_id.map(|boot| boot.to_string()))
                .bind(&event.subject)
                .bind(&event.message)
                .bind(serde_json::json!(event.attributes).to_string())
                .fetch_one(&mut *tx)
                .await?;
                ids.push(id);
            }
            for write in &group.sections {
                sqlx::query(
                    "INSERT INTO inventory_sections (node_id, tag, encoded, content, received_at) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node_id, tag) DO UPDATE SET \
                     encoded = excluded.encoded, content = excluded.content, received_at = excluded.received_at",
                )
                .bind(write.node.to_string())
                .bind(i64::from(write.section.tag.0))
                .bind(STANDARD.encode(&*write.section.bytes))
                .bind(write.content.to_string())
                .bind(at)
                .execute(&mut *tx)
                .await?;
            }
            for (node, tag) in &group.sections_gone {
                sqlx::query("DELETE FROM inventory_sections WHERE node_id = $1 AND tag = $2")
                    .bind(node.to_string())
                    .bind(i64::from(*tag))
                    .execute(&mut *tx)
                    .await?;
            }
            for change in &group.changes {
                sqlx::query(
                    "INSERT INTO inventory_changes (node_id, at, section, path, from_value, to_value) \
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(change.node.to_string())
                .bind(at)
                .bind(&change.section)
                .bind(&change.path)
                .bind(change.from.to_string())
                .bind(change.to.to_string())
                .execute(&mut *tx)
                .await?;
            }
            for (node, write) in &group.nodes {
                let node = node.to_string();
                let statement = match write {
                    NodeWrite::Opened { agent_version, boot_id, machine_id_sha256, at } => sqlx::query(
                        "UPDATE nodes SET agent_version = $2, boot_id = $3, machine_id_sha256 = $4, last_seen = $5, \
                         absent_since = NULL, absent_cause = NULL WHERE id = $1",
                    )
                    .bind(node)
                    .bind(agent_version)
                    .bind(boot_id.to_string())
                    .bind(machine_id_sha256.map(|digest| digest.to_string()))
                    .bind(at.0),
                    NodeWrite::Absent { since, cause, last_seen } => sqlx::query(
                        "UPDATE nodes SET absent_since = $2, absent_cause = $3, last_seen = $4 WHERE id = $1",
                    )
                    .bind(node)
                    .bind(since.0)
                    .bind(cause)
                    .bind(last_seen.0),
                    NodeWrite::Back => {
                        sqlx::query("UPDATE nodes SET absent_since = NULL, absent_cause = NULL WHERE id = $1").bind(node)
                    }
                    NodeWrite::Seen(at) => {
                        sqlx::query("UPDATE nodes SET last_seen = $2 WHERE id = $1").bind(node).bind(at.0)
                    }
                    NodeWrite::InventoryHash(hash) => {
                        sqlx::query("UPDATE nodes SET inventory_sha256 = $2 WHERE id = $1")
                            .bind(node)
                            .bind(hash.map(|digest| digest.to_string()))
                    }
                };
                statement.execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(ids)
        })
    }
}
