//! What the journal is compared with at start.

use aim_common::identity::{NodeId, Sha256Digest};

use super::{Store, StoreError, read};

impl Store {
    /// Sequence and hash of the last audit record.
    pub async fn audit_last(&self) -> Result<Option<(i64, String)>, StoreError> {
        read!(self, pool => {
            Ok(sqlx::query_as("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
                .fetch_optional(pool)
                .await?)
        })
    }

    /// The hash of one audit record.
    pub async fn audit_hash(&self, sequence: i64) -> Result<Option<String>, StoreError> {
        let row: Option<(String,)> = read!(self, pool => {
            sqlx::query_as("SELECT hash FROM audit WHERE sequence = $1").bind(sequence).fetch_optional(pool).await?
        });
        Ok(row.map(|(hash,)| hash))
    }

    /// A token of this keyed hash could still be redeemed as far as the database knows.
    pub async fn is_token_outstanding(&self, hash: &Sha256Digest) -> Result<bool, StoreError> {
        Ok(self.token_outstanding(hash).await?.is_some())
    }

    /// The node's identity may be used as far as the database knows.
    pub async fn is_node_living(&self, node: NodeId) -> Result<bool, StoreError> {
        let row: Option<(String,)> = read!(self, pool => {
            sqlx::query_as("SELECT state FROM nodes WHERE id = $1")
                .bind(node.to_string())
                .fetch_optional(pool)
                .await?
        });
        Ok(row.is_some_and(|(state,)| state == "living"))
    }

    /// The database answers; a read that cannot be served from any cache of ours.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _: Option<(i64,)> = read!(self, pool => {
            sqlx::query_as("SELECT sequence FROM audit WHERE sequence = 1").fetch_optional(pool).await?
        });
        Ok(())
    }
}
