//! What a hostile node does with a good certificate. Each attack must end in a cut, or be held back to the rate that a
//! session may have.

use std::time::Duration;

use aim_agent::link::Opened;
use aim_agent::report::SessionReports;
use aim_common::identity::SpoolId;
use aim_common::metric::Metric;
use aim_common::protocol::{
    CloseCode, Kind, KindNumber, MAX_SERIES, Record, SeriesKey, SeriesTable, SpoolBatch, SpoolRecord,
};
use aim_common::wire::{BoundedString, BoundedVec, Header, ProtocolVersion, encode};
use quinn::Connection;
use tokio::time::Instant;

use super::session::code_of;
use super::{After, Agent};
use crate::fleet::State;
use crate::node::readings;

/// A cut comes within this time also from a busy coordinator.
const CUT_WITHIN: Duration = Duration::from_secs(20);
/// A flood goes on for this time.
const FLOOD: Duration = Duration::from_secs(10);
/// What a session may send: docs/protocol.md, "Limits", with the burst of two seconds.
const MESSAGES_PER_SECOND: u64 = 100;
const BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;
const BURST_SECONDS: u64 = 2;
/// Bytes that wait in the windows of both sides while the coordinator does not read.
const IN_WINDOWS: u64 = 3 * 1024 * 1024;

/// One way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Reports as fast as the stream takes them.
    Flood,
    /// Tables with other label values each time: a million and more.
    LabelValues,
    /// A string that claims more than its bound.
    HugeString,
    /// A frame that claims more than its kind may have.
    HugeFrame,
    /// A kind that nobody knows and that may not be skipped.
    UnknownKind,
    /// Records of a spool that is not this node's.
    ForeignSpool,
    /// A table that claims a million series.
    ManySeries,
}

const ATTACKS: &[Attack] = &[
    Attack::UnknownKind,
    Attack::Flood,
    Attack::HugeString,
    Attack::ForeignSpool,
    Attack::LabelValues,
    Attack::HugeFrame,
    Attack::ManySeries,
];

/// What came of it.
enum Outcome {
    Cut,
    HeldBack,
    Unpunished(String),
}

/// The next attack of this agent, in a session of its own.
pub(super) async fn run(agent: &mut Agent, opened: &Opened) -> After {
    // Each begins with another one, so that all happen at once.
    let first = usize::try_from(agent.start.node.seed % 7).unwrap_or_default();
    let attack = ATTACKS.get((first + agent.attacks) % ATTACKS.len()).copied().unwrap_or(Attack::Flood);
    agent.attacks += 1;
    let mut wish = agent.start.wish.clone();
    let outcome = tokio::select! {
        outcome = perform(agent, opened, attack) => outcome,
        // The run ends: nothing is known of this one.
        _ = wish.wait_for(|wish| wish.state != State::Connected) => return leave(opened),
    };
    let tally = &agent.fleet.tally;
    match outcome {
        Outcome::Cut => {
            tally.because(&format!("cut: {attack:?}"));
            tally.cut.add(1);
        }
        Outcome::HeldBack => tally.held_back.add(1),
        Outcome::Unpunished(how) => {
            tally.because(&format!("unpunished: {attack:?}: {how}"));
            tally.unpunished.add(1);
        }
    }
    leave(opened)
}

fn leave(opened: &Opened) -> After {
    opened.connection.close(CloseCode::Done.code().into(), b"");
    After::BackOff
}

async fn perform(agent: &Agent, opened: &Opened, attack: Attack) -> Outcome {
    let connection = &opened.connection;
    match attack {
        Attack::Flood => flood(connection, reports(agent)).await,
        Attack::LabelValues => flood(connection, label_values()).await,
        Attack::HugeString => cut(connection, huge_string()).await,
        Attack::HugeFrame => cut(connection, header(Kind::GaugeReport.number(), u32::MAX)).await,
        Attack::UnknownKind => cut(connection, header(KindNumber(999), 0)).await,
        Attack::ForeignSpool => cut(connection, foreign_spool(opened)).await,
        Attack::ManySeries => cut(connection, many_series()).await,
    }
}

/// Sends bytes that must end the session.
async fn cut(connection: &Connection, frame: Vec<u8>) -> Outcome {
    let sent = async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&frame).await.ok()?;
        // The stream stays open: its end would be another violation.
        let closed = connection.closed().await;
        drop(stream);
        Some(closed)
    };
    match tokio::time::timeout(CUT_WITHIN, sent).await {
        Ok(reason) => {
            let reason = reason.or_else(|| connection.close_reason());
            match reason.as_ref().and_then(code_of) {
                Some(CloseCode::ProtocolViolation | CloseCode::LimitExceeded) => Outcome::Cut,
                code => Outcome::Unpunished(format!("closed with {code:?}")),
            }
        }
        Err(_) => Outcome::Unpunished(format!("not cut within {CUT_WITHIN:?}")),
    }
}

/// Sends frames as fast as the coordinator takes them, which must not be faster than a session may be.
async fn flood(connection: &Connection, mut frames: impl Iterator<Item = Vec<u8>>) -> Outcome {
    let Ok(mut stream) = connection.open_uni().await else { return Outcome::Cut };
    let began = Instant::now();
    let (mut messages, mut bytes) = (0_u64, 0_u64);
    while began.elapsed() < FLOOD {
        let Some(frame) = frames.next() else { break };
        let written = tokio::time::timeout_at(began + FLOOD, stream.write_all(&frame)).await;
        match written {
            Ok(Ok(())) => {
                messages += 1;
                bytes += frame.len() as u64;
            }
            Ok(Err(_)) => return Outcome::Cut,
            Err(_) => break,
        }
    }
    let seconds = began.elapsed().as_secs() + 1 + BURST_SECONDS;
    let in_windows = IN_WINDOWS.checked_div(bytes.checked_div(messages).unwrap_or(1)).unwrap_or_default();
    let allowed = (MESSAGES_PER_SECOND * seconds + in_windows, BYTES_PER_SECOND * seconds + IN_WINDOWS);
    if messages > allowed.0 || bytes > allowed.1 {
        return Outcome::Unpunished(format!("{messages} messages, {bytes} bytes in {seconds} s"));
    }
    Outcome::HeldBack
}

fn header(kind: KindNumber, length: u32) -> Vec<u8> {
    Header { protocol: ProtocolVersion::MAX, kind, skippable: false, length }.to_bytes().to_vec()
}

/// Reports whose values all change, after the table that they need.
fn reports(agent: &Agent) -> impl Iterator<Item = Vec<u8>> {
    let (fleet, node) = (&agent.fleet, &agent.start.node);
    let mut session = SessionReports::new(None);
    let wall = fleet.clock.now();
    (0_i64..).map(move |number| {
        let moment = wall.plus_ms(number * 3_600_000);
        let interval = readings(&fleet.layout, node, agent.script.faults(), moment, 1_000);
        let (table, report) = session.encode(&interval, false, 0);
        let mut frames = table
            .and_then(|_| encode(ProtocolVersion::MAX, &fleet.layout.table_of(node)).ok())
            .unwrap_or_default();
        frames.extend(encode(ProtocolVersion::MAX, &report).unwrap_or_default());
        frames
    })
}

fn label_values() -> impl Iterator<Item = Vec<u8>> {
    (0_usize..).map(|table| {
        let key = |label: usize| SeriesKey {
            metric: Metric::DiskReads,
            instance: BoundedString::truncated(&format!("label-{table}-{label}")),
        };
        let table = SeriesTable {
            series: BoundedVec::truncated((0..MAX_SERIES).map(|label| key(label).into()).collect()).0,
        };
        encode(ProtocolVersion::MAX, &table).unwrap_or_default()
    })
}

/// `u32` as bincode's varint.
fn varint(number: u32) -> Vec<u8> {
    [&[252][..], &number.to_le_bytes()].concat()
}

fn with_payload(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [header(kind.number(), length), payload.to_vec()].concat()
}

/// One condition whose name claims 60,000 bytes, and has them.
fn huge_string() -> Vec<u8> {
    let payload = [vec![1], varint(60_000), vec![b'x'; 60_000]].concat();
    with_payload(Kind::NodeConditions, &payload)
}

fn many_series() -> Vec<u8> {
    with_payload(Kind::SeriesTable, &[varint(1_000_000), vec![1; 500_000]].concat())
}

fn foreign_spool(opened: &Opened) -> Vec<u8> {
    let record = SpoolRecord { sequence: 1, record: Record::Gap { dropped: 1 } };
    let batch = SpoolBatch {
        spool_id: SpoolId::from_random([0x66; 16]),
        records: BoundedVec::truncated(vec![record]).0,
    };
    encode(opened.welcome.protocol, &batch).unwrap_or_default()
}
