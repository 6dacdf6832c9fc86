//! Events of the nodes that the caller may see, newest first.

use aim_common::api::Page;
use aim_common::api::events::EventView;
use aim_common::event::Severity;
use aim_common::permission::Scope;
use aim_common::units::EpochMs;
use axum::extract::{Extension, State};
use http::Method;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Query};
use super::page::PageRequest;
use super::problem::ApiError;
use crate::app::{App, SharedApp};
use crate::auth::Caller;
use crate::inventory::Node;
use crate::store::events::EventFilter;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "events",
        router: || OpenApiRouter::new().routes(routes!(list)),
        access: || vec![permission(Method::GET, "/api/v1/events", "events", "read")],
    }
}

/// Which events are wanted.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// At most so many, 1,000 at most.
    limit: Option<u32>,
    /// From the former page.
    cursor: Option<String>,
    /// Of this node: its id or name.
    node: Option<String>,
    /// Of this kind (`gpu.xid`).
    kind: Option<String>,
    /// At least this bad: `info`, `warning` or `critical`.
    #[param(value_type = Option<String>)]
    severity: Option<Severity>,
    /// Occurred at or after this time (RFC 3339).
    #[param(value_type = Option<String>)]
    since: Option<EpochMs>,
    /// Occurred before this time (RFC 3339).
    #[param(value_type = Option<String>)]
    until: Option<EpochMs>,
}

/// Events, newest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Wanted),
    responses((status = 200, body = Page<EventView>), (status = 400), (status = 403)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(mut wanted): Query<Wanted>,
) -> Result<Json<Page<EventView>>, ApiError> {
    let node = match wanted.node.take() {
        Some(text) => Some(super::nodes::find(&app, &caller, "events", &text)?),
        None => None,
    };
    page_of(&app, &caller, wanted, node.as_deref()).await.map(Json)
}

/// One page, of one node or of all in the caller's scope.
pub(super) async fn page_of(
    app: &App,
    caller: &Caller,
    wanted: Wanted,
    node: Option<&Node>,
) -> Result<Page<EventView>, ApiError> {
    let request = PageRequest::new(wanted.limit, wanted.cursor.as_deref())?;
    let filter = EventFilter {
        node: node.map(|node| node.id),
        kind: wanted.kind,
        severity: wanted.severity,
        since: wanted.since,
        until: wanted.until,
        within: scopes(caller),
    };
    let (items, total) = app.store.events_page(&filter, request.before, request.limit).await?;
    Ok(request.page(items, total, |event| event.id))
}

/// The scopes in which the caller may read events; none where it is everywhere.
fn scopes(caller: &Caller) -> Option<(String, Vec<Scope>)> {
    if caller.may_everywhere("events", "read") {
        return None;
    }
    let granted = caller.permissions.iter().filter(|granted| granted.covers_verb("events", "read"));
    Some((caller.user_id.to_string(), granted.map(|granted| granted.scope().clone()).collect()))
}
