//! Two nodes that look alike, and two sessions that claim to be one node.

use aim_common::identity::Sha256Digest;
use aim_common::protocol::{Ack, CloseCode, Hello};

use super::site::{Identity, PATIENCE, Site, batch, frame, hello, until};
use super::{count_events, event, until_events};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idn_07_two_present_nodes_with_one_machine_id_are_both_shown_with_a_warning() {
    let site = Site::start().await;
    let (one, two) = (site.enrol("gpu1").await, site.enrol("gpu2").await);
    let same = |boot| Hello { machine_id_sha256: Some(Sha256Digest::of(b"image")), ..hello(boot) };
    let _first = site.agent(&one, &same(1)).await;
    let second = site.agent(&two, &same(2)).await;
    let warned = |identity: &Identity| {
        site.node(identity.node).summary(site.inventory.now()).conditions == ["duplicate_machine_id"]
    };
    assert!(warned(&one) && warned(&two));
    until_events(&site, "node.duplicate_machine_id", 1).await;
    second.connection.close(0_u32.into(), b"");
    until("the end of the warning", PATIENCE, || !warned(&one)).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idn_08_the_same_certificate_in_two_live_sessions_is_a_clone() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let mut first = site.agent(&identity, &hello(1)).await;
    let mut durable = first.stream().await;
    durable.write_all(&frame(&batch((0..2).map(event).collect()))).await.unwrap();
    assert_eq!(first.receive::<Ack>().await.sequence, 1);
    // The second one goes on where the first one is, without waiting for a Welcome.
    let mut second = site.connect(&identity).await;
    let mut forged = second.stream().await;
    second.send(&hello(2)).await;
    let _ = forged.write_all(&frame(&batch((2..9).map(event).collect()))).await;
    let code = second.closed().await.0;
    let refused = [CloseCode::CloneSuspected, CloseCode::ProtocolViolation];
    assert!(code.is_some_and(|code| refused.contains(&code)), "{code:?}");
    // And one that waits, with the same boot and with another.
    for boot in [1, 2] {
        let mut second = site.connect(&identity).await;
        second.send(&hello(boot)).await;
        assert_eq!(second.closed().await, (Some(CloseCode::CloneSuspected), 0));
    }
    assert!(first.connection.close_reason().is_none(), "the older one stays");
    durable.write_all(&frame(&batch((2..4).map(event).collect()))).await.unwrap();
    assert_eq!(first.receive::<Ack>().await.sequence, 3, "the sequence is the first one's alone");
    assert_eq!(count_events(&site, "gpu.xid").await, 4);
    let node = site.node(identity.node);
    until("quarantine", PATIENCE, || node.state().quarantine.is_some()).await;
    assert_eq!(node.summary(site.inventory.now()).conditions, ["quarantined"]);
    until_events(&site, "node.clone_suspected", 1).await;
    site.stop().await;
}
