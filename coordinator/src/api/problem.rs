//! Errors as RFC 9457 problem details. What is internal goes to the journal under the request's id, never out.

use aim_common::api::problem::Problem;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::store::StoreError;

/// What a handler answers instead of its result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the request is malformed or a value is refused.
    #[error("{detail}")]
    Invalid {
        /// The field, as a JSON pointer or parameter name.
        field: Option<String>,
        /// What is wrong and what is expected.
        detail: String,
    },
    /// 401: no credential, or a dead one.
    #[error("authentication is needed: log in and send the credential")]
    Unauthenticated,
    /// 401 of the login: one answer whatever the reason (AUT-07).
    #[error("the user name or the password is wrong")]
    LoginRefused,
    /// 403: a browser's change without the token that only a page of ours knows (API-06).
    #[error("send the CSRF token of the session as X-AIM-CSRF")]
    CsrfMissing,
    /// 403: a page of another origin uses the browser's cookies (API-07).
    #[error("a page of another origin may not use this session")]
    ForeignOrigin,
    /// 401 of the KeyVault: one answer whatever the reason (ENR-02).
    #[error("the token is not valid")]
    TokenRefused,
    /// 403: no grant for it.
    #[error("permission {0} is needed")]
    Forbidden(String),
    /// 404: it does not exist, or is outside the caller's scope; both look the same (RBA-06).
    #[error("{0} was not found")]
    NotFound(&'static str),
    /// 409: it collides with what is there.
    #[error("{0}")]
    Conflict(String),
    /// 412: the precondition does not hold.
    #[error("{0}")]
    PreconditionFailed(String),
    /// 405: the route is there, but not for this method.
    #[error("the method is not allowed here")]
    MethodNotAllowed(Vec<http::Method>),
    /// 408: the body came too slowly.
    #[error("the body was not complete in time")]
    BodyTooSlow,
    /// 413: the body is too large.
    #[error("the body is larger than 1 MiB")]
    BodyTooLarge,
    /// 415: a body must be JSON and say so.
    #[error("send the body as JSON with Content-Type: application/json")]
    UnsupportedMedia,
    /// 421: the name in `Host` is not one of the coordinator's.
    #[error("this name is not one of the coordinator's; add it to https.public_names if it should be")]
    Misdirected,
    /// 431: too many headers, or too large.
    #[error("the request's headers are too large")]
    HeadersTooLarge,
    /// 429: too many; says when to come back.
    #[error("too many requests; try again in {retry_after_seconds} s")]
    TooMany {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// 503: something it needs is not there now.
    #[error("{0}")]
    Unavailable(String),
    /// 500: a fault of ours; the cause is logged and not told.
    #[error("an internal fault; look up the request id in the coordinator's journal")]
    Internal(#[source] anyhow::Error),
}

impl ApiError {
    /// A refused field.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field.into()), detail: detail.into() }
    }

    /// Too many; who comes back after the told time is not refused again, so that parts of a second count as one.
    pub fn too_many(wait: std::time::Duration) -> Self {
        Self::TooMany { retry_after_seconds: (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1) }
    }

    /// An internal fault.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::Internal(cause.into())
    }

    /// Status, stable code and title.
    pub fn classify(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Invalid { .. } => (StatusCode::BAD_REQUEST, "invalid_request", "The request is not valid"),
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "Authentication is needed")
            }
            Self::LoginRefused => (StatusCode::UNAUTHORIZED, "login_refused", "The login was refused"),
            Self::CsrfMissing => (StatusCode::FORBIDDEN, "csrf_missing", "The CSRF token is missing"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign_origin", "The origin is foreign"),
            Self::TokenRefused => (StatusCode::UNAUTHORIZED, "token_refused", "The token is not valid"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "permission_denied", "Permission is missing"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found", "It was not found"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "It collides with what is there"),
            Self::PreconditionFailed(_) => {
                (StatusCode::PRECONDITION_FAILED, "precondition_failed", "The precondition does not hold")
            }
            Self::MethodNotAllowed(_) => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed")
            }
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow", "The body was too slow"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::UnsupportedMedia => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body is not JSON")
            }
            Self::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, "unknown_host", "The host name is not known")
            }
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "The headers are too large",
            ),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "Too many requests"),
            Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "It is not available now")
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "An internal fault"),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::warn!(error = %error, "the database is not available");
                Self::Unavailable("the database is not available; try again in a moment".to_owned())
            }
            StoreError::TooSlow => Self::Unavailable(error.to_string()),
            StoreError::Conflict(_) => Self::Conflict("it exists already".to_owned()),
            StoreError::NulCharacter => Self::Invalid { field: None, detail: error.to_string() },
            other => Self::Internal(other.into()),
        }
    }
}

impl From<crate::entropy::EntropyError> for ApiError {
    fn from(error: crate::entropy::EntropyError) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for ApiError {
    /// The request id is filled in by the outermost layer, which knows it.
    fn into_response(self) -> Response {
        let (status, code, title) = self.classify();
        if let Self::Internal(cause) = &self {
            tracing::error!(error = format!("{cause:#}"), "request failed");
        }
        let field = match &self {
            Self::Invalid { field, .. } => field.clone(),
            _ => None,
        };
        let problem = Problem {
            problem_type: format!("urn:aim:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: self.to_string(),
            request_id: String::new(),
            field,
        };
        let mut response = (status, axum::Json(&problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Self::TooMany { retry_after_seconds } = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
        }
        if let Self::MethodNotAllowed(methods) = &self {
            let methods: Vec<&str> = methods.iter().map(http::Method::as_str).collect();
            if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
                headers.insert(header::ALLOW, value);
            }
        }
        // The layer that owns the request id rewrites the body with it.
        response.extensions_mut().insert(problem);
        response
    }
}

/// A problem that says no more than the status does; for refusals that a library made.
pub fn plain_problem(status: StatusCode) -> Problem {
    let title = status.canonical_reason().unwrap_or("Refused");
    let code = title.to_ascii_lowercase().replace([' ', '-'], "_");
    Problem {
        problem_type: format!("urn:aim:problem:{code}"),
        title: title.to_owned(),
        status: status.as_u16(),
        code,
        detail: title.to_owned(),
        request_id: String::new(),
        field: None,
    }
}
