//! Nodes: list, one, values, history, labels, live view. What is out of the caller's scope does not exist (RBA-06).

mod delete;
mod history;
mod list;
mod live;
mod one;
mod query;
mod update;

use std::sync::Arc;

use http::Method;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::problem::ApiError;
use crate::app::App;
use crate::auth::Caller;
use crate::inventory::Node;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "nodes",
        router: || {
            OpenApiRouter::new()
                .routes(routes!(list::list))
                .routes(routes!(one::show, update::update, delete::delete))
                .routes(routes!(one::values))
                .routes(routes!(one::gpu_processes))
                .routes(routes!(one::inventory))
                .routes(routes!(history::inventory_changes))
                .routes(routes!(history::events))
                .routes(routes!(live::live))
        },
        access: || {
            const NODE: &str = "/api/v1/nodes/{node}";
            vec![
                permission(Method::GET, "/api/v1/nodes", "hosts", "read"),
                permission(Method::GET, NODE, "hosts", "read"),
                permission(Method::PATCH, NODE, "hosts", "update"),
                permission(Method::DELETE, NODE, "hosts", "delete"),
                permission(Method::GET, "/api/v1/nodes/{node}/values", "hosts", "read"),
                permission(Method::GET, "/api/v1/nodes/{node}/gpu-processes", "hosts", "read"),
                permission(Method::GET, "/api/v1/nodes/{node}/inventory", "hosts", "read"),
                permission(Method::GET, "/api/v1/nodes/{node}/inventory-changes", "hosts", "read"),
                permission(Method::GET, "/api/v1/nodes/{node}/events", "events", "read"),
                permission(Method::GET, "/api/v1/nodes/{node}/live", "hosts", "read"),
            ]
        },
    }
}

/// The node that a path means, by id or name, if the caller may read this resource of it.
pub(super) fn find(app: &App, caller: &Caller, resource: &str, text: &str) -> Result<Arc<Node>, ApiError> {
    const MISSING: ApiError = ApiError::NotFound("the node");
    find_any(app, text).filter(|node| may(caller, resource, "read", node)).ok_or(MISSING)
}

/// Some grant of the caller covers this verb on this node.
pub(super) fn may(caller: &Caller, resource: &str, verb: &str, node: &Node) -> bool {
    let state = node.state();
    caller.may(resource, verb, state.owner.as_ref(), &state.groups)
}

/// The node, if the caller may change it; a node that may only be read says so, any other does not exist.
fn find_for(app: &App, caller: &Caller, verb: &'static str, text: &str) -> Result<Arc<Node>, ApiError> {
    let node = find(app, caller, "hosts", text).or_else(|missing| {
        // A grant to change without one to read still reaches its own objects.
        find_any(app, text).filter(|node| may(caller, "hosts", verb, node)).ok_or(missing)
    })?;
    if may(caller, "hosts", verb, &node) {
        Ok(node)
    } else {
        Err(ApiError::Forbidden(format!("hosts:{verb}")))
    }
}

fn find_any(app: &App, text: &str) -> Option<Arc<Node>> {
    let by_id = text.parse().ok().and_then(|id| app.inventory.node(id));
    by_id.or_else(|| text.parse().ok().and_then(|name| app.inventory.node_named(&name)))
}
