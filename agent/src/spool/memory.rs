//! Records in memory: where the agent goes on while its disk is full, read-only or gone.

use std::collections::VecDeque;

use aim_common::identity::SpoolId;
use aim_common::protocol::{Kind, Record, SpoolRecord};
use aim_common::wire::encode_section;

use super::{BATCH_BYTES, BATCH_RECORDS, with_gaps};

/// Most records; beyond them the oldest go.
const MAX_RECORDS: usize = 4096;
/// Most bytes; the agent's own footprint counts.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A spool that a restart forgets; its id never comes back.
#[derive(Debug)]
pub struct MemorySpool {
    id: SpoolId,
    records: VecDeque<(SpoolRecord, usize)>,
    bytes: usize,
    next: u64,
}

impl MemorySpool {
    /// An empty one.
    pub fn new(id: SpoolId) -> Self {
        Self { id, records: VecDeque::new(), bytes: 0, next: 1 }
    }

    /// Its id.
    pub fn id(&self) -> SpoolId {
        self.id
    }

    /// Sequence of the oldest record; one past the newest when empty.
    pub fn first(&self) -> u64 {
        self.records.front().map_or(self.next, |(record, _)| record.sequence)
    }

    /// One past the newest record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Keeps the records; the oldest go when there is no room.
    pub fn append(&mut self, records: Vec<Record>) {
        for record in records {
            let size = encode_section(Kind::SpoolBatch, &record).map_or(0, |bytes| bytes.len());
            self.records.push_back((SpoolRecord { sequence: self.next, record }, size));
            self.bytes += size;
            self.next += 1;
            while self.records.len() > MAX_RECORDS || (self.bytes > MAX_BYTES && self.records.len() > 1) {
                self.drop_first();
            }
        }
    }

    /// Everything up to this sequence is durable at the coordinator.
    pub fn acknowledge(&mut self, sequence: u64) {
        while self.records.front().is_some_and(|(record, _)| record.sequence <= sequence) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, size)) = self.records.pop_front() {
            self.bytes -= size;
        }
    }

    /// The records from this sequence on, within a batch's bounds.
    pub fn read(&self, from: u64) -> Vec<SpoolRecord> {
        let mut bytes = 0;
        let batch = self
            .records
            .iter()
            .filter(|(record, _)| record.sequence >= from)
            .take_while(|(_, size)| {
                let fits = bytes == 0 || bytes + size <= BATCH_BYTES;
                bytes += size;
                fits
            })
            .take(BATCH_RECORDS - 1)
            .map(|(record, _)| record.clone())
            .collect();
        with_gaps(from, batch)
    }
}
