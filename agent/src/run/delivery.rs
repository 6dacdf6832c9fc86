//! What goes out in an open session: reports and the ring's backlog, conditions, GPU processes, the spool's batches.

use std::time::Duration;

use aim_common::identity::SpoolId;
use aim_common::protocol::{GpuProcesses, NodeConditions, SpoolBatch, SpoolRecord};
use aim_common::wire::{BoundedVec, Message, ProtocolVersion, encode};

use super::loss::LossMeter;
use super::ring::Ring;
use crate::link::OpenSession;
use crate::report::{Interval, SessionReports};

/// From one late report to the next: far below the coordinator's limit of 100 messages a second.
const REPLAY_EVERY: Duration = Duration::from_millis(50);

/// Without any packet for so long the coordinator is gone, restarted or unreachable: five heartbeats and all their
/// repetitions were not answered. QUIC itself would wait for 30 s.
const SILENCE: Duration = Duration::from_secs(10);

/// An open session and what it has sent.
#[derive(Debug)]
pub(super) struct Delivery {
    open: OpenSession,
    reports: SessionReports,
    loss: LossMeter,
    /// Where in the spool to go on.
    pub(super) next_record: u64,
    /// A batch is being read.
    pub(super) reading: bool,
    /// Sequences sent and not acknowledged.
    in_flight: Vec<u64>,
    replay_at: Duration,
    /// Packets received, and since when no more.
    received: (u64, Duration),
}

impl Delivery {
    /// A session in which nothing was sent yet.
    pub(super) fn new(open: OpenSession, reports: SessionReports, next_record: u64) -> Self {
        let received = (0, Duration::ZERO);
        Self {
            open,
            reports,
            loss: LossMeter::default(),
            next_record,
            reading: false,
            in_flight: Vec::new(),
            replay_at: Duration::ZERO,
            received,
        }
    }

    /// The coordinator's address.
    pub(super) fn address(&self) -> &str {
        &self.open.address
    }

    /// The spool that Hello named; batches of another one would end the session.
    pub(super) fn spool_id(&self) -> SpoolId {
        self.open.facts.spool_id
    }

    /// The coordinator has been silent for too long.
    pub(super) fn is_silent(&mut self, now: Duration) -> bool {
        let received = self.open.connection.stats().udp_rx.datagrams;
        if received != self.received.0 {
            self.received = (received, now);
        }
        now.saturating_sub(self.received.1) >= SILENCE
    }

    fn frame<M: Message>(&self, message: &M) -> Vec<u8> {
        encode(self.protocol(), message).unwrap_or_else(|error| {
            // Bounded messages always encode; a frame that is not sent is better than a session that breaks.
            tracing::error!(%error, "a message is not sent");
            Vec::new()
        })
    }

    fn protocol(&self) -> ProtocolVersion {
        self.open.welcome.protocol
    }

    /// Sends an interval of now; gives it back where the stream takes no more.
    pub(super) fn send_interval(&mut self, interval: Interval) -> Result<(), Interval> {
        self.send(&interval, false, 0).map_err(|()| interval)
    }

    fn send(&mut self, interval: &Interval, late: bool, dropped: u32) -> Result<(), ()> {
        // Reserved first: an encoded report that is not sent would falsify the next difference.
        let Ok(permit) = self.open.samples.clone().try_reserve_owned() else { return Err(()) };
        let (table, report) = self.reports.encode(interval, late, dropped);
        let mut frames = table.map(|table| self.frame(&*table)).unwrap_or_default();
        frames.extend(self.frame(&report));
        if !late {
            let path = self.open.connection.stats().path;
            let loss = self.loss.observe(path.sent_packets, path.lost_packets, interval.interval_ms);
            frames.extend(loss.map(|loss| self.frame(&loss)).unwrap_or_default());
        }
        permit.send(frames);
        Ok(())
    }

    /// Sends the oldest interval of the ring, if it is time; gives the time of the next.
    pub(super) fn replay(&mut self, ring: &mut Ring, now: Duration) -> Option<Duration> {
        if now >= self.replay_at && self.open.samples.capacity() > 0 {
            let (oldest, dropped) = ring.pop()?;
            if self.send(&oldest.unpack(), true, dropped).is_err() {
                // The stream was closed: the session is over, and so much is lost with it.
                tracing::debug!("a late report was lost with its session");
            }
            self.replay_at = now + REPLAY_EVERY;
        }
        (!ring.is_empty()).then(|| self.replay_at.max(now + REPLAY_EVERY))
    }

    /// Sends the degraded modes; false where the stream takes no more.
    pub(super) fn send_conditions(&self, conditions: &NodeConditions) -> bool {
        self.open.samples.try_send(self.frame(conditions)).is_ok()
    }

    /// Sends the processes on the GPUs; false where the stream takes no more.
    pub(super) fn send_processes(&self, processes: &GpuProcesses) -> bool {
        self.open.samples.try_send(self.frame(processes)).is_ok()
    }

    /// Nothing is on its way: the next batch may be read.
    pub(super) fn wants_batch(&self, spool_next: u64) -> bool {
        !self.reading && self.in_flight.is_empty() && self.next_record < spool_next
    }

    /// Sends a batch of the spool; the next one waits for its acknowledgement.
    pub(super) fn send_batch(&mut self, spool_id: SpoolId, records: Vec<SpoolRecord>) {
        let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
        let batch = SpoolBatch { spool_id, records: BoundedVec::truncated(records).0 };
        if self.open.durable.try_send(self.frame(&batch)).is_ok() {
            self.in_flight = sequences;
        }
    }

    /// Records are durable at the coordinator; gives those that were on their way.
    pub(super) fn acknowledged(&mut self, sequence: u64) -> Vec<u64> {
        let done = self.in_flight.partition_point(|sent| *sent <= sequence);
        let durable: Vec<u64> = self.in_flight.drain(..done).collect();
        self.next_record = self.next_record.max(sequence.saturating_add(1));
        durable
    }
}
