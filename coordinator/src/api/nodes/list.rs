//! The list of nodes: a page, or all of them streamed.

use std::convert::Infallible;
use std::sync::Arc;

use aim_common::api::Page;
use aim_common::api::nodes::NodeSummary;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, header};

use super::query::{NodeQuery, Parameters, Place, stable};
use crate::api::extract::Query;
use crate::api::problem::ApiError;
use crate::api::{cursor, etag};
use crate::app::{App, SharedApp};
use crate::auth::Caller;
use crate::inventory::Node;

/// Nodes written at once while streaming: some 50 KiB.
const NODES_PER_CHUNK: usize = 64;

/// Nodes within the caller's scope.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "nodes", params(Parameters),
    responses((status = 200, body = Page<NodeSummary>), (status = 304), (status = 400), (status = 403)))]
pub(super) async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let query = NodeQuery::parse(&parameters)?;
    if query.all {
        app.auth.begin_export(&caller)?;
    }
    let found = found(&app, &caller, &query);
    if query.all {
        return Ok(all(app, found));
    }
    let total = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let begin = query
        .after
        .as_ref()
        .map_or(0, |after| found.partition_point(|(place, _)| place.compare(after).is_le()));
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let shown = found.get(begin..found.len().min(begin.saturating_add(limit))).unwrap_or_default();
    let more = begin + shown.len() < found.len();
    let now = app.inventory.now();
    let items: Vec<NodeSummary> = shown.iter().map(|(_, node)| node.summary(now)).collect();
    let next_cursor = shown.last().filter(|_| more).and_then(|(place, _)| cursor::write(place));
    let state = (total, items.iter().cloned().map(stable).collect::<Vec<_>>());
    Ok(etag::answer(&headers, Page { items, next_cursor, total: Some(total) }, &state))
}

/// The nodes asked for, in their order.
fn found(app: &App, caller: &Caller, query: &NodeQuery) -> Vec<(Place, Arc<Node>)> {
    let now = app.inventory.now();
    let mut found: Vec<(Place, Arc<Node>)> = app
        .inventory
        .nodes()
        .into_iter()
        .filter_map(|node| {
            let place = {
                let state = node.state();
                let visible = caller.may("hosts", "read", state.owner.as_ref(), &state.groups);
                (visible && query.matches(&state)).then(|| query.place(node.id, &state, now))?
            };
            Some((place, node))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.compare(other));
    found
}

/// One node a line, written as fast as the client reads.
fn all(app: SharedApp, found: Vec<(Place, Arc<Node>)>) -> Response {
    let nodes: Vec<Arc<Node>> = found.into_iter().map(|(_, node)| node).collect();
    let lines = stream::unfold((app, nodes, 0), |(app, nodes, begin)| async move {
        let chunk =
            nodes.get(begin..nodes.len().min(begin + NODES_PER_CHUNK)).filter(|chunk| !chunk.is_empty())?;
        let now = app.inventory.now();
        let mut text = Vec::new();
        for node in chunk {
            // A summary is plain data: writing it to memory cannot fail.
            let _ = serde_json::to_writer(&mut text, &node.summary(now));
            text.push(b'\n');
        }
        let next = begin + chunk.len();
        Some((Ok::<_, Infallible>(Bytes::from(text)), (app, nodes, next)))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
