//! Nodes that wait for a person's approval.

use aim_common::api::Page;
use aim_common::api::enrolment_requests::EnrolmentRequestView;
use aim_common::api::problem::Problem;
use axum::extract::{Extension, State};
use http::{Method, StatusCode};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Path, Query};
use super::page::PageRequest;
use super::problem::ApiError;
use super::requester::everywhere;
use crate::app::SharedApp;
use crate::auth::Caller;
use crate::keyvault::Requester;

const LIST: &str = "/api/v1/enrolment-requests";
const APPROVE: &str = "/api/v1/enrolment-requests/{request}/approve";
const REJECT: &str = "/api/v1/enrolment-requests/{request}/reject";

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "enrolment-requests",
        router: || {
            OpenApiRouter::new().routes(routes!(list)).routes(routes!(approve)).routes(routes!(reject))
        },
        access: || {
            vec![
                permission(Method::GET, LIST, "keyvault", "read"),
                permission(Method::POST, APPROVE, "keyvault", "update"),
                permission(Method::POST, REJECT, "keyvault", "update"),
            ]
        },
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// At most so many, 1,000 at most.
    limit: Option<u32>,
    /// From the former page.
    cursor: Option<String>,
    /// `pending`, `approved` or `rejected`.
    state: Option<String>,
}

/// Requests, newest first.
#[utoipa::path(get, path = LIST, tag = "enrolment-requests", params(Wanted),
    responses((status = 200, body = Page<EnrolmentRequestView>), (status = 403, body = Problem)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<EnrolmentRequestView>>, ApiError> {
    everywhere(&caller, "keyvault", "read")?;
    let page = PageRequest::new(wanted.limit, wanted.cursor.as_deref())?;
    let (requests, total) =
        app.store.enrolment_requests_page(wanted.state.as_deref(), page.before, page.limit.into()).await?;
    Ok(Json(page.page(requests, Some(total), |request| request.id)))
}

/// Makes the node. Compare the key's fingerprint with what the node printed first.
#[utoipa::path(post, path = APPROVE, tag = "enrolment-requests", params(("request" = i64, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn approve(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(request): Path<i64>,
) -> Result<StatusCode, ApiError> {
    everywhere(&caller, "keyvault", "update")?;
    app.keyvault.approve(request, &Requester::from(&caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses the request for good: its key is never approved.
#[utoipa::path(post, path = REJECT, tag = "enrolment-requests", params(("request" = i64, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn reject(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(request): Path<i64>,
) -> Result<StatusCode, ApiError> {
    everywhere(&caller, "keyvault", "update")?;
    app.keyvault.reject(request, &Requester::from(&caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}
