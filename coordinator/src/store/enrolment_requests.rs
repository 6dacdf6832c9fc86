//! Nodes that wait for approval.

use aim_common::api::enrolment_requests::EnrolmentRequestView;
use aim_common::identity::{NodeName, Sha256Digest};
use aim_common::units::EpochMs;

use super::audit::{NewAuditRecord, append_audit};
use super::nodes::parse;
use super::{Store, StoreError, begin_deciding, read, write};

/// A request to be stored.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// The name wished for.
    pub node_name: NodeName,
    /// The certificate request.
    pub csr_pem: String,
    /// SHA-256 of its key.
    pub public_key: Sha256Digest,
    /// Where it came from.
    pub source: String,
    /// When.
    pub requested_at: EpochMs,
    /// What the node says of itself, JSON.
    pub inventory: String,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestState {
    /// Nobody decided.
    Pending,
    /// A person said yes.
    Approved,
    /// A person said no.
    Rejected,
}

/// A stored request, as far as deciding needs it.
#[derive(Debug, Clone)]
pub struct StoredRequest {
    /// The name wished for.
    pub node_name: NodeName,
    /// The certificate request.
    pub csr_pem: String,
    /// Where it stands.
    pub state: RequestState,
}

type Raw = (i64, String, String, String);

fn stored((id, name, csr_pem, state): Raw) -> Result<StoredRequest, StoreError> {
    let id = id.to_string();
    let state = match state.as_str() {
        "pending" => RequestState::Pending,
        "approved" => RequestState::Approved,
        "rejected" => RequestState::Rejected,
        other => {
            return Err(StoreError::Damaged {
                table: "enrolment_requests",
                column: "state",
                id,
                reason: format!("{other:?} is not a state"),
            });
        }
    };
    Ok(StoredRequest { node_name: parse("enrolment_requests", "node_name", &id, &name)?, csr_pem, state })
}

impl Store {
    /// Stores a request with its audit record; false where `limit` wait already.
    pub async fn enrolment_request_add(
        &self,
        request: &NewRequest,
        limit: i64,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let (pending,): (i64,) =
                sqlx::query_as("SELECT COUNT(*) FROM enrolment_requests WHERE state = 'pending'")
                    .fetch_one(&mut *tx)
                    .await?;
            if pending >= limit {
                return Ok(false);
            }
            let added = sqlx::query(
                "INSERT INTO enrolment_requests (node_name, csr_pem, public_key_sha256, source, requested_at, \
                 inventory, state) VALUES ($1, $2, $3, $4, $5, $6, 'pending') \
                 ON CONFLICT (public_key_sha256) DO NOTHING",
            )
            .bind(request.node_name.as_str())
            .bind(&request.csr_pem)
            .bind(request.public_key.to_string())
            .bind(&request.source)
            .bind(request.requested_at.0)
            .bind(&request.inventory)
            .execute(&mut *tx)
            .await?;
            if added.rows_affected() > 0 {
                append_audit!(self, &mut tx, record)?;
            }
            tx.commit().await?;
            Ok(true)
        })
    }

    /// The request of a key, in any state.
    pub async fn enrolment_request_of_key(
        &self,
        key: &Sha256Digest,
    ) -> Result<Option<StoredRequest>, StoreError> {
        let raw: Option<Raw> = read!(self, pool => {
            sqlx::query_as(
                "SELECT id, node_name, csr_pem, state FROM enrolment_requests WHERE public_key_sha256 = $1",
            )
            .bind(key.to_string())
            .fetch_optional(pool)
            .await?
        });
        raw.map(stored).transpose()
    }

    /// A pending request.
    pub async fn enrolment_request(&self, id: i64) -> Result<Option<StoredRequest>, StoreError> {
        let raw: Option<Raw> = read!(self, pool => {
            sqlx::query_as(
                "SELECT id, node_name, csr_pem, state FROM enrolment_requests WHERE id = $1 AND state = 'pending'",
            )
            .bind(id)
            .fetch_optional(pool)
            .await?
        });
        raw.map(stored).transpose()
    }

    /// Rejects a pending request with its audit record; false where it is not pending.
    pub async fn enrolment_request_reject(
        &self,
        id: i64,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let rejected = sqlx::query(
                "UPDATE enrolment_requests SET state = 'rejected', decided_by = $2, decided_at = $3 \
                 WHERE id = $1 AND state = 'pending'",
            )
            .bind(id)
            .bind(&record.actor)
            .bind(record.at.0)
            .execute(&mut *tx)
            .await?;
            if rejected.rows_affected() == 0 {
                return Ok(false);
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Forgets requests that wait since before `horizon`.
    pub async fn enrolment_requests_forget(&self, horizon: EpochMs) -> Result<u64, StoreError> {
        let forgotten = write!(self, pool => {
            sqlx::query("DELETE FROM enrolment_requests WHERE state = 'pending' AND requested_at < $1")
                .bind(horizon.0)
                .execute(pool)
                .await?
                .rows_affected()
        });
        Ok(forgotten)
    }

    /// Requests, newest first, and how many there are in all.
    pub async fn enrolment_requests_page(
        &self,
        state: Option<&str>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<(Vec<EnrolmentRequestView>, i64), StoreError> {
        type Row = (i64, String, String, String, i64, String, String, Option<String>);
        let rows: Vec<Row> = read!(self, pool => {
            sqlx::query_as(
                "SELECT id, node_name, public_key_sha256, source, requested_at, inventory, state, decided_by \
                 FROM enrolment_requests WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR id < $2) \
                 ORDER BY id DESC LIMIT $3",
            )
            .bind(state)
            .bind(before)
            .bind(limit)
            .fetch_all(pool)
            .await?
        });
        let (total,): (i64,) = read!(self, pool => {
            sqlx::query_as("SELECT COUNT(*) FROM enrolment_requests WHERE ($1 IS NULL OR state = $1)")
                .bind(state)
                .fetch_one(pool)
                .await?
        });
        let views = rows
            .into_iter()
            .map(|(id, name, public_key_sha256, source, requested_at, inventory, state, decided_by)| {
                let row = id.to_string();
                Ok(EnrolmentRequestView {
                    id,
                    node: parse("enrolment_requests", "node_name", &row, &name)?,
                    public_key_sha256,
                    source,
                    requested_at: EpochMs(requested_at),
                    inventory: parse("enrolment_requests", "inventory", &row, &inventory)?,
                    state,
                    decided_by,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok((views, total))
    }
}
