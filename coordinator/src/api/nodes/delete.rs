//! The end of a node: its identity is revoked, its name is free, its history stays (PKI-11).

use aim_common::identity::NodeId;
use axum::extract::{Extension, State};
use http::StatusCode;
use serde_json::json;

use super::find_for;
use crate::api::extract::Path;
use crate::api::problem::ApiError;
use crate::app::{App, SharedApp};
use crate::audit;
use crate::auth::Caller;
use crate::keyvault::VaultError;
use crate::store::nodes::NodeState;

/// Deletes a node; a living one is revoked first, and its session is cut.
#[utoipa::path(delete, path = "/api/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 204), (status = 403), (status = 404)))]
pub(super) async fn delete(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<StatusCode, ApiError> {
    let node = find_for(&app, &caller, "delete", &node)?;
    let living = node.state().identity == NodeState::Living;
    if living {
        revoke(&app, &caller, node.id).await?;
    }
    let target = format!("node:{}", node.id);
    let record =
        audit::allowed(&caller, app.clock.now(), "node.delete", target, json!({ "revoked": living }));
    app.store.node_delete(node.id, &record).await?;
    app.inventory.reload_node(node.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(app: &App, caller: &Caller, node: NodeId) -> Result<(), ApiError> {
    match app.keyvault.revoke(node, "the node was deleted", &caller.into()).await {
        // Revoked by somebody else a moment ago.
        Ok(_) | Err(VaultError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
