//! Renewals that broke off: a lost answer, a crash of either side. The node always has a certificate that works.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aim_agent::identity::{IdentityStore, late_renewal};
use aim_common::identity::BootId;
use aim_tests::agent::SEEN;
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::{Agent, Coordinator, run, until};
use tempfile::TempDir;

const BOOT: BootId = BootId::from_uuid(uuid::Uuid::from_u128(0x1));

/// Renews by proof of the key with a copy of the node's state, so that the node itself knows nothing of it.
fn renew_elsewhere(agent: &Agent, elsewhere: &Path) -> IdentityStore {
    let copy =
        run(Command::new("cp").arg("-a").arg(agent.state_dir()).arg(elsewhere), Duration::from_secs(20));
    copy.success();
    let store = IdentityStore::new(elsewhere);
    let identity = store.load().unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(late_renewal(&store, &identity, &[])).unwrap();
    store
}

fn generations(api: &aim_tests::Api) -> Vec<(i64, String)> {
    let page = api.get("/api/v1/certificates?node=node1").success();
    let row = |item: &serde_json::Value| {
        (item["generation"].as_i64().unwrap(), item["state"].as_str().unwrap().to_owned())
    };
    let mut found: Vec<_> = page["items"].as_array().unwrap().iter().map(row).collect();
    found.sort_unstable();
    found
}

fn state(generation: i64, state: &str) -> (i64, String) {
    (generation, state.to_owned())
}

#[test]
fn pki_08_a_lost_answer_and_a_crash_of_either_side_leave_a_certificate_that_works() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    until("the first use is stored", SEEN, || (generations(&admin) == [state(1, "active")]).then_some(()));
    agent.kill();
    // The answer is lost: the coordinator issued, the node knows nothing of it; then the coordinator dies as well.
    let elsewhere = dir.path().join("elsewhere");
    let next = renew_elsewhere(&agent, &elsewhere);
    coordinator.kill();
    coordinator.serve();
    let admin_again = coordinator.admin();
    assert_eq!(generations(&admin_again), [state(1, "active"), state(2, "issued")]);
    agent.serve();
    agent.await_presence(&admin_again, "present", SEEN);
    let old = NodeIdentity::of(&agent);
    agent.kill();

    // The new pair is on disk and was never used, when the node dies; a half of another try lies beside.
    let (current, waiting) =
        (agent.state_dir().join("identity.json"), agent.state_dir().join("identity.next.json"));
    fs::copy(next.current_path(), &waiting).unwrap();
    fs::write(agent.state_dir().join("identity.next.json.tmp"), "{\"format\": 1, \"priv").unwrap();
    let renewed = fs::read(&waiting).unwrap();
    agent.serve();
    until("the new pair is in use and the first on disk", SEEN, || {
        let promoted = !waiting.exists() && fs::read(&current).is_ok_and(|file| file == renewed);
        (promoted && generations(&admin_again) == [state(1, "superseded"), state(2, "active")]).then_some(())
    });
    // Either side dies once more; the old one stays refused, the new one works.
    agent.kill();
    coordinator.kill();
    coordinator.serve();
    assert!(
        BareLink::open(&old, coordinator.link_port, BOOT).is_err(),
        "the superseded certificate was let in"
    );
    agent.serve();
    let admin_again = coordinator.admin();
    agent.await_presence(&admin_again, "present", SEEN);
    drop(admin);
}
