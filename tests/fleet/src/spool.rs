//! What an agent must not lose, in memory: the agent's own spool with its sequences, sent again until acknowledged, and
//! the account of what was acknowledged. Pure.

use std::collections::VecDeque;

use aim_agent::spool::MemorySpool;
use aim_common::identity::SpoolId;
use aim_common::protocol::{Record, SpoolBatch};
use aim_common::wire::BoundedVec;

/// Records whose acknowledgement was just seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Their sequences.
    pub(crate) sequences: Vec<u64>,
    /// How many of them are events.
    pub(crate) events: u64,
}

/// The spool, and where the session is in it.
#[derive(Debug)]
pub(crate) struct Durable {
    spool: MemorySpool,
    /// Every record that was not seen acknowledged: its sequence, and whether it is an event.
    waiting: VecDeque<(u64, bool)>,
    next_record: u64,
    /// Up to here was sent and is not acknowledged: one batch at a time.
    in_flight: Option<u64>,
    lost: u64,
}

impl Durable {
    /// An empty one.
    pub(crate) fn new(id: SpoolId) -> Self {
        let spool = MemorySpool::new(id);
        Self { next_record: spool.next(), spool, waiting: VecDeque::new(), in_flight: None, lost: 0 }
    }

    /// Its id.
    pub(crate) fn id(&self) -> SpoolId {
        self.spool.id()
    }

    /// Sequence of the oldest record; one past the newest when empty.
    pub(crate) fn first(&self) -> u64 {
        self.spool.first()
    }

    /// Records that were not acknowledged.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Records that had to be dropped for want of room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Keeps the records.
    pub(crate) fn append(&mut self, records: Vec<Record>) {
        let next = self.spool.next();
        self.waiting.extend((next..).zip(records.iter().map(|record| matches!(record, Record::Event(_)))));
        self.spool.append(records);
        let first = self.spool.first();
        while self.waiting.pop_front_if(|(sequence, _)| *sequence < first).is_some() {
            self.lost += 1;
        }
    }

    /// A session begins; Welcome names what is durable already.
    pub(crate) fn session(&mut self, acknowledged: Option<u64>) -> Acknowledged {
        self.in_flight = None;
        let seen = self.acknowledged(acknowledged.unwrap_or_default());
        self.next_record = self.spool.first();
        seen
    }

    /// The next batch, once nothing is on its way.
    pub(crate) fn batch(&mut self) -> Option<SpoolBatch> {
        if self.in_flight.is_some() || self.next_record >= self.spool.next() {
            return None;
        }
        let records = self.spool.read(self.next_record);
        self.in_flight = Some(records.last()?.sequence);
        Some(SpoolBatch { spool_id: self.spool.id(), records: BoundedVec::truncated(records).0 })
    }

    /// Everything up to this sequence is durable at the coordinator.
    pub(crate) fn acknowledged(&mut self, sequence: u64) -> Acknowledged {
        let mut seen = Acknowledged::default();
        while let Some((sequence, is_event)) = self.waiting.pop_front_if(|(first, _)| *first <= sequence) {
            seen.sequences.push(sequence);
            seen.events += u64::from(is_event);
        }
        self.spool.acknowledge(sequence);
        self.next_record = self.next_record.max(sequence.saturating_add(1));
        if self.in_flight.is_some_and(|last| last <= sequence) {
            self.in_flight = None;
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a coordinator that takes batches, loses sessions and acknowledges late: everything arrives in order,
        /// nothing is acknowledged twice, and what is counted as acknowledged is what the coordinator holds.
        #[test]
        fn everything_arrives_once_and_is_acknowledged_once(
            steps in proptest::collection::vec((0..5_u8, 1..30_u64), 1..120)
        ) {
            let mut durable = Durable::new(SpoolId::from_random([1; 16]));
            let (mut stored, mut acknowledged) = (BTreeMap::new(), Vec::new());
            let (mut given, mut unacknowledged) = (0, None);
            for (what, number) in steps.into_iter().chain([(3, 1)]).chain((0..8).flat_map(|_| [(1, 1), (2, 1)])) {
                match what {
                    0 => {
                        durable.append((0..number).map(|number| Record::Gap { dropped: given + number }).collect());
                        given += number;
                    }
                    1 => {
                        for record in durable.batch().into_iter().flat_map(|batch| batch.records) {
                            let Record::Gap { dropped } = record.record else { unreachable!() };
                            prop_assert_eq!(dropped + 1, record.sequence);
                            stored.insert(record.sequence, dropped);
                            unacknowledged = Some(record.sequence);
                        }
                    }
                    2 => {
                        if let Some(sequence) = unacknowledged.take() {
                            acknowledged.extend(durable.acknowledged(sequence).sequences);
                        }
                    }
                    _ => {
                        // The acknowledgement was lost with the session, perhaps a batch too; Welcome tells what is held.
                        unacknowledged = None;
                        drop((what == 4).then(|| durable.batch()));
                        let held = stored.keys().next_back().copied();
                        acknowledged.extend(durable.session(held).sequences);
                    }
                }
                prop_assert!(acknowledged.is_sorted_by(|one, other| one < other));
            }
            prop_assert_eq!(&acknowledged, &stored.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!((acknowledged.len() as u64, durable.waiting(), durable.lost()), (given, 0, 0));
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_as_lost_and_never_as_acknowledged() {
        let mut durable = Durable::new(SpoolId::from_random([1; 16]));
        for number in 0..5_000 {
            durable.append(vec![Record::Gap { dropped: number }]);
        }
        let lost = durable.lost();
        assert!(lost > 0);
        assert_eq!(durable.waiting() as u64 + lost, 5_000);
        assert_eq!(durable.acknowledged(5_000).sequences.len() as u64 + lost, 5_000);
    }
}
