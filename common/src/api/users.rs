//! Users.

use serde::{Deserialize, Serialize};

use crate::identity::UserId;
use crate::units::EpochMs;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its name, unique ignoring case.
    pub username: String,
    /// Names of the roles held.
    pub roles: Vec<String>,
    /// Groups the user is in.
    pub groups: Vec<String>,
    /// A disabled user has no session and cannot log in.
    pub enabled: bool,
    /// When it was created.
    pub created_at: EpochMs,
    /// Last successful login.
    pub last_login_at: Option<EpochMs>,
}

/// `POST /api/v1/users`
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// 1 to 64 of `[a-z0-9._-]`.
    pub username: String,
    /// 12 to 72 bytes.
    pub password: String,
    /// Names of roles; the caller must hold all that they grant.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// `PATCH /api/v1/users/{id}`: what is absent stays.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateUserRequest {
    /// New password, set by somebody else; ends all sessions of the user.
    #[serde(default)]
    pub password: Option<String>,
    /// All roles from now on.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// All groups from now on.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Enable or disable.
    #[serde(default)]
    pub enabled: Option<bool>,
}
