//! The outermost layer: a request id, one line of access log, problem bodies with the id, security headers.

use aim_common::api::problem::Problem;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::api::peer::PeerAddress;
use crate::api::problem::{ApiError, plain_problem};
use crate::app::SharedApp;

/// The id of one request; every request carries it as an extension, every answer as `X-Request-Id`.
///
/// Always made here: an id that the client chose could forge a place in the log.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// For answers that are not pages: nothing may be loaded, framed or run from them.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// See the module.
pub async fn exchange(State(app): State<SharedApp>, mut request: Request, next: Next) -> Response {
    let begun = app.clock.monotonic();
    let id = match crate::entropy::random_bytes::<8>() {
        Ok(bytes) => hex::encode(bytes),
        Err(error) => return ApiError::from(error).into_response(),
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    let peer = request.extensions().get::<PeerAddress>().copied();
    let method = request.method().clone();
    // The path alone: a query may hold what must not be logged.
    let path = request.uri().path().to_owned();

    let response = next.run(request).await;
    let route = response.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let mut response = with_problem(response, &id);
    add_headers(response.headers_mut(), &id);
    let milliseconds = app.clock.monotonic().saturating_sub(begun).as_millis();
    app.http_metrics.count(response.status());
    tracing::info!(
        target: "access",
        peer = peer.map(|peer| peer.to_string()),
        method = method.as_str(),
        path,
        route,
        status = response.status().as_u16(),
        milliseconds,
        request = id,
        "request"
    );
    response
}

/// Gives every refusal the form of a problem, with the request's id in it.
fn with_problem(response: Response, id: &str) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.get::<Problem>() {
        Some(problem) => problem.clone(),
        // A handler's own body of an error status stands; `/readyz` tells its conditions so.
        None if parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json") => {
            return Response::from_parts(parts, body);
        }
        // From a library: only the status is kept, so that no internal text leaves (API-04).
        None => plain_problem(status),
    };
    let problem = Problem { request_id: id.to_owned(), ..problem };
    let Ok(bytes) = serde_json::to_vec(&problem) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    Response::from_parts(parts, Body::from(bytes))
}

fn add_headers(headers: &mut HeaderMap, id: &str) {
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    // Answers hold what only this caller may see; a handler that knows better says so itself.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}
