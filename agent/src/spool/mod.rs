//! What is never lost: records kept on the node until the coordinator holds them durably.
//!
//! Enters: records, acknowledgements. Leaves: records in order with their sequence, gaps said where any are missing.
//! Never: gives a record that was not written, repeats a sequence with another content, grows over its limit, ends the
//! agent because a disk is full or gone.

mod disk;
mod format;
mod memory;
mod worker;

use std::path::PathBuf;

use aim_common::identity::SpoolId;
use aim_common::protocol::{Record, SpoolRecord};

pub use disk::{Damage, DiskSpool};
pub use memory::MemorySpool;
pub use worker::{SpoolWorker, Work, WorkDone};

use crate::entropy::random_bytes;

/// Records of one batch: within the coordinator's rate of 2 MiB a second when each batch waits for its acknowledgement.
pub const BATCH_BYTES: usize = 128 * 1024;
/// Records of one batch (`SpoolBatch`).
pub const BATCH_RECORDS: usize = 512;

/// The spool in use: on disk, or in memory while the disk fails. A change brings a new spool id, so that no key repeats.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    max_bytes: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Disk(Box<DiskSpool>),
    Memory {
        spool: MemorySpool,
        /// Why not on disk.
        reason: String,
    },
}

/// What the spool found when it was opened.
#[derive(Debug, Default)]
pub struct Found {
    /// Segments that were set aside.
    pub quarantined: Vec<Damage>,
}

impl Spool {
    /// Opens the spool in the directory; in memory where that fails.
    pub fn open(directory: PathBuf, max_bytes: u64) -> (Self, Found) {
        match DiskSpool::open(&directory, max_bytes, new_id()) {
            Ok((disk, quarantined)) => {
                (Self { directory, max_bytes, place: Place::Disk(Box::new(disk)) }, Found { quarantined })
            }
            Err(error) => {
                let place = Place::Memory { spool: MemorySpool::new(new_id()), reason: error.to_string() };
                (Self { directory, max_bytes, place }, Found::default())
            }
        }
    }

    /// Its id; changes with its place.
    pub fn id(&self) -> SpoolId {
        match &self.place {
            Place::Disk(disk) => disk.id(),
            Place::Memory { spool, .. } => spool.id(),
        }
    }

    /// Sequence of the oldest record; one past the newest when empty.
    pub fn first(&self) -> u64 {
        match &self.place {
            Place::Disk(disk) => disk.first(),
            Place::Memory { spool, .. } => spool.first(),
        }
    }

    /// One past the newest record.
    pub fn next(&self) -> u64 {
        match &self.place {
            Place::Disk(disk) => disk.next(),
            Place::Memory { spool, .. } => spool.next(),
        }
    }

    /// Why records are in memory only, if so (FLT-08, FLT-09).
    pub fn trouble(&self) -> Option<&str> {
        match &self.place {
            Place::Disk(_) => None,
            Place::Memory { reason, .. } => Some(reason),
        }
    }

    /// Keeps the records: on disk they are durable when this returns. A disk that fails is left for memory.
    pub fn append(&mut self, mut records: Vec<Record>) {
        if let Place::Disk(disk) = &mut self.place {
            match disk.append(&mut records) {
                Ok(()) => return,
                Err(error) => self.leave_disk(error.to_string()),
            }
        }
        if let Place::Memory { spool, .. } = &mut self.place {
            spool.append(records);
        }
    }

    fn leave_disk(&mut self, reason: String) {
        tracing::error!(%reason, "the spool is left for memory");
        self.place = Place::Memory { spool: MemorySpool::new(new_id()), reason };
    }

    /// Everything up to this sequence is durable at the coordinator.
    pub fn acknowledge(&mut self, sequence: u64) {
        match &mut self.place {
            Place::Disk(disk) => disk.acknowledge(sequence),
            Place::Memory { spool, .. } => spool.acknowledge(sequence),
        }
    }

    /// The records from this sequence on, within a batch's bounds; gaps are said.
    pub fn read(&mut self, from: u64) -> Vec<SpoolRecord> {
        match &mut self.place {
            Place::Disk(disk) => match disk.read(from) {
                Ok(records) => records,
                Err(error) => {
                    self.leave_disk(error.to_string());
                    Vec::new()
                }
            },
            Place::Memory { spool, .. } => spool.read(from),
        }
    }

    /// Back to disk, once the memory is empty and the disk works again.
    pub fn retry_disk(&mut self) -> Found {
        let Place::Memory { spool, .. } = &self.place else { return Found::default() };
        if !spool.is_empty() {
            return Found::default();
        }
        let (again, found) = Self::open(self.directory.clone(), self.max_bytes);
        if again.trouble().is_none() {
            *self = again;
        }
        found
    }

    /// The coordinator holds more of this spool than was ever written to it: the disk went back in time. A new spool
    /// begins; the records from `own` on, which this process wrote, get new keys.
    pub fn begin_anew(&mut self, own: u64) {
        let mut records = Vec::new();
        let mut from = own;
        loop {
            let batch = self.read(from);
            let Some(last) = batch.last() else { break };
            from = last.sequence.saturating_add(1);
            records.extend(batch.into_iter().map(|record| record.record));
        }
        if let Place::Disk(disk) = &mut self.place
            && let Err(error) = disk.begin_anew(new_id())
        {
            self.leave_disk(error.to_string());
        }
        self.append(records);
    }
}

/// A spool id. Without randomness there is no safe id: the time since boot and the process id stand in, which do not
/// repeat on one node within a boot.
fn new_id() -> SpoolId {
    SpoolId::from_random(random_bytes().unwrap_or_else(|_| {
        let uptime = rustix::system::sysinfo().uptime;
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(uptime.to_le_bytes().into_iter().chain(pid.to_le_bytes())) {
            *place = byte;
        }
        bytes
    }))
}

/// Adds what is missing between records as one gap each: sequences jump only over a [`Record::Gap`].
fn with_gaps(from: u64, records: Vec<SpoolRecord>) -> Vec<SpoolRecord> {
    let mut expected = from;
    let mut complete = Vec::with_capacity(records.len());
    for record in records {
        let missing = record.sequence.saturating_sub(expected);
        if missing > 0 && !matches!(record.record, Record::Gap { .. }) {
            complete.push(SpoolRecord {
                sequence: record.sequence - 1,
                record: Record::Gap { dropped: missing },
            });
        }
        expected = record.sequence.saturating_add(1);
        complete.push(record);
    }
    complete
}
