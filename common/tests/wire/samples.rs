//! One or more messages of every kind, and every inventory section, as they stand in the golden files.

use std::sync::LazyLock;

use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::{BootId, Sha256Digest, SpoolId};
use aim_common::inventory::{EncodedSection, Section, SectionTag, UnknownReason};
use aim_common::metric::Metric;
use aim_common::protocol::{
    Ack, Change, Condition, GaugeReport, Goodbye, GoodbyeCause, GpuProcess, GpuProcesses, Hello, Kind,
    LiveMode, NodeConditions, PathLoss, Record, RenewRefusal, RenewRequest, RenewResponse, SeriesChange,
    SeriesEntry, SeriesKey, SeriesTable, SpoolBatch, SpoolRecord, Welcome,
};
use aim_common::units::EpochMs;
use aim_common::wire::{
    BoundedVec, DecodeError, Frame, FrameDecoder, Message, ProtocolVersion, decode, encode,
};

use crate::any::draw;

/// A message or section with its bytes and what they mean.
pub(crate) struct Sample {
    pub(crate) name: String,
    /// The kind, unless it is a section.
    pub(crate) kind: Option<Kind>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) meaning: serde_json::Value,
    /// Reads the bytes and writes them again.
    pub(crate) again: fn(&[u8]) -> Option<Vec<u8>>,
}

/// Every sample.
pub(crate) fn all() -> &'static [Sample] {
    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
        let mut samples = messages();
        samples.extend(sections());
        samples
    });
    &SAMPLES
}

pub(crate) const PROTOCOL: ProtocolVersion = ProtocolVersion(1);
const BOOT: BootId = BootId::from_uuid(uuid::Uuid::from_u128(0xb007_b007_b007_4b00_8000_0000_0000_0001));
const SPOOL: SpoolId = SpoolId::from_uuid(uuid::Uuid::from_u128(0x5b00_15b0_015b_4001_8000_0000_0000_0002));
const TIME: EpochMs = EpochMs(1_795_413_600_123);

fn message<M: Message>(name: &str, message: &M) -> Sample {
    Sample {
        name: name.to_owned(),
        kind: Some(M::KIND),
        bytes: encode(PROTOCOL, message).unwrap(),
        meaning: serde_json::to_value(message).unwrap(),
        again: |bytes| encode(PROTOCOL, &decode_bytes::<M>(bytes)?.ok()?).ok(),
    }
}

/// The one whole frame in the bytes, read as this message.
pub(crate) fn decode_bytes<M: Message>(bytes: &[u8]) -> Option<Result<M, DecodeError>> {
    one_frame(bytes).map(|frame| decode(&frame))
}

/// The first whole frame, if the bytes hold one.
pub(crate) fn one_frame(bytes: &[u8]) -> Option<Frame> {
    let mut decoder = FrameDecoder::default();
    decoder.push(bytes);
    decoder.next_frame().ok().flatten()
}

fn list<T, const MAX: usize>(elements: Vec<T>) -> BoundedVec<T, MAX> {
    BoundedVec::truncated(elements).0
}

fn messages() -> Vec<Sample> {
    let mut samples = vec![
        message("hello", &hello()),
        message("welcome", &welcome()),
        message("ack", &Ack { spool_id: SPOOL, sequence: 70_000 }),
        message("live_mode", &LiveMode { interval_ms: 1000, duration_ms: 10_000 }),
        message("series_table", &series_table()),
        message("series_table_newer", &newer_series_table()),
        message("path_loss", &PathLoss { lost_permille: 300 }),
        message("gauge_report", &gauge_report()),
        message("node_conditions", &node_conditions()),
        message("gpu_processes", &gpu_processes()),
        message("spool_batch", &spool_batch()),
        message(
            "renew_request",
            &RenewRequest { csr_der: vec![0x30, 0x03, 0x02, 0x01, 0x00].try_into().unwrap() },
        ),
        message("renew_response_issued", &renewed()),
    ];
    for (name, refusal) in [
        ("bad_request", RenewRefusal::BadRequest),
        ("not_allowed", RenewRefusal::NotAllowed),
        ("unavailable", RenewRefusal::Unavailable),
    ] {
        samples.push(message(&format!("renew_response_{name}"), &RenewResponse::Refused(refusal)));
    }
    for (name, cause) in [
        ("agent_stopped", GoodbyeCause::AgentStopped),
        ("node_shutdown", GoodbyeCause::NodeShutdown),
        ("agent_upgrade", GoodbyeCause::AgentUpgrade),
        ("certificate_change", GoodbyeCause::CertificateChange),
        ("coordinator_stopping", GoodbyeCause::CoordinatorStopping),
        ("revoked", GoodbyeCause::Revoked),
        ("certificate_expired", GoodbyeCause::CertificateExpired),
    ] {
        samples.push(message(&format!("goodbye_{name}"), &Goodbye { cause }));
    }
    samples
}

fn hello() -> Hello {
    Hello {
        agent_version: "0.1.0".into(),
        protocol_min: ProtocolVersion(1),
        protocol_max: ProtocolVersion(1),
        alpn: "aim/1".into(),
        features: 0,
        boot_id: BOOT,
        machine_id_sha256: Some(Sha256Digest::of(b"machine-id")),
        inventory_sha256: Sha256Digest::of(b"inventory"),
        series_sha256: Sha256Digest::of(b"series"),
        spool_id: SPOOL,
        spool_first: 300,
        clock: TIME,
        started: TIME.plus_ms(-5000),
    }
}

fn welcome() -> Welcome {
    Welcome {
        coordinator_version: "0.1.0".into(),
        protocol: ProtocolVersion(1),
        clock: TIME,
        report_interval_ms: 10_000,
        inventory_wanted: true,
        series_wanted: false,
        acknowledged: Some(299),
    }
}

fn series_table() -> SeriesTable {
    let key = |metric, instance: &str| SeriesEntry::Known(SeriesKey { metric, instance: instance.into() });
    SeriesTable {
        series: list(vec![
            key(Metric::CpuUtilization, ""),
            key(Metric::Load1, "a0"),
            key(Metric::AgentSpoolRecords, ""),
        ]),
    }
}

/// A table of a newer agent: its second series has a number that this build does not know.
fn newer_series_table() -> SeriesTable {
    let mut series = series_table().series.into_vec();
    series.insert(1, SeriesEntry::Unknown { number: 60_000, instance: "x".into() });
    SeriesTable { series: list(series) }
}

fn gauge_report() -> GaugeReport {
    GaugeReport {
        end: TIME,
        interval_ms: 10_000,
        late: true,
        dropped_before: 2,
        changes: list(vec![
            SeriesChange { skip: 0, change: Change::Gauge { average_delta: -250, below: 3, above: 700 } },
            SeriesChange { skip: 300, change: Change::Counter { delta: i64::MAX } },
            SeriesChange { skip: 1, change: Change::Unknown(UnknownReason::Unresponsive) },
        ]),
    }
}

fn node_conditions() -> NodeConditions {
    NodeConditions {
        conditions: list(vec![Condition {
            name: "gpu_probe_unresponsive".into(),
            subject: "GPU-1".into(),
            since: TIME,
            detail: "nvmlDeviceGetTemperature hangs".into(),
        }]),
    }
}

fn gpu_processes() -> GpuProcesses {
    GpuProcesses {
        processes: list(vec![GpuProcess {
            gpu_uuid: "GPU-1".into(),
            pid: 4242,
            start_ticks: 1 << 40,
            uid: Some(1000),
            name: "python3".into(),
            memory_bytes: None,
            compute: true,
        }]),
        left_out: 1,
    }
}

fn spool_batch() -> SpoolBatch {
    let event = |kind, severity| {
        Record::Event(Event {
            kind,
            severity,
            occurred: TIME,
            boot_id: BOOT,
            subject: "0000:17:00.0".into(),
            message: "Xid 79: the GPU has fallen off the bus".into(),
            attributes: list(vec![("xid".into(), "79".into()), ("pid".into(), "4242".into())]),
        })
    };
    let records = vec![
        event(EventKind::AgentStarted, Severity::Info),
        event(EventKind::KernelLogGap, Severity::Warning),
        event(EventKind::GpuXid, Severity::Critical),
        Record::InventorySection(EncodedSection {
            tag: SectionTag(900),
            bytes: vec![1, 2, 3].try_into().unwrap(),
        }),
        Record::InventoryComplete {
            inventory_sha256: Sha256Digest::of(b"inventory"),
            tags: list(vec![1, 900]),
        },
        Record::Gap { dropped: 7 },
    ];
    let numbered = records.into_iter().zip(300..).map(|(record, sequence)| SpoolRecord { sequence, record });
    SpoolBatch { spool_id: SPOOL, records: list(numbered.collect()) }
}

fn renewed() -> RenewResponse {
    RenewResponse::Issued {
        chain_der: list(vec![vec![0x30].try_into().unwrap(), vec![0x31].try_into().unwrap()]),
        roots_der: list(vec![vec![0x32].try_into().unwrap()]),
    }
}

/// Sections with any contents that a fixed tape gives.
fn sections() -> Vec<Sample> {
    let tape: Vec<u8> =
        (0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    macro_rules! section {
        ($variant:ident) => {{
            let drawn = |from| draw(tape.get(from..).unwrap()).map(Section::$variant);
            // Long enough to hold at least one element of its lists.
            let long = |section: &Section| section.encode().unwrap().bytes.len() > 40;
            let section = (0..tape.len()).filter_map(drawn).find(long).unwrap();
            Sample {
                name: format!("section_{}", section.name()),
                kind: None,
                bytes: section.encode().unwrap().bytes.into_vec(),
                meaning: section.to_json(),
                again: |bytes| {
                    let tag = SectionTag(section_tag(stringify!($variant)));
                    let encoded = EncodedSection { tag, bytes: bytes.to_vec().try_into().ok()? };
                    let bytes = Section::decode(&encoded).ok()??.encode().ok()?.bytes;
                    Some(bytes.into_vec())
                },
            }
        }};
    }
    vec![
        section!(System),
        section!(Dmi),
        section!(Cpu),
        section!(Memory),
        section!(Disks),
        section!(Filesystems),
        section!(Network),
        section!(Infiniband),
        section!(Gpus),
        section!(Agent),
    ]
}

fn section_tag(variant: &str) -> u16 {
    let name = variant.to_lowercase();
    Section::ALL.iter().find(|(_, known)| *known == name).unwrap().0.0
}
