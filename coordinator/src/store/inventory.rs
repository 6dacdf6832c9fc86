//! Inventory sections as received, and the history of their changes.

use aim_common::api::nodes::InventoryChange;
use aim_common::identity::NodeId;
use aim_common::inventory::{EncodedSection, SectionTag};
use aim_common::units::EpochMs;
use aim_common::wire::BoundedBytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::deadline::{if_known, read_in_time};
use super::nodes::parse;
use super::{Store, StoreError, read};

/// A section with the time it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionRow {
    /// The node.
    pub node: NodeId,
    /// The section as it travelled.
    pub section: EncodedSection,
    /// When it was received.
    pub received_at: EpochMs,
}

type RawSection = (String, i64, String, i64);
type RawChange = (i64, i64, String, String, String, String);

fn section((node, tag, encoded, received_at): RawSection) -> Result<SectionRow, StoreError> {
    let damaged = |column, reason: &str| StoreError::Damaged {
        table: "inventory_sections",
        column,
        id: format!("{node}/{tag}"),
        reason: reason.to_owned(),
    };
    let tag = u16::try_from(tag).map_err(|_| damaged("tag", "it is not a section's number"))?;
    let bytes = STANDARD.decode(&encoded).map_err(|_| damaged("encoded", "it is not base64"))?;
    let bytes = BoundedBytes::try_from(bytes).map_err(|_| damaged("encoded", "it is too long"))?;
    Ok(SectionRow {
        node: parse("inventory_sections", "node_id", &node, &node)?,
        section: EncodedSection { tag: SectionTag(tag), bytes },
        received_at: EpochMs(received_at),
    })
}

impl Store {
    /// All sections of all nodes.
    pub async fn sections_load(&self) -> Result<Vec<SectionRow>, StoreError> {
        let rows: Vec<RawSection> = read!(self, pool => {
            sqlx::query_as("SELECT node_id, tag, encoded, received_at FROM inventory_sections ORDER BY node_id, tag")
                .fetch_all(pool)
                .await?
        });
        rows.into_iter().map(section).collect()
    }

    /// The sections of one node.
    pub async fn sections_of(&self, node: NodeId) -> Result<Vec<SectionRow>, StoreError> {
        let rows: Vec<RawSection> = read!(self, pool => {
            sqlx::query_as(
                "SELECT node_id, tag, encoded, received_at FROM inventory_sections WHERE node_id = $1 ORDER BY tag",
            )
            .bind(node.to_string())
            .fetch_all(pool)
            .await?
        });
        rows.into_iter().map(section).collect()
    }

    /// Changes of a node's inventory, newest first, older than the one with the number `before`.
    pub async fn inventory_changes(
        &self,
        node: NodeId,
        section: Option<&str>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<InventoryChange>, Option<i64>), StoreError> {
        let id = node.to_string();
        let section = section.unwrap_or_default();
        let (rows, total) = tokio::join!(
            self.inventory_change_rows(&id, section, before, limit),
            self.inventory_change_count(&id, section)
        );
        let json = |id: i64, column, text: &str| {
            serde_json::from_str(text).map_err(|error| StoreError::Damaged {
                table: "inventory_changes",
                column,
                id: id.to_string(),
                reason: error.to_string(),
            })
        };
        let changes = rows?
            .into_iter()
            .map(|(id, at, section, path, from, to)| {
                Ok(InventoryChange {
                    id,
                    node_id: node,
                    at: EpochMs(at),
                    section,
                    path,
                    from: json(id, "from_value", &from)?,
                    to: json(id, "to_value", &to)?,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok((changes, if_known(total)?))
    }

    async fn inventory_change_rows(
        &self,
        node: &str,
        section: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RawChange>, StoreError> {
        read_in_time!(self, connection => Ok(sqlx::query_as(
            "SELECT id, at, section, path, from_value, to_value FROM inventory_changes \
             WHERE node_id = $1 AND id < $2 AND ($3 = '' OR section = $3) ORDER BY id DESC LIMIT $4",
        )
        .bind(node)
        .bind(before.unwrap_or(i64::MAX))
        .bind(section)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?))
    }

    async fn inventory_change_count(&self, node: &str, section: &str) -> Result<i64, StoreError> {
        read_in_time!(self, connection => Ok(sqlx::query_scalar(
            "SELECT COUNT(*) FROM inventory_changes WHERE node_id = $1 AND ($2 = '' OR section = $2)",
        )
        .bind(node)
        .bind(section)
        .fetch_one(&mut *connection)
        .await?))
    }
}
