//! The Salt master's public key.

use aim_common::api::problem::Problem;
use aim_common::api::salt::{MasterKeyView, PutMasterKeyRequest};
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

const MASTER_KEY: &str = "/api/v1/salt/master-key";

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "salt",
        router: || OpenApiRouter::new().routes(routes!(get, put)),
        access: || {
            vec![
                permission(Method::GET, MASTER_KEY, "keyvault", "read"),
                permission(Method::PUT, MASTER_KEY, "keyvault", "update"),
            ]
        },
    }
}

/// The imported key and its fingerprint, as Salt's `master_finger` wants it.
#[utoipa::path(get, path = MASTER_KEY, tag = "salt",
    responses((status = 200, body = MasterKeyView), (status = 404, body = Problem)))]
async fn get(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<MasterKeyView>, ApiError> {
    everywhere(&caller, "keyvault", "read")?;
    app.keyvault.salt_key().await?.map(Json).ok_or(ApiError::NotFound("a Salt master key"))
}

/// Imports the key; a different one is replaced only where the request says so.
#[utoipa::path(put, path = MASTER_KEY, tag = "salt", request_body = PutMasterKeyRequest,
    responses((status = 200, body = MasterKeyView), (status = 400, body = Problem), (status = 409, body = Problem)))]
async fn put(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<PutMasterKeyRequest>,
) -> Result<Json<MasterKeyView>, ApiError> {
    everywhere(&caller, "keyvault", "update")?;
    let view = app.keyvault.put_salt_key(&request.pem, request.replace, &Requester::from(&caller)).await?;
    Ok(Json(view))
}
