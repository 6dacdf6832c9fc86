//! What one request may weigh, and how long it may take.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};

use crate::api::problem::ApiError;
use crate::api::server::{HEADERS, TimeTaken};

/// Header bytes of one request.
const HEADER_BYTES: usize = 16 * 1024;
/// The request target.
const TARGET_BYTES: usize = 8 * 1024;
/// Body bytes of one request.
const BODY_BYTES: usize = 1024 * 1024;
/// The whole body must be there within this time.
const BODY_READ: Duration = Duration::from_secs(30);
/// The same for the KeyVault, whose clients are not logged in: from the accept of a fresh connection on (ENR-20).
const KEYVAULT_BODY_READ: Duration = Duration::from_secs(10);
/// Where the KeyVault's routes are.
const KEYVAULT: &str = "/api/keyvault/";
/// A handler must begin its answer within this time; event streams begin at once.
const ANSWER: Duration = Duration::from_secs(30);

/// Refuses oversized headers; HTTP/1 and HTTP/2 count differently, so that this is the one rule for both.
pub async fn headers(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if headers.len() > HEADERS || bytes > HEADER_BYTES || target > TARGET_BYTES {
        return ApiError::HeadersTooLarge.into_response();
    }
    next.run(request).await
}

/// Reads the body whole, within its size and time, before the handler; bounds the handler's own time.
pub async fn body_and_time(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return ApiError::BodyTooLarge.into_response();
    }
    let body_read = if parts.uri.path().starts_with(KEYVAULT) {
        let taken = parts.extensions.get::<TimeTaken>().map_or(Duration::ZERO, |taken| taken.0);
        KEYVAULT_BODY_READ.saturating_sub(taken)
    } else {
        BODY_READ
    };
    let bytes = match tokio::time::timeout(body_read, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return ApiError::BodyTooLarge.into_response();
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "a request's body broke off");
            return ApiError::Invalid { field: None, detail: "the body broke off".to_owned() }
                .into_response();
        }
        Err(_) => return ApiError::BodyTooSlow.into_response(),
    };
    let request = Request::from_parts(parts, Body::from(bytes));
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable("it took too long; try again in a moment".to_owned()).into_response(),
    }
}
