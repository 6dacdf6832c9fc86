//! One session as a pure state machine: frames in, at most one effect out, or the code to close with.
//!
//! It knows no socket, no task and no database. Time is a parameter. After a refusal it refuses everything.

use std::collections::HashMap;
use std::time::Duration;

use aim_common::identity::SpoolId;
use aim_common::protocol::{
    CloseCode, GaugeReport, Goodbye, GoodbyeCause, GpuProcesses, Hello, Kind, NodeConditions, PathLoss,
    Record, RenewRequest, SeriesTable, SpoolBatch,
};
use aim_common::wire::{DecodeError, Frame, FrameError, ProtocolVersion, decode};

use super::rules::{Role, Sender, rule};

/// Hello must have come within this time after the handshake (QUI-06).
pub(super) const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A frame that has begun must be whole within this time (QUI-07).
pub(super) const FRAME_WITHIN: Duration = Duration::from_secs(30);

/// A stream of the connection.
pub(super) type StreamKey = u64;

/// What a frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Admit or refuse the session; nothing else is accepted until [`Session::admitted`].
    Admit(Box<Hello>),
    /// Take the series table.
    Table(SeriesTable),
    /// Take the report.
    Report(GaugeReport),
    /// Take the node's degraded modes.
    Conditions(NodeConditions),
    /// Take the processes on the GPUs.
    Processes(GpuProcesses),
    /// Judge the node's silence by it.
    Loss(PathLoss),
    /// Store the records, then acknowledge.
    Store(SpoolBatch),
    /// Answer on the same stream.
    Renew(RenewRequest),
    /// The node leaves, and why.
    Leave(GoodbyeCause),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing but Hello is accepted.
    BeforeHello,
    /// Hello was taken; Welcome is not sent yet.
    Admitting,
    /// Everything of the table is accepted.
    Open,
    /// The node said Goodbye: what was under way on other streams may still end.
    Leaving,
    /// Refused.
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    bidirectional: bool,
    /// Set by the first frame.
    role: Option<Role>,
    /// A renewal has had its one request.
    spent: bool,
}

/// Where in the node's spool the session is.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    spool: SpoolId,
    /// The next sequence that is not a repetition.
    next: u64,
}

/// The state.
#[derive(Debug)]
pub(super) struct Session {
    phase: Phase,
    opened: Duration,
    /// What TLS negotiated.
    alpn: Vec<u8>,
    protocol: ProtocolVersion,
    streams: HashMap<StreamKey, Stream>,
    /// Roles that were taken once and cannot be taken again.
    taken: Vec<Role>,
    cursor: Option<Cursor>,
}

/// The code for what is not a frame.
pub(super) fn frame_error(error: &FrameError) -> CloseCode {
    match error {
        FrameError::Protocol(_) => CloseCode::VersionMismatch,
        FrameError::TooLong { .. } => CloseCode::LimitExceeded,
        FrameError::Magic | FrameError::UnknownKind(_) | FrameError::Flags(_) => CloseCode::ProtocolViolation,
    }
}

impl Session {
    /// A connection whose handshake has ended, with the ALPN it agreed on.
    pub(super) fn new(now: Duration, alpn: &[u8]) -> Self {
        Self {
            phase: Phase::BeforeHello,
            opened: now,
            alpn: alpn.to_vec(),
            protocol: ProtocolVersion::MIN,
            streams: HashMap::new(),
            taken: Vec::new(),
            cursor: None,
        }
    }

    /// When Hello must have come; none once it has.
    pub(super) fn hello_deadline(&self) -> Option<Duration> {
        (self.phase == Phase::BeforeHello).then_some(self.opened + HELLO_WITHIN)
    }

    /// The protocol version of the session.
    pub(super) fn protocol(&self) -> ProtocolVersion {
        self.protocol
    }

    /// The peer opened a stream. Their number is bounded by the transport.
    pub(super) fn stream_opened(&mut self, stream: StreamKey, bidirectional: bool) {
        self.streams.insert(stream, Stream { bidirectional, role: None, spent: false });
    }

    /// The peer ended a stream, perhaps within a frame.
    pub(super) fn stream_ended(&mut self, stream: StreamKey, within_frame: bool) -> Result<(), CloseCode> {
        let role = self.streams.remove(&stream).and_then(|stream| stream.role);
        let leaving = matches!(self.phase, Phase::Leaving | Phase::Closed);
        if within_frame || (role == Some(Role::Control) && !leaving) {
            return self.refuse(CloseCode::ProtocolViolation);
        }
        Ok(())
    }

    /// The session was admitted: Welcome is on its way.
    ///
    /// `acknowledged` is the position of the spool that Welcome names, as far as it is known.
    pub(super) fn admitted(&mut self, hello: &Hello, acknowledged: Option<u64>) {
        if self.phase != Phase::Admitting {
            return;
        }
        self.phase = Phase::Open;
        let next = acknowledged.map_or(0, |sequence| sequence.saturating_add(1)).max(hello.spool_first);
        self.cursor = Some(Cursor { spool: hello.spool_id, next });
    }

    /// Takes a whole frame of a known kind.
    pub(super) fn frame(&mut self, stream: StreamKey, frame: &Frame) -> Result<Effect, CloseCode> {
        let taken = self.take(stream, frame);
        if taken.is_err() {
            self.phase = Phase::Closed;
        }
        taken
    }

    fn refuse<T>(&mut self, code: CloseCode) -> Result<T, CloseCode> {
        self.phase = Phase::Closed;
        Err(code)
    }

    fn take(&mut self, stream: StreamKey, frame: &Frame) -> Result<Effect, CloseCode> {
        const VIOLATION: CloseCode = CloseCode::ProtocolViolation;
        let kind = Kind::from_number(frame.header.kind).ok_or(VIOLATION)?;
        let rule = rule(kind);
        if rule.sender == Sender::Coordinator {
            return Err(VIOLATION);
        }
        match self.phase {
            Phase::BeforeHello if kind == Kind::Hello => {}
            Phase::Open if kind != Kind::Hello && frame.header.protocol == self.protocol => {}
            Phase::Leaving if rule.role != Role::Control => {}
            _ => return Err(VIOLATION),
        }
        self.place(stream, rule.role)?;
        let malformed = |_: DecodeError| VIOLATION;
        match kind {
            Kind::Hello => self.hello(decode(frame).map_err(malformed)?),
            Kind::Goodbye => {
                let goodbye: Goodbye = decode(frame).map_err(malformed)?;
                self.phase = Phase::Leaving;
                Ok(Effect::Leave(goodbye.cause))
            }
            Kind::SeriesTable => decode(frame).map(Effect::Table).map_err(malformed),
            Kind::GaugeReport => decode(frame).map(Effect::Report).map_err(malformed),
            Kind::NodeConditions => decode(frame).map(Effect::Conditions).map_err(malformed),
            Kind::GpuProcesses => decode(frame).map(Effect::Processes).map_err(malformed),
            Kind::PathLoss => decode(frame).map(Effect::Loss).map_err(malformed),
            Kind::SpoolBatch => self.batch(decode(frame).map_err(malformed)?),
            Kind::RenewRequest => decode(frame).map(Effect::Renew).map_err(malformed),
            Kind::Welcome | Kind::Ack | Kind::LiveMode | Kind::RenewResponse => Err(VIOLATION),
        }
    }

    /// The stream has this role from its first frame on; a role that exists once is not given twice.
    fn place(&mut self, key: StreamKey, role: Role) -> Result<(), CloseCode> {
        let stream = self.streams.get_mut(&key).ok_or(CloseCode::ProtocolViolation)?;
        match stream.role {
            None if stream.bidirectional == role.is_bidirectional() => {}
            Some(former) if former == role && !stream.spent => return Ok(()),
            _ => return Err(CloseCode::ProtocolViolation),
        }
        stream.role = Some(role);
        if role == Role::Renewal {
            stream.spent = true;
            return Ok(());
        }
        if self.taken.contains(&role) {
            return Err(CloseCode::ProtocolViolation);
        }
        self.taken.push(role);
        Ok(())
    }

    fn hello(&mut self, hello: Hello) -> Result<Effect, CloseCode> {
        if hello.alpn.as_bytes() != self.alpn {
            return Err(CloseCode::ProtocolViolation);
        }
        let common = hello.protocol_max.min(ProtocolVersion::MAX);
        if hello.protocol_min > hello.protocol_max {
            return Err(CloseCode::ProtocolViolation);
        }
        if common < hello.protocol_min || common < ProtocolVersion::MIN {
            return Err(CloseCode::VersionMismatch);
        }
        self.protocol = common;
        self.phase = Phase::Admitting;
        Ok(Effect::Admit(Box::new(hello)))
    }

    /// Records rise strictly, and jump only over a gap that is said; what came before may come again.
    fn batch(&mut self, batch: SpoolBatch) -> Result<Effect, CloseCode> {
        const VIOLATION: CloseCode = CloseCode::ProtocolViolation;
        let cursor = self.cursor.as_mut().filter(|cursor| cursor.spool == batch.spool_id).ok_or(VIOLATION)?;
        let mut former = None;
        for record in &batch.records {
            let is_gap = matches!(record.record, Record::Gap { .. });
            let rises = former.is_none_or(|former| record.sequence > former);
            let follows = record.sequence <= cursor.next || is_gap;
            // The database counts in 63 bits.
            if !rises || !follows || i64::try_from(record.sequence).is_err() {
                return Err(VIOLATION);
            }
            former = Some(record.sequence);
            cursor.next = cursor.next.max(record.sequence.saturating_add(1));
        }
        // An empty batch asks for an acknowledgement of nothing.
        former.map(|_| Effect::Store(batch)).ok_or(VIOLATION)
    }
}

#[cfg(test)]
mod tests;
