//! Real QUIC against the real KeyVault and database.

mod handshake;
mod identity;
mod load;
mod lookalikes;
mod order;
mod pki;
mod site;

use std::time::Duration;

use aim_common::api::nodes::Presence;
use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::BootId;
use aim_common::inventory::{EncodedSection, SectionTag};
use aim_common::metric::Metric;
use aim_common::protocol::{
    ALPN, Ack, Change, CloseCode, GaugeReport, Goodbye, GoodbyeCause, Hello, LiveMode, Record, SeriesChange,
    SeriesKey, SeriesTable, SpoolRecord,
};
use aim_common::units::EpochMs;

use self::site::{Identity, PATIENCE, Site, batch, closed, frame, hello, until};
use crate::keyvault::Requester;
use crate::store::events::EventFilter;

fn event(sequence: u64) -> SpoolRecord {
    let event = Event {
        kind: EventKind::GpuXid,
        severity: Severity::Critical,
        occurred: EpochMs(1_000),
        boot_id: BootId::from_random([1; 16]),
        subject: "GPU-1".into(),
        message: "XID 79 \0 fell off the bus".into(),
        attributes: Vec::new().try_into().unwrap(),
    };
    SpoolRecord { sequence, record: Record::Event(event) }
}

fn absent_cause(site: &Site, identity: &Identity) -> Option<String> {
    match &site.node(identity.node).state().presence {
        Presence::Absent { cause, .. } => Some(cause.clone()),
        _ => None,
    }
}

async fn count_events(site: &Site, kind: &str) -> i64 {
    let filter = EventFilter { kind: Some(kind.to_owned()), ..EventFilter::default() };
    site.store.events_page(&filter, None, 1).await.unwrap().1.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_reports_and_says_goodbye() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let mut agent = site.agent(&identity, &hello(1)).await;
    let welcome = agent.welcome.clone().unwrap();
    assert!(welcome.series_wanted && welcome.inventory_wanted);
    let node = site.node(identity.node);
    assert!(node.state().is_present());

    let key = SeriesKey { metric: Metric::CpuUtilization, instance: "".into() };
    let table = SeriesTable { series: vec![key.into()].try_into().unwrap() };
    let change = Change::Gauge { average_delta: 250, below: 0, above: 0 };
    let report = GaugeReport {
        end: EpochMs(i64::MAX),
        interval_ms: 10_000,
        late: false,
        dropped_before: 0,
        changes: vec![SeriesChange { skip: 0, change }].try_into().unwrap(),
    };
    let mut samples = agent.stream().await;
    samples.write_all(&[frame(&table), frame(&report)].concat()).await.unwrap();
    until("the value", PATIENCE, || node.summary(site.inventory.now()).cpu_utilization == Some(0.25)).await;

    let _live = site.fleet.set_live(identity.node).unwrap();
    assert_eq!(agent.receive::<LiveMode>().await.interval_ms, 1_000);

    agent.send(&Goodbye { cause: GoodbyeCause::AgentStopped }).await;
    agent.send.finish().unwrap();
    let _ = agent.send.stopped().await;
    agent.connection.close(CloseCode::Done.code().into(), b"");
    until("absence", PATIENCE, || absent_cause(&site, &identity).as_deref() == Some("agent stopped")).await;
    let summary = node.summary(site.inventory.now());
    assert_eq!(summary.cpu_utilization, None, "an absent node has no current utilisation");
    assert_eq!(node.values(site.inventory.now()).len(), 1, "its last values stay, with their age");
    site.stop().await;
}

#[test]
fn qui_12_an_agent_that_is_killed_is_absent_with_cause_unknown_within_5_s_and_back_at_once() {
    let server = tokio::runtime::Runtime::new().unwrap();
    let client = tokio::runtime::Runtime::new().unwrap();
    let (site, identity) = server.block_on(async {
        let site = Site::start().await;
        let identity = site.enrol("gpu1").await;
        (site, identity)
    });
    let agent = client.block_on(site.agent(&identity, &hello(1)));
    // Its sockets are gone without a word, as with kill -9.
    client.shutdown_background();
    server.block_on(async {
        // 4.5 s and a tick; a second more for a slow machine.
        until("absence", Duration::from_secs(6), || {
            absent_cause(&site, &identity).as_deref() == Some("unknown")
        })
        .await;
        // The same certificate and boot come back while the dead session is not timed out.
        let again = site.agent(&identity, &hello(1)).await;
        assert!(site.node(identity.node).state().is_present());
        assert!(site.node(identity.node).state().quarantine.is_none(), "a crash is not a clone");
        drop(again);
        site.stop().await;
    });
    drop(agent);
}

async fn until_events(site: &Site, kind: &str, count: i64) {
    let poll = async {
        while count_events(site, kind).await != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "{count} events {kind} were not stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_06_a_fifth_connection_of_one_identity_is_refused() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let mut kept = Vec::new();
    for _ in 0..4 {
        let (endpoint, connection) = site.dial(Some(&identity), &[ALPN]).await.unwrap();
        // A stream is answered only once the coordinator has its place for the connection.
        kept.push((endpoint, connection));
    }
    let full = async {
        loop {
            let (_endpoint, fifth) = site.dial(Some(&identity), &[ALPN]).await.unwrap();
            let wait = tokio::time::timeout(Duration::from_secs(2), fifth.closed()).await;
            if wait.is_ok() {
                return closed(&fifth).await;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, full).await.unwrap();
    assert_eq!(refused, (Some(CloseCode::LimitExceeded), 0));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_06_a_connection_without_hello_is_cut_after_10_s() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let (_endpoint, connection) = site.dial(Some(&identity), &[ALPN]).await.unwrap();
    assert_eq!(closed(&connection).await, (Some(CloseCode::HelloTimeout), 0));
    assert_eq!(site.node(identity.node).state().presence, Presence::NeverSeen);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_08_an_agent_has_sixteen_streams_of_a_sort_and_no_datagrams() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let agent = site.agent(&identity, &hello(1)).await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut stream = agent.stream().await;
        stream.write_all(b"A").await.unwrap();
        open.push(stream);
    }
    let seventeenth = tokio::time::timeout(Duration::from_millis(500), agent.connection.open_uni()).await;
    assert!(seventeenth.is_err(), "the 17th stream has to wait");
    assert_eq!(agent.connection.max_datagram_size(), None);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_13_a_violation_closes_with_a_code_and_no_text() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let unknown_kind = [b'A', b'I', 1, 0, 0xff, 0x7f, 0, 0, 0, 0, 0, 0];
    for (bytes, code) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), CloseCode::ProtocolViolation),
        (unknown_kind.to_vec(), CloseCode::ProtocolViolation),
        (frame(&Goodbye { cause: GoodbyeCause::AgentStopped }), CloseCode::ProtocolViolation),
        (frame(&Hello { alpn: "aim/2".into(), ..hello(1) }), CloseCode::ProtocolViolation),
        ([b'A', b'I', 1, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].to_vec(), CloseCode::LimitExceeded),
    ] {
        let mut agent = site.connect(&identity).await;
        agent.send.write_all(&bytes).await.unwrap();
        assert_eq!(agent.closed().await, (Some(code), 0), "{bytes:?}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_cut_at_once_and_not_let_in_again() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let agent = site.agent(&identity, &hello(1)).await;
    let answer = site.keyvault.revoke(identity.node, "lost", &Requester::coordinator()).await.unwrap();
    assert_eq!(answer.sessions_closed, 1);
    assert_eq!(agent.closed().await, (Some(CloseCode::Refused), 0));
    assert_eq!(absent_cause(&site, &identity).as_deref(), Some("revoked"));
    if let Ok((_endpoint, connection)) = site.dial(Some(&identity), &[ALPN]).await {
        assert_eq!(closed(&connection).await, (None, 0), "refused by TLS");
    }
    assert_eq!(site.fleet.sessions(), 0);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_acknowledged_once_stored_and_never_stored_twice() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let mut agent = site.agent(&identity, &hello(1)).await;
    let mut durable = agent.stream().await;
    durable.write_all(&frame(&batch((0..5).map(event).collect()))).await.unwrap();
    assert_eq!(agent.receive::<Ack>().await.sequence, 4);
    assert_eq!(count_events(&site, "gpu.xid").await, 5);
    // Some of them again, and new ones.
    durable.write_all(&frame(&batch((2..8).map(event).collect()))).await.unwrap();
    assert_eq!(agent.receive::<Ack>().await.sequence, 7);
    assert_eq!(count_events(&site, "gpu.xid").await, 8);
    drop(agent);
    // The next session begins where the database is, and all of them again change nothing.
    let mut agent = site.agent(&identity, &hello(1)).await;
    assert_eq!(agent.welcome.as_ref().unwrap().acknowledged, Some(7));
    let mut durable = agent.stream().await;
    durable.write_all(&frame(&batch((0..8).map(event).collect()))).await.unwrap();
    assert_eq!(agent.receive::<Ack>().await.sequence, 7);
    assert_eq!(count_events(&site, "gpu.xid").await, 8);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dos_04_more_sections_than_a_node_may_have_are_refused_and_said() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let mut agent = site.agent(&identity, &hello(1)).await;
    let section = |tag: u16| {
        let bytes = vec![0; 1_000].try_into().unwrap();
        Record::InventorySection(EncodedSection { tag: SectionTag(tag), bytes })
    };
    let records = (0..70).map(|n| SpoolRecord { sequence: u64::from(n), record: section(1_000 + n) });
    let mut durable = agent.stream().await;
    durable.write_all(&frame(&batch(records.collect()))).await.unwrap();
    assert_eq!(agent.receive::<Ack>().await.sequence, 69);
    assert_eq!(site.node(identity.node).state().sections.len(), 64);
    assert_eq!(count_events(&site, "node.limit_exceeded").await, 6);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_rebuilt_from_the_database() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let agent = site.agent(&identity, &hello(1)).await;
    drop(agent);
    until_events(&site, "node.present", 1).await;
    let (store, folder) = (site.store.clone(), site.folder.path().to_owned());
    let rows = store.nodes_load().await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].boot_id, Some(hello(1).boot_id));
    assert!(rows[0].last_seen.is_some());
    assert!(folder.exists());
    site.stop().await;
}
