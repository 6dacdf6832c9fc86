//! One node: everything, its values, its inventory, the processes on its GPUs.

use std::collections::BTreeMap;

use aim_common::api::nodes::{GpuProcessList, InventorySectionView, Node as NodeView, ValueView};
use axum::extract::{Extension, State};
use axum::response::Response;
use http::HeaderMap;

use super::find;
use super::query::stable;
use crate::api::etag;
use crate::api::extract::{Json, Path};
use crate::api::problem::ApiError;
use crate::app::SharedApp;
use crate::auth::Caller;

/// One node, by id or name.
#[utoipa::path(get, path = "/api/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 200, body = NodeView), (status = 304), (status = 404)))]
pub(super) async fn show(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(node): Path<String>,
) -> Result<Response, ApiError> {
    let node = find(&app, &caller, "hosts", &node)?;
    let mut view = node.view(app.inventory.now());
    if view.certificate_serial.is_none()
        // Without the database the node is still shown, and its certificate is not known.
        && let Ok(Some((serial, ends))) = app.store.node_certificate(node.id).await
    {
        view.certificate_serial = Some(serial);
        view.certificate_expires_at = Some(ends);
    }
    let state = without_ages(view.clone());
    Ok(etag::answer(&headers, view, &state))
}

fn without_ages(mut view: NodeView) -> NodeView {
    view.summary = stable(view.summary);
    view.inventory.values_mut().for_each(|section| section.age_ms = 0);
    view.values.iter_mut().for_each(|value| value.age_ms = 0);
    view
}

/// The newest values, each with its age; those of an absent node are old and say so.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/values", tag = "nodes",
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 200, body = Vec<ValueView>), (status = 404)))]
pub(super) async fn values(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<Json<Vec<ValueView>>, ApiError> {
    let node = find(&app, &caller, "hosts", &node)?;
    Ok(Json(node.values(app.inventory.now())))
}

/// The inventory by section, each with its age.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/inventory", tag = "nodes",
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 200, body = BTreeMap<String, InventorySectionView>), (status = 404)))]
pub(super) async fn inventory(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<Json<BTreeMap<String, InventorySectionView>>, ApiError> {
    let node = find(&app, &caller, "hosts", &node)?;
    let view = node.state().inventory_view(app.inventory.now());
    Ok(Json(view))
}

/// The processes with a context on a GPU, as of the last report.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/gpu-processes", tag = "nodes",
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 200, body = GpuProcessList), (status = 404)))]
pub(super) async fn gpu_processes(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<Json<GpuProcessList>, ApiError> {
    let node = find(&app, &caller, "hosts", &node)?;
    Ok(Json(node.gpu_processes(app.inventory.now())))
}
