//! Events: pages of them, newest first, and their end of life.

use std::collections::BTreeMap;

use aim_common::api::events::EventView;
use aim_common::event::Severity;
use aim_common::identity::NodeId;
use aim_common::permission::Scope;
use aim_common::units::EpochMs;
use sqlx::QueryBuilder;

use super::deadline::{if_known, read_in_time};
use super::nodes::parse;
use super::{Store, StoreError, write};

/// Rows that one statement of the retention deletes, so that the writer is never held for long.
const DELETE_AT_ONCE: i64 = 5_000;

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// On this node only.
    pub node: Option<NodeId>,
    /// Of this kind only (`gpu.xid`).
    pub kind: Option<String>,
    /// At least this bad.
    pub severity: Option<Severity>,
    /// Occurred at or after this time.
    pub since: Option<EpochMs>,
    /// Occurred before this time.
    pub until: Option<EpochMs>,
    /// Only on nodes within one of these scopes of the user; not set = everywhere.
    pub within: Option<(String, Vec<Scope>)>,
}

/// The number of a severity in the database.
pub const fn severity_number(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

fn severity(number: i64) -> Severity {
    match number {
        0 => Severity::Info,
        1 => Severity::Warning,
        // An unknown number is shown as the worst rather than hidden.
        _ => Severity::Critical,
    }
}

#[derive(sqlx::FromRow)]
struct RawEvent {
    id: i64,
    node_id: String,
    name: String,
    kind_name: String,
    severity: i64,
    occurred_at: i64,
    stored_at: i64,
    boot_id: Option<String>,
    subject: String,
    message: String,
    attributes: String,
}

impl TryFrom<RawEvent> for EventView {
    type Error = StoreError;

    fn try_from(raw: RawEvent) -> Result<Self, StoreError> {
        let id = raw.id.to_string();
        let attributes: BTreeMap<String, String> =
            serde_json::from_str(&raw.attributes).map_err(|error| StoreError::Damaged {
                table: "events",
                column: "attributes",
                id: id.clone(),
                reason: error.to_string(),
            })?;
        let boot_id = raw.boot_id.as_deref();
        Ok(Self {
            id: raw.id,
            node_id: parse("events", "node_id", &id, &raw.node_id)?,
            node_name: parse("nodes", "name", &raw.node_id, &raw.name)?,
            kind: raw.kind_name,
            severity: severity(raw.severity),
            occurred_at: EpochMs(raw.occurred_at),
            stored_at: EpochMs(raw.stored_at),
            boot_id: boot_id.map(|boot| parse("events", "boot_id", &id, boot)).transpose()?,
            subject: raw.subject,
            message: raw.message,
            attributes,
        })
    }
}

/// Appends the filter's conditions; every value is bound, every word is a constant.
macro_rules! push_filter {
    ($query:expr, $filter:expr) => {{
        let filter: &EventFilter = $filter;
        if let Some(node) = filter.node {
            $query.push(" AND e.node_id = ").push_bind(node.to_string());
        }
        if let Some(kind) = &filter.kind {
            $query.push(" AND e.kind_name = ").push_bind(kind.clone());
        }
        if let Some(severity) = filter.severity {
            $query.push(" AND e.severity >= ").push_bind(severity_number(severity));
        }
        if let Some(since) = filter.since {
            $query.push(" AND e.occurred_at >= ").push_bind(since.0);
        }
        if let Some(until) = filter.until {
            $query.push(" AND e.occurred_at < ").push_bind(until.0);
        }
        if let Some((user, scopes)) = &filter.within {
            $query.push(" AND (1 = 0");
            for scope in scopes {
                match scope {
                    Scope::All => {
                        $query.push(" OR 1 = 1");
                    }
                    Scope::Own => {
                        $query.push(" OR n.owner = ").push_bind(user.clone());
                    }
                    Scope::Group(name) => {
                        $query
                            .push(" OR EXISTS (SELECT 1 FROM node_groups g WHERE g.node_id = n.id AND g.name = ")
                            .push_bind(name.clone())
                            .push(")");
                    }
                }
            }
            $query.push(")");
        }
    }};
}

impl Store {
    /// One page of events, newest first, older than the one with the number `before`; and how many match in all.
    pub async fn events_page(
        &self,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<EventView>, Option<i64>), StoreError> {
        let (rows, total) = tokio::join!(self.events(filter, before, limit), self.events_count(filter));
        let events = rows?.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok((events, if_known(total)?))
    }

    async fn events(
        &self,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RawEvent>, StoreError> {
        read_in_time!(self, connection => {
            let mut query = QueryBuilder::new(
                "SELECT e.id, e.node_id, n.name, e.kind_name, e.severity, e.occurred_at, e.stored_at, e.boot_id, \
                 e.subject, e.message, e.attributes FROM events e JOIN nodes n ON n.id = e.node_id WHERE e.id < ",
            );
            query.push_bind(before.unwrap_or(i64::MAX));
            push_filter!(query, filter);
            query.push(" ORDER BY e.id DESC LIMIT ").push_bind(i64::from(limit));
            Ok(query.build_query_as().fetch_all(&mut *connection).await?)
        })
    }

    async fn events_count(&self, filter: &EventFilter) -> Result<i64, StoreError> {
        read_in_time!(self, connection => {
            let mut query = QueryBuilder::new("SELECT COUNT(*) FROM events e");
            // Only a scope looks at the node; without one an index is all that is read.
            if filter.within.is_some() {
                query.push(" JOIN nodes n ON n.id = e.node_id");
            }
            query.push(" WHERE 1 = 1");
            push_filter!(query, filter);
            Ok(query.build_query_scalar().fetch_one(&mut *connection).await?)
        })
    }

    /// Deletes events, spool records and inventory changes stored before this time; gives the number of events.
    ///
    /// Spool records may go: the acknowledged position remains, and it refuses what is older.
    pub async fn history_delete_before(&self, before: EpochMs) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let events: u64 = write!(self, pool => {
                sqlx::query(
                    "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE stored_at < $1 ORDER BY id LIMIT $2)",
                )
                .bind(before.0)
                .bind(DELETE_AT_ONCE)
                .execute(pool)
                .await?
                .rows_affected()
            });
            let changes: u64 = write!(self, pool => {
                sqlx::query(
                    "DELETE FROM inventory_changes WHERE id IN \
                     (SELECT id FROM inventory_changes WHERE at < $1 ORDER BY id LIMIT $2)",
                )
                .bind(before.0)
                .bind(DELETE_AT_ONCE)
                .execute(pool)
                .await?
                .rows_affected()
            });
            deleted += events;
            if events == 0 && changes == 0 {
                break;
            }
        }
        write!(self, pool => {
            sqlx::query("DELETE FROM spool_records WHERE stored_at < $1").bind(before.0).execute(pool).await?;
        });
        Ok(deleted)
    }
}
