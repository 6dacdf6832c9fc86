//! Nodes' certificates, their revocation, and the end of a quarantine.

use aim_common::api::Page;
use aim_common::api::certificates::{
    CertificateView, ReleaseRequest, ReleaseResponse, RevokeRequest, RevokeResponse,
};
use aim_common::api::problem::Problem;
use aim_common::identity::NodeId;
use axum::extract::{Extension, State};
use http::Method;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Path, Query};
use super::nodes::may;
use super::page::PageRequest;
use super::problem::ApiError;
use super::requester::everywhere;
use crate::app::{App, SharedApp};
use crate::auth::Caller;
use crate::keyvault::Requester;
use crate::store::certificates::CertificateFilter;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "certificates",
        router: || {
            OpenApiRouter::new().routes(routes!(list)).routes(routes!(revoke)).routes(routes!(release))
        },
        access: || {
            vec![
                permission(Method::GET, "/api/v1/certificates", "certificates", "read"),
                permission(Method::POST, "/api/v1/nodes/{node}/revoke", "certificates", "revoke"),
                permission(Method::POST, "/api/v1/nodes/{node}/release", "certificates", "update"),
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
    /// Of this node: its id, or its name.
    node: Option<String>,
    /// `issued`, `active`, `superseded`, `revoked` or `expired`.
    state: Option<String>,
}

/// Certificates, newest first.
#[utoipa::path(get, path = "/api/v1/certificates", tag = "certificates", params(Wanted),
    responses((status = 200, body = Page<CertificateView>), (status = 403, body = Problem)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<CertificateView>>, ApiError> {
    everywhere(&caller, "certificates", "read")?;
    let page = PageRequest::new(wanted.limit, wanted.cursor.as_deref())?;
    let filter = CertificateFilter {
        node: wanted.node.map(|node| node.to_ascii_lowercase()),
        state: wanted.state,
        now: app.clock.now(),
    };
    // The cursor counts rows from the newest one on: serials have no order.
    let offset = page.before.unwrap_or(0);
    let (certificates, total) = app.store.certificates_page(&filter, offset, page.limit.into()).await?;
    let next = offset.saturating_add(i64::try_from(certificates.len()).unwrap_or(i64::MAX));
    Ok(Json(page.page(certificates, total, |_| next)))
}

/// Revokes a node's identity: answered when its sessions are cut and no other will be let in.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/revoke", tag = "certificates", params(("node" = String, Path)),
    request_body = RevokeRequest,
    responses((status = 200, body = RevokeResponse), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn revoke(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
    Json(request): Json<RevokeRequest>,
) -> Result<Json<RevokeResponse>, ApiError> {
    let node = within(&app, &caller, "revoke", &node)?;
    Ok(Json(app.keyvault.revoke(node, &request.reason, &Requester::from(&caller)).await?))
}

/// Ends a node's quarantine: its identity was in one place only, or the copy of it is gone.
#[utoipa::path(post, path = "/api/v1/nodes/{node}/release", tag = "certificates", params(("node" = String, Path)),
    request_body = ReleaseRequest,
    responses((status = 200, body = ReleaseResponse), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn release(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
    Json(request): Json<ReleaseRequest>,
) -> Result<Json<ReleaseResponse>, ApiError> {
    let node = within(&app, &caller, "update", &node)?;
    Ok(Json(app.keyvault.release(node, &request.reason, &Requester::from(&caller)).await?))
}

/// The node, where the caller may do this to its certificates. By what is in memory: it works while the database is
/// away (PKI-12), and takes no longer than a miss (RBA-06).
fn within(app: &App, caller: &Caller, verb: &str, node: &str) -> Result<NodeId, ApiError> {
    let known = app.keyvault.identities().resolve(node).map(|(node, _)| node);
    let may_here = |node: &NodeId| {
        caller.may_everywhere("certificates", verb)
            || app.inventory.node(*node).is_some_and(|node| may(caller, "certificates", verb, &node))
    };
    known.filter(may_here).ok_or(ApiError::NotFound("the node"))
}
