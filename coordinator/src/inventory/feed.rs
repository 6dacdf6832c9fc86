//! What changed, for whoever listens: bounded, and a slow listener is told how much it missed.

use std::sync::Arc;

use aim_common::api::changes::Change;
use aim_common::identity::UserId;
use tokio::sync::broadcast;

/// Changes a listener may lag behind; about 1 MiB at the worst (FLT-50).
const CAPACITY: usize = 1024;

/// One change with what decides who may see it.
#[derive(Debug, Clone)]
pub struct FeedItem {
    /// The change.
    pub change: Change,
    /// The node's owner.
    pub owner: Option<UserId>,
    /// The node's groups.
    pub groups: Vec<String>,
}

/// The feed.
#[derive(Debug)]
pub(super) struct Feed {
    sender: broadcast::Sender<Arc<FeedItem>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY) }
    }
}

impl Feed {
    /// Listens from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<FeedItem>> {
        self.sender.subscribe()
    }

    /// Tells whoever listens; the item is made only where somebody does.
    pub(super) fn publish(&self, item: impl FnOnce() -> FeedItem) {
        if self.sender.receiver_count() > 0 {
            // Nobody may be left by now.
            let _ = self.sender.send(Arc::new(item()));
        }
    }
}
