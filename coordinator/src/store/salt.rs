//! The Salt master's public key: one row.

use aim_common::units::EpochMs;

use super::audit::{NewAuditRecord, append_audit};
use super::{Store, StoreError, begin_deciding, read, write};

/// The key as it was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltKeyRow {
    /// The file's exact text.
    pub pem: String,
    /// When.
    pub imported_at: EpochMs,
    /// By whom.
    pub imported_by: String,
}

impl Store {
    /// The key, if one was imported.
    pub async fn salt_key(&self) -> Result<Option<SaltKeyRow>, StoreError> {
        let row: Option<(String, i64, String)> = read!(self, pool => {
            sqlx::query_as("SELECT pem, imported_at, imported_by FROM salt_master_keys WHERE id = 1")
                .fetch_optional(pool)
                .await?
        });
        Ok(row.map(|(pem, at, imported_by)| SaltKeyRow { pem, imported_at: EpochMs(at), imported_by }))
    }

    /// Stores the key; false where a different one is there and is not to be replaced.
    pub async fn salt_key_put(
        &self,
        key: &SaltKeyRow,
        replace: bool,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let present: Option<(String,)> =
                sqlx::query_as("SELECT pem FROM salt_master_keys WHERE id = 1").fetch_optional(&mut *tx).await?;
            if !replace && present.is_some_and(|(pem,)| pem != key.pem) {
                return Ok(false);
            }
            sqlx::query(
                "INSERT INTO salt_master_keys (id, pem, imported_at, imported_by) VALUES (1, $1, $2, $3) \
                 ON CONFLICT (id) DO UPDATE SET pem = $1, imported_at = $2, imported_by = $3",
            )
            .bind(&key.pem)
            .bind(key.imported_at.0)
            .bind(&key.imported_by)
            .execute(&mut *tx)
            .await?;
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }
}
