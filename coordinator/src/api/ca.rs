//! The CA's certificates, and the fence that a restored database puts up.

use aim_common::api::certificates::{CaCertificateView, CaView, FenceView};
use aim_common::api::problem::Problem;
use axum::extract::{Extension, State};
use http::Method;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::Json;
use super::problem::ApiError;
use super::requester::everywhere;
use crate::app::SharedApp;
use crate::auth::Caller;
use crate::keyvault::Requester;
use crate::keyvault::ca::CaCertificate;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "ca",
        router: || OpenApiRouter::new().routes(routes!(ca)).routes(routes!(fence)).routes(routes!(lift)),
        access: || {
            vec![
                permission(Method::GET, "/api/v1/ca", "certificates", "read"),
                permission(Method::GET, "/api/v1/fence", "certificates", "read"),
                permission(Method::POST, "/api/v1/fence/lift", "certificates", "update"),
            ]
        },
    }
}

/// Trust domain, roots and issuing certificate.
#[utoipa::path(get, path = "/api/v1/ca", tag = "certificates",
    responses((status = 200, body = CaView), (status = 403, body = Problem)))]
async fn ca(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<CaView>, ApiError> {
    everywhere(&caller, "certificates", "read")?;
    let ca = app.keyvault.ca();
    Ok(Json(CaView {
        trust_domain: ca.trust_domain().to_string(),
        roots: ca.roots().iter().map(view).collect(),
        issuing: view(&ca.issuing()),
        bundle: ca.bundle_pem(),
    }))
}

fn view(certificate: &CaCertificate) -> CaCertificateView {
    CaCertificateView {
        sha256: certificate.sha256.to_string(),
        subject: certificate.subject.clone(),
        not_after: certificate.not_after,
    }
}

/// Whether the database looks like a restored backup; nobody is enrolled then.
#[utoipa::path(get, path = "/api/v1/fence", tag = "certificates",
    responses((status = 200, body = FenceView), (status = 403, body = Problem)))]
async fn fence(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<FenceView>, ApiError> {
    everywhere(&caller, "certificates", "read")?;
    Ok(Json(app.keyvault.fence()))
}

/// Accepts the database as it is.
#[utoipa::path(post, path = "/api/v1/fence/lift", tag = "certificates",
    responses((status = 200, body = FenceView), (status = 403, body = Problem)))]
async fn lift(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<FenceView>, ApiError> {
    everywhere(&caller, "certificates", "update")?;
    Ok(Json(app.keyvault.lift_fence(&Requester::from(&caller)).await?))
}
