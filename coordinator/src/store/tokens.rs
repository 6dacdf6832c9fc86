//! Enrolment tokens: known by a keyed hash that is removed when the token ends (ENR-14).

use aim_common::api::tokens::TokenView;
use aim_common::enrolment::TokenPurpose;
use aim_common::identity::{NodeName, Sha256Digest};
use aim_common::units::EpochMs;
use ipnet::IpNet;
use sqlx::QueryBuilder;

use super::audit::{NewAuditRecord, append_audit};
use super::deadline::{if_known, read_in_time};
use super::nodes::parse;
use super::{Store, StoreError, begin_deciding, read, write};
use crate::keyvault::tokens::StoredToken;

/// Wrong signatures after which a token is revoked (ENR-12).
const MAX_WRONG_SIGNATURES: i64 = 5;
/// Rows in one INSERT: nine values each, far below both engines' limits.
const ROWS_AT_ONCE: usize = 500;

/// A token to be stored.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The keyed hash.
    pub storage_hash: Sha256Digest,
    /// What it is for.
    pub purpose: TokenPurpose,
    /// The node it is bound to.
    pub node: Option<NodeName>,
    /// The addresses it is bound to.
    pub source: Option<IpNet>,
    /// The key it is bound to.
    pub public_key: Option<Sha256Digest>,
    /// A living node of the same name is superseded.
    pub replace: bool,
    /// When it was issued.
    pub created_at: EpochMs,
    /// When it ends.
    pub expires_at: EpochMs,
    /// Who issued it.
    pub created_by: String,
}

/// Which tokens are listed.
#[derive(Debug, Clone, Default)]
pub struct TokenFilter {
    /// Only this state.
    pub state: Option<String>,
    /// Only rows below this number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct RawToken {
    id: i64,
    purpose: String,
    node_name: Option<String>,
    source_cidr: Option<String>,
    public_key_sha256: Option<String>,
    replace_node: bool,
    created_at: i64,
    expires_at: i64,
    created_by: String,
    state: String,
}

fn optional<T>(column: &'static str, id: &str, text: Option<&str>) -> Result<Option<T>, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| parse("tokens", column, id, text)).transpose()
}

impl RawToken {
    fn into_stored(self) -> Result<StoredToken, StoreError> {
        let id = self.id.to_string();
        Ok(StoredToken {
            id: self.id,
            purpose: parse("tokens", "purpose", &id, &self.purpose)?,
            node: optional("node_name", &id, self.node_name.as_deref())?,
            source: optional("source_cidr", &id, self.source_cidr.as_deref())?,
            public_key: optional("public_key_sha256", &id, self.public_key_sha256.as_deref())?,
            replace: self.replace_node,
            created_at: EpochMs(self.created_at),
            expires_at: EpochMs(self.expires_at),
        })
    }

    fn into_view(self) -> Result<TokenView, StoreError> {
        let id = self.id.to_string();
        Ok(TokenView {
            id: self.id,
            purpose: self.purpose,
            node: self.node_name.map(|name| parse("tokens", "node_name", &id, &name)).transpose()?,
            source_cidr: self.source_cidr,
            created_at: EpochMs(self.created_at),
            expires_at: EpochMs(self.expires_at),
            created_by: self.created_by,
            state: self.state,
        })
    }
}

impl Store {
    /// Stores all tokens with their audit record, or none where more than `limit` would be outstanding: false then.
    pub async fn tokens_insert(
        &self,
        tokens: &[NewToken],
        limit: i64,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let (outstanding,): (i64,) =
                sqlx::query_as("SELECT COUNT(*) FROM tokens WHERE state = 'outstanding'")
                    .fetch_one(&mut *tx)
                    .await?;
            if outstanding.saturating_add(i64::try_from(tokens.len()).unwrap_or(i64::MAX)) > limit {
                return Ok(false);
            }
            for rows in tokens.chunks(ROWS_AT_ONCE) {
                let mut query = QueryBuilder::new(
                    "INSERT INTO tokens (storage_hash, purpose, node_name, source_cidr, public_key_sha256, \
                     replace_node, created_at, expires_at, created_by, failures, state) ",
                );
                query.push_values(rows, |mut row, token| {
                    row.push_bind(token.storage_hash.to_string())
                        .push_bind(token.purpose.as_str())
                        .push_bind(token.node.as_ref().map(ToString::to_string))
                        .push_bind(token.source.map(|range| range.to_string()))
                        .push_bind(token.public_key.map(|key| key.to_string()))
                        .push_bind(token.replace)
                        .push_bind(token.created_at.0)
                        .push_bind(token.expires_at.0)
                        .push_bind(token.created_by.clone())
                        .push("0, 'outstanding'");
                });
                query.build().execute(&mut *tx).await?;
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// The outstanding token with this keyed hash.
    pub async fn token_outstanding(&self, hash: &Sha256Digest) -> Result<Option<StoredToken>, StoreError> {
        let raw: Option<RawToken> = read!(self, pool => {
            sqlx::query_as(
                "SELECT id, purpose, node_name, source_cidr, public_key_sha256, replace_node, created_at, \
                 expires_at, created_by, state FROM tokens WHERE storage_hash = $1 AND state = 'outstanding'",
            )
            .bind(hash.to_string())
            .fetch_optional(pool)
            .await?
        });
        raw.map(RawToken::into_stored).transpose()
    }

    /// Tokens, newest first.
    pub async fn tokens_page(
        &self,
        filter: &TokenFilter,
    ) -> Result<(Vec<TokenView>, Option<i64>), StoreError> {
        let (rows, total) = tokio::join!(self.token_rows(filter), self.token_count(filter));
        Ok((rows?.into_iter().map(RawToken::into_view).collect::<Result<_, _>>()?, if_known(total)?))
    }

    async fn token_rows(&self, filter: &TokenFilter) -> Result<Vec<RawToken>, StoreError> {
        read_in_time!(self, connection => {
            Ok(sqlx::query_as(
                "SELECT id, purpose, node_name, source_cidr, public_key_sha256, replace_node, created_at, \
                 expires_at, created_by, state FROM tokens \
                 WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
            )
            .bind(filter.state.as_deref())
            .bind(filter.before)
            .bind(filter.limit)
            .fetch_all(&mut *connection)
            .await?)
        })
    }

    async fn token_count(&self, filter: &TokenFilter) -> Result<i64, StoreError> {
        read_in_time!(self, connection => {
            Ok(sqlx::query_scalar("SELECT COUNT(*) FROM tokens WHERE ($1 IS NULL OR state = $1)")
                .bind(filter.state.as_deref())
                .fetch_one(&mut *connection)
                .await?)
        })
    }

    /// Counts a wrong signature; the fifth one revokes the token: true then.
    pub async fn token_failed(&self, id: i64, at: EpochMs) -> Result<bool, StoreError> {
        write!(self, pool => {
            sqlx::query("UPDATE tokens SET failures = failures + 1 WHERE id = $1 AND state = 'outstanding'")
                .bind(id)
                .execute(pool)
                .await?;
            let revoked = sqlx::query(
                "UPDATE tokens SET state = 'revoked', storage_hash = NULL, ended_at = $3 \
                 WHERE id = $1 AND state = 'outstanding' AND failures >= $2",
            )
            .bind(id)
            .bind(MAX_WRONG_SIGNATURES)
            .bind(at.0)
            .execute(pool)
            .await?;
            Ok(revoked.rows_affected() > 0)
        })
    }

    /// Ends an outstanding token with its audit record and gives its hash; none where it is not outstanding.
    pub async fn token_revoke(
        &self,
        id: i64,
        record: &NewAuditRecord,
    ) -> Result<Option<Sha256Digest>, StoreError> {
        write!(self, pool => {
            let mut tx = begin_deciding!(self, pool);
            let outstanding: Option<(String,)> = sqlx::query_as(
                "SELECT storage_hash FROM tokens WHERE id = $1 AND state = 'outstanding'",
            )
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
            let Some((hash,)) = outstanding else { return Ok(None) };
            let hash = parse("tokens", "storage_hash", &id.to_string(), &hash)?;
            let ended = sqlx::query(
                "UPDATE tokens SET state = 'revoked', storage_hash = NULL, ended_at = $2 \
                 WHERE id = $1 AND state = 'outstanding'",
            )
            .bind(id)
            .bind(record.at.0)
            .execute(&mut *tx)
            .await?;
            if ended.rows_affected() == 0 {
                return Ok(None);
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(Some(hash))
        })
    }

    /// Ends every token whose time is over, and with it its secret.
    pub async fn tokens_expire(&self, now: EpochMs) -> Result<u64, StoreError> {
        let ended = write!(self, pool => {
            sqlx::query(
                "UPDATE tokens SET state = 'expired', storage_hash = NULL, ended_at = $1 \
                 WHERE state = 'outstanding' AND expires_at <= $1",
            )
            .bind(now.0)
            .execute(pool)
            .await?
            .rows_affected()
        });
        Ok(ended)
    }

    /// Ends one token, known by its hash.
    pub async fn token_expire(&self, hash: &Sha256Digest, now: EpochMs) -> Result<bool, StoreError> {
        let ended = write!(self, pool => {
            sqlx::query(
                "UPDATE tokens SET state = 'expired', storage_hash = NULL, ended_at = $2 \
                 WHERE storage_hash = $1 AND state = 'outstanding'",
            )
            .bind(hash.to_string())
            .bind(now.0)
            .execute(pool)
            .await?
            .rows_affected()
        });
        Ok(ended > 0)
    }

    /// Redeems a Salt token: claims it and appends the record in one transaction; false where somebody was faster.
    pub async fn token_redeem(
        &self,
        hash: &Sha256Digest,
        record: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let claimed = sqlx::query(
                "UPDATE tokens SET state = 'redeemed', storage_hash = NULL, ended_at = $2 \
                 WHERE storage_hash = $1 AND state = 'outstanding'",
            )
            .bind(hash.to_string())
            .bind(record.at.0)
            .execute(&mut *tx)
            .await?;
            if claimed.rows_affected() == 0 {
                return Ok(false);
            }
            append_audit!(self, &mut tx, record)?;
            tx.commit().await?;
            Ok(true)
        })
    }
}
