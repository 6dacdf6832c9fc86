//! A node whose every attribute is hostile, in every view that shows it (IDN-04).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::{BootId, Sha256Digest};
use aim_common::inventory::Section;
use aim_common::metric::Metric;
use aim_common::protocol::{
    Change, Condition, GaugeReport, GpuProcess, GpuProcesses, NodeConditions, Record, SeriesChange,
    SeriesKey, SeriesTable, SpoolBatch, SpoolRecord,
};
use aim_common::units::EpochMs;
use aim_common::wire::{ProtocolVersion, encode};
use aim_tests::agent::join_string;
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::statements::workspace;
use aim_tests::{Agent, Aimctl, Api, Coordinator, until};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Colour, title, another line, C1, direction, markup, a shell's and a path's tricks; short enough for every field.
const HOSTILE: &str = "\u{1b}[2J\u{7}\u{9b}1m\u{202e}\r\n\t\u{7f}<b>$(id)../evil";
const STORED: Duration = Duration::from_secs(30);
const PASSWORD: &str = "correct horse battery";

/// Every text of the value that may be any text is hostile; what the type does not take stays.
fn poisoned<T: DeserializeOwned>(good: &Value) -> T {
    fn texts(value: &Value, at: &str, into: &mut Vec<String>) {
        match value {
            Value::String(_) => into.push(at.to_owned()),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, inner)| texts(inner, &format!("{at}/{n}"), into));
            }
            Value::Object(map) => {
                map.iter().for_each(|(name, inner)| texts(inner, &format!("{at}/{name}"), into));
            }
            _ => {}
        }
    }
    let (mut value, mut places) = (good.clone(), Vec::new());
    texts(good, "", &mut places);
    let mut taken = 0;
    for place in places {
        let mut tried = value.clone();
        *tried.pointer_mut(&place).unwrap() = HOSTILE.into();
        if serde_json::from_value::<T>(tried.clone()).is_ok() {
            (value, taken) = (tried, taken + 1);
        }
    }
    assert!(taken > 0, "nothing in {good} can be hostile");
    serde_json::from_value(value).unwrap()
}

/// All sections, made from the golden samples.
fn sections() -> Vec<Section> {
    let sample = |name: &str| -> Value {
        let file = workspace().join(format!("common/tests/golden/section_{name}.json"));
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    };
    let sections = vec![
        Section::System(poisoned(&sample("system"))),
        Section::Dmi(poisoned(&sample("dmi"))),
        Section::Cpu(poisoned(&sample("cpu"))),
        Section::Memory(poisoned(&sample("memory"))),
        Section::Disks(poisoned(&sample("disks"))),
        Section::Filesystems(poisoned(&sample("filesystems"))),
        Section::Network(poisoned(&sample("network"))),
        Section::Infiniband(poisoned(&sample("infiniband"))),
        Section::Gpus(poisoned(&sample("gpus"))),
        Section::Agent(poisoned(&sample("agent"))),
    ];
    assert_eq!(sections.len(), Section::ALL.len(), "a section without its hostile twin");
    sections
}

fn event() -> Record {
    Record::Event(Event {
        kind: EventKind::GpuXid,
        severity: Severity::Critical,
        occurred: EpochMs(1_000),
        boot_id: BootId::from_random([1; 16]),
        subject: HOSTILE.into(),
        message: HOSTILE.into(),
        attributes: vec![(HOSTILE.into(), HOSTILE.into())].try_into().unwrap(),
    })
}

fn frame<M: aim_common::wire::Message>(message: &M) -> Vec<u8> {
    encode(ProtocolVersion::MAX, message).unwrap()
}

/// Inventory twice, so that there are changes, and an event.
fn records() -> Vec<u8> {
    let encoded: Vec<_> = sections().iter().map(|section| section.encode().unwrap()).collect();
    let mut records = vec![event()];
    let good: Value = serde_json::from_str(
        &fs::read_to_string(workspace().join("common/tests/golden/section_system.json")).unwrap(),
    )
    .unwrap();
    let good = Section::System(serde_json::from_value(good).unwrap());
    records.push(Record::InventorySection(good.encode().unwrap()));
    records.extend(encoded.into_iter().map(Record::InventorySection));
    records.push(Record::InventoryComplete {
        inventory_sha256: Sha256Digest::of(b"any"),
        tags: Section::ALL.iter().map(|(tag, _)| tag.0).collect::<Vec<_>>().try_into().unwrap(),
    });
    let records = (0..).zip(records).map(|(sequence, record)| SpoolRecord { sequence, record });
    let records = records.collect::<Vec<_>>().try_into().unwrap();
    frame(&SpoolBatch { spool_id: BareLink::spool(), records })
}

/// Values, degraded modes and processes.
fn present() -> Vec<u8> {
    let key = SeriesKey { metric: Metric::GpuUtilization, instance: HOSTILE.into() };
    let report = GaugeReport {
        end: EpochMs(1),
        interval_ms: 10_000,
        late: false,
        dropped_before: 0,
        changes: vec![SeriesChange {
            skip: 0,
            change: Change::Gauge { average_delta: 1, below: 0, above: 0 },
        }]
        .try_into()
        .unwrap(),
    };
    let condition = Condition {
        name: HOSTILE.into(),
        subject: HOSTILE.into(),
        since: EpochMs(0),
        detail: HOSTILE.into(),
    };
    let process = GpuProcess {
        gpu_uuid: HOSTILE.into(),
        pid: 1,
        start_ticks: 1,
        uid: Some(0),
        name: HOSTILE.into(),
        memory_bytes: None,
        compute: true,
    };
    [
        frame(&SeriesTable { series: vec![key.into()].try_into().unwrap() }),
        frame(&report),
        frame(&NodeConditions { conditions: vec![condition].try_into().unwrap() }),
        frame(&GpuProcesses { processes: vec![process].try_into().unwrap(), left_out: 0 }),
    ]
    .concat()
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            all.extend(files_below(&entry.path()));
        }
        all.insert(entry.path());
    }
    all
}

/// No character that steers a terminal; the line feeds are the view's own.
#[track_caller]
fn assert_plain(what: &str, text: &str) {
    let steers = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    let at = text.char_indices().find(|(_, c)| steers(*c));
    assert!(at.is_none(), "{what}: {:?}", &text[at.unwrap().0.saturating_sub(60)..]);
}

/// The API's own views are JSON: what is below a blank is escaped in it, and the value is whole.
fn api_views(admin: &Api, id: &str) {
    let mut whole = 0;
    for path in [
        "/api/v1/nodes".to_owned(),
        "/api/v1/nodes?all=true".to_owned(),
        "/api/v1/nodes/gpu001".to_owned(),
        format!("/api/v1/nodes/{id}"),
        "/api/v1/nodes/gpu001/inventory".to_owned(),
        "/api/v1/nodes/gpu001/values".to_owned(),
        "/api/v1/nodes/gpu001/events".to_owned(),
        "/api/v1/nodes/gpu001/inventory-changes".to_owned(),
        "/api/v1/nodes/gpu001/gpu-processes".to_owned(),
        "/api/v1/events".to_owned(),
        "/api/v1/audit?limit=1000".to_owned(),
        "/api/v1/enrolment-requests".to_owned(),
        "/metrics".to_owned(),
    ] {
        let answer = admin.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let steers = answer.text.chars().any(|c| c < ' ' && c != '\n');
        assert!(!steers, "{path}: {}", answer.text);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let html = answer.header("content-type").is_some_and(|kind| kind.contains("html"));
        assert!(!html, "{path} is shown as a page");
        let lines: Vec<Value> =
            answer.text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        whole += usize::from(lines.iter().any(|line| line.to_string().contains("$(id)../evil")));
    }
    assert!(whole >= 9, "only {whole} views show what the node says");
}

fn aimctl_views(aimctl: &Aimctl) {
    let mut shown = 0;
    for command in [
        &["node", "list"][..],
        &["node", "show", "gpu001"],
        &["node", "values", "gpu001"],
        &["node", "events", "gpu001"],
        &["node", "history", "gpu001"],
        &["node", "processes", "gpu001"],
        &["event", "list"],
        &["approval", "list"],
        &["audit", "list"],
    ] {
        for format in ["table", "wide", "json", "yaml", "name"] {
            let arguments = [command, &["-o", format]].concat();
            let text = aimctl.run(&arguments).success();
            let what = arguments.join(" ");
            if format == "yaml" {
                // YAML has no escape for what only changes the direction of text; it has one for control characters.
                let steers = text.chars().find(|c| c.is_control() && *c != '\n');
                assert_eq!(steers, None, "{what}: {text}");
            } else {
                assert_plain(&what, &text);
            }
            shown += usize::from(text.contains("$(id)../evil"));
        }
    }
    assert!(shown >= 20, "only {shown} outputs show what the node says");
}

/// Nothing that the node says of itself gives anybody a right or itself another place.
fn nobody_gains(coordinator: &Coordinator, admin: &Api, node: &Value) {
    assert_eq!(
        (&node["labels"], &node["groups"], &node["owner"]),
        (&json!({}), &json!([]), &Value::Null),
        "{node}"
    );
    assert_eq!(node["name"], "gpu001");
    let role = json!({ "permissions": ["hosts:read:own", "hosts:read:group:evil"] });
    admin.call(reqwest::Method::PUT, "/api/v1/roles/watcher", Some(&role)).success();
    let user = json!({ "username": "zhang", "password": PASSWORD, "roles": ["watcher"], "groups": ["evil"] });
    admin.post("/api/v1/users", &user).success();
    let mut zhang = coordinator.anonymous();
    zhang.login("zhang", PASSWORD);
    assert_eq!(zhang.get("/api/v1/nodes").success()["total"], 0);
    assert_eq!(zhang.get("/api/v1/nodes/gpu001").status, 404);
}

#[test]
fn idn_04_hostile_attributes_are_text_in_every_view_and_decide_nothing() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::prepare(dir.path(), |config| {
        let queue = toml::Table::from_iter([("approval_queue".to_owned(), true.into())]);
        config.insert("keyvault".into(), queue.into());
        config.insert("log".into(), toml::Table::from_iter([("filter".to_owned(), "debug".into())]).into());
    });
    coordinator.serve();
    let (admin, aimctl) = (coordinator.admin(), coordinator.aimctl());
    let agent = Agent::prepare(dir.path(), "gpu001", |_| ());
    agent.enrol(&join_string(&admin, "gpu001")).success();
    let before = files_below(dir.path());

    let boot = BootId::from_uuid(uuid::Uuid::from_u128(7));
    let link = BareLink::open(&NodeIdentity::of(&agent), coordinator.link_port, boot).unwrap();
    let _streams = (link.send(&records()), link.send(&present()));
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&rcgen::KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();
    let request = json!({ "node": "gpu002", "csr": csr, "inventory": { HOSTILE: HOSTILE } });
    coordinator.anonymous().post("/api/keyvault/agent/request", &request).success();
    until("everything is there", STORED, || {
        let events = agent.events(&admin, "gpu.xid").len();
        let node = agent.node(&admin);
        let there = node["values"].as_array().is_some_and(|values| !values.is_empty())
            && node["conditions_detail"].as_array().is_some_and(|conditions| !conditions.is_empty())
            && node["inventory"].as_object().is_some_and(|sections| sections.len() == Section::ALL.len());
        (there && events == 1).then_some(())
    });
    let node = agent.node(&admin);
    api_views(&admin, node["id"].as_str().unwrap());
    aimctl_views(&aimctl);
    nobody_gains(&coordinator, &admin, &node);
    drop(link);
    coordinator.stop();
    let log = fs::read_to_string(coordinator.log_path()).unwrap();
    assert_plain("the coordinator's log", &log);
    assert!(!log.contains("evil"), "what a node says of itself is in the log");
    // What came since are the database's own files and what aimctl keeps: nothing is named by a node.
    let new: Vec<_> = files_below(dir.path()).difference(&before).cloned().collect();
    assert!(new.iter().all(|path| !path.display().to_string().contains("evil")), "{new:?}");
    assert!(new.iter().all(|path| path.starts_with(coordinator.state_dir())), "{new:?}");
}
