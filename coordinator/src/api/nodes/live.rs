//! A node looked at live: opening the stream is the request for live mode.

use std::convert::Infallible;
use std::sync::Arc;

use aim_common::api::nodes::LiveValues;
use axum::extract::{Extension, State};
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;

use super::{find, may};
use crate::api::extract::Path;
use crate::api::problem::ApiError;
use crate::api::sse::{Watched, keep_alive, message};
use crate::app::SharedApp;
use crate::auth::Caller;
use crate::fleet::LiveGuard;
use crate::inventory::Node;

/// When to try again while 50 nodes are looked at: live mode lasts 10 s beyond the last reader.
const RETRY_AFTER_SECONDS: u64 = 10;

struct Live {
    app: SharedApp,
    node: Arc<Node>,
    version: watch::Receiver<u64>,
    watched: Watched,
    /// Live mode lasts as long as this.
    _guard: LiveGuard,
}

/// The node's values each second for as long as the stream is read (SSE, event name `values`).
#[utoipa::path(get, path = "/api/v1/nodes/{node}/live", tag = "nodes",
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 200, content_type = "text/event-stream", body = LiveValues), (status = 404), (status = 429)))]
pub(super) async fn live(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let node = find(&app, &caller, "hosts", &node)?;
    let guard = app
        .fleet
        .set_live(node.id)
        .map_err(|_| ApiError::TooMany { retry_after_seconds: RETRY_AFTER_SECONDS })?;
    let mut version = node.watch();
    // The first message is what is known now.
    version.mark_changed();
    let watched = Watched::new(SharedApp::clone(&app), caller);
    let live = Live { app, node, version, watched, _guard: guard };
    let stream = unfold(live, |mut live| async move {
        tokio::select! {
            changed = live.version.changed() => changed.ok()?,
            () = live.watched.ended() => return None,
        }
        if !may(&live.watched.caller(), "hosts", "read", &live.node) {
            return None;
        }
        let event = message("values", &live.node.live_values(live.app.inventory.now())).ok()?;
        Some((Ok(event), live))
    });
    Ok(Sse::new(stream).keep_alive(keep_alive()))
}
