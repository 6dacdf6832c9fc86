//! What is out of order, from elsewhere, or of a newer agent.

use aim_common::metric::Metric;
use aim_common::protocol::{
    Change, CloseCode, GaugeReport, RenewRefusal, RenewResponse, SeriesChange, SeriesEntry, SeriesKey,
    SeriesTable,
};
use aim_common::units::EpochMs;

use super::site::{PATIENCE, Site, endpoint, frame, hello, until};

fn closings(site: &Site, code: CloseCode) -> u64 {
    site.fleet.counters().closings().find(|(known, _)| *known == code).unwrap().1
}

/// An envelope of a kind that no build knows, with an empty payload.
fn unknown_kind(skippable: bool) -> Vec<u8> {
    vec![b'A', b'I', 1, 0, 0xff, 0x7f, u8::from(skippable), 0, 0, 0, 0, 0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_10_what_is_out_of_order_closes_with_a_code_and_is_counted() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let trailing = {
        let mut bytes = frame(&SeriesTable::default());
        bytes[8] += 1;
        bytes.push(0);
        bytes
    };
    let nobody_asked = frame(&RenewResponse::Refused(RenewRefusal::Unavailable));
    let not_before_a_table = frame(&report(vec![]));
    let cases = [
        (unknown_kind(false), CloseCode::ProtocolViolation),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), CloseCode::ProtocolViolation),
        (trailing, CloseCode::ProtocolViolation),
        (nobody_asked, CloseCode::ProtocolViolation),
        (frame(&hello(1)), CloseCode::ProtocolViolation),
        (not_before_a_table, CloseCode::ProtocolViolation),
        (vec![b'A', b'I', 1, 0, 16, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], CloseCode::LimitExceeded),
        (vec![b'A', b'I', 9, 0, 16, 0, 0, 0, 0, 0, 0, 0], CloseCode::VersionMismatch),
    ];
    for (bytes, code) in cases {
        let before = closings(&site, code);
        let agent = site.agent(&identity, &hello(1)).await;
        let mut stream = agent.stream().await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(agent.closed().await, (Some(code), 0), "{bytes:?}");
        until("the count", PATIENCE, || closings(&site, code) == before + 1).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_11_two_identities_from_one_address_are_two_nodes() {
    let site = Site::start().await;
    let (one, two) = (site.enrol("gpu1").await, site.enrol("gpu2").await);
    let shared = endpoint();
    let _first = site.agent_from(&shared, &one, &hello(1)).await;
    let _second = site.agent_from(&shared, &two, &hello(2)).await;
    let address = |node| site.fleet.session_of(node).unwrap().address;
    assert_eq!(address(one.node), address(two.node), "they share their source address");
    assert_eq!(site.fleet.sessions(), 2);
    for (identity, boot) in [(&one, 1), (&two, 2)] {
        let node = site.node(identity.node);
        assert!(node.state().is_present());
        assert_eq!(node.state().boot_id, Some(hello(boot).boot_id), "each said its own Hello");
    }
    site.stop().await;
}

fn report(changes: Vec<SeriesChange>) -> GaugeReport {
    GaugeReport {
        end: EpochMs(0),
        interval_ms: 10_000,
        late: false,
        dropped_before: 0,
        changes: changes.try_into().unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_agents_metrics_and_kinds_are_passed_over_and_counted() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let agent = site.agent(&identity, &hello(1)).await;
    let known = SeriesKey { metric: Metric::CpuUtilization, instance: "".into() };
    let newer = SeriesEntry::Unknown { number: 60_000, instance: "".into() };
    let table = SeriesTable { series: vec![newer, known.into()].try_into().unwrap() };
    let changes = vec![
        SeriesChange { skip: 0, change: Change::Counter { delta: i64::MAX } },
        SeriesChange { skip: 0, change: Change::Gauge { average_delta: 250, below: 0, above: 0 } },
    ];
    let mut samples = agent.stream().await;
    let frames = [frame(&table), unknown_kind(true), frame(&report(changes))].concat();
    samples.write_all(&frames).await.unwrap();
    let node = site.node(identity.node);
    until("the value that both know", PATIENCE, || {
        node.summary(site.inventory.now()).cpu_utilization == Some(0.25)
    })
    .await;
    assert_eq!(node.values(site.inventory.now()).len(), 1);
    assert_eq!(site.fleet.counters().skipped(), (1, 1));
    assert!(agent.connection.close_reason().is_none());
    site.stop().await;
}
