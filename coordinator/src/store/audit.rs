//! The audit trail's rows: append-only, each hash covering the record and the former hash.

use aim_common::units::EpochMs;
use sha2::{Digest, Sha256};

use super::deadline::{if_known, read_in_time};
use super::{Store, StoreError, begin_deciding, read, write};

/// The hash before the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// PostgreSQL's advisory lock that serialises appends; "AIMaudit" as a number.
const APPEND_LOCK: i64 = 0x4149_4D61_7564_6974;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was allowed and done.
    Allowed,
    /// It was refused.
    Denied,
    /// It was allowed and failed.
    Failed,
}

impl Decision {
    /// The word in the database and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// A record to be appended.
#[derive(Debug, Clone)]
pub struct NewAuditRecord {
    /// When.
    pub at: EpochMs,
    /// `user:NAME`, `node:ID`, `anonymous`, `coordinator` or `host:USER`.
    pub actor: String,
    /// Address, or empty.
    pub source: String,
    /// What was tried (`token.create`).
    pub action: &'static str,
    /// On what.
    pub target: String,
    /// What was decided.
    pub decision: Decision,
    /// Details; never a secret.
    pub detail: serde_json::Value,
    /// The request's id, or empty.
    pub request_id: String,
}

/// A record as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct AuditRow {
    /// Its place, from 1.
    pub sequence: i64,
    /// When, epoch milliseconds.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// From where.
    pub source: String,
    /// What was tried.
    pub action: String,
    /// On what.
    pub target: String,
    /// What was decided.
    pub decision: String,
    /// Details, JSON text.
    pub detail: String,
    /// The request's id, or empty.
    pub request_id: String,
    /// The former record's hash.
    pub previous_hash: String,
    /// Its hash.
    pub hash: String,
}

impl AuditRow {
    /// The hash that the record's own fields give.
    pub fn expected_hash(&self) -> String {
        let at = self.at.to_string();
        let fields = [
            at.as_str(),
            &self.actor,
            &self.source,
            &self.action,
            &self.target,
            &self.decision,
            &self.detail,
            &self.request_id,
        ];
        record_hash(&self.previous_hash, self.sequence, &fields)
    }
}

/// Which records are wanted; `None` is any.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// With this decision.
    pub decision: Option<String>,
}

/// The hash of one record: SHA-256 over the former hash and each field, length-prefixed.
pub fn record_hash(previous: &str, sequence: i64, fields: &[&str]) -> String {
    let mut hasher = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    put(previous.as_bytes());
    put(&sequence.to_be_bytes());
    for field in fields {
        put(field.as_bytes());
    }
    hex::encode(hasher.finalize())
}

/// Appends inside a transaction of either engine: `append!(store, &mut tx, record)` gives `Result<i64, StoreError>`.
///
/// The audit record and what it tells of become durable together, or not at all.
macro_rules! append_audit {
    ($store:expr, $tx:expr, $record:expr) => {{
        use $crate::store::audit::{GENESIS, NewAuditRecord, record_hash};
        let record: &NewAuditRecord = $record;
        async {
            if let Some(lock) = $store.audit_lock() {
                sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock).execute(&mut **$tx).await?;
            }
            let last: Option<(i64, String)> =
                sqlx::query_as("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
                    .fetch_optional(&mut **$tx)
                    .await?;
            let (sequence, previous) =
                last.map_or_else(|| (1, GENESIS.to_owned()), |(last, hash)| (last + 1, hash));
            let at = record.at.0.to_string();
            let detail = record.detail.to_string();
            let hash = record_hash(
                &previous,
                sequence,
                &[
                    &at,
                    &record.actor,
                    &record.source,
                    record.action,
                    &record.target,
                    record.decision.as_str(),
                    &detail,
                    &record.request_id,
                ],
            );
            sqlx::query(
                "INSERT INTO audit (sequence, at, actor, source, action, target, decision, detail, request_id, \
                 previous_hash, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            )
            .bind(sequence)
            .bind(record.at.0)
            .bind(&record.actor)
            .bind(&record.source)
            .bind(record.action)
            .bind(&record.target)
            .bind(record.decision.as_str())
            .bind(&detail)
            .bind(&record.request_id)
            .bind(&previous)
            .bind(&hash)
            .execute(&mut **$tx)
            .await?;
            Ok::<i64, $crate::store::StoreError>(sequence)
        }
        .await
    }};
}

pub(crate) use append_audit;

impl Store {
    /// The advisory lock to take before an append; none on SQLite, where the writer is alone.
    pub(crate) fn audit_lock(&self) -> Option<i64> {
        match self.db {
            super::Db::Lite { .. } => None,
            super::Db::Pg { .. } => Some(APPEND_LOCK),
        }
    }

    /// Appends one record in a transaction of its own and gives its sequence.
    pub async fn audit_append(&self, record: &NewAuditRecord) -> Result<i64, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let sequence = append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(sequence)
        })
    }

    /// Records below `before`, newest first, and how many match in all.
    pub async fn audit_page(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: u32,
    ) -> Result<(Vec<AuditRow>, Option<i64>), StoreError> {
        let (rows, total) = tokio::join!(self.audit_records(filter, before, limit), self.audit_count(filter));
        Ok((rows?, if_known(total)?))
    }

    async fn audit_records(
        &self,
        filter: &AuditFilter,
        before: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        read_in_time!(self, connection => Ok(sqlx::query_as(
            "SELECT sequence, at, actor, source, action, target, decision, detail, request_id, previous_hash, \
             hash FROM audit WHERE sequence < $1 AND ($2 IS NULL OR actor = $2) \
             AND ($3 IS NULL OR action = $3) AND ($4 IS NULL OR decision = $4) \
             ORDER BY sequence DESC LIMIT $5",
        )
        .bind(before)
        .bind(&filter.actor)
        .bind(&filter.action)
        .bind(&filter.decision)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?))
    }

    async fn audit_count(&self, filter: &AuditFilter) -> Result<i64, StoreError> {
        read_in_time!(self, connection => Ok(sqlx::query_scalar(
            "SELECT COUNT(*) FROM audit WHERE ($1 IS NULL OR actor = $1) \
             AND ($2 IS NULL OR action = $2) AND ($3 IS NULL OR decision = $3)",
        )
        .bind(&filter.actor)
        .bind(&filter.action)
        .bind(&filter.decision)
        .fetch_one(&mut *connection)
        .await?))
    }

    /// Records after `after`, oldest first: how the chain is walked.
    pub async fn audit_chain(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        read!(self, pool => Ok(sqlx::query_as(
            "SELECT sequence, at, actor, source, action, target, decision, detail, request_id, previous_hash, \
             hash FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?))
    }

    /// Deletes the oldest records that are all from before `before`, at most `most`, once one is from before `overdue`;
    /// gives the last one deleted. The record that `signed` makes of its sequence and hash is appended with it.
    pub async fn audit_prune(
        &self,
        before: EpochMs,
        overdue: EpochMs,
        most: i64,
        signed: impl Fn(i64, &str) -> NewAuditRecord,
    ) -> Result<Option<i64>, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let oldest: Vec<(i64, i64, String)> =
                sqlx::query_as("SELECT sequence, at, hash FROM audit ORDER BY sequence LIMIT $1")
                    .bind(most)
                    .fetch_all(&mut *tx)
                    .await?;
            // Whole from the first one on: a chain has no holes, whatever the clock said meanwhile.
            let ended = oldest.iter().take_while(|(_, at, _)| *at < before.0).last();
            let is_due = oldest.first().is_some_and(|(_, at, _)| *at < overdue.0);
            let Some((through, _, hash)) = ended.filter(|_| is_due) else { return Ok(None) };
            append_audit!(self, &mut tx, &signed(*through, hash))?;
            sqlx::query("DELETE FROM audit WHERE sequence <= $1").bind(through).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(Some(*through))
        })
    }
}
