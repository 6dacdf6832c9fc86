//! Living sessions: one's own, and everybody's for those who may change users.

use aim_common::api::auth::Session;
use axum::extract::{Extension, State};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access;
use super::extract::{Json, Path, Query};
use super::problem::ApiError;
use crate::app::SharedApp;
use crate::audit;
use crate::auth::Caller;

/// Sessions shown at most, newest first; a user has a handful.
const SHOWN: u32 = 1_000;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "sessions",
        router: || OpenApiRouter::new().routes(routes!(list)).routes(routes!(end)),
        access: || {
            vec![
                access::session(Method::GET, "/api/v1/sessions"),
                access::session(Method::DELETE, "/api/v1/sessions/{session}"),
            ]
        },
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Sessions of all users; needs `users:update`.
    #[serde(default)]
    all: bool,
}

/// The caller's sessions, or everybody's.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(Wanted),
    responses((status = 200, body = Vec<Session>), (status = 403)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<Session>>, ApiError> {
    if wanted.all && !caller.may_everywhere("users", "update") {
        return Err(ApiError::Forbidden("users:update".to_owned()));
    }
    let user = (!wanted.all).then_some(&caller.user_id);
    let rows = app.store.sessions(user, app.clock.now(), SHOWN).await?;
    let view = |row: crate::store::sessions::SessionRow| Session {
        current: row.id == *caller.session_id,
        id: row.id,
        user_id: row.user_id,
        username: row.username,
        created_at: row.created_at,
        refreshed_at: row.refreshed_at,
        expires_at: row.expires_at,
        source: row.source,
    };
    Ok(Json(rows.into_iter().map(view).collect()))
}

/// Ends a session. Somebody else's looks as if it did not exist to those who may not.
#[utoipa::path(delete, path = "/api/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "Id of the session")),
    responses((status = 204), (status = 404)))]
async fn end(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    const MISSING: ApiError = ApiError::NotFound("the session");
    let row = app.store.session(&id).await?.ok_or(MISSING)?;
    if row.user_id != caller.user_id {
        if !caller.may_everywhere("users", "update") {
            return Err(MISSING);
        }
        super::users::must_outrank(&app, &caller, &row.user_id).await?;
    }
    let now = app.clock.now();
    let record = audit::allowed(&caller, now, "session.end", &*row.username, json!({"session": row.id}));
    if !app.store.end_session(&id, "ended by an operator", now, &record).await? {
        return Err(MISSING);
    }
    app.auth.session_ended(&id);
    Ok(StatusCode::NO_CONTENT)
}
