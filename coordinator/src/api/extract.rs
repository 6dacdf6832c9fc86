//! axum's extractors with refusals in the form of problems.

use aim_common::json::{MAX_DEPTH, is_too_deep};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::StatusCode;

use super::problem::ApiError;

/// A JSON body; its `Content-Type` must say so (a cross-site form cannot), and it may not nest too deep (INJ-02).
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: serde::de::DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = whole(Request::from_parts(parts.clone(), body), state).await?;
        if is_too_deep(&bytes) {
            let detail = format!("lists and objects nest at most {MAX_DEPTH} deep");
            return Err(ApiError::Invalid { field: None, detail });
        }
        let request = Request::from_parts(parts, bytes.into());
        Ok(Self(axum::Json::from_request(request, state).await?.0))
    }
}

/// The body, which the layers around the handler have bounded.
async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
        _ => ApiError::Invalid { field: None, detail: "the body could not be read".to_owned() },
    })
}

/// A JSON body, or no body at all.
#[derive(Debug)]
pub struct OptionalJson<T>(pub Option<T>);

impl<T, S> FromRequest<S> for OptionalJson<T>
where
    T: serde::de::DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = whole(Request::from_parts(parts.clone(), body), state).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        let Json(value) = Json::from_request(Request::from_parts(parts, bytes.into()), state).await?;
        Ok(Self(Some(value)))
    }
}

/// The query's parameters.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// The path's parameters.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::MissingJsonContentType(_) => Self::UnsupportedMedia,
            // serde's own words name the field and what is expected, and nothing of ours.
            other => Self::Invalid { field: None, detail: other.body_text() },
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Invalid { field: None, detail: rejection.body_text() }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::Invalid { field: None, detail: rejection.body_text() }
    }
}

impl<T: serde::Serialize> axum::response::IntoResponse for Json<T> {
    fn into_response(self) -> axum::response::Response {
        axum::Json(self.0).into_response()
    }
}
