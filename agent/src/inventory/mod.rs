//! What of the inventory must travel.
//!
//! Enters: all sections as they are now. Leaves: the records for the spool, the changed sections and then a mark that
//! the inventory is complete. Never: sends what has not changed, or decides when to look.

use std::collections::BTreeMap;

use aim_common::identity::Sha256Digest;
use aim_common::inventory::{EncodedSection, Section, SectionTag};
use aim_common::protocol::Record;
use aim_common::wire::BoundedVec;

/// The inventory as it was last put into the spool, or as it was at the agent's start.
#[derive(Debug, Clone)]
pub struct InventoryTracker {
    sections: BTreeMap<SectionTag, EncodedSection>,
}

impl InventoryTracker {
    /// With the inventory at the agent's start. It needs no records: Hello carries its hash, and Welcome asks for
    /// [`Self::all_records`] where the coordinator holds another one.
    pub fn new(sections: &[Section]) -> Self {
        let mut tracker = Self { sections: BTreeMap::new() };
        tracker.update(sections);
        tracker
    }

    /// Takes the inventory as it is now; the records that the spool must take, in this order; none where nothing changed.
    pub fn update(&mut self, sections: &[Section]) -> Vec<Record> {
        let encoded = sections.iter().filter_map(|section| self.encode(section));
        let now: BTreeMap<_, _> = encoded.map(|section| (section.tag, section)).collect();
        let changed = now.iter().filter(|(tag, section)| self.sections.get(tag) != Some(section));
        let mut records: Vec<Record> =
            changed.map(|(_, section)| Record::InventorySection(section.clone())).collect();
        let gone = self.sections.keys().any(|tag| !now.contains_key(tag));
        self.sections = now;
        if gone || !records.is_empty() {
            records.push(self.complete());
        }
        records
    }

    /// The hash for Hello, equal to that of the last record.
    pub fn hash(&self) -> Sha256Digest {
        EncodedSection::hash_all(self.sections.values())
    }

    /// Everything, for a coordinator that does not hold it.
    pub fn all_records(&self) -> Vec<Record> {
        let sections = self.sections.values().cloned().map(Record::InventorySection);
        sections.chain([self.complete()]).collect()
    }

    /// A section that cannot be sent stays as it was, if it was.
    fn encode(&self, section: &Section) -> Option<EncodedSection> {
        match section.encode() {
            Ok(encoded) => Some(encoded),
            Err(error) => {
                tracing::warn!(%error, "inventory section left as it was");
                self.sections.get(&section.tag()).cloned()
            }
        }
    }

    fn complete(&self) -> Record {
        let tags = self.sections.keys().map(|tag| tag.0).collect();
        Record::InventoryComplete { inventory_sha256: self.hash(), tags: BoundedVec::truncated(tags).0 }
    }
}

#[cfg(test)]
mod tests {
    use aim_common::inventory::{Disks, Infiniband, List, Network, NetworkInterface, UnknownReason};
    use aim_common::inventory::{Fact, Section};
    use proptest::prelude::*;

    use super::*;

    fn network(names: &[u8]) -> Section {
        let unknown = || Fact::Unknown(UnknownReason::NotPresent);
        let interface = |name: &u8| NetworkInterface {
            name: name.to_string().as_str().into(),
            mac: unknown(),
            mtu: Fact::Known(1500),
            state: unknown(),
            speed_mbps: Fact::Unknown(UnknownReason::NotSupported),
            full_duplex: Fact::Known(true),
            driver: unknown(),
            pci_address: unknown(),
            numa_node: Fact::Known(0),
        };
        Section::Network(Network { interfaces: List::truncated(names.iter().map(interface).collect()).0 })
    }

    fn disks() -> Section {
        Section::Disks(Disks { disks: List::default() })
    }

    fn infiniband() -> Section {
        Section::Infiniband(Infiniband { devices: List::default() })
    }

    /// The coordinator's side: takes records, and checks each completion against what it holds.
    #[derive(Default)]
    struct Coordinator(BTreeMap<SectionTag, EncodedSection>);

    impl Coordinator {
        fn take(&mut self, records: Vec<Record>) -> Option<Sha256Digest> {
            let mut complete = None;
            for record in records {
                match record {
                    Record::InventorySection(section) => drop(self.0.insert(section.tag, section)),
                    Record::InventoryComplete { inventory_sha256, tags } => {
                        self.0.retain(|tag, _| tags.contains(&tag.0));
                        assert_eq!(EncodedSection::hash_all(self.0.values()), inventory_sha256);
                        complete = Some(inventory_sha256);
                    }
                    other => panic!("{other:?} is no part of the inventory"),
                }
            }
            complete
        }
    }

    #[test]
    fn only_what_changed_travels() {
        let mut tracker = InventoryTracker::new(&[network(&[1]), disks()]);
        assert_eq!(tracker.update(&[network(&[1]), disks()]), []);
        let records = tracker.update(&[disks(), network(&[1, 2])]);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0], Record::InventorySection(network(&[1, 2]).encode().unwrap()));
        let Record::InventoryComplete { inventory_sha256, tags } = &records[1] else {
            panic!("{:?}", records[1])
        };
        assert_eq!((*inventory_sha256, tags.to_vec()), (tracker.hash(), vec![5, 7]));
    }

    #[test]
    fn a_section_that_is_gone_is_said() {
        let mut tracker = InventoryTracker::new(&[network(&[1]), disks()]);
        let records = tracker.update(&[disks()]);
        assert!(
            matches!(&records[..], [Record::InventoryComplete { tags, .. }] if tags.to_vec() == [5]),
            "{records:?}"
        );
    }

    proptest! {
        #[test]
        fn the_coordinator_holds_the_inventory_after_every_update(
            steps in proptest::collection::vec(
                (proptest::collection::vec(0..3_u8, 0..3), any::<bool>(), any::<bool>()), 1..20)
        ) {
            let mut tracker = InventoryTracker::new(&[disks()]);
            let mut coordinator = Coordinator::default();
            coordinator.take(tracker.all_records());
            for (names, with_disks, with_infiniband) in steps {
                let mut sections = vec![network(&names)];
                sections.extend(with_disks.then(disks));
                sections.extend(with_infiniband.then(infiniband));
                let hash = coordinator.take(tracker.update(&sections));
                prop_assert!(hash.is_none_or(|hash| hash == tracker.hash()));
                let held: Vec<_> = coordinator.0.values().cloned().collect();
                let expected: Vec<_> = sections.iter().map(|section| section.encode().unwrap()).collect();
                prop_assert_eq!(EncodedSection::hash_all(&held), EncodedSection::hash_all(&expected));
                prop_assert_eq!(EncodedSection::hash_all(&held), tracker.hash());
            }
        }
    }
}
