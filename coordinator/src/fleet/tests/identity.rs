//! Everything that node A can say over its own session with B's names, numbers and keys in it: B stays as it is
//! (IDN-01), A learns nothing of B (IDN-02), and A's own standing stays what operators made it (IDN-05).

mod attacks;
mod neighbour;

use std::time::Duration;

use aim_common::api::nodes::Presence;
use aim_common::protocol::{CloseCode, Goodbye, GoodbyeCause, Kind, RenewResponse};
use aim_common::wire::{FrameDecoder, decode};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use self::attacks::{Attack, Stream, attacks};
use self::neighbour::Neighbour;
use super::site::{Agent, Identity, PATIENCE, Site, until};
use crate::store::nodes::NodeUpdate;

/// Says everything of the attack in one session of A, and sees how the coordinator takes it.
async fn carry_out(site: &Site, a: &Identity, b: &Neighbour, attack: &Attack) {
    let what = attack.what;
    let mut agent = site.agent(a, &attack.hello).await;
    let welcome = agent.welcome.clone().unwrap();
    if attack.hello.spool_id == b.hello.spool_id {
        assert_eq!(welcome.acknowledged, None, "{what}: where B's spool is");
    }
    let mut streams = Vec::new();
    for (stream, bytes) in &attack.said {
        match stream {
            // A connection that is closed already is what is asserted below.
            Stream::Control => drop(agent.send.write_all(bytes).await),
            Stream::Own => {
                let mut opened = agent.stream().await;
                let _ = opened.write_all(bytes).await;
                streams.push(opened);
            }
            Stream::Renewal => {
                let issued = renew(&agent, bytes).await;
                assert_eq!(issued, attack.issued, "{what}");
            }
        }
    }
    if let Some(code) = attack.closed {
        assert_eq!(agent.closed().await, (Some(code), 0), "{what}");
    } else {
        let node = site.node(a.node);
        until(what, PATIENCE, || (attack.taken)(&node.state())).await;
        let _ = agent.send.write_all(&super::frame(&Goodbye { cause: GoodbyeCause::AgentStopped })).await;
        agent.connection.close(CloseCode::Done.code().into(), b"");
    }
    drop((streams, agent));
    let gone = || matches!(site.node(a.node).state().presence, Presence::Absent { .. });
    until("A is gone", PATIENCE, || gone() && site.fleet.session_of(a.node).is_none()).await;
}

/// Whose certificate came, if any did.
async fn renew(agent: &Agent, request: &[u8]) -> Option<String> {
    let (mut send, mut receive) = agent.connection.open_bi().await.unwrap();
    send.write_all(request).await.unwrap();
    let bytes = tokio::time::timeout(PATIENCE, receive.read_to_end(64 * 1024)).await.unwrap().unwrap();
    let mut decoder = FrameDecoder::default();
    decoder.push(&bytes);
    match decode(&decoder.next_frame().unwrap().unwrap()).unwrap() {
        RenewResponse::Issued { chain_der, .. } => {
            let leaf = chain_der[0].to_vec();
            let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            match names.value.general_names.as_slice() {
                [GeneralName::URI(name)] => Some((*name).to_owned()),
                other => panic!("{other:?}"),
            }
        }
        RenewResponse::Refused(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idn_01_idn_05_every_message_with_another_nodes_marks_in_it_changes_nothing_of_that_node() {
    let site = Site::start().await;
    let a = site.enrol("gpu-a").await;
    let mut b = Neighbour::start(&site).await;
    b.settle(&site).await;
    // What operators gave A, which nothing that A says may change.
    let given = NodeUpdate {
        labels: [("rack".to_owned(), Some("r1".to_owned()))].into(),
        groups: Some(vec!["blue".to_owned()]),
        ..NodeUpdate::default()
    };
    site.inventory.apply_update(&site.node(a.node), given);
    let before = b.snapshot(&site).await;
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        for attack in attacks(*kind, &a, &b) {
            carry_out(&site, &a, &b, &attack).await;
            assert_eq!(b.snapshot(&site).await, before, "{kind:?}: {}", attack.what);
            kinds.push(*kind);
        }
    }
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "a kind without an attack: {kinds:?}");
    {
        let node = site.node(a.node);
        let state = node.state();
        assert_eq!(state.labels.get("rack").map(String::as_str), Some("r1"));
        assert_eq!((state.labels.len(), state.groups.as_slice()), (1, &["blue".to_owned()][..]));
        assert!(state.owner.is_none() && state.quarantine.is_none());
        assert_eq!(state.name.as_str(), "gpu-a");
    }
    // What was refused is counted for A, in the audit trail or as an event, and nothing for B.
    let records = site.store.audit_chain(0, 10_000).await.unwrap();
    let renewals: Vec<_> = records.iter().filter(|record| record.action == "certificate.renew").collect();
    assert_eq!(renewals.iter().filter(|record| record.decision == "denied").count(), 2, "{renewals:?}");
    let (of_a, of_b) = (format!("node:{}", a.node), format!("node:{}", b.identity.node));
    assert!(renewals.iter().all(|record| record.actor == of_a && record.target == of_a), "{renewals:?}");
    assert_eq!(records.iter().filter(|record| record.target == of_b).count(), 1, "only B's own enrolment");
    assert_eq!(
        super::count_events(&site, "node.limit_exceeded").await,
        1,
        "a forged event of the coordinator"
    );
    // B's own session goes on where it was, its next record included.
    b.goes_on(&site).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idn_05_a_quarantined_node_that_comes_again_is_still_in_quarantine() {
    let site = Site::start().await;
    let a = site.enrol("gpu-a").await;
    drop(site.agent(&a, &super::hello(1)).await);
    site.keyvault.quarantine(a.node, "a test").await;
    until("quarantine", PATIENCE, || site.node(a.node).state().quarantine.is_some()).await;
    until("absence", Duration::from_secs(30), || site.fleet.session_of(a.node).is_none()).await;
    // Another boot, another spool, another everything.
    let again = site.agent(&a, &super::hello(9)).await;
    let node = site.node(a.node);
    assert_eq!(node.summary(site.inventory.now()).conditions, ["quarantined"]);
    let request = super::frame(&attacks::plain_request());
    assert_eq!(renew(&again, &request).await, None, "a certificate in quarantine");
    site.stop().await;
}
