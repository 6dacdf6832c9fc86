//! The audit trail: pages, newest first, and the check of its chain.

use aim_common::api::Page;
use aim_common::api::audit::{AuditRecordView, AuditVerification};
use aim_common::units::EpochMs;
use axum::extract::{Extension, State};
use http::Method;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Resource;
use super::access::permission;
use super::extract::{Json, Query};
use super::problem::ApiError;
use crate::app::SharedApp;
use crate::audit::VerifyError;
use crate::auth::Caller;
use crate::store::audit::{AuditFilter, AuditRow};

/// The resource.
pub fn resource() -> Resource {
    Resource {
        name: "audit",
        router: || OpenApiRouter::new().routes(routes!(list)).routes(routes!(verify)),
        access: || {
            vec![
                permission(Method::GET, "/api/v1/audit", "audit", "read"),
                permission(Method::GET, "/api/v1/audit/verify", "audit", "read"),
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
    /// Of this actor (`user:alice`).
    actor: Option<String>,
    /// Of this action (`login`).
    action: Option<String>,
    /// `allowed`, `denied` or `failed`.
    decision: Option<String>,
}

/// Records, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Wanted),
    responses((status = 200, body = Page<AuditRecordView>), (status = 403)))]
async fn list(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<AuditRecordView>>, ApiError> {
    everywhere(&caller)?;
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(ApiError::invalid("limit", "a page has 1 to 1,000 items"));
    }
    let before = match &wanted.cursor {
        Some(cursor) => cursor
            .parse()
            .map_err(|_| ApiError::invalid("cursor", "give the next_cursor of the former page as it was"))?,
        None => i64::MAX,
    };
    let filter = AuditFilter { actor: wanted.actor, action: wanted.action, decision: wanted.decision };
    let (rows, total) = app.store.audit_page(&filter, before, limit).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next_cursor = rows.last().filter(|_| full).map(|last| last.sequence.to_string());
    Ok(Json(Page {
        items: rows.into_iter().map(view).collect(),
        next_cursor,
        total: total.map(i64::unsigned_abs),
    }))
}

/// Walks the chain from its first record to its last.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerification), (status = 403)))]
async fn verify(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<AuditVerification>, ApiError> {
    everywhere(&caller)?;
    app.auth.begin_export(&caller)?;
    app.audit.verify().await.map(Json).map_err(|error| match error {
        VerifyError::Store(error) => error.into(),
        VerifyError::Witness(error) => ApiError::internal(error),
    })
}

/// Records have no owner, so that only a grant for all of them counts.
fn everywhere(caller: &Caller) -> Result<(), ApiError> {
    if caller.may_everywhere("audit", "read") {
        Ok(())
    } else {
        Err(ApiError::Forbidden("audit:read:*".to_owned()))
    }
}

fn view(row: AuditRow) -> AuditRecordView {
    AuditRecordView {
        sequence: row.sequence,
        at: EpochMs(row.at),
        actor: row.actor,
        source: row.source,
        action: row.action,
        target: row.target,
        decision: row.decision,
        detail: serde_json::from_str(&row.detail).unwrap_or(serde_json::Value::String(row.detail)),
        request_id: row.request_id,
        hash: row.hash,
    }
}
