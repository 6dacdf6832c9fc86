//! Nodes: what is read at start and shown, and what operators may change. Enrolment inserts them elsewhere.

use std::collections::BTreeMap;

use aim_common::identity::{BootId, NodeId, NodeName, Sha256Digest, UserId};
use aim_common::units::EpochMs;

use super::audit::{NewAuditRecord, append_audit};
use super::{Store, StoreError, read, write};

/// Whether the identity of a node may still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It may.
    Living,
    /// It was revoked; the node is shown until it is deleted.
    Revoked,
    /// Another identity took its name.
    Superseded,
    /// An operator deleted it.
    Deleted,
}

impl NodeState {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "living" => Self::Living,
            "revoked" => Self::Revoked,
            "superseded" => Self::Superseded,
            "deleted" => Self::Deleted,
            _ => return None,
        })
    }
}

/// Why the coordinator does not trust a node's identity any more, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Since when.
    pub since: EpochMs,
    /// Why.
    pub reason: String,
}

/// A node as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether its identity may be used.
    pub state: NodeState,
    /// Its owner.
    pub owner: Option<UserId>,
    /// When it was enrolled.
    pub enrolled_at: EpochMs,
    /// Set where it is under suspicion.
    pub quarantine: Option<Quarantine>,
    /// SHA-256 of its machine-id, as it said.
    pub machine_id_sha256: Option<Sha256Digest>,
    /// Its agent's version.
    pub agent_version: Option<String>,
    /// Its last boot.
    pub boot_id: Option<BootId>,
    /// Hash of the inventory held.
    pub inventory_sha256: Option<Sha256Digest>,
    /// The last packet received.
    pub last_seen: Option<EpochMs>,
    /// Since when it is absent; not set where it was present when the coordinator ended.
    pub absent_since: Option<EpochMs>,
    /// Why it is absent.
    pub absent_cause: Option<String>,
    /// Labels set by operators.
    pub labels: BTreeMap<String, String>,
    /// Its groups.
    pub groups: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct RawNode {
    id: String,
    name: String,
    state: String,
    owner: Option<String>,
    enrolled_at: i64,
    quarantined_at: Option<i64>,
    quarantine_reason: Option<String>,
    machine_id_sha256: Option<String>,
    agent_version: Option<String>,
    boot_id: Option<String>,
    inventory_sha256: Option<String>,
    last_seen: Option<i64>,
    absent_since: Option<i64>,
    absent_cause: Option<String>,
}

/// Reads a column, or says which one is damaged.
pub(crate) fn parse<T>(
    table: &'static str,
    column: &'static str,
    id: &str,
    text: &str,
) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| StoreError::Damaged {
        table,
        column,
        id: id.to_owned(),
        reason: error.to_string(),
    })
}

fn parse_optional<T>(column: &'static str, id: &str, text: Option<&str>) -> Result<Option<T>, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| parse("nodes", column, id, text)).transpose()
}

impl TryFrom<RawNode> for NodeRow {
    type Error = StoreError;

    fn try_from(raw: RawNode) -> Result<Self, StoreError> {
        let id = raw.id.as_str();
        let state = NodeState::parse(&raw.state).ok_or_else(|| StoreError::Damaged {
            table: "nodes",
            column: "state",
            id: id.to_owned(),
            reason: "it is not a state".to_owned(),
        })?;
        Ok(Self {
            id: parse("nodes", "id", id, id)?,
            name: parse("nodes", "name", id, &raw.name)?,
            state,
            owner: parse_optional("owner", id, raw.owner.as_deref())?,
            enrolled_at: EpochMs(raw.enrolled_at),
            quarantine: raw.quarantined_at.map(|since| Quarantine {
                since: EpochMs(since),
                reason: raw.quarantine_reason.unwrap_or_default(),
            }),
            machine_id_sha256: parse_optional("machine_id_sha256", id, raw.machine_id_sha256.as_deref())?,
            boot_id: parse_optional("boot_id", id, raw.boot_id.as_deref())?,
            inventory_sha256: parse_optional("inventory_sha256", id, raw.inventory_sha256.as_deref())?,
            agent_version: raw.agent_version,
            last_seen: raw.last_seen.map(EpochMs),
            absent_since: raw.absent_since.map(EpochMs),
            absent_cause: raw.absent_cause,
            labels: BTreeMap::new(),
            groups: Vec::new(),
        })
    }
}

/// What an operator changes on a node; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct NodeUpdate {
    /// Labels to set, or to remove where there is no value.
    pub labels: BTreeMap<String, Option<String>>,
    /// All groups from now on.
    pub groups: Option<Vec<String>>,
    /// The owner from now on, or nobody.
    pub owner: Option<Option<UserId>>,
}

impl Store {
    /// Every node that is shown: living ones, and revoked ones until they are deleted. Four queries, whatever the count.
    pub async fn nodes_load(&self) -> Result<Vec<NodeRow>, StoreError> {
        let raw: Vec<RawNode> = read!(self, pool => {
            sqlx::query_as(
                "SELECT id, name, state, owner, enrolled_at, quarantined_at, quarantine_reason, machine_id_sha256, \
                 agent_version, boot_id, inventory_sha256, last_seen, absent_since, absent_cause \
                 FROM nodes WHERE state IN ('living', 'revoked') ORDER BY id",
            )
            .fetch_all(pool)
            .await?
        });
        let labels: Vec<(String, String, String)> = read!(self, pool => {
            sqlx::query_as("SELECT node_id, key, value FROM node_labels").fetch_all(pool).await?
        });
        let groups: Vec<(String, String)> = read!(self, pool => {
            sqlx::query_as("SELECT node_id, name FROM node_groups ORDER BY node_id, name")
                .fetch_all(pool)
                .await?
        });
        let mut rows: BTreeMap<String, NodeRow> = BTreeMap::new();
        for raw in raw {
            rows.insert(raw.id.clone(), raw.try_into()?);
        }
        for (id, key, value) in labels {
            if let Some(row) = rows.get_mut(&id) {
                row.labels.insert(key, value);
            }
        }
        for (id, name) in groups {
            if let Some(row) = rows.get_mut(&id) {
                row.groups.push(name);
            }
        }
        Ok(rows.into_values().collect())
    }

    /// One node in any state.
    pub async fn node_load(&self, id: NodeId) -> Result<Option<NodeRow>, StoreError> {
        let id = id.to_string();
        let raw: Option<RawNode> = read!(self, pool => {
            sqlx::query_as(
                "SELECT id, name, state, owner, enrolled_at, quarantined_at, quarantine_reason, machine_id_sha256, \
                 agent_version, boot_id, inventory_sha256, last_seen, absent_since, absent_cause \
                 FROM nodes WHERE id = $1",
            )
            .bind(&id)
            .fetch_optional(pool)
            .await?
        });
        let Some(raw) = raw else { return Ok(None) };
        let mut row = NodeRow::try_from(raw)?;
        let labels: Vec<(String, String)> = read!(self, pool => {
            sqlx::query_as("SELECT key, value FROM node_labels WHERE node_id = $1")
                .bind(&id)
                .fetch_all(pool)
                .await?
        });
        let groups: Vec<(String,)> = read!(self, pool => {
            sqlx::query_as("SELECT name FROM node_groups WHERE node_id = $1 ORDER BY name")
                .bind(&id)
                .fetch_all(pool)
                .await?
        });
        row.labels = labels.into_iter().collect();
        row.groups = groups.into_iter().map(|(name,)| name).collect();
        Ok(Some(row))
    }

    /// Changes labels, groups and owner together with the audit record.
    pub async fn node_update(
        &self,
        id: NodeId,
        update: &NodeUpdate,
        audit: &NewAuditRecord,
    ) -> Result<(), StoreError> {
        let id = id.to_string();
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            for (key, value) in &update.labels {
                sqlx::query("DELETE FROM node_labels WHERE node_id = $1 AND key = $2")
                    .bind(&id)
                    .bind(key)
                    .execute(&mut *tx)
                    .await?;
                if let Some(value) = value {
                    sqlx::query("INSERT INTO node_labels (node_id, key, value) VALUES ($1, $2, $3)")
                        .bind(&id)
                        .bind(key)
                        .bind(value)
                        .execute(&mut *tx)
                        .await?;
                }
            }
            if let Some(groups) = &update.groups {
                sqlx::query("DELETE FROM node_groups WHERE node_id = $1").bind(&id).execute(&mut *tx).await?;
                for name in groups {
                    sqlx::query("INSERT INTO node_groups (node_id, name) VALUES ($1, $2)")
                        .bind(&id)
                        .bind(name)
                        .execute(&mut *tx)
                        .await?;
                }
            }
            if let Some(owner) = &update.owner {
                sqlx::query("UPDATE nodes SET owner = $2 WHERE id = $1")
                    .bind(&id)
                    .bind(owner.map(|owner| owner.to_string()))
                    .execute(&mut *tx)
                    .await?;
            }
            append_audit!(self, &mut tx, audit)?;
            tx.commit().await?;
            Ok(())
        })
    }

    /// Deletes a node together with the audit record. Its row stays, for its history; its labels and groups go.
    pub async fn node_delete(&self, id: NodeId, audit: &NewAuditRecord) -> Result<(), StoreError> {
        let id = id.to_string();
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            sqlx::query("UPDATE nodes SET state = 'deleted', ended_at = COALESCE(ended_at, $2) WHERE id = $1")
                .bind(&id)
                .bind(audit.at.0)
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM node_labels WHERE node_id = $1").bind(&id).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM node_groups WHERE node_id = $1").bind(&id).execute(&mut *tx).await?;
            append_audit!(self, &mut tx, audit)?;
            tx.commit().await?;
            Ok(())
        })
    }

    /// The end of the newest certificate of a node, with its serial.
    pub async fn node_certificate(&self, id: NodeId) -> Result<Option<(String, EpochMs)>, StoreError> {
        let row: Option<(String, i64)> = read!(self, pool => {
            sqlx::query_as(
                "SELECT serial, not_after FROM certificates WHERE node_id = $1 ORDER BY generation DESC LIMIT 1",
            )
            .bind(id.to_string())
            .fetch_optional(pool)
            .await?
        });
        Ok(row.map(|(serial, not_after)| (serial, EpochMs(not_after))))
    }
}
