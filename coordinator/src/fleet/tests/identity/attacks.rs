//! The matrix: each kind of message, with each of its fields that could mark a node set to B's.

use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::Sha256Digest;
use aim_common::inventory::{EncodedSection, Fact, Section, System};
use aim_common::metric::Metric;
use aim_common::protocol::{
    Ack, Change, CloseCode, Condition, GaugeReport, Goodbye, GoodbyeCause, GpuProcess, GpuProcesses, Hello,
    Kind, LiveMode, NodeConditions, PathLoss, Record, RenewRefusal, RenewRequest, RenewResponse,
    SeriesChange, SeriesKey, SeriesTable, SpoolBatch, SpoolRecord, Welcome,
};
use aim_common::units::EpochMs;
use aim_common::wire::ProtocolVersion;
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;

use super::super::site::{Identity, batch, frame, hello};
use super::neighbour::Neighbour;
use crate::inventory::NodeState;

/// Where bytes are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// On the control stream, after Welcome.
    Control,
    /// On a unidirectional stream of their own.
    Own,
    /// On a bidirectional stream whose answer is awaited.
    Renewal,
}

/// One cell of the matrix.
pub(super) struct Attack {
    pub(super) what: &'static str,
    pub(super) hello: Hello,
    pub(super) said: Vec<(Stream, Vec<u8>)>,
    /// The code that A's connection is closed with; none where the words are taken, as A's own.
    pub(super) closed: Option<CloseCode>,
    /// They were taken, as A's own.
    pub(super) taken: Box<dyn Fn(&NodeState) -> bool + Send + Sync>,
    /// Whose certificate is issued, if any.
    pub(super) issued: Option<String>,
}

fn quiet(what: &'static str, said: Vec<(Stream, Vec<u8>)>) -> Attack {
    Attack { what, hello: hello(1), said, closed: None, taken: Box::new(|_| true), issued: None }
}

fn violation(what: &'static str, stream: Stream, bytes: Vec<u8>) -> Attack {
    Attack { closed: Some(CloseCode::ProtocolViolation), ..quiet(what, vec![(stream, bytes)]) }
}

fn taken(
    what: &'static str,
    bytes: Vec<u8>,
    by_a: impl Fn(&NodeState) -> bool + Send + Sync + 'static,
) -> Attack {
    Attack { taken: Box::new(by_a), ..quiet(what, vec![(Stream::Own, bytes)]) }
}

fn opening(what: &'static str, hello: Hello) -> Attack {
    Attack { hello, ..quiet(what, Vec::new()) }
}

/// A kind without a line here does not compile.
pub(super) fn attacks(kind: Kind, a: &Identity, b: &Neighbour) -> Vec<Attack> {
    match kind {
        Kind::Hello => hellos(&b.hello),
        Kind::Welcome => vec![violation("Welcome", Stream::Control, frame(&welcome()))],
        Kind::Goodbye => vec![
            quiet("B's revocation", vec![(Stream::Control, goodbye(GoodbyeCause::Revoked))]),
            quiet("B's shutdown", vec![(Stream::Control, goodbye(GoodbyeCause::NodeShutdown))]),
        ],
        Kind::Ack => {
            let ack = Ack { spool_id: b.hello.spool_id, sequence: u64::MAX };
            vec![violation("an acknowledgement of B's spool", Stream::Control, frame(&ack))]
        }
        Kind::LiveMode => {
            let live = frame(&LiveMode { interval_ms: 1_000, duration_ms: 10_000 });
            vec![violation("live mode", Stream::Control, live)]
        }
        Kind::SeriesTable | Kind::GaugeReport => vec![values(b)],
        Kind::NodeConditions => vec![conditions(b)],
        Kind::GpuProcesses => vec![processes()],
        Kind::PathLoss => {
            let losses = frame(&PathLoss { lost_permille: 1000 });
            vec![quiet("losses on the way to B", vec![(Stream::Own, losses)])]
        }
        Kind::SpoolBatch => records(b),
        Kind::RenewRequest => renewals(a, b),
        Kind::RenewResponse => {
            let forged = frame(&RenewResponse::Refused(RenewRefusal::NotAllowed));
            vec![violation("an answer to B's renewal", Stream::Control, forged)]
        }
    }
}

fn hellos(b: &Hello) -> Vec<Attack> {
    let own = || hello(1);
    vec![
        opening("B's machine-id", Hello { machine_id_sha256: b.machine_id_sha256, ..own() }),
        opening("B's boot", Hello { boot_id: b.boot_id, ..own() }),
        opening("B's spool", Hello { spool_id: b.spool_id, ..own() }),
        opening("B's spool from far on", Hello { spool_id: b.spool_id, spool_first: 1 << 40, ..own() }),
        opening("B's inventory", Hello { inventory_sha256: b.inventory_sha256, ..own() }),
        opening("B's series", Hello { series_sha256: b.series_sha256, ..own() }),
        opening("all of B's Hello", b.clone()),
    ]
}

fn welcome() -> Welcome {
    Welcome {
        coordinator_version: "1".into(),
        protocol: ProtocolVersion(1),
        clock: EpochMs(0),
        report_interval_ms: 1,
        inventory_wanted: true,
        series_wanted: true,
        acknowledged: Some(1 << 40),
    }
}

fn goodbye(cause: GoodbyeCause) -> Vec<u8> {
    frame(&Goodbye { cause })
}

fn values(b: &Neighbour) -> Attack {
    let instance = b.identity.node.to_string();
    let key = SeriesKey { metric: Metric::CpuUtilization, instance: instance.as_str().into() };
    let change = Change::Gauge { average_delta: 999, below: 0, above: 0 };
    let report = GaugeReport {
        end: EpochMs(2),
        interval_ms: 7_000,
        late: false,
        dropped_before: 0,
        changes: vec![SeriesChange { skip: 0, change }].try_into().unwrap(),
    };
    let table = SeriesTable { series: vec![key.into()].try_into().unwrap() };
    taken("values of B", [frame(&table), frame(&report)].concat(), |state| {
        state.series.interval_ms() == 7_000
    })
}

fn conditions(b: &Neighbour) -> Attack {
    let condition = Condition {
        name: "quarantined".into(),
        subject: b.identity.node.to_string().as_str().into(),
        since: EpochMs(0),
        detail: "gpu-b".into(),
    };
    let said = NodeConditions { conditions: vec![condition].try_into().unwrap() };
    taken("B in quarantine", frame(&said), |state| state.conditions.len() == 1)
}

fn processes() -> Attack {
    let process = GpuProcess {
        gpu_uuid: "GPU-of-B".into(),
        pid: 1,
        start_ticks: 1,
        uid: Some(0),
        name: "gpu-b".into(),
        memory_bytes: Some(1),
        compute: true,
    };
    let said = GpuProcesses { processes: vec![process].try_into().unwrap(), left_out: 0 };
    taken("a process on B", frame(&said), |state| state.gpu_processes.is_some())
}

fn event_about(b: &Neighbour, kind: EventKind) -> Record {
    let id = b.identity.node.to_string();
    Record::Event(Event {
        kind,
        severity: Severity::Critical,
        occurred: EpochMs(3),
        boot_id: b.hello.boot_id,
        subject: "gpu-b".into(),
        message: "of B".into(),
        attributes: vec![("node_id".into(), id.as_str().into())].try_into().unwrap(),
    })
}

/// The system section of B.
fn system(b: &Neighbour) -> EncodedSection {
    let system = System {
        hostname: "gpu-b".into(),
        kernel_release: "".into(),
        kernel_version: "".into(),
        architecture: "".into(),
        os_name: Fact::Known("gpu-b".into()),
        boot_id: b.hello.boot_id,
        booted: EpochMs(0),
        machine_id_sha256: Fact::Known(Sha256Digest::of(b"machine of B")),
        kernel_command_line: Fact::Known(b.identity.node.to_string().as_str().into()),
        virtualization: Fact::Known("".into()),
    };
    Section::System(system).encode().unwrap()
}

fn records(b: &Neighbour) -> Vec<Attack> {
    let numbered = |records: Vec<Record>| {
        let numbered = (0..).zip(records).map(|(sequence, record)| SpoolRecord { sequence, record });
        numbered.collect::<Vec<_>>()
    };
    let of_b =
        |records| SpoolBatch { spool_id: b.hello.spool_id, records: numbered(records).try_into().unwrap() };
    let section = || Record::InventorySection(system(b));
    let complete = || Record::InventoryComplete {
        inventory_sha256: b.hello.inventory_sha256,
        tags: vec![1, 9_000].try_into().unwrap(),
    };
    let gone = Record::InventoryComplete {
        inventory_sha256: Sha256Digest::of(b""),
        tags: vec![].try_into().unwrap(),
    };
    let forged = [EventKind::NodeRevoked, EventKind::GpuXid].map(|kind| event_about(b, kind)).to_vec();
    let in_bs_spool = Attack {
        hello: Hello { spool_id: b.hello.spool_id, ..hello(1) },
        ..taken("records in a spool with B's id", frame(&of_b(vec![section(), gone.clone()])), |state| {
            state.inventory_sha256.is_some()
        })
    };
    vec![
        violation("records of B's spool", Stream::Own, frame(&of_b(vec![event_about(b, EventKind::GpuXid)]))),
        in_bs_spool,
        Attack {
            hello: Hello { spool_id: aim_common::identity::SpoolId::from_random([0xa; 16]), ..hello(1) },
            ..taken(
                "B's inventory",
                frame(&SpoolBatch {
                    spool_id: aim_common::identity::SpoolId::from_random([0xa; 16]),
                    records: numbered([forged, vec![section(), complete()]].concat()).try_into().unwrap(),
                }),
                |state| state.facts.os_name.as_deref() == Some("gpu-b"),
            )
        },
        quiet(
            "a gap in the own spool",
            vec![(Stream::Own, frame(&batch(numbered(vec![Record::Gap { dropped: 9 }]))))],
        ),
    ]
}

/// A request as an agent makes it.
pub(super) fn plain_request() -> RenewRequest {
    let request = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
    RenewRequest { csr_der: request.der().to_vec().try_into().unwrap() }
}

fn renewals(a: &Identity, b: &Neighbour) -> Vec<Attack> {
    let request = |params: &CertificateParams, pair: &KeyPair| {
        let csr = params.serialize_request(pair).unwrap().der().to_vec();
        frame(&RenewRequest { csr_der: csr.try_into().unwrap() })
    };
    let fresh = || KeyPair::generate().unwrap();
    let name = format!("spiffe://aim.internal/node/{}", b.identity.node);
    let mut wishes = CertificateParams::default();
    wishes.subject_alt_names.push(SanType::URI(name.as_str().try_into().unwrap()));
    let PrivateKeyDer::Pkcs8(key) = &b.identity.key else { panic!("a key of another sort") };
    let key_of_b = KeyPair::try_from(key).unwrap();
    let mut subject = CertificateParams::default();
    subject.distinguished_name.push(DnType::CommonName, "gpu-b");
    let renewal = |what, bytes| Attack { ..quiet(what, vec![(Stream::Renewal, bytes)]) };
    vec![
        renewal("a certificate with B's name", request(&wishes, &fresh())),
        renewal("a certificate for B's key", request(&CertificateParams::default(), &key_of_b)),
        Attack {
            // The subject is ignored: what comes is A's.
            issued: Some(format!("spiffe://aim.internal/node/{}", a.node)),
            ..renewal("a certificate with B's name as its subject", request(&subject, &fresh()))
        },
    ]
}
