//! The router: every resource, and the layers around them.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::layers::guard::AccessTable;
use super::layers::host::KnownHosts;
use super::layers::rate::RequestRates;
use super::layers::{exchange, guard, host, limits, rate};
use super::problem::ApiError;
use super::resources;
use crate::app::SharedApp;
use crate::clock::SharedClock;

/// The document's head; paths and schemas come from the handlers.
#[derive(Debug, OpenApi)]
#[openapi(info(
    title = "AIM coordinator",
    description = "AI Infrastructure Matrix: inventory, enrolment and state of a GPU/HPC fleet. \
                   Errors are RFC 9457 problem details."
))]
struct Head;

/// All resources as one router without layers, and the OpenAPI document of their handlers.
pub fn routes() -> (Router<SharedApp>, utoipa::openapi::OpenApi) {
    resources()
        .into_iter()
        .fold(OpenApiRouter::with_openapi(Head::openapi()), |all, resource| all.merge((resource.router)()))
        .split_for_parts()
}

/// What the listeners serve.
pub fn build(app: SharedApp, hosts: KnownHosts) -> Router {
    let (routes, _) = routes();
    let table = AccessTable::new(resources().iter().flat_map(|resource| (resource.access)()));
    layered(routes, table, app, hosts)
}

/// These routes behind every layer.
pub fn layered(routes: Router<SharedApp>, table: AccessTable, app: SharedApp, hosts: KnownHosts) -> Router {
    let rates = RequestRates::new(app.config.https.rates, SharedClock::clone(&app.clock));
    routes
        // The last one added runs first.
        .route_layer(from_fn(limits::body_and_time))
        .route_layer(from_fn_with_state((SharedApp::clone(&app), table), guard::guard))
        .fallback(|| async { ApiError::NotFound("the route") })
        .layer(from_fn_with_state(rates, rate::limit))
        .layer(from_fn_with_state(hosts, host::check))
        .layer(from_fn(limits::headers))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(SharedApp::clone(&app), exchange::exchange))
        .with_state(app)
}

/// A handler that panics costs its own request and nothing else (SUP-05).
#[expect(clippy::needless_pass_by_value, reason = "the layer gives the panic away")]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    ApiError::internal(anyhow::anyhow!("a handler panicked: {text}")).into_response()
}
