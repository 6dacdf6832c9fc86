use aim_common::identity::{BootId, Sha256Digest, SpoolId};
use aim_common::protocol::{
    ALPN, Ack, KindNumber, LiveMode, RenewRefusal, RenewResponse, SpoolRecord, Welcome,
};
use aim_common::units::EpochMs;
use aim_common::wire::{BoundedBytes, FrameDecoder, Message, encode};
use proptest::prelude::*;

use super::*;

const SPOOL: SpoolId = SpoolId::from_uuid(uuid::Uuid::from_u128(7));

fn hello() -> Hello {
    Hello {
        agent_version: "0.1.0".into(),
        protocol_min: ProtocolVersion(1),
        protocol_max: ProtocolVersion(1),
        alpn: "aim/1".into(),
        features: 0,
        boot_id: BootId::from_random([1; 16]),
        machine_id_sha256: None,
        inventory_sha256: Sha256Digest::of(b""),
        series_sha256: Sha256Digest::of(b""),
        spool_id: SPOOL,
        spool_first: 0,
        clock: EpochMs(0),
        started: EpochMs(0),
    }
}

fn frame<M: Message>(message: &M) -> Frame {
    let mut decoder = FrameDecoder::default();
    decoder.push(&encode(ProtocolVersion(1), message).unwrap());
    decoder.next_frame().unwrap().unwrap()
}

/// A session that has had its Hello on stream 0.
fn open() -> Session {
    let mut session = Session::new(Duration::ZERO, ALPN);
    session.stream_opened(0, true);
    assert!(matches!(session.frame(0, &frame(&hello())), Ok(Effect::Admit(_))));
    session.admitted(&hello(), None);
    session
}

fn gap(sequence: u64) -> SpoolRecord {
    SpoolRecord { sequence, record: Record::Gap { dropped: 1 } }
}

fn record(sequence: u64) -> SpoolRecord {
    let tags = Vec::new().try_into().unwrap();
    let record = Record::InventoryComplete { inventory_sha256: Sha256Digest::of(b""), tags };
    SpoolRecord { sequence, record }
}

fn batch(spool_id: SpoolId, records: Vec<SpoolRecord>) -> Frame {
    frame(&SpoolBatch { spool_id, records: records.try_into().unwrap() })
}

fn report() -> Frame {
    frame(&GaugeReport {
        end: EpochMs(0),
        interval_ms: 10_000,
        late: false,
        dropped_before: 0,
        changes: Vec::new().try_into().unwrap(),
    })
}

#[test]
fn qui_10_nothing_is_taken_before_hello() {
    for first in
        [report(), batch(SPOOL, vec![record(0)]), frame(&Goodbye { cause: GoodbyeCause::AgentStopped })]
    {
        let mut session = Session::new(Duration::ZERO, ALPN);
        session.stream_opened(0, true);
        session.stream_opened(2, false);
        let stream = if first.header.kind == Kind::Goodbye.number() { 0 } else { 2 };
        assert_eq!(session.frame(stream, &first), Err(CloseCode::ProtocolViolation));
    }
}

#[test]
fn qui_10_nothing_is_taken_between_hello_and_welcome() {
    let mut session = Session::new(Duration::ZERO, ALPN);
    session.stream_opened(0, true);
    session.stream_opened(2, false);
    session.frame(0, &frame(&hello())).unwrap();
    assert_eq!(session.frame(2, &report()), Err(CloseCode::ProtocolViolation));
}

#[test]
fn qui_06_hello_has_ten_seconds() {
    let mut session = Session::new(Duration::from_secs(5), ALPN);
    assert_eq!(session.hello_deadline(), Some(Duration::from_secs(15)));
    session.stream_opened(0, true);
    session.frame(0, &frame(&hello())).unwrap();
    assert_eq!(session.hello_deadline(), None);
}

#[test]
fn qui_03_the_alpn_is_repeated_and_compared() {
    let mut session = Session::new(Duration::ZERO, ALPN);
    session.stream_opened(0, true);
    let lying = Hello { alpn: "aim/0".into(), ..hello() };
    assert_eq!(session.frame(0, &frame(&lying)), Err(CloseCode::ProtocolViolation));
}

#[test]
fn qui_03_no_common_version_is_said_so_and_none_below_the_minimum_is_taken() {
    for (min, max) in [(2, 3), (0, 0)] {
        let mut session = Session::new(Duration::ZERO, ALPN);
        session.stream_opened(0, true);
        let other =
            Hello { protocol_min: ProtocolVersion(min), protocol_max: ProtocolVersion(max), ..hello() };
        assert_eq!(session.frame(0, &frame(&other)), Err(CloseCode::VersionMismatch));
    }
    let mut session = Session::new(Duration::ZERO, ALPN);
    session.stream_opened(0, true);
    let newer = Hello { protocol_max: ProtocolVersion(9), ..hello() };
    session.frame(0, &frame(&newer)).unwrap();
    assert_eq!(session.protocol(), ProtocolVersion::MAX);
}

#[test]
fn qui_10_a_second_stream_of_a_kind_closes() {
    let mut session = open();
    session.stream_opened(2, false);
    session.stream_opened(6, false);
    session.frame(2, &report()).unwrap();
    assert_eq!(session.frame(6, &report()), Err(CloseCode::ProtocolViolation));

    let mut session = open();
    session.stream_opened(4, true);
    assert_eq!(session.frame(4, &frame(&hello())), Err(CloseCode::ProtocolViolation), "a second Hello");

    let mut session = open();
    session.stream_opened(2, false);
    session.frame(2, &report()).unwrap();
    let mixed = session.frame(2, &batch(SPOOL, vec![record(0)]));
    assert_eq!(mixed, Err(CloseCode::ProtocolViolation), "a stream keeps its role");
}

#[test]
fn qui_10_a_kind_on_a_stream_of_the_wrong_direction_closes() {
    let mut session = open();
    session.stream_opened(4, true);
    assert_eq!(session.frame(4, &report()), Err(CloseCode::ProtocolViolation));
    let mut session = open();
    session.stream_opened(2, false);
    let renew = frame(&RenewRequest { csr_der: BoundedBytes::default() });
    assert_eq!(session.frame(2, &renew), Err(CloseCode::ProtocolViolation));
}

#[test]
fn qui_10_what_only_the_coordinator_sends_is_refused_from_an_agent() {
    let welcome = Welcome {
        coordinator_version: "1".into(),
        protocol: ProtocolVersion(1),
        clock: EpochMs(0),
        report_interval_ms: 1,
        inventory_wanted: false,
        series_wanted: false,
        acknowledged: None,
    };
    let forged = [
        frame(&welcome),
        frame(&Ack { spool_id: SPOOL, sequence: 1 }),
        frame(&LiveMode { interval_ms: 1, duration_ms: 1 }),
        frame(&RenewResponse::Refused(RenewRefusal::NotAllowed)),
    ];
    for forged in forged {
        assert_eq!(open().frame(0, &forged), Err(CloseCode::ProtocolViolation));
    }
}

#[test]
fn idn_03_of_all_kinds_only_those_of_the_table_are_taken_from_an_agent() {
    for kind in Kind::ALL {
        let mut forged = report();
        forged.header.kind = kind.number();
        let rule = rule(*kind);
        for (stream, bidirectional) in [(4, true), (2, false)] {
            let mut session = open();
            session.stream_opened(stream, bidirectional);
            let taken = session.frame(stream, &forged);
            let fits = rule.sender != Sender::Coordinator && rule.role.is_bidirectional() == bidirectional;
            assert!(fits || taken == Err(CloseCode::ProtocolViolation), "{kind:?} on {stream}: {taken:?}");
        }
    }
    for number in (0..=u16::MAX).filter(|number| Kind::from_number(KindNumber(*number)).is_none()) {
        let mut forged = report();
        forged.header.kind = KindNumber(number);
        let mut session = open();
        session.stream_opened(2, false);
        assert_eq!(session.frame(2, &forged), Err(CloseCode::ProtocolViolation), "{number}");
    }
}

#[test]
fn qui_10_trailing_bytes_close() {
    let mut long = report();
    long.payload.push(0);
    let mut session = open();
    session.stream_opened(2, false);
    assert_eq!(session.frame(2, &long), Err(CloseCode::ProtocolViolation));
}

#[test]
fn a_renewal_stream_carries_one_request() {
    let renew = frame(&RenewRequest { csr_der: BoundedBytes::default() });
    let mut session = open();
    for stream in [4, 8] {
        session.stream_opened(stream, true);
        assert!(matches!(session.frame(stream, &renew), Ok(Effect::Renew(_))));
    }
    assert_eq!(session.frame(8, &renew), Err(CloseCode::ProtocolViolation));
}

#[test]
fn a_control_stream_ends_only_after_goodbye_and_no_stream_within_a_frame() {
    assert_eq!(open().stream_ended(0, false), Err(CloseCode::ProtocolViolation));
    let mut session = open();
    session.frame(0, &frame(&Goodbye { cause: GoodbyeCause::AgentStopped })).unwrap();
    assert_eq!(session.stream_ended(0, false), Ok(()));
    let mut session = open();
    session.stream_opened(2, false);
    assert_eq!(session.stream_ended(2, true), Err(CloseCode::ProtocolViolation));
}

#[test]
fn idn_01_records_are_of_the_spool_that_hello_named() {
    let mut session = open();
    session.stream_opened(2, false);
    let other = SpoolId::from_uuid(uuid::Uuid::from_u128(8));
    assert_eq!(session.frame(2, &batch(other, vec![record(0)])), Err(CloseCode::ProtocolViolation));
}

#[test]
fn a_sequence_jumps_only_over_a_gap_that_is_said() {
    let take = |records| {
        let mut session = open();
        session.stream_opened(2, false);
        session.frame(2, &batch(SPOOL, records)).is_ok()
    };
    assert!(take(vec![record(0), record(1)]));
    assert!(take(vec![record(0), gap(9), record(10)]));
    assert!(!take(vec![record(0), record(2)]));
    assert!(!take(vec![record(1), record(0)]));
    assert!(!take(vec![record(0), record(0)]));
    assert!(!take(vec![gap(u64::MAX)]));
    assert!(!take(vec![]));
}

#[test]
fn the_spool_goes_on_where_the_database_or_the_node_has_it() {
    let start = |acknowledged, spool_first, sequence| {
        let mut session = Session::new(Duration::ZERO, ALPN);
        let hello = Hello { spool_first, ..hello() };
        session.stream_opened(0, true);
        session.stream_opened(2, false);
        session.frame(0, &frame(&hello)).unwrap();
        session.admitted(&hello, acknowledged);
        session.frame(2, &batch(SPOOL, vec![record(sequence)])).is_ok()
    };
    assert!(start(Some(9), 3, 10), "after what is durable");
    assert!(start(Some(9), 3, 4), "a repetition");
    assert!(!start(Some(9), 3, 11));
    assert!(start(None, 3, 3), "the database lost what the node has forgotten");
    assert!(!start(None, 3, 4));
}

/// Every kind with a payload, good or damaged.
fn any_frame() -> impl Strategy<Value = Frame> {
    let good = prop_oneof![
        Just(frame(&hello())),
        Just(frame(&Goodbye { cause: GoodbyeCause::AgentStopped })),
        Just(report()),
        (0_u64..6, 1_u64..4)
            .prop_map(|(first, count)| { batch(SPOOL, (first..first + count).map(record).collect()) }),
        Just(frame(&RenewRequest { csr_der: BoundedBytes::default() })),
        Just(frame(&Ack { spool_id: SPOOL, sequence: 1 })),
    ];
    (good, any::<Option<(u8, u8)>>(), any::<u16>()).prop_map(|(mut frame, damage, kind)| {
        if let Some((at, with)) = damage.filter(|(at, _)| at % 3 == 0) {
            if let Some(byte) = frame.payload.get_mut(usize::from(at)) {
                *byte ^= with;
            } else {
                frame.header.kind = KindNumber(kind % 64);
            }
        }
        frame
    })
}

#[derive(Debug, Clone)]
enum Step {
    Open(StreamKey, bool),
    Frame(StreamKey, Frame),
    End(StreamKey, bool),
    Admit,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0_u64..5;
    prop_oneof![
        2 => (stream.clone(), any::<bool>()).prop_map(|(stream, both)| Step::Open(stream, both)),
        6 => (stream.clone(), any_frame()).prop_map(|(stream, frame)| Step::Frame(stream, frame)),
        1 => (stream, any::<bool>()).prop_map(|(stream, partial)| Step::End(stream, partial)),
        2 => Just(Step::Admit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// Whatever a peer does: no panic, no effect before Hello was admitted, one Hello, nothing after a refusal, and
    /// records reach the store only in order.
    #[test]
    fn qui_10_no_order_of_frames_gets_past_the_rules(steps in prop::collection::vec(step(), 1..60)) {
        let mut session = Session::new(Duration::ZERO, ALPN);
        let (mut hellos, mut admitted, mut closed, mut next) = (0, false, false, 0);
        for step in steps {
            match step {
                Step::Open(stream, both) => session.stream_opened(stream, both),
                Step::End(stream, partial) => closed |= session.stream_ended(stream, partial).is_err(),
                Step::Admit => {
                    session.admitted(&hello(), None);
                    admitted |= hellos > 0 && !closed;
                }
                Step::Frame(stream, frame) => match session.frame(stream, &frame) {
                    Err(_) => closed = true,
                    Ok(effect) => {
                        prop_assert!(!closed, "{effect:?} after a refusal");
                        match effect {
                            Effect::Admit(_) => hellos += 1,
                            Effect::Store(batch) => {
                                for record in &batch.records {
                                    let gap = matches!(record.record, Record::Gap { .. });
                                    prop_assert!(record.sequence <= next || gap);
                                    next = next.max(record.sequence + 1);
                                }
                                prop_assert!(admitted);
                            }
                            _ => prop_assert!(admitted),
                        }
                    }
                },
            }
            prop_assert!(hellos <= 1);
        }
    }
}
