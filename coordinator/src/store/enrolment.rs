//! Enrolment, renewal and their end, each in one transaction with its audit record (ENR-04).

use aim_common::identity::{CertificateSerial, NodeId, NodeName, Sha256Digest};
use aim_common::units::EpochMs;

use super::audit::{NewAuditRecord, append_audit};
use super::nodes::parse;
use super::{Store, StoreError, begin_deciding, read, write};

/// A certificate to be stored.
#[derive(Debug, Clone)]
pub struct NewCertificate {
    /// Its serial.
    pub serial: CertificateSerial,
    /// Whose it is.
    pub node: NodeId,
    /// Counts the node's certificates from 1.
    pub generation: i64,
    /// SHA-256 of its public key.
    pub public_key: Sha256Digest,
    /// The certificate.
    pub pem: String,
    /// Valid from.
    pub not_before: EpochMs,
    /// Valid until.
    pub not_after: EpochMs,
    /// When it was issued.
    pub issued_at: EpochMs,
}

/// What entitles a node to an identity; consumed by it.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// An outstanding token, by its keyed hash.
    Token(&'a Sha256Digest),
    /// A pending request, and who approves it.
    Request {
        /// Its number.
        id: i64,
        /// Who.
        decided_by: &'a str,
    },
}

/// How an enrolment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolled {
    /// Done; the former node of the name was superseded.
    Done {
        /// The former node.
        superseded: Option<NodeId>,
    },
    /// The claim was used by somebody else in the meantime.
    ClaimLost,
    /// A living node has the name.
    NameTaken,
    /// The key is recorded already.
    KeyUsed,
}

/// A stored certificate, as far as recovery and late renewal need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCertificate {
    /// Whose it is.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// The node may use its identity.
    pub living: bool,
    /// The node is in quarantine.
    pub quarantined: bool,
    /// Its serial.
    pub serial: CertificateSerial,
    /// Its generation.
    pub generation: i64,
    /// The certificate.
    pub pem: String,
    /// Valid until.
    pub not_after: EpochMs,
    /// When it was issued.
    pub issued_at: EpochMs,
    /// `issued`, `active`, `superseded`, `revoked`.
    pub state: String,
}

macro_rules! insert_certificate {
    ($tx:expr, $certificate:expr) => {{
        let certificate: &NewCertificate = $certificate;
        sqlx::query(
            "INSERT INTO certificates (serial, node_id, generation, public_key_sha256, certificate_pem, not_before, \
             not_after, issued_at, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'issued')",
        )
        .bind(certificate.serial.as_str())
        .bind(certificate.node.to_string())
        .bind(certificate.generation)
        .bind(certificate.public_key.to_string())
        .bind(&certificate.pem)
        .bind(certificate.not_before.0)
        .bind(certificate.not_after.0)
        .bind(certificate.issued_at.0)
        .execute(&mut **$tx)
    }};
}

/// Ends a living node in favour of nobody or of a successor.
macro_rules! end_node {
    ($tx:expr, $node:expr, $state:expr, $successor:expr, $at:expr) => {{
        let ended = sqlx::query(
            "UPDATE nodes SET state = $2, ended_at = $3, superseded_by = $4 WHERE id = $1 AND state = 'living'",
        )
        .bind($node)
        .bind($state)
        .bind($at.0)
        .bind($successor)
        .execute(&mut **$tx)
        .await?;
        sqlx::query(
            "UPDATE certificates SET state = 'revoked', ended_at = $2 \
             WHERE node_id = $1 AND state IN ('issued', 'active')",
        )
        .bind($node)
        .bind($at.0)
        .execute(&mut **$tx)
        .await?;
        ended.rows_affected()
    }};
}

/// A certificate's first use.
#[derive(Debug, Clone, Copy)]
pub struct FirstUse<'a> {
    /// Whose it is.
    pub node: NodeId,
    /// The certificate.
    pub serial: &'a CertificateSerial,
    /// Its generation.
    pub generation: i64,
    /// When.
    pub at: EpochMs,
}

impl Store {
    /// Claims, makes the node, stores its first certificate, appends the record; or does nothing of it.
    pub async fn enrol(
        &self,
        claim: Claim<'_>,
        name: &NodeName,
        replace: bool,
        certificate: &NewCertificate,
        record: &NewAuditRecord,
    ) -> Result<Enrolled, StoreError> {
        match self.enrol_once(claim, name, replace, certificate, record).await {
            // Two enrolments of one name or key at once: the unique index let one of them through.
            Err(StoreError::Conflict(index)) if index.contains("name") => Ok(Enrolled::NameTaken),
            Err(StoreError::Conflict(_)) => Ok(Enrolled::KeyUsed),
            other => other,
        }
    }

    async fn enrol_once(
        &self,
        claim: Claim<'_>,
        name: &NodeName,
        replace: bool,
        certificate: &NewCertificate,
        record: &NewAuditRecord,
    ) -> Result<Enrolled, StoreError> {
        let (node, at) = (certificate.node.to_string(), certificate.issued_at);
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let claimed = match claim {
                Claim::Token(hash) => sqlx::query(
                    "UPDATE tokens SET state = 'redeemed', storage_hash = NULL, ended_at = $2, redeemed_node = $3, \
                     certificate_serial = $4 WHERE storage_hash = $1 AND state = 'outstanding'",
                )
                .bind(hash.to_string())
                .bind(at.0)
                .bind(&node)
                .bind(certificate.serial.as_str())
                .execute(&mut *tx)
                .await?
                .rows_affected(),
                Claim::Request { id, decided_by } => sqlx::query(
                    "UPDATE enrolment_requests SET state = 'approved', decided_by = $2, decided_at = $3, \
                     node_id = $4 WHERE id = $1 AND state = 'pending'",
                )
                .bind(id)
                .bind(decided_by)
                .bind(at.0)
                .bind(&node)
                .execute(&mut *tx)
                .await?
                .rows_affected(),
            };
            if claimed == 0 {
                return Ok(Enrolled::ClaimLost);
            }
            let used: Option<(String,)> =
                sqlx::query_as("SELECT serial FROM certificates WHERE public_key_sha256 = $1")
                    .bind(certificate.public_key.to_string())
                    .fetch_optional(&mut *tx)
                    .await?;
            if used.is_some() {
                return Ok(Enrolled::KeyUsed);
            }
            let former: Option<(String,)> =
                sqlx::query_as("SELECT id FROM nodes WHERE name_canonical = $1 AND state = 'living'")
                    .bind(name.canonical())
                    .fetch_optional(&mut *tx)
                    .await?;
            let superseded = match former {
                Some(_) if !replace => return Ok(Enrolled::NameTaken),
                Some((former,)) => {
                    end_node!(&mut tx, &former, "superseded", Some(&node), at);
                    Some(parse("nodes", "id", &former, &former)?)
                }
                None => None,
            };
            sqlx::query(
                "INSERT INTO nodes (id, name, name_canonical, state, enrolled_at) VALUES ($1, $2, $3, 'living', $4)",
            )
            .bind(&node)
            .bind(name.as_str())
            .bind(name.canonical())
            .bind(at.0)
            .execute(&mut *tx)
            .await?;
            insert_certificate!(&mut tx, certificate).await?;
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(Enrolled::Done { superseded })
        })
    }

    /// Stores a further certificate of a living node; false where the node has ended or the key is recorded already.
    pub async fn certificate_add(
        &self,
        certificate: &NewCertificate,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        match self.certificate_add_once(certificate, record).await {
            Err(StoreError::Conflict(_)) => Ok(false),
            other => other,
        }
    }

    async fn certificate_add_once(
        &self,
        certificate: &NewCertificate,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let living: Option<(String,)> =
                sqlx::query_as("SELECT id FROM nodes WHERE id = $1 AND state = 'living'")
                    .bind(certificate.node.to_string())
                    .fetch_optional(&mut *tx)
                    .await?;
            if living.is_none() {
                return Ok(false);
            }
            insert_certificate!(&mut tx, certificate).await?;
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Certificates were used for the first time: those before them are superseded (PKI-08). Repeating changes nothing.
    pub async fn certificates_used(&self, first_uses: &[FirstUse<'_>]) -> Result<(), StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            for FirstUse { node, serial, generation, at } in first_uses {
                sqlx::query(
                    "UPDATE certificates SET state = 'active', first_used_at = $2 \
                     WHERE serial = $1 AND state = 'issued'",
                )
                .bind(serial.as_str())
                .bind(at.0)
                .execute(&mut *tx)
                .await?;
                sqlx::query(
                    "UPDATE certificates SET state = 'superseded', ended_at = $3 \
                     WHERE node_id = $1 AND generation < $2 AND state IN ('issued', 'active')",
                )
                .bind(node.to_string())
                .bind(generation)
                .bind(at.0)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(())
        })
    }

    /// Revokes a node with its audit record; false where it was not living, so that repeating appends nothing.
    pub async fn node_revoke(&self, node: NodeId, record: &NewAuditRecord) -> Result<bool, StoreError> {
        let id = node.to_string();
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let ended = end_node!(&mut tx, &id, "revoked", None::<&str>, record.at);
            if ended == 0 {
                return Ok(false);
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Puts a node into quarantine with its audit record; false where it is there already.
    pub async fn node_quarantine(
        &self,
        node: NodeId,
        reason: &str,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let changed = sqlx::query(
                "UPDATE nodes SET quarantined_at = $2, quarantine_reason = $3 \
                 WHERE id = $1 AND quarantined_at IS NULL",
            )
            .bind(node.to_string())
            .bind(record.at.0)
            .bind(reason)
            .execute(&mut *tx)
            .await?;
            if changed.rows_affected() == 0 {
                return Ok(false);
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Ends a node's quarantine with its audit record; false where it is not in quarantine, or not living.
    pub async fn node_release(&self, node: NodeId, record: &NewAuditRecord) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let changed = sqlx::query(
                "UPDATE nodes SET quarantined_at = NULL, quarantine_reason = NULL \
                 WHERE id = $1 AND quarantined_at IS NOT NULL AND state = 'living'",
            )
            .bind(node.to_string())
            .execute(&mut *tx)
            .await?;
            if changed.rows_affected() == 0 {
                return Ok(false);
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// The certificate of a public key.
    pub async fn certificate_of_key(
        &self,
        key: &Sha256Digest,
    ) -> Result<Option<StoredCertificate>, StoreError> {
        type Row = (String, String, String, Option<i64>, String, i64, String, i64, i64, String);
        let row: Option<Row> = read!(self, pool => {
            sqlx::query_as(
                "SELECT c.node_id, n.name, n.state, n.quarantined_at, c.serial, c.generation, c.certificate_pem, \
                 c.not_after, c.issued_at, c.state FROM certificates c JOIN nodes n ON n.id = c.node_id \
                 WHERE c.public_key_sha256 = $1",
            )
            .bind(key.to_string())
            .fetch_optional(pool)
            .await?
        });
        let Some((node, name, node_state, quarantined, serial, generation, pem, not_after, issued_at, state)) =
            row
        else {
            return Ok(None);
        };
        Ok(Some(StoredCertificate {
            node: parse("certificates", "node_id", &serial, &node)?,
            name: parse("nodes", "name", &node, &name)?,
            living: node_state == "living",
            quarantined: quarantined.is_some(),
            serial: parse("certificates", "serial", &serial, &serial)?,
            generation,
            pem,
            not_after: EpochMs(not_after),
            issued_at: EpochMs(issued_at),
            state,
        }))
    }
}
