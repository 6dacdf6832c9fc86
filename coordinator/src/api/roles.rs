//! Roles. The five templates cannot be deleted, and only who holds everything may change them.

use aim_common::api::roles::{PutRoleRequest, Role};
use aim_common::permission::Permission;
use axum::extract::{Extension, State};
use http::{Method, StatusCode};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Path};
use super::problem::ApiError;
use crate::app::SharedApp;
use crate::audit;
use crate::auth::Caller;
use crate::store::roles::{RoleDeletion, RoleRow};
use crate::store::users::ADMIN;

/// Permissions of one role, and roles in all; what a person can still oversee.
const PERMISSIONS: usize = 256;
const ROLES: usize = 256;
const MISSING: ApiError = ApiError::NotFound("the role");

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "roles",
        router: || OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, put, delete)),
        access: || {
            vec![
                permission(Method::GET, "/api/v1/roles", "roles", "read"),
                permission(Method::GET, "/api/v1/roles/{role}", "roles", "read"),
                permission(Method::PUT, "/api/v1/roles/{role}", "roles", "update"),
                permission(Method::DELETE, "/api/v1/roles/{role}", "roles", "delete"),
            ]
        },
    }
}

/// All roles, by name.
#[utoipa::path(get, path = "/api/v1/roles", tag = "roles", responses((status = 200, body = Vec<Role>)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<Role>>, ApiError> {
    everywhere(&caller, "read")?;
    Ok(Json(app.store.roles().await?.into_iter().map(view).collect()))
}

/// One role.
#[utoipa::path(get, path = "/api/v1/roles/{role}", tag = "roles",
    params(("role" = String, Path, description = "Name of the role")),
    responses((status = 200, body = Role), (status = 404)))]
async fn show(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Role>, ApiError> {
    everywhere(&caller, "read")?;
    let role = app.store.roles().await?.into_iter().find(|role| role.name == name);
    Ok(Json(view(role.ok_or(MISSING)?)))
}

/// Creates a role, or replaces what it grants.
#[utoipa::path(put, path = "/api/v1/roles/{role}", tag = "roles", request_body = PutRoleRequest,
    params(("role" = String, Path, description = "Name of the role")),
    responses((status = 200, body = Role), (status = 400), (status = 403), (status = 409)))]
async fn put(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(request): Json<PutRoleRequest>,
) -> Result<Json<Role>, ApiError> {
    everywhere(&caller, "update")?;
    check_name(&name)?;
    if request.permissions.len() > PERMISSIONS {
        return Err(ApiError::invalid("permissions", "a role grants at most 256 permissions"));
    }
    let roles = app.store.roles().await?;
    let former = roles.iter().find(|role| role.name == name);
    if former.is_none() && roles.len() >= ROLES {
        return Err(ApiError::Conflict("there are 256 roles already; delete one first".to_owned()));
    }
    may_change(&caller, former)?;
    must_hold(&caller, &request.permissions)?;
    let texts: Vec<String> = request.permissions.iter().map(ToString::to_string).collect();
    let record = audit::allowed(&caller, app.clock.now(), "role.put", &*name, json!({"permissions": texts}));
    app.store.put_role(&name, &request.permissions, &record).await?;
    app.auth.roles_changed();
    let role = app.store.roles().await?.into_iter().find(|role| role.name == name);
    Ok(Json(view(role.ok_or(MISSING)?)))
}

/// Deletes a role that nobody holds.
#[utoipa::path(delete, path = "/api/v1/roles/{role}", tag = "roles",
    params(("role" = String, Path, description = "Name of the role")),
    responses((status = 204), (status = 403), (status = 404), (status = 409)))]
async fn delete(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    everywhere(&caller, "delete")?;
    let roles = app.store.roles().await?;
    let role = roles.iter().find(|role| role.name == name).ok_or(MISSING)?;
    if role.template {
        return Err(ApiError::Conflict(format!("role {name} is a template and cannot be deleted")));
    }
    may_change(&caller, Some(role))?;
    let record = audit::allowed(&caller, app.clock.now(), "role.delete", &*name, json!({}));
    match app.store.delete_role(&name, &record).await? {
        RoleDeletion::Done => Ok(StatusCode::NO_CONTENT),
        RoleDeletion::Missing => Err(MISSING),
        RoleDeletion::InUse => {
            Err(ApiError::Conflict(format!("users hold role {name}; take it from them first")))
        }
    }
}

/// Roles have neither owner nor group, so that only a grant for all of them counts.
fn everywhere(caller: &Caller, verb: &str) -> Result<(), ApiError> {
    if caller.may_everywhere("roles", verb) {
        Ok(())
    } else {
        Err(ApiError::Forbidden(format!("roles:{verb}:*")))
    }
}

/// What a role grants now must be the caller's too; templates are for admins, and `admin` itself stays as it is.
fn may_change(caller: &Caller, role: Option<&RoleRow>) -> Result<(), ApiError> {
    let Some(role) = role else { return Ok(()) };
    if role.name == ADMIN {
        return Err(ApiError::Conflict(
            "role admin stays as it is, so that somebody can mend the rest".to_owned(),
        ));
    }
    if role.template && !caller.roles.iter().any(|held| held == ADMIN) {
        return Err(ApiError::Forbidden("of an admin, for templates,".to_owned()));
    }
    must_hold(caller, &role.permissions)
}

fn must_hold(caller: &Caller, permissions: &[Permission]) -> Result<(), ApiError> {
    match permissions.iter().find(|permission| !caller.holds(permission)) {
        Some(permission) => Err(ApiError::Forbidden(permission.to_string())),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let usable = (1..=64).contains(&name.len())
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if usable {
        Ok(())
    } else {
        Err(ApiError::invalid("role", "a role's name is 1 to 64 of a-z 0-9 - and begins with a letter"))
    }
}

fn view(row: RoleRow) -> Role {
    Role { name: row.name, permissions: row.permissions, template: row.template }
}
