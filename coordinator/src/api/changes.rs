//! The live change feed: what changed among the nodes that the caller may see.

use std::convert::Infallible;
use std::sync::Arc;

use aim_common::api::changes::Change;
use axum::extract::{Extension, State};
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::Stream;
use futures_util::stream::unfold;
use http::Method;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::sse::{Watched, keep_alive, message};
use crate::app::SharedApp;
use crate::auth::Caller;
use crate::inventory::FeedItem;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "changes",
        router: || OpenApiRouter::new().routes(routes!(changes)),
        access: || vec![permission(Method::GET, "/api/v1/changes", "hosts", "read")],
    }
}

/// Nodes and events as they change, from now on (SSE, event name `change`). A client that is too slow gets `lagged`
/// and reads its lists again.
#[utoipa::path(get, path = "/api/v1/changes", tag = "changes",
    responses((status = 200, content_type = "text/event-stream", body = Change), (status = 403)))]
async fn changes(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let feed = app.inventory.subscribe();
    let watched = Watched::new(app, caller);
    let stream = unfold((watched, feed), |(mut watched, mut feed)| async move {
        let change = next(&mut watched, &mut feed).await?;
        let event = message("change", &change).ok()?;
        Some((Ok(event), (watched, feed)))
    });
    Sse::new(stream).keep_alive(keep_alive())
}

/// The next change that the caller may see at this moment; none where the stream must end.
async fn next(watched: &mut Watched, feed: &mut broadcast::Receiver<Arc<FeedItem>>) -> Option<Change> {
    loop {
        let received = tokio::select! {
            received = feed.recv() => received,
            () = watched.ended() => return None,
        };
        match received {
            Ok(item) if may_see(&watched.caller(), &item) => return Some(item.change.clone()),
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => return Some(Change::Lagged { missed }),
            Err(RecvError::Closed) => return None,
        }
    }
}

fn may_see(caller: &Caller, item: &FeedItem) -> bool {
    let may = |resource| caller.may(resource, "read", item.owner.as_ref(), &item.groups);
    may("hosts") && (!matches!(item.change, Change::Event { .. }) || may("events"))
}
