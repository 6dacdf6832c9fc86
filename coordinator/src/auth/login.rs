//! Login, refresh, logout, change of the own password.

use std::sync::Arc;

use aim_common::api::auth::{ChangePasswordRequest, LoginMode, LoginRequest, SessionInfo};
use aim_common::units::EpochMs;
use http::HeaderMap;
use serde_json::json;

use super::lockout::canonical;
use super::{Auth, Caller, LiveSession, csrf_matches, lock, sha256_hex};
use crate::api::peer::network;
use crate::api::problem::ApiError;
use crate::audit;
use crate::entropy::{EntropyError, random_bytes};
use crate::store::audit::{Decision, NewAuditRecord};
use crate::store::sessions::{NewSession, Rotation, RotationOutcome};
use crate::store::users::{UserChange, UserOutcome, UserRow};

/// An address from which a user logged in within this time is known: a lock of the account does not bind there.
pub(super) const KNOWN_ADDRESS_MS: i64 = 30 * 24 * 3600 * 1000;

/// Where a request without a session comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub source: String,
    /// The request's id.
    pub request_id: String,
}

impl Origin {
    /// Whose guesses are counted together: an IPv6 client has a new address for each of them.
    fn network(&self) -> String {
        self.source.parse().map_or_else(|_| self.source.clone(), |source| network(source).to_string())
    }
}

/// A session that was opened or refreshed: its secrets, which exist nowhere else in clear.
pub struct Opened {
    /// Bearer or cookie.
    pub mode: LoginMode,
    /// The access token.
    pub access: String,
    /// When it ends.
    pub access_expires_at: EpochMs,
    /// The refresh token.
    pub refresh: String,
    /// When it ends.
    pub refresh_expires_at: EpochMs,
    /// The CSRF token; cookie mode only.
    pub csrf: Option<String>,
    /// Who it is.
    pub session: Arc<LiveSession>,
}

fn secret() -> Result<String, EntropyError> {
    Ok(hex::encode(random_bytes::<32>()?))
}

impl Auth {
    /// Opens a session. Unknown user, wrong password and disabled user look the same (AUT-07).
    pub async fn login(&self, request: LoginRequest, origin: &Origin) -> Result<Opened, ApiError> {
        let name = canonical(&request.username);
        // A name that nobody can have shares one counter, so that it cannot fill the memory.
        let account = name.clone().unwrap_or_default();
        let counter = self.begin_attempt(&account, origin).await?;
        let user = match &name {
            Some(name) => self.store.user_by_name(name).await?,
            None => None,
        };
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let right = self.passwords.matches(&request.password, hash).await?;
        let Some(user) = user.filter(|user| right && user.enabled) else {
            let detail = json!({"reason": "user name or password is wrong, or the user is disabled"});
            self.audit.denied(self.anonymous("login", &account, origin, detail)).await;
            return Err(ApiError::LoginRefused);
        };
        lock(&self.accounts).clear(&counter);
        lock(&self.addresses).succeeded(&origin.network());
        self.open_session(&user, request.mode, origin).await
    }

    /// Uses a refresh token once. `csrf` are the headers of a browser's request.
    pub async fn refresh(
        &self,
        token: &str,
        browser: Option<&HeaderMap>,
        origin: &Origin,
    ) -> Result<Opened, ApiError> {
        let now = self.clock.now();
        let used_sha256 = sha256_hex(token.as_bytes());
        let row = self.store.session_of_refresh(&used_sha256).await?.ok_or(ApiError::Unauthenticated)?;
        if !row.enabled || row.ended_at.is_some() || row.expires_at <= now {
            return Err(ApiError::Unauthenticated);
        }
        if let Some(headers) = browser {
            csrf_matches(headers, row.csrf_sha256.as_deref())?;
        } else if row.mode == LoginMode::Cookie {
            // A browser's refresh token must not be turned into a bearer's.
            return Err(ApiError::Unauthenticated);
        }
        let refresh = secret()?;
        let csrf = (row.mode == LoginMode::Cookie).then(secret).transpose()?;
        let rotation = Rotation {
            used_sha256,
            refresh_sha256: sha256_hex(refresh.as_bytes()),
            csrf_sha256: csrf.as_ref().map(|csrf| sha256_hex(csrf.as_bytes())),
            at: now,
            expires_at: self.session_end(now),
        };
        let record = |action, decision, detail| NewAuditRecord {
            actor: format!("user:{}", row.username),
            decision,
            ..self.anonymous(action, &row.id, origin, detail)
        };
        let done = record("session.refresh", Decision::Allowed, json!({}));
        let reused = record(
            "session.refresh",
            Decision::Denied,
            json!({"reason": "the refresh token was used before; the session is ended"}),
        );
        let outcome = self.store.rotate(&row.id, &rotation, &done, &reused).await?;
        self.session_ended(&row.id);
        if outcome != RotationOutcome::Done {
            if outcome == RotationOutcome::Reused {
                tracing::warn!(user = row.username, source = origin.source, "a refresh token was used twice");
            }
            return Err(ApiError::Unauthenticated);
        }
        let session = self.session(&row.id, super::Outage::Refuse).await?;
        self.opened(row.mode, session, refresh, rotation.expires_at, csrf)
    }

    /// Ends the caller's own session.
    pub async fn logout(&self, caller: &Caller) -> Result<(), ApiError> {
        let now = self.clock.now();
        let record = audit::allowed(caller, now, "logout", &*caller.session_id, json!({}));
        self.store.end_session(&caller.session_id, "logout", now, &record).await?;
        self.session_ended(&caller.session_id);
        Ok(())
    }

    /// Changes the caller's own password; every other session of the user ends.
    pub async fn change_password(
        &self,
        caller: &Caller,
        request: ChangePasswordRequest,
    ) -> Result<(), ApiError> {
        let user = self.store.user_by_id(&caller.user_id).await?.ok_or(ApiError::Unauthenticated)?;
        let origin = Origin { source: caller.source.clone(), request_id: caller.request_id.clone() };
        let counter = self.begin_attempt(&user.username, &origin).await?;
        if !self.passwords.matches(&request.current_password, Some(&user.password_hash)).await? {
            let detail = json!({"reason": "the current password is wrong"});
            let record = audit::allowed(caller, self.clock.now(), "password.change", &*user.username, detail);
            self.audit.denied(record).await;
            return Err(ApiError::invalid("current_password", "the current password is wrong"));
        }
        lock(&self.accounts).clear(&counter);
        lock(&self.addresses).succeeded(&origin.network());
        let hash = self.passwords.hash("new_password", &request.new_password).await?;
        let now = self.clock.now();
        let change = UserChange {
            password: Some((hash, false)),
            end_sessions_except: Some(Some(caller.session_id.to_string())),
            ..UserChange::default()
        };
        let record = audit::allowed(caller, now, "password.change", &*user.username, json!({}));
        if self.store.change_user(&caller.user_id, &change, now, &record).await? != UserOutcome::Done {
            return Err(ApiError::Unauthenticated);
        }
        self.user_changed(&caller.user_id);
        Ok(self.note_generated_passwords().await?)
    }

    /// Counts an attempt before it is judged; the counter to be cleared when it was right.
    async fn begin_attempt(&self, account: &str, origin: &Origin) -> Result<String, ApiError> {
        let since = self.clock.now().plus_ms(-KNOWN_ADDRESS_MS);
        // Where a user is known to log in from, somebody else's guesses do not keep the user out.
        let known = self.store.was_seen_from(account, &origin.source, since).await?;
        let counter = if known { format!("{account} {}", origin.source) } else { account.to_owned() };
        let now = self.clock.monotonic();
        let locked = lock(&self.addresses)
            .begin(&origin.network(), now)
            .and_then(|()| lock(&self.accounts).begin(&counter, now))
            .err();
        let Some(wait) = locked else { return Ok(counter) };
        let detail = json!({"reason": "locked after too many attempts", "seconds": wait.as_secs()});
        self.audit.denied(self.anonymous("login.locked", account, origin, detail)).await;
        Err(ApiError::too_many(wait))
    }

    async fn open_session(
        &self,
        user: &UserRow,
        mode: LoginMode,
        origin: &Origin,
    ) -> Result<Opened, ApiError> {
        let now = self.clock.now();
        let refresh = secret()?;
        let csrf = (mode == LoginMode::Cookie).then(secret).transpose()?;
        let session = NewSession {
            id: hex::encode(random_bytes::<16>()?),
            user_id: user.id,
            mode,
            csrf_sha256: csrf.as_ref().map(|csrf| sha256_hex(csrf.as_bytes())),
            source: origin.source.clone(),
            at: now,
            expires_at: self.session_end(now),
            refresh_sha256: sha256_hex(refresh.as_bytes()),
        };
        let record = NewAuditRecord {
            actor: format!("user:{}", user.username),
            decision: Decision::Allowed,
            ..self.anonymous("login", &user.username, origin, json!({"session": session.id}))
        };
        self.store.open_session(&session, &record).await?;
        let live = self.session(&session.id, super::Outage::Refuse).await?;
        self.opened(mode, live, refresh, session.expires_at, csrf)
    }

    fn opened(
        &self,
        mode: LoginMode,
        session: Arc<LiveSession>,
        refresh: String,
        refresh_expires_at: EpochMs,
        csrf: Option<String>,
    ) -> Result<Opened, ApiError> {
        let (access, access_expires_at) = self.keys.issue(session.user_id, &session.id, self.clock.now())?;
        Ok(Opened { mode, access, access_expires_at, refresh, refresh_expires_at, csrf, session })
    }

    /// A record of somebody who has no session.
    fn anonymous(
        &self,
        action: &'static str,
        target: &str,
        origin: &Origin,
        detail: serde_json::Value,
    ) -> NewAuditRecord {
        NewAuditRecord {
            at: self.clock.now(),
            actor: "anonymous".to_owned(),
            source: origin.source.clone(),
            action,
            target: target.to_owned(),
            decision: Decision::Denied,
            detail,
            request_id: origin.request_id.clone(),
        }
    }
}

impl LiveSession {
    /// What the session's own user is told of it.
    pub fn info(&self) -> SessionInfo {
        SessionInfo {
            session_id: self.id.to_string(),
            user_id: self.user_id,
            username: self.username.to_string(),
            roles: self.roles.to_vec(),
            permissions: self.permissions.to_vec(),
            password_change_advised: self.password_generated,
        }
    }
}
