//! Tokens that were issued; never their secrets.

use aim_common::api::Page;
use aim_common::api::problem::Problem;
use aim_common::api::tokens::TokenView;
use axum::extract::{Extension, State};
use http::{Method, StatusCode};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Path, Query};
use super::page::PageRequest;
use super::problem::ApiError;
use super::requester::everywhere;
use crate::app::SharedApp;
use crate::auth::Caller;
use crate::keyvault::Requester;
use crate::store::tokens::TokenFilter;

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "tokens",
        router: || OpenApiRouter::new().routes(routes!(list)).routes(routes!(revoke)),
        access: || {
            vec![
                permission(Method::GET, "/api/v1/tokens", "keyvault", "read"),
                permission(Method::DELETE, "/api/v1/tokens/{token}", "keyvault", "delete"),
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
    /// `outstanding`, `redeemed`, `revoked` or `expired`.
    state: Option<String>,
}

/// Tokens, newest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(Wanted),
    responses((status = 200, body = Page<TokenView>), (status = 403, body = Problem)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    everywhere(&caller, "keyvault", "read")?;
    let page = PageRequest::new(wanted.limit, wanted.cursor.as_deref())?;
    let filter = TokenFilter { state: wanted.state, before: page.before, limit: page.limit.into() };
    let (tokens, total) = app.store.tokens_page(&filter).await?;
    Ok(Json(page.page(tokens, total, |token| token.id)))
}

/// Revokes an outstanding token.
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", tag = "tokens", params(("token" = i64, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn revoke(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(token): Path<i64>,
) -> Result<StatusCode, ApiError> {
    everywhere(&caller, "keyvault", "delete")?;
    app.keyvault.revoke_token(token, &Requester::from(&caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}
