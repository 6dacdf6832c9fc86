//! Living sessions, remembered for half a second so that not every request asks the database (AUT-04).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aim_common::identity::UserId;
use aim_common::permission::Permission;
use aim_common::units::EpochMs;

use super::Caller;
use crate::store::{Store, StoreError};

/// A session is asked for again after this long; with a stream's own look it is within a second (AUT-04).
pub(crate) const CHECKED_FOR: Duration = Duration::from_millis(500);
/// While the database is gone, a session verified within this time may still revoke.
const RECENT: Duration = Duration::from_mins(10);
/// Sessions remembered; more people than that do not operate one fleet.
const REMEMBERED: usize = 10_000;

/// A session, its user, and what the user may do.
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// The session's id.
    pub id: Arc<str>,
    /// The user.
    pub user_id: UserId,
    /// The user's name.
    pub username: Arc<str>,
    /// The roles held.
    pub roles: Arc<[String]>,
    /// What they grant.
    pub permissions: Arc<[Permission]>,
    /// The password is still the generated one.
    pub password_generated: bool,
    /// SHA-256 of the CSRF token; cookie mode only.
    pub csrf_sha256: Option<String>,
    /// When it ends by itself.
    pub expires_at: EpochMs,
    enabled: bool,
    ended: bool,
}

impl LiveSession {
    /// Reads the session with its user's rights.
    pub(super) async fn load(store: &Store, id: &str) -> Result<Option<Self>, StoreError> {
        let Some(row) = store.session(id).await? else { return Ok(None) };
        let Some(user) = store.user_by_id(&row.user_id).await? else { return Ok(None) };
        let permissions = store.permissions_of(&row.user_id).await?;
        Ok(Some(Self {
            id: row.id.into(),
            user_id: row.user_id,
            username: user.username.into(),
            roles: user.roles.into(),
            permissions: permissions.into(),
            password_generated: user.password_generated,
            csrf_sha256: row.csrf_sha256,
            expires_at: row.expires_at,
            enabled: user.enabled,
            ended: row.ended_at.is_some(),
        }))
    }

    /// It may be used at this moment.
    pub(super) fn alive(&self, now: EpochMs) -> bool {
        self.enabled && !self.ended && now < self.expires_at
    }

    /// The caller of one request.
    pub fn caller(&self, source: String, request_id: String) -> Caller {
        Caller {
            user_id: self.user_id,
            username: Arc::clone(&self.username),
            session_id: Arc::clone(&self.id),
            roles: Arc::clone(&self.roles),
            permissions: Arc::clone(&self.permissions),
            source,
            request_id,
        }
    }
}

#[derive(Debug)]
struct Remembered {
    session: Arc<LiveSession>,
    verified: Duration,
    recheck: bool,
}

/// What was read lately.
#[derive(Debug, Default)]
pub(super) struct SessionCache {
    known: HashMap<String, Remembered>,
    changes: u64,
}

impl SessionCache {
    /// The session, where it was read a moment ago.
    pub(super) fn checked(&self, id: &str, now: Duration, wall: EpochMs) -> Option<Arc<LiveSession>> {
        let known = self.known.get(id)?;
        let fresh = !known.recheck && now.saturating_sub(known.verified) < CHECKED_FOR;
        (fresh && known.session.alive(wall)).then(|| Arc::clone(&known.session))
    }

    /// The session, where it was read within the last ten minutes.
    pub(super) fn recent(&self, id: &str, now: Duration, wall: EpochMs) -> Option<Arc<LiveSession>> {
        let known = self.known.get(id)?;
        let recent = now.saturating_sub(known.verified) < RECENT;
        (recent && known.session.alive(wall)).then(|| Arc::clone(&known.session))
    }

    /// Counts the changes: what was read before one is not to be remembered after it.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Keeps what was read since `changes` were counted, unless there was another one meanwhile.
    pub(super) fn remember(&mut self, session: Arc<LiveSession>, now: Duration, changes: u64) {
        if changes != self.changes {
            return;
        }
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, known| now.saturating_sub(known.verified) < CHECKED_FOR);
            if self.known.len() >= REMEMBERED {
                self.known.clear();
            }
        }
        self.known.insert(session.id.to_string(), Remembered { session, verified: now, recheck: false });
    }

    /// The session has ended.
    pub(super) fn forget(&mut self, id: &str) {
        self.changes += 1;
        self.known.remove(id);
    }

    /// The user changed.
    pub(super) fn forget_user(&mut self, user: &UserId) {
        self.changes += 1;
        self.known.retain(|_, known| known.session.user_id != *user);
    }

    /// Rights changed, sessions did not end.
    pub(super) fn recheck_all(&mut self) {
        self.changes += 1;
        for known in self.known.values_mut() {
            known.recheck = true;
        }
    }
}
