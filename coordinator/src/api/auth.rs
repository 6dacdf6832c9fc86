//! Login, refresh, logout, the own session and password.

use aim_common::api::auth::{
    ChangePasswordRequest, LoginMode, LoginRequest, LoginResponse, RefreshRequest, SessionInfo,
};
use aim_common::units::EpochMs;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, Method, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::{public, session};
use super::extract::{Json, OptionalJson};
use super::layers::guard::origin;
use super::problem::ApiError;
use crate::app::SharedApp;
use crate::auth::credential::{clear_cookies, refresh_cookie, set_cookies};
use crate::auth::{Caller, Opened};

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "auth",
        router: || {
            OpenApiRouter::new()
                .routes(routes!(login))
                .routes(routes!(refresh))
                .routes(routes!(logout))
                .routes(routes!(own_session))
                .routes(routes!(change_password))
        },
        access: || {
            vec![
                // Their credential is in the body or a cookie of its own.
                public(Method::POST, "/api/v1/auth/login"),
                public(Method::POST, "/api/v1/auth/refresh"),
                session(Method::POST, "/api/v1/auth/logout"),
                session(Method::GET, "/api/v1/auth/session"),
                session(Method::POST, "/api/v1/auth/password"),
            ]
        },
    }
}

/// Opens a session.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginRequest,
    responses((status = 200, body = LoginResponse), (status = 401), (status = 429)))]
async fn login(
    State(app): State<SharedApp>,
    extensions: Extensions,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    let opened = app.auth.login(request, &origin(&extensions)).await?;
    Ok(answer(opened, app.clock.now()))
}

/// Uses a refresh token once and gives the next one. A second use ends the session.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "auth", request_body = Option<RefreshRequest>,
    responses((status = 200, body = LoginResponse), (status = 401), (status = 403)))]
async fn refresh(
    State(app): State<SharedApp>,
    headers: HeaderMap,
    extensions: Extensions,
    OptionalJson(body): OptionalJson<RefreshRequest>,
) -> Result<Response, ApiError> {
    let in_body = body.and_then(|request| request.refresh_token);
    let origin = origin(&extensions);
    let opened = match (&in_body, refresh_cookie(&headers)) {
        (Some(token), _) => app.auth.refresh(token, None, &origin).await?,
        (None, Some(token)) => app.auth.refresh(token, Some(&headers), &origin).await?,
        (None, None) => return Err(ApiError::Unauthenticated),
    };
    Ok(answer(opened, app.clock.now()))
}

/// Ends the caller's session.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", responses((status = 204), (status = 401)))]
async fn logout(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    app.auth.logout(&caller).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    clear_cookies(response.headers_mut());
    Ok(response)
}

/// Who the caller is, and may do.
#[utoipa::path(get, path = "/api/v1/auth/session", tag = "auth",
    responses((status = 200, body = SessionInfo), (status = 401)))]
async fn own_session(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SessionInfo>, ApiError> {
    Ok(Json(app.auth.info(&caller).await?))
}

/// Changes the caller's password; every other session of the user ends.
#[utoipa::path(post, path = "/api/v1/auth/password", tag = "auth", request_body = ChangePasswordRequest,
    responses((status = 204), (status = 400), (status = 401)))]
async fn change_password(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<ChangePasswordRequest>,
) -> Result<StatusCode, ApiError> {
    app.auth.change_password(&caller, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The secrets of a session: in the body for scripts, in cookies for browsers.
fn answer(opened: Opened, now: EpochMs) -> Response {
    let cookies = opened.mode == LoginMode::Cookie;
    let body = LoginResponse {
        access_token: (!cookies).then(|| opened.access.clone()),
        access_expires_at: opened.access_expires_at,
        refresh_token: (!cookies).then(|| opened.refresh.clone()),
        refresh_expires_at: opened.refresh_expires_at,
        csrf_token: opened.csrf,
        session: opened.session.info(),
    };
    let mut response = Json(body).into_response();
    if cookies {
        let seconds = |end: EpochMs| end.since_ms(now) / 1000;
        set_cookies(
            response.headers_mut(),
            (&opened.access, seconds(opened.access_expires_at)),
            (&opened.refresh, seconds(opened.refresh_expires_at)),
        );
    }
    response
}
