//! From records of nodes to the rows of one transaction, and what changes in memory once it is durable. No IO.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::{NodeId, Sha256Digest, SpoolId};
use aim_common::inventory::{EncodedSection, Section};
use aim_common::protocol::{Record, SpoolRecord};
use aim_common::units::EpochMs;

use super::diff::diff;
use super::node::{MAX_SECTION_BYTES, MAX_SECTIONS, Node};
use crate::store::spool::{ChangeRow, EventRow, Group, NodeWrite, RecordRow, SectionWrite};

/// Changes named in one InventoryChanged event; the history has them all.
const CHANGES_IN_EVENT: usize = 8;

/// Records of one spool, in their order.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// The node.
    pub node: Arc<Node>,
    /// Its spool.
    pub spool: SpoolId,
    /// The records.
    pub records: Vec<SpoolRecord>,
}

/// What changes in memory once the group is durable.
#[derive(Debug, Default)]
pub(super) struct AfterCommit {
    /// Sections by node and tag; none where the section is gone.
    pub sections: HashMap<(NodeId, u16), Option<Arc<EncodedSection>>>,
    /// Hash of the inventory now.
    pub hashes: HashMap<NodeId, Option<Sha256Digest>>,
    /// The nodes that are touched.
    pub nodes: HashMap<NodeId, Arc<Node>>,
}

/// Builds one group.
#[derive(Debug)]
pub(super) struct Plan {
    /// What is written.
    pub group: Group,
    /// What follows.
    pub after: AfterCommit,
}

/// What cannot be stored by every engine: NUL becomes the replacement character.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The attribute of an event whose time was not believed: what the node said, in epoch milliseconds.
const TOLD_TIME: &str = "told_time_ms";

/// A time that can be written; a node's clock may say anything (INJ-09).
fn believable(at: EpochMs) -> EpochMs {
    EpochMs(at.0.clamp(0, EpochMs::MAX.0))
}

/// A change that an operator wants to hear of; a reboot and the agent's own state have events of their own.
fn is_meaningful(section: &str, path: &str) -> bool {
    match section {
        "agent" => false,
        "system" => !matches!(path, "boot_id" | "booted"),
        "filesystems" | "network" => path.rsplit('.').next() != Some("state"),
        _ => true,
    }
}

impl Plan {
    /// An empty plan.
    pub(super) fn new(stored_at: EpochMs) -> Self {
        Self { group: Group::new(stored_at), after: AfterCommit::default() }
    }

    /// Adds the records that come after `position`; gives the new position.
    pub(super) fn add_batch(&mut self, batch: &Batch, position: Option<i64>) -> Option<i64> {
        let mut reached = position;
        for record in &batch.records {
            // A sequence that does not fit was refused by the session.
            let Ok(sequence) = i64::try_from(record.sequence) else { continue };
            if reached.is_some_and(|reached| sequence <= reached) {
                continue;
            }
            reached = Some(sequence);
            self.add_record(batch, sequence, &record.record);
        }
        if reached != position
            && let Some(sequence) = reached
        {
            self.group.positions.insert((batch.node.id, batch.spool), sequence);
            self.after.nodes.insert(batch.node.id, Arc::clone(&batch.node));
        }
        reached
    }

    /// Adds an event of the coordinator.
    pub(super) fn add_event(&mut self, event: EventRow) {
        self.group.events.push(event);
    }

    fn add_record(&mut self, batch: &Batch, sequence: i64, record: &Record) {
        let node = batch.node.id;
        let sort = match record {
            Record::Event(event) if event.kind.is_of_the_coordinator() => {
                let reason = "an event that only the coordinator makes was not stored";
                self.refuse(node, event.kind.name().into_owned(), reason);
                "event"
            }
            Record::Event(event) => {
                self.group.events.push(event_row(node, (batch.spool, sequence), event));
                "event"
            }
            Record::InventorySection(encoded) => {
                self.add_section(&batch.node, encoded);
                "inventory_section"
            }
            Record::InventoryComplete { inventory_sha256, tags } => {
                self.complete(&batch.node, *inventory_sha256, tags);
                "inventory_complete"
            }
            Record::Gap { dropped } => {
                self.add_gap(node, *dropped);
                "gap"
            }
        };
        self.group.records.push(RecordRow { node, spool: batch.spool, sequence, sort });
    }

    /// The section as it is after what this plan holds already.
    fn held(&self, node: &Node, tag: u16) -> Option<Arc<EncodedSection>> {
        match self.after.sections.get(&(node.id, tag)) {
            Some(planned) => planned.clone(),
            None => node.state().sections.get(&tag).map(|held| Arc::clone(&held.encoded)),
        }
    }

    /// All sections as they are after this plan.
    fn all_held(&self, node: &Node) -> BTreeMap<u16, Arc<EncodedSection>> {
        let mut all: BTreeMap<u16, Arc<EncodedSection>> = {
            let state = node.state();
            state.sections.iter().map(|(tag, held)| (*tag, Arc::clone(&held.encoded))).collect()
        };
        for ((id, tag), planned) in &self.after.sections {
            if *id == node.id {
                match planned {
                    Some(section) => all.insert(*tag, Arc::clone(section)),
                    None => all.remove(tag),
                };
            }
        }
        all
    }

    fn add_section(&mut self, node: &Arc<Node>, encoded: &EncodedSection) {
        let tag = encoded.tag.0;
        let section = match Section::decode(encoded) {
            Ok(section) => section,
            Err(error) => {
                let reason = format!("an inventory section was not stored: {error}");
                self.refuse(node.id, format!("inventory section tag {tag}"), &reason);
                return;
            }
        };
        let mut all = self.all_held(node);
        let former = all.remove(&tag);
        let bytes = all.values().map(|held| held.bytes.len()).sum::<usize>() + encoded.bytes.len();
        if all.len() >= MAX_SECTIONS || bytes > MAX_SECTION_BYTES {
            let reason = "an inventory section was not stored: the node's inventory is over its bounds";
            self.refuse(node.id, format!("inventory section tag {tag}"), reason);
            return;
        }
        if former.as_deref() == Some(encoded) {
            return;
        }
        let content = section.as_ref().map(Section::to_json).unwrap_or_default();
        if let Some(section) = &section {
            let former = former.and_then(|former| Section::decode(&former).ok().flatten());
            if let Some(former) = former {
                self.add_changes(node.id, section.name(), &former.to_json(), &content);
            }
        }
        self.group.sections.push(SectionWrite { node: node.id, section: encoded.clone(), content });
        self.after.sections.insert((node.id, tag), Some(Arc::new(encoded.clone())));
        // The hash held no longer names what is held, until the inventory is complete again.
        self.set_hash(node.id, None);
    }

    fn set_hash(&mut self, node: NodeId, hash: Option<Sha256Digest>) {
        let former = self.after.hashes.insert(node, hash);
        if former != Some(hash) {
            self.group.nodes.push((node, NodeWrite::InventoryHash(hash)));
        }
    }

    fn add_changes(&mut self, node: NodeId, section: &str, from: &serde_json::Value, to: &serde_json::Value) {
        let changes = diff(from, to);
        let mut told = changes.iter().filter(|change| is_meaningful(section, &change.path)).peekable();
        if told.peek().is_some() {
            let attributes: BTreeMap<String, String> = told
                .clone()
                .take(CHANGES_IN_EVENT)
                .map(|change| (change.path.clone(), storable(&format!("{} → {}", change.from, change.to))))
                .collect();
            let first: Vec<&str> = told.by_ref().take(3).map(|change| change.path.as_str()).collect();
            let more = told.count();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!("{section}: {}{more} changed", first.join(", "));
            self.group.events.push(EventRow {
                node,
                origin: None,
                kind: EventKind::InventoryChanged,
                severity: Severity::Info,
                occurred: self.group.stored_at,
                boot_id: None,
                subject: section.to_owned(),
                message: storable(&message),
                attributes,
            });
        }
        self.group.changes.extend(changes.into_iter().map(|change| ChangeRow {
            node,
            section: section.to_owned(),
            path: storable(&change.path),
            from: change.from,
            to: change.to,
        }));
    }

    fn complete(&mut self, node: &Arc<Node>, claimed: Sha256Digest, tags: &[u16]) {
        let tags: BTreeSet<u16> = tags.iter().copied().collect();
        let gone: Vec<u16> = self.all_held(node).into_keys().filter(|tag| !tags.contains(tag)).collect();
        for tag in gone {
            if let Some(former) = self.held(node, tag)
                && let Ok(Some(section)) = Section::decode(&former)
            {
                self.group.changes.push(ChangeRow {
                    node: node.id,
                    section: section.name().to_owned(),
                    path: String::new(),
                    from: section.to_json(),
                    to: serde_json::Value::Null,
                });
            }
            self.group.sections_gone.push((node.id, tag));
            // A section that this very group wrote is not wanted either.
            self.group.sections.retain(|write| write.node != node.id || write.section.tag.0 != tag);
            self.after.sections.insert((node.id, tag), None);
        }
        let held = self.all_held(node);
        let actual = EncodedSection::hash_all(held.values().map(|section| &**section));
        if actual != claimed {
            tracing::warn!(node.id = %node.id, "the inventory held is not the one the node names; it will be asked for again");
        }
        self.set_hash(node.id, (actual == claimed).then_some(claimed));
    }

    fn add_gap(&mut self, node: NodeId, dropped: u64) {
        let count = if dropped == 0 { "an unknown number of".to_owned() } else { dropped.to_string() };
        self.group.events.push(EventRow {
            node,
            origin: None,
            kind: EventKind::NodeRecordsLost,
            severity: Severity::Warning,
            occurred: self.group.stored_at,
            boot_id: None,
            subject: String::new(),
            message: format!("the node's spool dropped {count} records before they could be stored"),
            attributes: BTreeMap::from([("dropped".to_owned(), dropped.to_string())]),
        });
    }

    /// A record that is acknowledged, since sending it again would not mend it, and said to be unusable.
    fn refuse(&mut self, node: NodeId, subject: String, reason: &str) {
        self.group.events.push(EventRow {
            node,
            origin: None,
            kind: EventKind::NodeLimitExceeded,
            severity: Severity::Warning,
            occurred: self.group.stored_at,
            boot_id: None,
            subject,
            message: storable(reason),
            attributes: BTreeMap::new(),
        });
    }
}

fn event_row(node: NodeId, origin: (SpoolId, i64), event: &Event) -> EventRow {
    let occurred = believable(event.occurred);
    let mut attributes: BTreeMap<_, _> =
        event.attributes.iter().map(|(name, value)| (storable(name), storable(value))).collect();
    if occurred != event.occurred {
        attributes.insert(TOLD_TIME.to_owned(), event.occurred.0.to_string());
    }
    EventRow {
        node,
        origin: Some(origin),
        kind: event.kind,
        severity: event.severity,
        occurred,
        boot_id: Some(event.boot_id),
        subject: storable(&event.subject),
        message: storable(&event.message),
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use aim_common::identity::{BootId, NodeId};
    use proptest::prelude::*;

    use super::*;
    use crate::store::nodes::{NodeRow, NodeState};

    fn node() -> Arc<Node> {
        Node::new(NodeRow {
            id: NodeId::from_random([1; 16]),
            name: "gpu1".parse().unwrap(),
            state: NodeState::Living,
            owner: None,
            enrolled_at: EpochMs(0),
            quarantine: None,
            machine_id_sha256: None,
            agent_version: None,
            boot_id: None,
            inventory_sha256: None,
            last_seen: None,
            absent_since: None,
            absent_cause: None,
            labels: BTreeMap::new(),
            groups: Vec::new(),
        })
    }

    fn event(occurred: i64) -> Record {
        Record::Event(Event {
            kind: EventKind::GpuXid,
            severity: Severity::Info,
            occurred: EpochMs(occurred),
            boot_id: BootId::from_random([1; 16]),
            subject: "a\0b".into(),
            message: "".into(),
            attributes: Vec::new().try_into().unwrap(),
        })
    }

    proptest! {
        /// INV-1: whatever is repeated, in whatever groups, each sequence is stored once, in order, and the position
        /// never goes back.
        #[test]
        fn inv_1_repetitions_are_stored_once(batches in prop::collection::vec((0_u64..40, 1_u64..20), 1..30)) {
            let node = node();
            let spool = SpoolId::from_random([2; 16]);
            let mut position = None;
            let mut stored = Vec::new();
            for (first, count) in batches {
                // An agent begins at or before the next record that is not durable.
                let next = position.map_or(0, |position: i64| u64::try_from(position).unwrap() + 1);
                let first = first.min(next);
                let records = (first..first + count)
                    .map(|sequence| SpoolRecord { sequence, record: event(0) })
                    .collect();
                let mut plan = Plan::new(EpochMs(0));
                let reached = plan.add_batch(&Batch { node: Arc::clone(&node), spool, records }, position);
                prop_assert!(reached >= position);
                let durable = plan.group.positions.get(&(node.id, spool)).copied();
                prop_assert_eq!(durable, (reached != position).then_some(reached).flatten());
                prop_assert_eq!(plan.group.records.len(), plan.group.events.len());
                stored.extend(plan.group.records.iter().map(|row| row.sequence));
                position = reached;
            }
            let all: Vec<i64> = (0..=position.unwrap()).collect();
            prop_assert_eq!(stored, all);
        }

        #[test]
        fn inj_09_a_nodes_time_is_clamped_to_what_can_be_written(occurred in any::<i64>()) {
            let mut plan = Plan::new(EpochMs(0));
            let records = vec![SpoolRecord { sequence: 0, record: event(occurred) }];
            plan.add_batch(&Batch { node: node(), spool: SpoolId::from_random([2; 16]), records }, None);
            let stored = plan.group.events.first().unwrap();
            prop_assert!((0..=EpochMs::MAX.0).contains(&stored.occurred.0));
            // Clamped is said; what can be is stored as it was told.
            let told = stored.attributes.get(TOLD_TIME).cloned();
            let believed = (0..=EpochMs::MAX.0).contains(&occurred);
            prop_assert_eq!(told, (!believed).then(|| occurred.to_string()));
            prop_assert!(!believed || stored.occurred.0 == occurred);
            prop_assert_eq!(&stored.subject, "a\u{fffd}b");
        }
    }
}
