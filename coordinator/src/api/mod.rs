//! HTTP: one file per resource, each with its router and its rows of the access table.
//!
//! Enters: requests. Leaves: JSON of `aim_common::api`, problem details, SSE. Never: a decision that belongs to a
//! layer below, an internal text in an answer, a route without a row in the access table.

pub mod access;
pub mod audit;
pub mod auth;
pub mod ca;
pub mod certificates;
pub mod changes;
pub mod cursor;
pub mod enrolment_requests;
pub mod etag;
pub mod events;
pub mod extract;
pub mod keyvault;
pub mod layers;
pub mod metrics;
pub mod nodes;
pub mod openapi;
pub mod page;
pub mod peer;
pub mod problem;
pub mod requester;
pub mod roles;
pub mod router;
pub mod salt;
pub mod server;
pub mod sessions;
pub mod sse;
pub mod system;
pub mod tokens;
pub mod users;

use utoipa_axum::router::OpenApiRouter;

use self::access::Access;
use crate::app::SharedApp;

/// One resource of the API: a line in [`resources`].
pub struct Resource {
    /// Its name, for logs and tests.
    pub name: &'static str,
    /// Its routes, built with `utoipa_axum::routes!` so that the OpenAPI document comes from the handlers.
    pub router: fn() -> OpenApiRouter<SharedApp>,
    /// Its rows of the access table.
    pub access: fn() -> Vec<Access>,
}

/// Every resource.
pub fn resources() -> Vec<Resource> {
    vec![
        system::resource(),
        openapi::resource(),
        auth::resource(),
        sessions::resource(),
        users::resource(),
        roles::resource(),
        audit::resource(),
        ca::resource(),
        certificates::resource(),
        changes::resource(),
        enrolment_requests::resource(),
        events::resource(),
        keyvault::resource(),
        nodes::resource(),
        salt::resource(),
        tokens::resource(),
    ]
}
