//! Users. Nobody gives what they do not hold, and nobody changes a user who holds more (RBA-04).

use aim_common::api::Page;
use aim_common::api::users::{CreateUserRequest, UpdateUserRequest, User};
use aim_common::identity::UserId;
use axum::extract::{Extension, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Path, Query};
use super::problem::ApiError;
use crate::app::SharedApp;
use crate::audit;
use crate::auth::Caller;
use crate::auth::lockout::canonical;
use crate::entropy::random_bytes;
use crate::store::StoreError;
use crate::store::users::{NewUser, UserChange, UserOutcome, UserRow};

/// Roles, and groups, of one user.
const WORDS: usize = 64;
const MISSING: ApiError = ApiError::NotFound("the user");

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "users",
        router: || OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, delete)),
        access: || {
            vec![
                permission(Method::GET, "/api/v1/users", "users", "read"),
                permission(Method::POST, "/api/v1/users", "users", "create"),
                permission(Method::GET, "/api/v1/users/{user}", "users", "read"),
                permission(Method::PATCH, "/api/v1/users/{user}", "users", "update"),
                permission(Method::DELETE, "/api/v1/users/{user}", "users", "delete"),
            ]
        },
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// At most so many, 1,000 at most.
    limit: Option<u32>,
    /// From the former page.
    cursor: Option<String>,
}

/// All users, by name.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(Wanted),
    responses((status = 200, body = Page<User>), (status = 403)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<User>>, ApiError> {
    everywhere(&caller, "read")?;
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(ApiError::invalid("limit", "a page has 1 to 1,000 items"));
    }
    let after = match wanted.cursor {
        Some(cursor) => {
            URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(
                || ApiError::invalid("cursor", "give the next_cursor of the former page as it was"),
            )?
        }
        None => String::new(),
    };
    let (rows, total) = app.store.users(&after, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next_cursor = rows.last().filter(|_| full).map(|last| URL_SAFE_NO_PAD.encode(&last.username));
    let items = rows.into_iter().map(view).collect();
    Ok(Json(Page { items, next_cursor, total: Some(total.unsigned_abs()) }))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{user}", tag = "users",
    params(("user" = String, Path, description = "Id or name of the user")),
    responses((status = 200, body = User), (status = 404)))]
async fn show(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<User>, ApiError> {
    everywhere(&caller, "read")?;
    Ok(Json(view(find(&app, &user).await?)))
}

/// Creates a user.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = CreateUserRequest,
    responses((status = 201, body = User), (status = 400), (status = 403), (status = 409)))]
async fn create(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<CreateUserRequest>,
) -> Result<(StatusCode, Json<User>), ApiError> {
    everywhere(&caller, "create")?;
    let username = canonical(&request.username)
        .filter(|name| *name == request.username)
        .ok_or_else(|| ApiError::invalid("username", "a user name is 1 to 64 of a-z 0-9 . _ -"))?;
    may_give(&app, &caller, &request.roles).await?;
    check_groups(&request.groups)?;
    let password_hash = app.auth.passwords().hash("password", &request.password).await?;
    let user = NewUser {
        id: UserId::from_random(random_bytes()?),
        username,
        password_hash,
        password_generated: false,
        roles: request.roles,
        groups: request.groups,
    };
    let now = app.clock.now();
    let detail = json!({"roles": user.roles, "groups": user.groups});
    let record = audit::allowed(&caller, now, "user.create", &*user.username, detail);
    app.store.create_user(&user, now, &record).await.map_err(|error| match error {
        StoreError::Conflict(_) => ApiError::Conflict(format!("user {} exists already", user.username)),
        other => other.into(),
    })?;
    Ok((StatusCode::CREATED, Json(view(find(&app, &user.username).await?))))
}

/// Changes a user; a new password, new roles or disabling end the user's sessions.
#[utoipa::path(patch, path = "/api/v1/users/{user}", tag = "users", request_body = UpdateUserRequest,
    params(("user" = String, Path, description = "Id or name of the user")),
    responses((status = 200, body = User), (status = 403), (status = 404), (status = 409)))]
async fn update(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
    Json(request): Json<UpdateUserRequest>,
) -> Result<Json<User>, ApiError> {
    everywhere(&caller, "update")?;
    let row = find(&app, &user).await?;
    must_outrank(&app, &caller, &row.id).await?;
    if let Some(roles) = &request.roles {
        may_give(&app, &caller, roles).await?;
    }
    if let Some(groups) = &request.groups {
        check_groups(groups)?;
    }
    let password = match &request.password {
        Some(password) => Some((app.auth.passwords().hash("password", password).await?, false)),
        None => None,
    };
    let detail = json!({
        "password": request.password.is_some(),
        "roles": request.roles,
        "groups": request.groups,
        "enabled": request.enabled,
    });
    // New roles count at the next request; a new password and disabling end what was opened before.
    let ends_sessions = request.password.is_some() || request.enabled == Some(false);
    let change = UserChange {
        password,
        roles: request.roles,
        groups: request.groups,
        enabled: request.enabled,
        end_sessions_except: ends_sessions.then_some(None),
    };
    let now = app.clock.now();
    let record = audit::allowed(&caller, now, "user.update", &*row.username, detail);
    settled(app.store.change_user(&row.id, &change, now, &record).await?)?;
    app.auth.user_changed(&row.id);
    app.auth.note_generated_passwords().await?;
    Ok(Json(view(find(&app, &row.id.to_string()).await?)))
}

/// Deletes a user with its sessions.
#[utoipa::path(delete, path = "/api/v1/users/{user}", tag = "users",
    params(("user" = String, Path, description = "Id or name of the user")),
    responses((status = 204), (status = 403), (status = 404), (status = 409)))]
async fn delete(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<StatusCode, ApiError> {
    everywhere(&caller, "delete")?;
    let row = find(&app, &user).await?;
    must_outrank(&app, &caller, &row.id).await?;
    let record = audit::allowed(&caller, app.clock.now(), "user.delete", &*row.username, json!({}));
    settled(app.store.delete_user(&row.id, &record).await?)?;
    app.auth.user_changed(&row.id);
    app.auth.note_generated_passwords().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Users have neither owner nor group, so that only a grant for all of them counts.
fn everywhere(caller: &Caller, verb: &str) -> Result<(), ApiError> {
    if caller.may_everywhere("users", verb) {
        Ok(())
    } else {
        Err(ApiError::Forbidden(format!("users:{verb}:*")))
    }
}

/// By id, or by name.
async fn find(app: &SharedApp, user: &str) -> Result<UserRow, ApiError> {
    let row = match user.parse::<UserId>() {
        Ok(id) => app.store.user_by_id(&id).await?,
        Err(_) => match canonical(user) {
            Some(name) => app.store.user_by_name(&name).await?,
            None => None,
        },
    };
    row.ok_or(MISSING)
}

/// The caller holds everything that the user may do.
pub(super) async fn must_outrank(app: &SharedApp, caller: &Caller, user: &UserId) -> Result<(), ApiError> {
    let theirs = app.store.permissions_of(user).await?;
    match theirs.iter().find(|permission| !caller.holds(permission)) {
        Some(permission) => Err(ApiError::Forbidden(format!("{permission}, which that user holds,"))),
        None => Ok(()),
    }
}

/// The roles exist, and the caller holds everything that they grant.
async fn may_give(app: &SharedApp, caller: &Caller, roles: &[String]) -> Result<(), ApiError> {
    if roles.len() > WORDS {
        return Err(ApiError::invalid("roles", "a user has at most 64 roles"));
    }
    let known = app.store.roles().await?;
    for name in roles {
        let role = known
            .iter()
            .find(|role| role.name == *name)
            .ok_or_else(|| ApiError::invalid("roles", format!("there is no role {name:?}")))?;
        if let Some(permission) = role.permissions.iter().find(|permission| !caller.holds(permission)) {
            return Err(ApiError::Forbidden(format!("{permission}, which role {name} grants,")));
        }
    }
    Ok(())
}

fn check_groups(groups: &[String]) -> Result<(), ApiError> {
    let usable = |name: &String| {
        name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
    };
    if groups.len() <= WORDS && groups.iter().all(usable) {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "groups",
            "at most 64 groups, each 1 to 64 of a-z 0-9 . - that begins with a letter",
        ))
    }
}

fn settled(outcome: UserOutcome) -> Result<(), ApiError> {
    match outcome {
        UserOutcome::Done => Ok(()),
        UserOutcome::Missing => Err(MISSING),
        UserOutcome::LastAdmin => {
            Err(ApiError::Conflict("it is the last enabled admin; make another one first".to_owned()))
        }
    }
}

fn view(row: UserRow) -> User {
    User {
        id: row.id,
        username: row.username,
        roles: row.roles,
        groups: row.groups,
        enabled: row.enabled,
        created_at: row.created_at,
        last_login_at: row.last_login_at,
    }
}
