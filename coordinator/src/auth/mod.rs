//! Who calls, and what they may do.
//!
//! Enters: credentials of a request. Leaves: a [`Caller`] with the permissions of this moment, or a refusal. Never:
//! rights from anything the request itself says (path, body, headers other than the credential).

pub mod bootstrap;
mod caller;
pub mod credential;
mod jwt;
pub mod lockout;
mod login;
mod password;
pub mod rate;
mod session;
pub mod templates;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aim_common::api::auth::SessionInfo;
use aim_common::identity::UserId;
use aim_common::units::EpochMs;
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use caller::Caller;
pub use jwt::JwtError;
pub use login::{Opened, Origin};
pub use password::{Passwords, generate};
#[cfg(test)]
pub(crate) use session::CHECKED_FOR;
pub use session::LiveSession;

use self::credential::{CSRF_HEADER, Credential};
use self::jwt::KeyRing;
use self::lockout::{Lockout, PER_ACCOUNT, PER_ADDRESS};
use self::rate::Rate;
use self::session::SessionCache;
use crate::api::problem::ApiError;
use crate::audit::Audit;
use crate::clock::SharedClock;
use crate::conditions::Conditions;
use crate::config::Config;
use crate::seal::SealingKey;
use crate::store::{Store, StoreError};

/// The condition while a generated password is in use (AUT-09).
const PASSWORD_UNCHANGED: &str = "admin_password_unchanged";

/// What may still be called while the database cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// Nothing: the answer is 503.
    Refuse,
    /// The route is one that must work then (revocation): a session verified within 10 minutes is good enough.
    Tolerate,
}

/// Logins, sessions and their checks.
pub struct Auth {
    store: Store,
    clock: SharedClock,
    audit: Arc<Audit>,
    conditions: Arc<Conditions>,
    keys: KeyRing,
    passwords: Passwords,
    session_ms: i64,
    cache: Mutex<SessionCache>,
    accounts: Mutex<Lockout<String>>,
    addresses: Mutex<Lockout<String>>,
    session_rate: Mutex<Rate<Arc<str>>>,
    export_rate: Mutex<Rate<Arc<str>>>,
}

impl Auth {
    /// Opens the signing keys and is ready.
    pub async fn open(
        config: &Config,
        store: Store,
        clock: SharedClock,
        audit: Arc<Audit>,
        conditions: Arc<Conditions>,
        seal: &SealingKey,
    ) -> Result<Self, JwtError> {
        let keys = KeyRing::load(&store, seal, clock.now()).await?;
        let auth = Self {
            store,
            clock,
            audit,
            conditions,
            keys,
            passwords: Passwords::default(),
            session_ms: i64::from(config.auth.session_hours) * 3_600_000,
            cache: Mutex::default(),
            accounts: Mutex::new(Lockout::new(PER_ACCOUNT)),
            addresses: Mutex::new(Lockout::new(PER_ADDRESS)),
            session_rate: Mutex::new(Rate::new(config.https.rates.session_per_second)),
            export_rate: Mutex::new(Rate::new(config.https.rates.exports_per_second)),
        };
        auth.note_generated_passwords().await?;
        Ok(auth)
    }

    /// Hashes and compares passwords.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The living session of a request; a change by cookie must carry the CSRF token (API-06).
    pub async fn authenticate(
        &self,
        method: &Method,
        headers: &HeaderMap,
        outage: Outage,
    ) -> Result<Arc<LiveSession>, ApiError> {
        let credential = Credential::of(headers).ok_or(ApiError::Unauthenticated)?;
        let (Credential::Bearer(token) | Credential::Cookie(token)) = credential;
        let claims = self.keys.verify(token, self.clock.now()).map_err(|_| ApiError::Unauthenticated)?;
        let session = self.session(&claims.sid, outage).await?;
        if session.user_id != claims.sub {
            return Err(ApiError::Unauthenticated);
        }
        if matches!(credential, Credential::Cookie(_)) && !method.is_safe() {
            csrf_matches(headers, session.csrf_sha256.as_deref())?;
        }
        lock(&self.session_rate).take(&session.id, self.clock.monotonic()).map_err(ApiError::too_many)?;
        Ok(session)
    }

    /// One of the requests that cost most: a whole list, a walk through a whole table (API-03).
    pub fn begin_export(&self, caller: &Caller) -> Result<(), ApiError> {
        lock(&self.export_rate).take(&caller.session_id, self.clock.monotonic()).map_err(ApiError::too_many)
    }

    /// The session is still alive, and this is what it may do now: for streams that live longer than a request.
    pub async fn still(&self, caller: &Caller) -> Result<Caller, ApiError> {
        let session = self.session(&caller.session_id, Outage::Refuse).await?;
        Ok(session.caller(caller.source.clone(), caller.request_id.clone()))
    }

    /// Who the caller is, for the caller.
    pub async fn info(&self, caller: &Caller) -> Result<SessionInfo, ApiError> {
        Ok(self.session(&caller.session_id, Outage::Refuse).await?.info())
    }

    /// What is remembered of the user's sessions is asked anew at their next request.
    pub fn user_changed(&self, user: &UserId) {
        lock(&self.cache).forget_user(user);
    }

    /// What is remembered of every session is asked anew: a role changed.
    pub fn roles_changed(&self) {
        lock(&self.cache).recheck_all();
    }

    /// The session has ended.
    pub fn session_ended(&self, id: &str) {
        lock(&self.cache).forget(id);
    }

    /// Deletes what ended long ago.
    pub async fn forget_old_sessions(&self) -> Result<u64, StoreError> {
        // Kept for 30 days: they tell from where a user is known to log in.
        self.store.forget_sessions(self.clock.now().plus_ms(-login::KNOWN_ADDRESS_MS)).await
    }

    /// Enters or leaves the condition of generated passwords.
    pub async fn note_generated_passwords(&self) -> Result<(), StoreError> {
        let names = self.store.users_with_generated_password().await?;
        if names.is_empty() {
            self.conditions.leave(PASSWORD_UNCHANGED, "");
        } else {
            let detail = format!(
                "{} still has the password that the coordinator made; change it: aimctl user password",
                names.join(", ")
            );
            self.conditions.enter(PASSWORD_UNCHANGED, "", self.clock.now(), &detail);
        }
        Ok(())
    }

    async fn session(&self, id: &str, outage: Outage) -> Result<Arc<LiveSession>, ApiError> {
        if let Some(session) = lock(&self.cache).checked(id, self.clock.monotonic(), self.clock.now()) {
            return Ok(session);
        }
        let changes = lock(&self.cache).changes();
        match LiveSession::load(&self.store, id).await {
            Ok(Some(session)) if session.alive(self.clock.now()) => {
                let session = Arc::new(session);
                lock(&self.cache).remember(Arc::clone(&session), self.clock.monotonic(), changes);
                Ok(session)
            }
            Ok(_) => {
                lock(&self.cache).forget(id);
                Err(ApiError::Unauthenticated)
            }
            Err(StoreError::Unavailable(error)) if outage == Outage::Tolerate => {
                let known = lock(&self.cache).recent(id, self.clock.monotonic(), self.clock.now());
                known.ok_or_else(|| StoreError::Unavailable(error).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn session_end(&self, now: EpochMs) -> EpochMs {
        now.plus_ms(self.session_ms)
    }
}

/// The header carries the token whose hash the session keeps.
fn csrf_matches(headers: &HeaderMap, expected_sha256: Option<&str>) -> Result<(), ApiError> {
    let shown = headers.get(CSRF_HEADER).map(|value| sha256_hex(value.as_bytes()));
    match (shown, expected_sha256) {
        (Some(shown), Some(expected)) if bool::from(shown.as_bytes().ct_eq(expected.as_bytes())) => Ok(()),
        _ => Err(ApiError::CsrfMissing),
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
