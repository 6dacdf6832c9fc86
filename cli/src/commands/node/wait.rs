//! `aimctl node wait`: for scripts that go on once nodes are there.

use std::time::Duration;

use aim_common::api::nodes::{Node, Presence, ReadingView};
use aim_common::hostlist::HostList;
use aim_common::identity::NodeName;

use crate::client::{Client, Route};
use crate::context::Context;
use crate::error::{CliError, Exit};
use crate::output::{self, typed};

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Runs it.
pub(super) async fn run(context: &Context, hosts: HostList, timeout_ms: i64) -> Result<(), CliError> {
    let client = context.client().await?;
    let patience = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let mut missing: Vec<NodeName> = hosts.into_vec();
    let total = missing.len();
    let waiting = async {
        while let Some(node) = missing.last() {
            match is_there(&client, node).await {
                Ok(true) => drop(missing.pop()),
                Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
                // Not enrolled yet is worth waiting for, and so is a coordinator that is being started again.
                Err(error) if matches!(error.exit(), Exit::NotFound | Exit::Unreachable | Exit::TryLater) => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    match tokio::time::timeout(patience, waiting).await {
        Ok(outcome) => outcome.map(|()| output::note(&format!("{total} present"))),
        Err(_) => Err(CliError::Failed(format!(
            "not present with values after {}: {}",
            output::text::span(timeout_ms),
            HostList::fold(missing.iter().map(NodeName::as_str))
        ))),
    }
}

/// The node is present, and at least one of its values is known.
async fn is_there(client: &Client, node: &NodeName) -> Result<bool, CliError> {
    let node: Node = typed(client.get(Route::v1(["nodes", node.as_str()])).await?)?;
    let known = node.values.iter().any(|value| !matches!(value.reading, ReadingView::Unknown { .. }));
    Ok(known && matches!(node.summary.presence, Presence::Present { .. }))
}
