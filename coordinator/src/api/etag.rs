//! ETags: a client that has this state already is told so instead of being sent it again.

use aim_common::identity::Sha256Digest;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::extract::Json;

/// Answers with `body`, or with 304 where the client holds the same state.
///
/// `state` is what the ETag covers: the body without ages, which change by themselves.
pub fn answer<B: Serialize, S: Serialize>(request: &HeaderMap, body: B, state: &S) -> Response {
    let digest = Sha256Digest::of(&serde_json::to_vec(state).unwrap_or_default());
    let tag = format!("\"{}\"", &digest.to_string()[..32]);
    let held = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = held.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    });
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { Json(body).into_response() };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}
