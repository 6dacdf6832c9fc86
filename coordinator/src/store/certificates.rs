//! Certificates of nodes, and the nodes' standing as far as identity needs it.

use aim_common::api::certificates::CertificateView;
use aim_common::units::EpochMs;

use super::deadline::{if_known, read_in_time};
use super::nodes::parse;
use super::{Store, StoreError, read};
use crate::keyvault::identities::{KnownCertificate, KnownNode};

/// A node's standing at start.
type NodeRow = (String, String, Option<i64>, Option<i64>, Option<i64>, Option<i64>);
/// An unexpired certificate of a living node.
type CertificateRow = (String, String, i64, String, i64, i64, i64);

/// Which certificates are listed.
#[derive(Debug, Clone)]
pub struct CertificateFilter {
    /// Of this node: its id, or its name in lower case.
    pub node: Option<String>,
    /// Only this state; `expired` is what has ended otherwise unharmed.
    pub state: Option<String>,
    /// What counts as expired.
    pub now: EpochMs,
}

#[derive(sqlx::FromRow)]
struct RawView {
    serial: String,
    node_id: String,
    name: String,
    public_key_sha256: String,
    generation: i64,
    not_before: i64,
    not_after: i64,
    state: String,
}

impl RawView {
    fn into_view(self) -> Result<CertificateView, StoreError> {
        Ok(CertificateView {
            serial: parse("certificates", "serial", &self.serial, &self.serial)?,
            node_id: parse("certificates", "node_id", &self.serial, &self.node_id)?,
            node_name: parse("nodes", "name", &self.node_id, &self.name)?,
            public_key_sha256: self.public_key_sha256,
            generation: self.generation,
            not_before: EpochMs(self.not_before),
            not_after: EpochMs(self.not_after),
            state: self.state,
        })
    }
}

impl Store {
    /// Certificates, newest first, and how many there are in all.
    pub async fn certificates_page(
        &self,
        filter: &CertificateFilter,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<CertificateView>, Option<i64>), StoreError> {
        let (rows, total) =
            tokio::join!(self.certificate_rows(filter, offset, limit), self.certificate_count(filter));
        Ok((rows?.into_iter().map(RawView::into_view).collect::<Result<_, _>>()?, if_known(total)?))
    }

    async fn certificate_rows(
        &self,
        filter: &CertificateFilter,
        offset: i64,
        limit: i64,
    ) -> Result<Vec<RawView>, StoreError> {
        read_in_time!(self, connection => {
            Ok(sqlx::query_as(
                "SELECT serial, node_id, name, public_key_sha256, generation, not_before, not_after, state FROM \
                 (SELECT c.serial, c.node_id, n.name, n.name_canonical, c.public_key_sha256, c.generation, \
                 c.not_before, c.not_after, c.issued_at, \
                 CASE WHEN c.state IN ('issued', 'active') AND c.not_after <= $1 THEN 'expired' ELSE c.state END \
                 AS state FROM certificates c JOIN nodes n ON n.id = c.node_id) listed \
                 WHERE ($2 IS NULL OR node_id = $2 OR name_canonical = $2) AND ($3 IS NULL OR state = $3) \
                 ORDER BY issued_at DESC, serial LIMIT $4 OFFSET $5",
            )
            .bind(filter.now.0)
            .bind(filter.node.as_deref())
            .bind(filter.state.as_deref())
            .bind(limit)
            .bind(offset)
            .fetch_all(&mut *connection)
            .await?)
        })
    }

    async fn certificate_count(&self, filter: &CertificateFilter) -> Result<i64, StoreError> {
        read_in_time!(self, connection => {
            Ok(sqlx::query_scalar(
                "SELECT COUNT(*) FROM \
                 (SELECT c.node_id, n.name_canonical, \
                 CASE WHEN c.state IN ('issued', 'active') AND c.not_after <= $1 THEN 'expired' ELSE c.state END \
                 AS state FROM certificates c JOIN nodes n ON n.id = c.node_id) listed \
                 WHERE ($2 IS NULL OR node_id = $2 OR name_canonical = $2) AND ($3 IS NULL OR state = $3)",
            )
            .bind(filter.now.0)
            .bind(filter.node.as_deref())
            .bind(filter.state.as_deref())
            .fetch_one(&mut *connection)
            .await?)
        })
    }

    /// Some certificate was ever issued.
    pub async fn has_certificates(&self) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = read!(self, pool => {
            sqlx::query_as("SELECT generation FROM certificates LIMIT 1").fetch_optional(pool).await
        })?;
        Ok(found.is_some())
    }

    /// Every living node with the generations it used and was issued.
    pub async fn known_nodes(&self) -> Result<Vec<KnownNode>, StoreError> {
        let rows: Vec<NodeRow> = read!(self, pool => {
            sqlx::query_as(
                "SELECT n.id, n.name, n.quarantined_at, \
                 MAX(CASE WHEN c.first_used_at IS NOT NULL THEN c.generation END), \
                 MAX(c.generation), MAX(c.issued_at) \
                 FROM nodes n LEFT JOIN certificates c ON c.node_id = n.id \
                 WHERE n.state = 'living' GROUP BY n.id, n.name, n.quarantined_at",
            )
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter()
            .map(|(id, name, quarantined_at, active, newest, last_issued)| {
                Ok(KnownNode {
                    id: parse("nodes", "id", &id, &id)?,
                    name: parse("nodes", "name", &id, &name)?,
                    active_generation: active.unwrap_or(0),
                    newest_generation: newest.unwrap_or(0),
                    last_issued: EpochMs(last_issued.unwrap_or(0)),
                    quarantined: quarantined_at.is_some(),
                })
            })
            .collect()
    }

    /// The certificates of living nodes that have not ended at `now`, with the time of their issue.
    pub async fn known_certificates(
        &self,
        now: EpochMs,
    ) -> Result<Vec<(KnownCertificate, EpochMs)>, StoreError> {
        let rows: Vec<CertificateRow> = read!(self, pool => {
            sqlx::query_as(
                "SELECT c.serial, c.node_id, c.generation, c.public_key_sha256, c.not_before, c.not_after, \
                 c.issued_at FROM certificates c JOIN nodes n ON n.id = c.node_id \
                 WHERE n.state = 'living' AND c.state <> 'revoked' AND c.not_after > $1",
            )
            .bind(now.0)
            .fetch_all(pool)
            .await
        })?;
        rows.into_iter().map(known_certificate).collect()
    }
}

fn known_certificate(row: CertificateRow) -> Result<(KnownCertificate, EpochMs), StoreError> {
    let (serial, node, generation, key, not_before, not_after, issued_at) = row;
    let certificate = KnownCertificate {
        serial: parse("certificates", "serial", &serial, &serial)?,
        node: parse("certificates", "node_id", &serial, &node)?,
        generation,
        public_key: parse("certificates", "public_key_sha256", &serial, &key)?,
        not_before: EpochMs(not_before),
        not_after: EpochMs(not_after),
    };
    Ok((certificate, EpochMs(issued_at)))
}
