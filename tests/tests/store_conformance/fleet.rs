//! Nodes, what they spool, events, inventory.

use std::collections::BTreeMap;

use aim_common::event::{EventKind, Severity};
use aim_common::identity::{BootId, NodeId, SpoolId};
use aim_common::inventory::{EncodedSection, SectionTag};
use aim_common::permission::Scope;
use aim_common::wire::BoundedBytes;
use aim_coordinator::store::audit::AuditFilter;
use aim_coordinator::store::events::EventFilter;
use aim_coordinator::store::nodes::{NodeState, NodeUpdate};
use aim_coordinator::store::spool::{ChangeRow, EventRow, Group, NodeWrite, RecordRow, SectionWrite};
use aim_coordinator::store::{Store, StoreError};
use serde_json::json;

use crate::made::{HOUR, NOW, digest, enrol, is_total, node, record, records, serial, user_id};

fn spool(number: u8) -> SpoolId {
    SpoolId::from_random([number; 16])
}

fn boot() -> BootId {
    BootId::from_random([7; 16])
}

fn row(of: NodeId, sequence: i64) -> RecordRow {
    RecordRow { node: of, spool: spool(1), sequence, sort: "event" }
}

fn event(of: NodeId, sequence: i64, kind: EventKind, severity: Severity) -> EventRow {
    EventRow {
        node: of,
        origin: Some((spool(1), sequence)),
        kind,
        severity,
        occurred: NOW.plus_ms(sequence),
        boot_id: Some(boot()),
        subject: "GPU 3".to_owned(),
        message: "Xid 79, 从总线上掉下来了".to_owned(),
        attributes: BTreeMap::from([("code".to_owned(), "79".to_owned())]),
    }
}

fn section(of: NodeId, tag: u16, bytes: &[u8]) -> SectionWrite {
    let bytes = BoundedBytes::try_from(bytes.to_vec()).unwrap();
    let content = json!({ "bytes": bytes.len() });
    SectionWrite { node: of, section: EncodedSection { tag: SectionTag(tag), bytes }, content }
}

fn change(of: NodeId, section: &str, path: &str) -> ChangeRow {
    ChangeRow {
        node: of,
        section: section.to_owned(),
        path: path.to_owned(),
        from: json!(null),
        to: json!("SN-1"),
    }
}

pub(crate) async fn nodes_change_and_go_with_their_record(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    enrol(&store, node(2), "gpu002").await;
    let labels = |pairs: &[(&str, Option<&str>)]| -> BTreeMap<String, Option<String>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    };
    let first = NodeUpdate {
        labels: labels(&[("rack", Some("r1")), ("row", Some("a")), ("never", None)]),
        groups: Some(vec!["red".to_owned(), "blue".to_owned()]),
        owner: Some(Some(user_id(4))),
    };
    store.node_update(node(1), &first, &record("node.update")).await.unwrap();
    let second = NodeUpdate {
        labels: labels(&[("rack", Some("r2")), ("row", None)]),
        groups: None,
        owner: Some(None),
    };
    store.node_update(node(1), &second, &record("node.update")).await.unwrap();
    let loaded = store.node_load(node(1)).await.unwrap().unwrap();
    assert_eq!(loaded.labels, BTreeMap::from([("rack".to_owned(), "r2".to_owned())]));
    assert_eq!((loaded.groups.as_slice(), loaded.owner), (&["blue".to_owned(), "red".to_owned()][..], None));
    assert_eq!((loaded.enrolled_at, loaded.state), (NOW.plus_ms(1), NodeState::Living));
    let all = store.nodes_load().await.unwrap();
    assert_eq!((all.len(), &all[0]), (2, &loaded), "both ways of reading agree");

    store.node_delete(node(1), &record("node.delete")).await.unwrap();
    let deleted = store.node_load(node(1)).await.unwrap().unwrap();
    assert_eq!((deleted.state, deleted.labels.len(), deleted.groups.len()), (NodeState::Deleted, 0, 0));
    assert_eq!(store.nodes_load().await.unwrap().len(), 1);
    assert_eq!(store.node_certificate(node(1)).await.unwrap().unwrap().0, serial("key of gpu001").as_str());
    assert_eq!(store.node_load(node(9)).await.unwrap(), None);
    assert_eq!(records(&store, &AuditFilter::default()).await, 7);
}

pub(crate) async fn a_group_is_stored_whole_and_repeats_nothing(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    assert_eq!(store.spool_position(node(1), spool(1)).await.unwrap(), None);
    let many = 1..=1300;
    let mut group = Group::new(NOW);
    group.records = many.clone().map(|sequence| row(node(1), sequence)).collect();
    group.events =
        many.map(|sequence| event(node(1), sequence, EventKind::GpuXid, Severity::Critical)).collect();
    group.positions.insert((node(1), spool(1)), 1300);
    let ids = store.commit_group(&group).await.unwrap();
    assert!(
        ids.len() == 1300 && ids.windows(2).all(|pair| pair[0] < pair[1]),
        "numbers rise in the order of storing"
    );
    assert_eq!(store.spool_position(node(1), spool(1)).await.unwrap(), Some(1300));
    assert_eq!(store.spool_position(node(1), spool(2)).await.unwrap(), None);

    let mut repeated = Group::new(NOW.plus_ms(1));
    repeated.records = vec![row(node(1), 1301), row(node(1), 1300)];
    repeated.events = vec![event(node(1), 1301, EventKind::GpuXid, Severity::Critical)];
    repeated.positions.insert((node(1), spool(1)), 1301);
    assert!(matches!(store.commit_group(&repeated).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.spool_position(node(1), spool(1)).await.unwrap(), Some(1300), "nothing of it is stored");
    assert!(is_total(store.events_page(&EventFilter::default(), None, 1).await.unwrap().1, 1300));
    let mut own = Group::new(NOW);
    own.events =
        vec![
            EventRow { origin: None, boot_id: None, ..event(node(1), 0, EventKind(999), Severity::Info) };
            2
        ];
    store.commit_group(&own).await.unwrap();
    let (newest, _) = store.events_page(&EventFilter::default(), None, 1).await.unwrap();
    assert_eq!((newest[0].kind.as_str(), newest[0].boot_id), ("unknown.999", None));
}

pub(crate) async fn events_are_filtered_and_paged(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    enrol(&store, node(2), "gpu002").await;
    let owned = NodeUpdate { owner: Some(Some(user_id(4))), ..NodeUpdate::default() };
    store.node_update(node(1), &owned, &record("node.update")).await.unwrap();
    let grouped = NodeUpdate { groups: Some(vec!["blue".to_owned()]), ..NodeUpdate::default() };
    store.node_update(node(2), &grouped, &record("node.update")).await.unwrap();
    let mut group = Group::new(NOW.plus_ms(50));
    group.events = vec![
        event(node(1), 1, EventKind::GpuXid, Severity::Critical),
        event(node(1), 2, EventKind::GpuLost, Severity::Warning),
        event(node(2), 3, EventKind::GpuXid, Severity::Info),
    ];
    let ids = store.commit_group(&group).await.unwrap();
    let page = async |filter: EventFilter| {
        let (events, total) = store.events_page(&filter, None, 100).await.unwrap();
        assert!(is_total(total, events.len()));
        events.into_iter().rev().map(|event| event.id).collect::<Vec<_>>()
    };
    let any = EventFilter::default;
    assert_eq!(page(any()).await, ids);
    assert_eq!(page(EventFilter { node: Some(node(1)), ..any() }).await, ids[..2]);
    assert_eq!(page(EventFilter { kind: Some("gpu.xid".to_owned()), ..any() }).await, [ids[0], ids[2]]);
    assert_eq!(page(EventFilter { severity: Some(Severity::Warning), ..any() }).await, ids[..2]);
    assert_eq!(page(EventFilter { since: Some(NOW.plus_ms(2)), ..any() }).await, ids[1..]);
    assert_eq!(page(EventFilter { until: Some(NOW.plus_ms(2)), ..any() }).await, ids[..1]);
    let within = |scopes: Vec<Scope>| EventFilter { within: Some((user_id(4).to_string(), scopes)), ..any() };
    assert!(page(within(vec![])).await.is_empty());
    assert_eq!(page(within(vec![Scope::Own])).await, ids[..2]);
    assert_eq!(page(within(vec![Scope::Group("blue".to_owned())])).await, ids[2..]);
    assert_eq!(page(within(vec![Scope::Own, Scope::Group("blue".to_owned())])).await, ids);
    assert_eq!(page(within(vec![Scope::All])).await, ids);

    let (newest, total) = store.events_page(&any(), Some(ids[2]), 1).await.unwrap();
    assert!(newest[0].id == ids[1] && is_total(total, 3));
    let shown = &newest[0];
    assert_eq!((shown.node_name.as_str(), shown.kind.as_str()), ("gpu001", "gpu.lost"));
    assert_eq!((shown.occurred_at, shown.stored_at), (NOW.plus_ms(2), NOW.plus_ms(50)));
    assert_eq!((shown.severity, shown.boot_id), (Severity::Warning, Some(boot())));
    assert_eq!(
        (shown.message.as_str(), shown.attributes["code"].as_str()),
        ("Xid 79, 从总线上掉下来了", "79")
    );
}

pub(crate) async fn sections_replace_each_other_and_changes_are_kept(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    enrol(&store, node(2), "gpu002").await;
    let mut group = Group::new(NOW);
    group.sections =
        vec![section(node(1), 3, b"old"), section(node(1), 4, b""), section(node(2), 3, &[0, 255])];
    group.changes =
        vec![change(node(1), "gpus", "gpu[0].serial"), change(node(1), "memory", "dimm[0].serial")];
    store.commit_group(&group).await.unwrap();
    let mut later = Group::new(NOW.plus_ms(HOUR));
    later.sections = vec![section(node(1), 3, b"new")];
    later.sections_gone = vec![(node(1), 4), (node(1), 5)];
    later.changes = vec![change(node(1), "gpus", "gpu[1].serial"), change(node(2), "gpus", "gpu[0].serial")];
    store.commit_group(&later).await.unwrap();

    let of_one = store.sections_of(node(1)).await.unwrap();
    assert_eq!((of_one.len(), of_one[0].section.bytes.as_ref()), (1, &b"new"[..]));
    assert_eq!(of_one[0].received_at, NOW.plus_ms(HOUR));
    let all = store.sections_load().await.unwrap();
    assert_eq!((all.len(), all[1].section.bytes.as_ref(), all[1].node), (2, &[0, 255][..], node(2)));

    let (changes, total) = store.inventory_changes(node(1), None, None, 2).await.unwrap();
    let paths: Vec<_> = changes.iter().map(|change| change.path.as_str()).collect();
    assert!(paths == ["gpu[1].serial", "dimm[0].serial"] && is_total(total, 3), "{paths:?}");
    assert_eq!(
        (&changes[0].from, &changes[0].to, changes[0].at),
        (&json!(null), &json!("SN-1"), NOW.plus_ms(HOUR))
    );
    let (rest, _) = store.inventory_changes(node(1), None, Some(changes[1].id), 9).await.unwrap();
    assert_eq!(rest.len(), 1);
    let (gpus, total) = store.inventory_changes(node(1), Some("gpus"), None, 9).await.unwrap();
    assert!(gpus.len() == 2 && is_total(total, 2));
}

pub(crate) async fn what_a_session_writes_to_its_node(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    let write = async |what: NodeWrite| {
        let mut group = Group::new(NOW);
        group.nodes = vec![(node(1), what)];
        store.commit_group(&group).await.unwrap();
        store.node_load(node(1)).await.unwrap().unwrap()
    };
    let opened = NodeWrite::Opened {
        agent_version: "0.1.0".to_owned(),
        boot_id: boot(),
        machine_id_sha256: Some(digest("machine")),
        at: NOW,
    };
    let row = write(opened).await;
    assert_eq!(
        (row.agent_version.as_deref(), row.boot_id, row.last_seen),
        (Some("0.1.0"), Some(boot()), Some(NOW))
    );
    assert_eq!(row.machine_id_sha256, Some(digest("machine")));
    let absent =
        NodeWrite::Absent { since: NOW.plus_ms(9), cause: "unknown".to_owned(), last_seen: NOW.plus_ms(5) };
    let row = write(absent).await;
    assert_eq!((row.absent_since, row.absent_cause.as_deref()), (Some(NOW.plus_ms(9)), Some("unknown")));
    assert_eq!(row.last_seen, Some(NOW.plus_ms(5)));
    let row = write(NodeWrite::Back).await;
    assert_eq!((row.absent_since, row.absent_cause), (None, None));
    assert_eq!(write(NodeWrite::Seen(NOW.plus_ms(20))).await.last_seen, Some(NOW.plus_ms(20)));
    assert_eq!(
        write(NodeWrite::InventoryHash(Some(digest("all")))).await.inventory_sha256,
        Some(digest("all"))
    );
    assert_eq!(write(NodeWrite::InventoryHash(None)).await.inventory_sha256, None);
}

pub(crate) async fn history_ends_and_positions_stay(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    for (at, sequence) in [(NOW, 1), (NOW.plus_ms(HOUR), 2)] {
        let mut group = Group::new(at);
        group.records = vec![row(node(1), sequence)];
        group.events = vec![event(node(1), sequence, EventKind::GpuXid, Severity::Info)];
        group.changes = vec![change(node(1), "gpus", "gpu[0].serial")];
        group.positions.insert((node(1), spool(1)), sequence);
        store.commit_group(&group).await.unwrap();
    }
    assert_eq!(store.history_delete_before(NOW).await.unwrap(), 0);
    assert_eq!(store.history_delete_before(NOW.plus_ms(1)).await.unwrap(), 1);
    assert_eq!(store.events_page(&EventFilter::default(), None, 9).await.unwrap().0.len(), 1);
    assert_eq!(store.inventory_changes(node(1), None, None, 9).await.unwrap().0.len(), 1);
    assert_eq!(store.spool_position(node(1), spool(1)).await.unwrap(), Some(2));
}
