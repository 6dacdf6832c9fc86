//! Health, readiness, version, metrics: what a load balancer, a person and a Prometheus ask.

use std::fmt::Write;

use aim_common::api::system::{Readiness, Version};
use aim_common::wire::ProtocolVersion;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::public;
use super::extract::Json;
use crate::app::SharedApp;

/// Conditions under which the coordinator must not be given traffic.
const NOT_READY: [&str; 2] = ["database_unavailable", "starting"];

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "system",
        router: || {
            OpenApiRouter::new()
                .routes(routes!(healthz))
                .routes(routes!(readyz))
                .routes(routes!(version))
                .routes(routes!(metrics))
        },
        access: || {
            vec![
                public(Method::GET, "/healthz"),
                public(Method::GET, "/readyz"),
                public(Method::GET, "/api/v1/version"),
                public(Method::GET, "/metrics"),
            ]
        },
    }
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "system", responses((status = 200, body = str)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// The coordinator can serve; its degraded modes by name.
#[utoipa::path(get, path = "/readyz", tag = "system",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
async fn readyz(State(app): State<SharedApp>) -> Response {
    let conditions = app.conditions.list();
    let ready = !NOT_READY.iter().any(|name| app.conditions.is_active(name));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, conditions })).into_response()
}

/// The coordinator's version and the protocols it speaks.
#[utoipa::path(get, path = "/api/v1/version", tag = "system", responses((status = 200, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: (ProtocolVersion::MIN.0, ProtocolVersion::MAX.0),
    })
}

/// The coordinator's own metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, body = str)))]
async fn metrics(State(app): State<SharedApp>) -> Response {
    let mut text = String::new();
    let _ = writeln!(text, "# TYPE aim_condition gauge");
    for condition in app.conditions.list() {
        let (name, subject) = (escaped(&condition.name), escaped(&condition.subject));
        let _ = writeln!(text, "aim_condition{{name=\"{name}\",subject=\"{subject}\"}} 1");
    }
    let _ = writeln!(text, "# TYPE aim_http_responses_total counter");
    for (class, count) in app.http_metrics.classes() {
        let _ = writeln!(text, "aim_http_responses_total{{class=\"{class}xx\"}} {count}");
    }
    let _ = writeln!(text, "# TYPE aim_link_sessions gauge");
    let _ = writeln!(text, "aim_link_sessions {}", app.fleet.sessions());
    let _ = writeln!(text, "# TYPE aim_link_closed_total counter");
    for (code, count) in app.fleet.counters().closings() {
        let _ = writeln!(text, "aim_link_closed_total{{code=\"{}\"}} {count}", code.name());
    }
    let _ = writeln!(text, "# TYPE aim_link_skipped_total counter");
    let (frames, series) = app.fleet.counters().skipped();
    let _ = writeln!(text, "aim_link_skipped_total{{what=\"frames\"}} {frames}");
    let _ = writeln!(text, "aim_link_skipped_total{{what=\"series\"}} {series}");
    let _ = writeln!(text, "# TYPE aim_log_lines_dropped_total counter");
    let _ = writeln!(text, "aim_log_lines_dropped_total {}", crate::log::dropped_lines());
    let _ = writeln!(text, "# TYPE aim_panics_total counter");
    let _ = writeln!(text, "aim_panics_total {}", crate::log::panics());
    let _ = writeln!(text, "# TYPE aim_uptime_seconds gauge");
    let _ = writeln!(text, "aim_uptime_seconds {}", app.clock.monotonic().as_secs());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// A label's value as Prometheus reads it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
