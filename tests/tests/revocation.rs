//! Revocation: the session is cut, the reconnect refused, also when the database cannot be used.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::time::{Duration, Instant};

use aim_common::identity::BootId;
use aim_tests::agent::{SEEN, join_string};
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::{Agent, Coordinator};
use serde_json::json;
use tempfile::TempDir;

/// The bound, from the answer of the call to the end of the session.
const CUT: Duration = Duration::from_secs(1);
const BOOT: BootId = BootId::from_uuid(uuid::Uuid::from_u128(0x1));

fn enrolled(dir: &TempDir, name: &str, coordinator: &Coordinator) -> Agent {
    let agent = Agent::prepare(dir.path(), name, |_| ());
    agent.enrol(&join_string(&coordinator.admin(), name)).success();
    agent
}

fn revoke_path(agent: &Agent) -> String {
    format!("/api/v1/nodes/{}/revoke", agent.name)
}

/// The session ends within the bound after the answer, and no new one begins.
fn assert_cut(link: &BareLink, answered: Instant, identity: &NodeIdentity, coordinator: &Coordinator) {
    let (_, closed) = link.closed(CUT + Duration::from_secs(5)).expect("the session was not closed");
    let took = closed.saturating_duration_since(answered);
    assert!(took <= CUT, "the session lived {took:?} after the revocation was answered");
    assert!(BareLink::open(identity, coordinator.link_port, BOOT).is_err(), "a revoked identity came back");
}

#[test]
fn pki_10_revocation_cuts_the_session_within_1_s_and_the_reconnect_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = enrolled(&dir, "node1", &coordinator);
    let other = enrolled(&dir, "node2", &coordinator);
    let (identity, bystander) = (NodeIdentity::of(&agent), NodeIdentity::of(&other));
    let link = BareLink::open(&identity, coordinator.link_port, BOOT).unwrap();
    let untouched = BareLink::open(&bystander, coordinator.link_port, BOOT).unwrap();

    admin.post(&revoke_path(&agent), &json!({ "reason": "stolen" })).success();
    assert_cut(&link, Instant::now(), &identity, &coordinator);
    assert!(untouched.closed(Duration::from_millis(200)).is_none(), "another node's session was cut too");
    // A restart forgets nothing.
    coordinator.kill();
    coordinator.serve();
    assert!(
        BareLink::open(&identity, coordinator.link_port, BOOT).is_err(),
        "a restart revived a revoked identity"
    );
    BareLink::open(&bystander, coordinator.link_port, BOOT).unwrap();
}

#[test]
fn pki_12_revocation_works_while_the_database_cannot_be_used() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = enrolled(&dir, "node1", &coordinator);
    let identity = NodeIdentity::of(&agent);
    let link = BareLink::open(&identity, coordinator.link_port, BOOT).unwrap();
    // The session that revokes was verified while the database was there.
    admin.get("/api/v1/nodes").success();

    let locked = aim_tests::database::lock(&coordinator.database());
    admin.post(&revoke_path(&agent), &json!({ "reason": "stolen" })).success();
    assert_cut(&link, Instant::now(), &identity, &coordinator);
    drop(locked);
    coordinator.kill();
    coordinator.serve();
    assert!(BareLink::open(&identity, coordinator.link_port, BOOT).is_err(), "the journal was not heeded");
}

#[test]
fn pki_10_a_revoked_agent_is_told_and_stays_away() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    admin.post(&revoke_path(&agent), &json!({ "reason": "stolen" })).success();
    let presence = agent.await_presence(&admin, "absent", SEEN);
    assert!(presence["cause"].as_str().unwrap().contains("revoked"), "{presence}");
}

#[test]
fn pki_11_a_node_made_anew_under_the_same_name_is_another_node() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let old = enrolled(&dir, "node1", &coordinator);
    let identity = NodeIdentity::of(&old);
    let old_id = old.node_id(&admin);
    admin.delete(&format!("/api/v1/nodes/{old_id}")).success();
    let new = Agent::prepare(&dir.path().join("new"), "node1", |_| ());
    new.enrol(&join_string(&admin, "node1")).success();
    assert_ne!(new.node_id(&admin), old_id);
    assert!(
        BareLink::open(&identity, coordinator.link_port, BOOT).is_err(),
        "the old certificate was revived"
    );
    BareLink::open(&NodeIdentity::of(&new), coordinator.link_port, BOOT).unwrap();
}
