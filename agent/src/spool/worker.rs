//! The spool beside the agent's loop: a disk that stalls holds up nothing else. No thread lives while nothing is to do.

use aim_common::identity::SpoolId;
use aim_common::protocol::{Record, SpoolRecord};
use tokio::task::JoinHandle;

use super::{Damage, Spool};

/// Most records that wait while the disk is busy; a stalled disk must not fill the memory.
const MAX_QUEUED: usize = 2048;

/// What is to be done next, in this order.
#[derive(Debug, Default)]
pub struct Work {
    /// The spool went back in time: begin with a new id, and give the records from this sequence on new keys.
    pub begin_anew: Option<u64>,
    /// Keep these.
    pub append: Vec<Record>,
    /// Everything up to this sequence of this spool is durable.
    pub acknowledged: Option<(SpoolId, u64)>,
    /// Read a batch from this sequence of this spool on.
    pub read_from: Option<(SpoolId, u64)>,
    /// Try the disk again.
    pub retry_disk: bool,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.begin_anew.is_none()
            && self.append.is_empty()
            && self.acknowledged.is_none()
            && self.read_from.is_none()
            && !self.retry_disk
    }
}

/// What came of it.
#[derive(Debug)]
pub struct WorkDone {
    /// The spool now in use.
    pub id: SpoolId,
    /// Its oldest record.
    pub first: u64,
    /// One past its newest.
    pub next: u64,
    /// Why it is in memory, if so.
    pub trouble: Option<String>,
    /// Records that this work made durable or, in memory, as safe as can be.
    pub appended: usize,
    /// The batch asked for.
    pub batch: Vec<SpoolRecord>,
    /// Segments that were set aside.
    pub quarantined: Vec<Damage>,
}

fn perform(spool: &mut Spool, work: Work) -> WorkDone {
    let mut quarantined = Vec::new();
    if work.retry_disk {
        quarantined.extend(spool.retry_disk().quarantined);
    }
    let appended = work.append.len();
    if let Some(own) = work.begin_anew {
        spool.begin_anew(own);
    }
    if appended > 0 {
        spool.append(work.append);
    }
    if let Some((id, sequence)) = work.acknowledged
        && id == spool.id()
    {
        spool.acknowledge(sequence);
    }
    let batch = match work.read_from {
        Some((id, from)) if id == spool.id() => spool.read(from),
        _ => Vec::new(),
    };
    WorkDone {
        id: spool.id(),
        first: spool.first(),
        next: spool.next(),
        trouble: spool.trouble().map(ToOwned::to_owned),
        appended,
        batch,
        quarantined,
    }
}

#[derive(Debug)]
enum Hand {
    Idle(Box<Spool>),
    Busy(JoinHandle<(Box<Spool>, WorkDone)>),
    /// The work panicked; the spool is lost with it.
    Lost,
}

/// Gives the spool one work after the other.
#[derive(Debug)]
pub struct SpoolWorker {
    hand: Hand,
    waiting: Work,
    dropped: u64,
}

impl SpoolWorker {
    /// Takes the spool.
    pub fn new(spool: Spool) -> Self {
        Self { hand: Hand::Idle(Box::new(spool)), waiting: Work::default(), dropped: 0 }
    }

    /// What is to be done next; a work under way is not changed.
    pub fn waiting(&mut self) -> &mut Work {
        &mut self.waiting
    }

    /// Keeps a record; the oldest waiting one goes when the disk stalls for too long.
    pub fn append(&mut self, record: Record) {
        if self.waiting.append.len() >= MAX_QUEUED {
            self.waiting.append.remove(0);
            self.dropped += 1;
        }
        self.waiting.append.push(record);
    }

    /// Nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.hand, Hand::Idle(_)) && self.waiting.is_empty()
    }

    /// Begins what waits, unless a work is under way.
    pub fn start(&mut self) {
        if self.waiting.is_empty() || !matches!(self.hand, Hand::Idle(_)) {
            return;
        }
        let Hand::Idle(mut spool) = std::mem::replace(&mut self.hand, Hand::Lost) else { return };
        let mut work = std::mem::take(&mut self.waiting);
        if self.dropped > 0 {
            work.append.insert(0, Record::Gap { dropped: std::mem::take(&mut self.dropped) });
        }
        self.hand = Hand::Busy(tokio::task::spawn_blocking(move || {
            let done = perform(&mut spool, work);
            (spool, done)
        }));
    }

    /// The end of the work under way; never, while there is none. Cancel-safe.
    pub async fn done(&mut self) -> Result<WorkDone, tokio::task::JoinError> {
        let Hand::Busy(task) = &mut self.hand else { return std::future::pending().await };
        match task.await {
            Ok((spool, done)) => {
                self.hand = Hand::Idle(spool);
                Ok(done)
            }
            Err(error) => {
                self.hand = Hand::Lost;
                Err(error)
            }
        }
    }
}
