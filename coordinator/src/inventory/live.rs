//! All nodes in memory, by id and by name.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aim_common::api::changes::Change;
use aim_common::api::events::EventView;
use aim_common::identity::{NodeId, NodeName, Sha256Digest};
use aim_common::units::EpochMs;

use super::feed::{Feed, FeedItem};
use super::moment::Moment;
use super::node::Node;
use crate::clock::SharedClock;
use crate::store::nodes::{NodeRow, NodeState as IdentityState};
use crate::store::spool::EventRow;

#[derive(Default)]
struct Index {
    by_id: HashMap<NodeId, Arc<Node>>,
    /// Names of living nodes; a revoked one gives its name free.
    by_name: HashMap<String, NodeId>,
}

/// The nodes, and who is told of their changes.
pub(super) struct Live {
    index: RwLock<Index>,
    /// Present nodes by what they say is their machine-id.
    machine_ids: Mutex<HashMap<Sha256Digest, BTreeSet<NodeId>>>,
    pub(super) feed: Feed,
    pub(super) clock: SharedClock,
}

impl Live {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { index: RwLock::default(), machine_ids: Mutex::default(), feed: Feed::default(), clock }
    }

    pub(super) fn get(&self, id: NodeId) -> Option<Arc<Node>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// The living node of this name; where there is none, a revoked one.
    pub(super) fn named(&self, name: &NodeName) -> Option<Arc<Node>> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.by_name.get(&name.canonical()).and_then(|id| index.by_id.get(id)).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// Adds a node, or takes what changed about it in the database.
    pub(super) fn put(&self, row: NodeRow) -> Arc<Node> {
        let (id, name, living) = (row.id, row.name.canonical(), row.state == IdentityState::Living);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let node = if let Some(node) = index.by_id.get(&id) {
            let former = node.state().name.canonical();
            node.state().refresh(row);
            let node = Arc::clone(node);
            if former != name && index.by_name.get(&former) == Some(&id) {
                index.by_name.remove(&former);
            }
            node
        } else {
            let node = Node::new(row);
            index.by_id.insert(id, Arc::clone(&node));
            node
        };
        // A living node has the name before a revoked one.
        if living || !index.by_name.contains_key(&name) {
            index.by_name.insert(name, id);
        }
        node
    }

    /// Forgets a node; says whether it was there.
    pub(super) fn remove(&self, id: NodeId) -> Option<Arc<Node>> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let node = index.by_id.remove(&id)?;
        let name = node.state().name.canonical();
        if index.by_name.get(&name) == Some(&id) {
            index.by_name.remove(&name);
        }
        drop(index);
        self.leave_machine_id(&node);
        Some(node)
    }

    /// Notes that a present node has this machine-id; gives the others that are present with the same one (IDN-07).
    pub(super) fn enter_machine_id(&self, node: &Node, digest: Sha256Digest, at: EpochMs) -> Vec<NodeId> {
        let others: Vec<NodeId> = {
            let mut machine_ids = self.machine_ids.lock().unwrap_or_else(PoisonError::into_inner);
            let present = machine_ids.entry(digest).or_default();
            present.insert(node.id);
            present.iter().copied().filter(|id| *id != node.id).collect()
        };
        if !others.is_empty() {
            node.state().duplicate_machine_id.get_or_insert(at);
            for other in others.iter().filter_map(|id| self.get(*id)) {
                other.state().duplicate_machine_id.get_or_insert(at);
                self.publish_node(&other);
            }
        }
        others
    }

    /// The node is not present any more; the warning ends for whoever is alone with the machine-id now.
    pub(super) fn leave_machine_id(&self, node: &Node) {
        let digest = {
            let mut state = node.state();
            state.duplicate_machine_id = None;
            state.machine_id_sha256
        };
        let Some(digest) = digest else { return };
        let alone = {
            let mut machine_ids = self.machine_ids.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(present) = machine_ids.get_mut(&digest) else { return };
            present.remove(&node.id);
            let alone = (present.len() == 1).then(|| present.first().copied()).flatten();
            if present.is_empty() {
                machine_ids.remove(&digest);
            }
            alone
        };
        if let Some(other) = alone.and_then(|id| self.get(id)) {
            other.state().duplicate_machine_id = None;
            self.publish_node(&other);
        }
    }

    pub(super) fn publish_node(&self, node: &Node) {
        let now = Moment::now(&*self.clock);
        self.feed.publish(|| {
            let state = node.state();
            FeedItem {
                change: Change::Node { node: Box::new(state.summary(node.id, now)) },
                owner: state.owner,
                groups: state.groups.clone(),
            }
        });
    }

    pub(super) fn publish_deleted(&self, node: &Node) {
        self.feed.publish(|| {
            let state = node.state();
            FeedItem {
                change: Change::NodeDeleted { id: node.id },
                owner: state.owner,
                groups: state.groups.clone(),
            }
        });
    }

    pub(super) fn publish_event(&self, event: EventRow, id: i64, stored_at: EpochMs) {
        let Some(node) = self.get(event.node) else { return };
        self.feed.publish(|| {
            let state = node.state();
            let view = EventView {
                id,
                node_id: event.node,
                node_name: state.name.clone(),
                kind: event.kind.name().into_owned(),
                severity: event.severity,
                occurred_at: event.occurred,
                stored_at,
                boot_id: event.boot_id,
                subject: event.subject,
                message: event.message,
                attributes: event.attributes,
            };
            FeedItem {
                change: Change::Event { event: Box::new(view) },
                owner: state.owner,
                groups: state.groups.clone(),
            }
        });
    }
}
