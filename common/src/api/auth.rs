//! Login, sessions, refresh, logout.

use serde::{Deserialize, Serialize};

use crate::identity::UserId;
use crate::permission::Permission;
use crate::units::EpochMs;

/// How the caller wants to be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LoginMode {
    /// `Authorization: Bearer`, for scripts: the tokens come in the body.
    #[default]
    Bearer,
    /// `HttpOnly` cookies, for browsers: the body holds only the CSRF token.
    Cookie,
}

/// `POST /api/v1/auth/login`
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// User name, compared without regard to case.
    pub username: String,
    /// Password.
    pub password: String,
    /// Bearer (default) or cookie.
    #[serde(default)]
    pub mode: LoginMode,
}

/// Answer to login and refresh.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginResponse {
    /// Access token (JWT), valid 10 minutes; bearer mode only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub access_token: Option<String>,
    /// When the access token ends.
    pub access_expires_at: EpochMs,
    /// Refresh token, valid 12 hours, good for one use; bearer mode only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh_token: Option<String>,
    /// When the refresh token ends.
    pub refresh_expires_at: EpochMs,
    /// Send it as `X-AIM-CSRF` with every change; cookie mode only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub csrf_token: Option<String>,
    /// Who logged in.
    pub session: SessionInfo,
}

/// `POST /api/v1/auth/refresh`; in cookie mode the body is empty.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The refresh token.
    #[serde(default)]
    pub refresh_token: Option<String>,
}

/// `POST /api/v1/auth/password`
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordRequest {
    /// The password now.
    pub current_password: String,
    /// The new one, 12 to 72 bytes.
    pub new_password: String,
}

/// `GET /api/v1/auth/session`: who the caller is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionInfo {
    /// The session's id.
    pub session_id: String,
    /// The user.
    pub user_id: UserId,
    /// The user's name.
    pub username: String,
    /// The roles held.
    pub roles: Vec<String>,
    /// All permissions that follow from the roles.
    pub permissions: Vec<Permission>,
    /// The password is the generated one and should be changed.
    pub password_change_advised: bool,
}

/// One row of `GET /api/v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// The user's name.
    pub username: String,
    /// When it began.
    pub created_at: EpochMs,
    /// Last refresh.
    pub refreshed_at: EpochMs,
    /// When it ends by itself.
    pub expires_at: EpochMs,
    /// Address it was opened from.
    pub source: String,
    /// It is the caller's own.
    pub current: bool,
}
