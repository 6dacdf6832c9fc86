//! Keeps the inventory's picture of the nodes in step with the KeyVault's decisions.

use std::sync::Arc;

use aim_common::event::{EventKind, Severity};
use aim_common::identity::NodeId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::inventory::Inventory;
use crate::keyvault::NodeNews;
use crate::store::Store;

/// Follows the news until `stop`.
pub async fn follow(
    inventory: Arc<Inventory>,
    store: Store,
    mut news: Receiver<NodeNews>,
    stop: CancellationToken,
) {
    while let Some(item) = stop.run_until_cancelled(news.recv()).await {
        match item {
            Ok(item) => apply(&inventory, item).await,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "fell behind the KeyVault's news: reading all nodes again");
                catch_up(&inventory, &store).await;
            }
            Err(RecvError::Closed) => break,
        }
    }
    // The KeyVault outlives this task; being asked to end is the only way out.
    stop.cancelled().await;
}

async fn apply(inventory: &Inventory, news: NodeNews) {
    match news {
        NodeNews::Enrolled(node) => {
            reload(inventory, node).await;
            if let Some(node) = inventory.node(node) {
                inventory.tell(&node, EventKind::NodeEnrolled, Severity::Info, "the node was enrolled", &[]);
            }
        }
        NodeNews::Superseded(node) => reload(inventory, node).await,
        NodeNews::Revoked(node) => inventory.mark_revoked(node),
        NodeNews::Quarantined { node, reason } => {
            if let Some(node) = inventory.node(node) {
                inventory.quarantine(&node, &reason);
            }
        }
        NodeNews::Released(node) => {
            if let Some(node) = inventory.node(node) {
                inventory.release(&node);
            }
        }
    }
}

async fn reload(inventory: &Inventory, node: NodeId) {
    if let Err(error) = inventory.reload_node(node).await {
        tracing::warn!(node.id = %node, %error, "the node is shown as it was until it connects");
    }
}

async fn catch_up(inventory: &Inventory, store: &Store) {
    let known = match store.known_nodes().await {
        Ok(known) => known.into_iter().map(|node| node.id).collect(),
        Err(error) => {
            tracing::warn!(%error, "nodes are shown as they were until they connect");
            Vec::new()
        }
    };
    let shown = inventory.nodes().into_iter().map(|node| node.id);
    for node in shown.chain(known).collect::<std::collections::BTreeSet<_>>() {
        reload(inventory, node).await;
    }
}
