//! What the link counts, for operators: how sessions were ended by the coordinator, and what newer agents said in vain.

use std::sync::atomic::{AtomicU64, Ordering};

use aim_common::protocol::CloseCode;

/// The counts since the start.
#[derive(Debug, Default)]
pub struct LinkCounters {
    closed: [AtomicU64; CloseCode::ALL.len()],
    skipped_frames: AtomicU64,
    skipped_series: AtomicU64,
}

impl LinkCounters {
    /// A connection was closed with this code.
    pub(super) fn closed(&self, code: CloseCode) {
        let index = CloseCode::ALL.iter().position(|known| *known == code);
        if let Some(count) = index.and_then(|index| self.closed.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Frames of kinds that this coordinator does not know were passed over.
    pub(super) fn skipped_frames(&self, count: u64) {
        self.skipped_frames.fetch_add(count, Ordering::Relaxed);
    }

    /// A table came with so many series whose metrics this coordinator does not know.
    pub(super) fn skipped_series(&self, count: usize) {
        self.skipped_series.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Connections that the coordinator closed, by code.
    pub fn closings(&self) -> impl Iterator<Item = (CloseCode, u64)> {
        CloseCode::ALL.iter().zip(&self.closed).map(|(code, count)| (*code, count.load(Ordering::Relaxed)))
    }

    /// Frames and series passed over.
    pub fn skipped(&self) -> (u64, u64) {
        (self.skipped_frames.load(Ordering::Relaxed), self.skipped_series.load(Ordering::Relaxed))
    }
}
