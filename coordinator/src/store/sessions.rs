//! Sessions and their refresh tokens, which are stored as hashes.

use aim_common::api::auth::LoginMode;
use aim_common::identity::UserId;
use aim_common::units::EpochMs;

use super::audit::{NewAuditRecord, append_audit};
use super::nodes::parse;
use super::{Store, StoreError, read, write};

/// A session with the state of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// The user's name.
    pub username: String,
    /// The user may log in.
    pub enabled: bool,
    /// The user's password is still the generated one.
    pub password_generated: bool,
    /// Bearer or cookie.
    pub mode: LoginMode,
    /// SHA-256 of the CSRF token; cookie mode only.
    pub csrf_sha256: Option<String>,
    /// Where it was opened from.
    pub source: String,
    /// When it began.
    pub created_at: EpochMs,
    /// Last refresh.
    pub refreshed_at: EpochMs,
    /// When it ends by itself.
    pub expires_at: EpochMs,
    /// Set once it has ended.
    pub ended_at: Option<EpochMs>,
}

/// A session to be opened.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// Bearer or cookie.
    pub mode: LoginMode,
    /// SHA-256 of the CSRF token; cookie mode only.
    pub csrf_sha256: Option<String>,
    /// Where it is opened from.
    pub source: String,
    /// Now.
    pub at: EpochMs,
    /// When it ends by itself.
    pub expires_at: EpochMs,
    /// SHA-256 of the refresh token.
    pub refresh_sha256: String,
}

/// What a refresh puts in the place of what was used.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// SHA-256 of the refresh token shown.
    pub used_sha256: String,
    /// SHA-256 of the new one.
    pub refresh_sha256: String,
    /// SHA-256 of the new CSRF token; cookie mode only.
    pub csrf_sha256: Option<String>,
    /// Now.
    pub at: EpochMs,
    /// When the session ends by itself from now on.
    pub expires_at: EpochMs,
}

/// What became of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationOutcome {
    /// The new tokens are in force.
    Done,
    /// The token is not known, or its session has ended.
    Refused,
    /// It was used before: the session is revoked with all its tokens.
    Reused,
}

#[derive(sqlx::FromRow)]
struct RawSession {
    id: String,
    user_id: String,
    username: String,
    enabled: bool,
    password_generated: bool,
    mode: String,
    csrf_sha256: Option<String>,
    source: String,
    created_at: i64,
    refreshed_at: i64,
    expires_at: i64,
    ended_at: Option<i64>,
}

/// The words of the mode in the database.
const fn mode_word(mode: LoginMode) -> &'static str {
    match mode {
        LoginMode::Bearer => "bearer",
        LoginMode::Cookie => "cookie",
    }
}

impl TryFrom<RawSession> for SessionRow {
    type Error = StoreError;

    fn try_from(raw: RawSession) -> Result<Self, StoreError> {
        Ok(Self {
            user_id: parse("sessions", "user_id", &raw.id, &raw.user_id)?,
            // Anything but the word for bearer needs the CSRF token too: the stricter reading.
            mode: if raw.mode == "bearer" { LoginMode::Bearer } else { LoginMode::Cookie },
            id: raw.id,
            username: raw.username,
            enabled: raw.enabled,
            password_generated: raw.password_generated,
            csrf_sha256: raw.csrf_sha256,
            source: raw.source,
            created_at: EpochMs(raw.created_at),
            refreshed_at: EpochMs(raw.refreshed_at),
            expires_at: EpochMs(raw.expires_at),
            ended_at: raw.ended_at.map(EpochMs),
        })
    }
}

impl Store {
    /// Opens a session with its first refresh token.
    pub async fn open_session(&self, session: &NewSession, audit: &NewAuditRecord) -> Result<(), StoreError> {
        let user = session.user_id.to_string();
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            sqlx::query(
                "INSERT INTO sessions (id, user_id, mode, csrf_sha256, source, created_at, refreshed_at, \
                 expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(&session.id)
            .bind(&user)
            .bind(mode_word(session.mode))
            .bind(&session.csrf_sha256)
            .bind(&session.source)
            .bind(session.at.0)
            .bind(session.at.0)
            .bind(session.expires_at.0)
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "INSERT INTO refresh_tokens (sha256, session_id, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(&session.refresh_sha256)
            .bind(&session.id)
            .bind(session.at.0)
            .bind(session.expires_at.0)
            .execute(&mut *tx)
            .await?;
            sqlx::query("UPDATE users SET last_login_at = $1 WHERE id = $2")
                .bind(session.at.0)
                .bind(&user)
                .execute(&mut *tx)
                .await?;
            append_audit!(self, &mut tx, audit)?;
            tx.commit().await?;
            Ok(())
        })
    }

    /// The session of this id with the state of its user; ended ones too.
    pub async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        let raw: Option<RawSession> = read!(self, pool => {
            sqlx::query_as(
                "SELECT s.id, s.user_id, u.username, u.enabled, u.password_generated, s.mode, s.csrf_sha256, \
                 s.source, s.created_at, s.refreshed_at, s.expires_at, s.ended_at \
                 FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1",
            )
            .bind(id)
            .fetch_optional(pool)
            .await
        })?;
        raw.map(SessionRow::try_from).transpose()
    }

    /// The session that a refresh token belongs to.
    pub async fn session_of_refresh(&self, refresh_sha256: &str) -> Result<Option<SessionRow>, StoreError> {
        let id: Option<String> = read!(self, pool => {
            sqlx::query_scalar("SELECT session_id FROM refresh_tokens WHERE sha256 = $1")
                .bind(refresh_sha256)
                .fetch_optional(pool)
                .await
        })?;
        match id {
            Some(id) => self.session(&id).await,
            None => Ok(None),
        }
    }

    /// Living sessions, newest first; of one user where given.
    pub async fn sessions(
        &self,
        user: Option<&UserId>,
        now: EpochMs,
        limit: u32,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let user = user.map(ToString::to_string);
        let raw: Vec<RawSession> = read!(self, pool => {
            sqlx::query_as(
                "SELECT s.id, s.user_id, u.username, u.enabled, u.password_generated, s.mode, s.csrf_sha256, \
                 s.source, s.created_at, s.refreshed_at, s.expires_at, s.ended_at \
                 FROM sessions s JOIN users u ON u.id = s.user_id \
                 WHERE s.ended_at IS NULL AND s.expires_at > $1 AND ($2 IS NULL OR s.user_id = $2) \
                 ORDER BY s.created_at DESC, s.id LIMIT $3",
            )
            .bind(now.0)
            .bind(&user)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await
        })?;
        raw.into_iter().map(SessionRow::try_from).collect()
    }

    /// The user opened a session from this address since then.
    pub async fn was_seen_from(
        &self,
        canonical: &str,
        source: &str,
        since: EpochMs,
    ) -> Result<bool, StoreError> {
        let seen: Option<i64> = read!(self, pool => {
            sqlx::query_scalar(
                "SELECT s.created_at FROM sessions s JOIN users u ON u.id = s.user_id \
                 WHERE u.username_canonical = $1 AND s.source = $2 AND s.created_at > $3 LIMIT 1",
            )
            .bind(canonical)
            .bind(source)
            .bind(since.0)
            .fetch_optional(pool)
            .await
        })?;
        Ok(seen.is_some())
    }

    /// Uses a refresh token; the second use of one ends the whole session (AUT-05).
    pub async fn rotate(
        &self,
        session_id: &str,
        rotation: &Rotation,
        done: &NewAuditRecord,
        reused: &NewAuditRecord,
    ) -> Result<RotationOutcome, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let used = sqlx::query(
                "UPDATE refresh_tokens SET used_at = $1 \
                 WHERE sha256 = $2 AND session_id = $3 AND used_at IS NULL AND expires_at > $4",
            )
            .bind(rotation.at.0)
            .bind(&rotation.used_sha256)
            .bind(session_id)
            .bind(rotation.at.0)
            .execute(&mut *tx)
            .await?;
            if used.rows_affected() == 0 {
                let ended = sqlx::query(
                    "UPDATE sessions SET ended_at = $1, end_cause = 'a refresh token was used twice' \
                     WHERE id = $2 AND ended_at IS NULL",
                )
                .bind(rotation.at.0)
                .bind(session_id)
                .execute(&mut *tx)
                .await?;
                if ended.rows_affected() == 0 {
                    return Ok(RotationOutcome::Refused);
                }
                append_audit!(self, &mut tx, reused)?;
                tx.commit().await?;
                return Ok(RotationOutcome::Reused);
            }
            let renewed = sqlx::query(
                "UPDATE sessions SET refreshed_at = $1, expires_at = $2, csrf_sha256 = $3 \
                 WHERE id = $4 AND ended_at IS NULL AND expires_at > $5",
            )
            .bind(rotation.at.0)
            .bind(rotation.expires_at.0)
            .bind(&rotation.csrf_sha256)
            .bind(session_id)
            .bind(rotation.at.0)
            .execute(&mut *tx)
            .await?;
            if renewed.rows_affected() == 0 {
                return Ok(RotationOutcome::Refused);
            }
            sqlx::query(
                "INSERT INTO refresh_tokens (sha256, session_id, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4)",
            )
            .bind(&rotation.refresh_sha256)
            .bind(session_id)
            .bind(rotation.at.0)
            .bind(rotation.expires_at.0)
            .execute(&mut *tx)
            .await?;
            append_audit!(self, &mut tx, done)?;
            tx.commit().await?;
            Ok(RotationOutcome::Done)
        })
    }

    /// Ends a session; false where it had ended before.
    pub async fn end_session(
        &self,
        id: &str,
        cause: &str,
        at: EpochMs,
        audit: &NewAuditRecord,
    ) -> Result<bool, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            let ended = sqlx::query(
                "UPDATE sessions SET ended_at = $1, end_cause = $2 WHERE id = $3 AND ended_at IS NULL",
            )
            .bind(at.0)
            .bind(cause)
            .bind(id)
            .execute(&mut *tx)
            .await?;
            if ended.rows_affected() == 0 {
                return Ok(false);
            }
            append_audit!(self, &mut tx, audit)?;
            tx.commit().await?;
            Ok(true)
        })
    }

    /// Deletes sessions that ended or expired before then, and their refresh tokens.
    pub async fn forget_sessions(&self, before: EpochMs) -> Result<u64, StoreError> {
        write!(self, pool => {
            let mut tx = pool.begin_with(self.begin()).await?;
            sqlx::query(
                "DELETE FROM refresh_tokens WHERE session_id IN \
                 (SELECT id FROM sessions WHERE ended_at < $1 OR expires_at < $2)",
            )
            .bind(before.0)
            .bind(before.0)
            .execute(&mut *tx)
            .await?;
            let gone = sqlx::query("DELETE FROM sessions WHERE ended_at < $1 OR expires_at < $2")
                .bind(before.0)
                .bind(before.0)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(gone.rows_affected())
        })
    }
}
