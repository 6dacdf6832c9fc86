//! Sealed secrets: texts that only the key file outside the database opens.

use aim_common::units::EpochMs;

use super::{Store, StoreError, read, write};

impl Store {
    /// The sealed text of this name.
    pub async fn sealed(&self, name: &str) -> Result<Option<String>, StoreError> {
        read!(self, pool => {
            Ok(sqlx::query_scalar("SELECT sealed FROM sealed_secrets WHERE name = $1")
                .bind(name)
                .fetch_optional(pool)
                .await?)
        })
    }

    /// When the secret of this name was made.
    pub async fn sealed_at(&self, name: &str) -> Result<Option<EpochMs>, StoreError> {
        read!(self, pool => {
            let at: Option<i64> = sqlx::query_scalar("SELECT created_at FROM sealed_secrets WHERE name = $1")
                .bind(name)
                .fetch_optional(pool)
                .await?;
            Ok(at.map(EpochMs))
        })
    }

    /// Keeps the sealed text unless another coordinator was faster; what holds now is to be read again.
    pub async fn seal_once(&self, name: &str, sealed: &str, at: EpochMs) -> Result<(), StoreError> {
        write!(self, pool => {
            sqlx::query(
                "INSERT INTO sealed_secrets (name, sealed, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO NOTHING",
            )
            .bind(name)
            .bind(sealed)
            .bind(at.0)
            .execute(pool)
            .await?;
            Ok(())
        })
    }

    /// Puts `sealed` in the place of `name`, whose former text moves to `former`.
    pub async fn reseal(
        &self,
        name: &str,
        former: &str,
        sealed: &str,
        at: EpochMs,
    ) -> Result<(), StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            sqlx::query("DELETE FROM sealed_secrets WHERE name = $1").bind(former).execute(&mut *tx).await?;
            sqlx::query("UPDATE sealed_secrets SET name = $1 WHERE name = $2")
                .bind(former)
                .bind(name)
                .execute(&mut *tx)
                .await?;
            sqlx::query("INSERT INTO sealed_secrets (name, sealed, created_at) VALUES ($1, $2, $3)")
                .bind(name)
                .bind(sealed)
                .bind(at.0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(())
        })
    }
}
