//! The agent's side of a session as a pure state machine: frames of the control stream in, at most one effect out, or the
//! code to close with. Time is a parameter. After a refusal it refuses everything.

use std::time::Duration;

use aim_common::protocol::{Ack, CloseCode, Goodbye, GoodbyeCause, Kind, LiveMode, Welcome};
use aim_common::wire::{DecodeError, Frame, FrameError, ProtocolVersion, decode};

/// Welcome must have come within this time after Hello.
pub const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Bounds of what the coordinator may ask as interval: faster would burn the node, slower would hide it.
const INTERVAL_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;

/// What a frame asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The node is present; reports may begin.
    Opened(Box<Welcome>),
    /// Records are durable up to here.
    Acknowledged(Ack),
    /// Report faster for a while.
    Live(LiveMode),
    /// The coordinator is about to close.
    PeerLeaves(GoodbyeCause),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    AwaitingWelcome,
    Open,
    Closed,
}

/// The state.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    hello_sent: Duration,
    protocol: ProtocolVersion,
    acknowledged: Option<Ack>,
}

impl Session {
    /// Hello was sent at `now`.
    pub fn new(now: Duration) -> Self {
        Self {
            phase: Phase::AwaitingWelcome,
            hello_sent: now,
            protocol: ProtocolVersion::MAX,
            acknowledged: None,
        }
    }

    /// When Welcome must have come; none once it has.
    pub fn welcome_deadline(&self) -> Option<Duration> {
        (self.phase == Phase::AwaitingWelcome).then_some(self.hello_sent + WELCOME_WITHIN)
    }

    /// Frames may be sent on the streams of samples and records.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The protocol version of the session.
    pub fn protocol(&self) -> ProtocolVersion {
        self.protocol
    }

    /// Takes a whole frame of a known kind.
    pub fn frame(&mut self, frame: &Frame) -> Result<Effect, CloseCode> {
        let taken = self.take(frame);
        if taken.is_err() {
            self.phase = Phase::Closed;
        }
        taken
    }

    /// The code for bytes that are no frame; nothing is taken afterwards.
    pub fn no_frame(&mut self, error: &FrameError) -> CloseCode {
        self.phase = Phase::Closed;
        match error {
            FrameError::Protocol(_) => CloseCode::VersionMismatch,
            FrameError::TooLong { .. } => CloseCode::LimitExceeded,
            FrameError::Magic | FrameError::UnknownKind(_) | FrameError::Flags(_) => {
                CloseCode::ProtocolViolation
            }
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<Effect, CloseCode> {
        const VIOLATION: CloseCode = CloseCode::ProtocolViolation;
        let malformed = |_: DecodeError| VIOLATION;
        let kind = Kind::from_number(frame.header.kind).ok_or(VIOLATION)?;
        match (self.phase, kind) {
            (Phase::AwaitingWelcome, Kind::Welcome) => self.welcome(decode(frame).map_err(malformed)?),
            // A coordinator that refuses may say why before it closes.
            (Phase::AwaitingWelcome | Phase::Open, Kind::Goodbye) => {
                let goodbye: Goodbye = decode(frame).map_err(malformed)?;
                Ok(Effect::PeerLeaves(goodbye.cause))
            }
            (Phase::Open, Kind::Ack) => self.ack(decode(frame).map_err(malformed)?),
            (Phase::Open, Kind::LiveMode) => {
                let wish: LiveMode = decode(frame).map_err(malformed)?;
                let interval_ms = wish.interval_ms.clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end());
                Ok(Effect::Live(LiveMode { interval_ms, ..wish }))
            }
            _ => Err(VIOLATION),
        }
    }

    fn welcome(&mut self, mut welcome: Welcome) -> Result<Effect, CloseCode> {
        if !(ProtocolVersion::MIN..=ProtocolVersion::MAX).contains(&welcome.protocol) {
            return Err(CloseCode::VersionMismatch);
        }
        welcome.report_interval_ms =
            welcome.report_interval_ms.clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end());
        self.protocol = welcome.protocol;
        self.phase = Phase::Open;
        Ok(Effect::Opened(Box::new(welcome)))
    }

    /// An acknowledgement never goes back: what was durable stays durable.
    fn ack(&mut self, ack: Ack) -> Result<Effect, CloseCode> {
        if self
            .acknowledged
            .is_some_and(|former| former.spool_id == ack.spool_id && ack.sequence < former.sequence)
        {
            return Err(CloseCode::ProtocolViolation);
        }
        self.acknowledged = Some(ack);
        Ok(Effect::Acknowledged(ack))
    }
}

#[cfg(test)]
mod tests {
    use aim_common::identity::SpoolId;
    use aim_common::units::EpochMs;
    use aim_common::wire::{FrameDecoder, Message, encode};
    use proptest::prelude::*;

    use super::*;

    fn frame<M: Message>(message: &M) -> Frame {
        let mut decoder = FrameDecoder::default();
        decoder.push(&encode(ProtocolVersion::MAX, message).unwrap());
        decoder.next_frame().unwrap().unwrap()
    }

    fn welcome() -> Welcome {
        Welcome {
            coordinator_version: "1".into(),
            protocol: ProtocolVersion::MAX,
            clock: EpochMs(0),
            report_interval_ms: 1,
            inventory_wanted: false,
            series_wanted: false,
            acknowledged: None,
        }
    }

    fn ack(sequence: u64) -> Frame {
        frame(&Ack { spool_id: SpoolId::from_random([1; 16]), sequence })
    }

    #[test]
    fn only_welcome_opens_and_its_interval_is_bounded() {
        let mut session = Session::new(Duration::ZERO);
        assert_eq!(session.welcome_deadline(), Some(WELCOME_WITHIN));
        let Ok(Effect::Opened(opened)) = session.frame(&frame(&welcome())) else { panic!("not opened") };
        assert_eq!((opened.report_interval_ms, session.welcome_deadline()), (1_000, None));
        assert_eq!(session.frame(&frame(&welcome())), Err(CloseCode::ProtocolViolation), "a second Welcome");
    }

    #[test]
    fn other_versions_are_refused() {
        let mut session = Session::new(Duration::ZERO);
        let other = Welcome { protocol: ProtocolVersion(9), ..welcome() };
        assert_eq!(session.frame(&frame(&other)), Err(CloseCode::VersionMismatch));
    }

    proptest! {
        #[test]
        fn whatever_comes_opening_needs_welcome_and_acks_never_go_back(
            steps in proptest::collection::vec((0..4_u8, 0..50_u64), 0..40)
        ) {
            let mut session = Session::new(Duration::ZERO);
            let (mut welcomed, mut highest, mut closed) = (false, None, false);
            for (what, number) in steps {
                let given = match what {
                    0 => frame(&welcome()),
                    1 => frame(&LiveMode { interval_ms: 1, duration_ms: 1 }),
                    2 => frame(&Goodbye { cause: GoodbyeCause::Revoked }),
                    _ => ack(number),
                };
                let effect = session.frame(&given);
                prop_assert!(!(closed && effect.is_ok()), "an effect after the end");
                match effect {
                    Ok(Effect::Opened(_)) => { prop_assert!(!welcomed); welcomed = true; }
                    Ok(Effect::Acknowledged(ack)) => {
                        prop_assert!(welcomed && highest.is_none_or(|former| ack.sequence >= former));
                        highest = Some(ack.sequence);
                    }
                    Ok(Effect::Live(live)) => prop_assert!(welcomed && live.interval_ms >= 1_000),
                    Ok(Effect::PeerLeaves(_)) => {}
                    Err(_) => closed = true,
                }
                prop_assert_eq!(session.is_open(), welcomed && !closed);
            }
        }
    }
}
