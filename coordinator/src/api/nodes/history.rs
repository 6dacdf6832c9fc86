//! What happened to one node: its events, and the changes of its inventory.

use aim_common::api::Page;
use aim_common::api::events::EventView;
use aim_common::api::nodes::InventoryChange;
use axum::extract::{Extension, State};
use serde::Deserialize;

use super::find;
use crate::api::events::{Wanted as WantedEvents, page_of};
use crate::api::extract::{Json, Path, Query};
use crate::api::page::PageRequest;
use crate::api::problem::ApiError;
use crate::app::SharedApp;
use crate::auth::Caller;

/// Events of the node, newest first.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/events", tag = "nodes",
    params(("node" = String, Path, description = "Id or name"), WantedEvents),
    responses((status = 200, body = Page<EventView>), (status = 404)))]
pub(super) async fn events(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
    Query(wanted): Query<WantedEvents>,
) -> Result<Json<Page<EventView>>, ApiError> {
    let node = find(&app, &caller, "events", &node)?;
    page_of(&app, &caller, wanted, Some(&node)).await.map(Json)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedChanges {
    /// At most so many, 1,000 at most.
    limit: Option<u32>,
    /// From the former page.
    cursor: Option<String>,
    /// Of this section only (`gpus`).
    section: Option<String>,
}

/// Changes of the node's inventory, newest first.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/inventory-changes", tag = "nodes",
    params(("node" = String, Path, description = "Id or name"), WantedChanges),
    responses((status = 200, body = Page<InventoryChange>), (status = 404)))]
pub(super) async fn inventory_changes(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
    Query(wanted): Query<WantedChanges>,
) -> Result<Json<Page<InventoryChange>>, ApiError> {
    let node = find(&app, &caller, "hosts", &node)?;
    let request = PageRequest::new(wanted.limit, wanted.cursor.as_deref())?;
    let section = wanted.section.as_deref();
    let (items, total) = app.store.inventory_changes(node.id, section, request.before, request.limit).await?;
    Ok(Json(request.page(items, total, |change| change.id)))
}
