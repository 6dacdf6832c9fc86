//! What operators set on a node: labels, groups, owner. Nodes never set them (IDN-04, IDN-05).

use std::collections::BTreeMap;

use aim_common::api::nodes::{NodeSummary, UpdateNodeRequest};
use axum::extract::{Extension, State};
use serde_json::json;

use super::find_for;
use crate::api::extract::{Json, Path};
use crate::api::problem::ApiError;
use crate::app::SharedApp;
use crate::audit;
use crate::auth::Caller;
use crate::inventory::Node;
use crate::store::nodes::NodeUpdate;

/// Labels of one node.
const MAX_LABELS: usize = 64;
/// Bytes of a label's key and value.
const LABEL_BYTES: (usize, usize) = (63, 256);
/// Groups of one node.
const MAX_GROUPS: usize = 32;

/// Sets labels, groups and owner; what is absent stays.
#[utoipa::path(patch, path = "/api/v1/nodes/{node}", tag = "nodes", request_body = UpdateNodeRequest,
    params(("node" = String, Path, description = "Id or name")),
    responses((status = 200, body = NodeSummary), (status = 400), (status = 403), (status = 404)))]
pub(super) async fn update(
    State(app): State<SharedApp>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
    Json(request): Json<UpdateNodeRequest>,
) -> Result<Json<NodeSummary>, ApiError> {
    let node = find_for(&app, &caller, "update", &node)?;
    // Groups and owner decide who may do what with the node: only a grant for all nodes may change them.
    if (request.groups.is_some() || request.owner.is_some()) && !caller.may_everywhere("hosts", "update") {
        return Err(ApiError::Forbidden("hosts:update:*".to_owned()));
    }
    check_labels(&node, &request.labels)?;
    let groups = request.groups.map(check_groups).transpose()?;
    if let Some(Some(owner)) = request.owner
        && app.store.user_by_id(&owner).await?.is_none()
    {
        return Err(ApiError::invalid("/owner", "there is no such user"));
    }
    let update = NodeUpdate { labels: request.labels, groups, owner: request.owner };
    let detail = json!({ "labels": &update.labels, "groups": &update.groups, "owner": &update.owner });
    let record = audit::allowed(&caller, app.clock.now(), "node.update", format!("node:{}", node.id), detail);
    app.store.node_update(node.id, &update, &record).await?;
    app.inventory.apply_update(&node, update);
    Ok(Json(node.summary(app.inventory.now())))
}

fn check_labels(node: &Node, labels: &BTreeMap<String, Option<String>>) -> Result<(), ApiError> {
    for (key, value) in labels {
        let field = format!("/labels/{}", key.replace('~', "~0").replace('/', "~1"));
        let mut bytes = key.bytes();
        let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte));
        if !begins || !goes_on || key.len() > LABEL_BYTES.0 {
            let detail = "a label's key is 1 to 63 of A-Z a-z 0-9 . _ / - and begins with a letter or digit";
            return Err(ApiError::invalid(field, detail));
        }
        if value
            .as_ref()
            .is_some_and(|value| value.len() > LABEL_BYTES.1 || value.chars().any(char::is_control))
        {
            let detail = "a label's value is at most 256 bytes without control characters";
            return Err(ApiError::invalid(field, detail));
        }
    }
    let state = node.state();
    let kept = state.labels.keys().filter(|key| !labels.contains_key(*key)).count();
    if kept + labels.values().flatten().count() > MAX_LABELS {
        return Err(ApiError::invalid("/labels", format!("a node has at most {MAX_LABELS} labels")));
    }
    Ok(())
}

fn check_groups(mut groups: Vec<String>) -> Result<Vec<String>, ApiError> {
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_GROUPS {
        return Err(ApiError::invalid("/groups", format!("a node is in at most {MAX_GROUPS} groups")));
    }
    for group in &groups {
        // The words that a permission's scope `group:<name>` can say.
        let begins = group.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = group
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        if !begins || !rest || group.len() > 64 {
            let detail = "a group is 1 to 64 of a-z 0-9 . - and begins with a letter";
            return Err(ApiError::invalid("/groups", detail));
        }
    }
    Ok(groups)
}
