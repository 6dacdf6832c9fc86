//! Machines that look alike, and identities that were copied.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aim_common::identity::BootId;
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::{Agent, Coordinator, run, until};
use reqwest::Method;
use tempfile::TempDir;

/// Threat model's bound for what is found while both are online.
const FOUND: Duration = Duration::from_secs(30);

/// From the finding to the sight of it.
const SHOWN: Duration = Duration::from_secs(5);

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), Duration::from_secs(20)).success();
}

/// Two agents of this machine have its one machine-id.
#[test]
fn idn_07_two_nodes_with_one_machine_id_stay_two_and_are_reported() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut first = Agent::start(dir.path(), "node1", &coordinator);
    let second = Agent::start(dir.path(), "node2", &coordinator);
    assert_ne!(first.node_id(&admin), second.node_id(&admin));
    until("one of them has the event", FOUND, || {
        let events = [&first, &second].map(|agent| agent.events(&admin, "node.duplicate_machine_id").len());
        (events[0] + events[1] > 0).then_some(())
    });
    let conditions = |agent: &Agent| agent.node(&admin)["conditions"].to_string();
    for agent in [&first, &second] {
        until("both are shown with the warning", FOUND, || {
            conditions(agent).contains("duplicate_machine_id").then_some(())
        });
        assert_eq!(agent.presence(&admin)["state"], "present", "{}", agent.name);
    }
    // Two keys, two certificates, two inventories: what one reports is not the other's.
    let certificates = admin.get("/api/v1/certificates").success();
    let keys: BTreeSet<&str> = certificates["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|certificate| certificate["public_key_sha256"].as_str().unwrap())
        .collect();
    assert_eq!(keys.len(), 2, "{certificates}");
    let rack = |name: &str, rack: &str| {
        let change = serde_json::json!({ "labels": { "rack": rack } });
        admin.call(Method::PATCH, &format!("/api/v1/nodes/{name}"), Some(&change)).success();
    };
    rack("node1", "r1");
    rack("node2", "r2");
    // Whoever comes again is the node that it was.
    first.stop();
    first.await_presence(&admin, "absent", FOUND);
    until("the one that is left is alone", FOUND, || {
        (!conditions(&second).contains("duplicate_machine_id")).then_some(())
    });
    first.serve();
    first.await_presence(&admin, "present", FOUND);
    for (agent, rack) in [(&first, "r1"), (&second, "r2")] {
        until("the warning is back", FOUND, || {
            conditions(agent).contains("duplicate_machine_id").then_some(())
        });
        assert_eq!(agent.node(&admin)["labels"]["rack"], rack, "{}", agent.name);
    }
    assert_eq!(admin.get("/api/v1/nodes").success()["total"], 2);
}

#[test]
fn pki_09_a_copied_state_directory_is_found_while_both_run() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let original = Agent::start(dir.path(), "node1", &coordinator);
    let mut clone = Agent::prepare(&dir.path().join("clone"), "node1", |_| ());
    copy(&original.state_dir(), &clone.state_dir());
    clone.serve();
    let event = original.await_event(&admin, "node.clone_suspected", FOUND);
    assert_eq!(event["severity"], "critical", "{event}");
    let quarantined = || original.node(&admin)["conditions"].to_string().contains("quarantined");
    until("it is shown at the node", SHOWN, || quarantined().then_some(()));
    // The copy is ended, and an operator trusts the node again.
    clone.kill();
    let aimctl = coordinator.aimctl();
    let released = aimctl.run(&["node", "release", "node1", "--reason", "the copied disk was wiped"]);
    assert!(released.code == 0 && released.stderr.contains("node1: released"), "{released:?}");
    until("it is shown no more", SHOWN, || (!quarantined()).then_some(()));
    assert_ne!(aimctl.run(&["node", "release", "node1", "--reason", "again"]).code, 0);
    original.await_presence(&admin, "present", FOUND);
}

#[test]
fn idn_08_a_second_session_of_another_boot_is_an_alarm_and_not_a_takeover() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    let other_boot = BootId::from_uuid(uuid::Uuid::from_u128(0xdead));
    let opened = BareLink::open(&NodeIdentity::of(&agent), coordinator.link_port, other_boot);
    let refused = match opened {
        Err(_) => true,
        Ok(link) => link.closed(Duration::from_secs(10)).is_some(),
    };
    assert!(refused, "two boots of one identity were both let in");
    agent.await_event(&admin, "node.clone_suspected", FOUND);
}
