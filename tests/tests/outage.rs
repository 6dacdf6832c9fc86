//! PostgreSQL goes away in the midst of a run, really: killed, or held where it is. Revocation works, and comes to the
//! database when that is back.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use aim_common::identity::BootId;
use aim_tests::agent::{SEEN, join_string};
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::{Agent, Api, Coordinator, Postgres, until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The bound, from the answer of the call to the end of the session.
const CUT: Duration = Duration::from_secs(1);
/// The loss is noticed within two looks, the return as well; a slow machine takes a while.
const NOTICED: Duration = Duration::from_mins(1);
const CONDITION: &str = "database_unavailable";
const BOOT: BootId = BootId::from_uuid(uuid::Uuid::from_u128(0x1));

fn on_postgresql(dir: &Path, server: &Postgres, admission_seconds: i64) -> Coordinator {
    let url = server.url_file(dir).display().to_string();
    let mut coordinator = Coordinator::prepare(dir, |config| {
        let database = toml::Table::from_iter([("postgres_url_file".to_owned(), url.into())]);
        config.insert("database".into(), database.into());
        let admission = ("admission_without_database_seconds".to_owned(), admission_seconds.into());
        config.insert("keyvault".into(), toml::Table::from_iter([admission]).into());
    });
    coordinator.serve();
    coordinator
}

fn enrolled(dir: &TempDir, name: &str, admin: &Api) -> Agent {
    let agent = Agent::prepare(dir.path(), name, |_| ());
    agent.enrol(&join_string(admin, name)).success();
    agent
}

/// The nodes of a run: one that is revoked, one whose session stays, one that comes during the outage.
struct Nodes {
    revoked: NodeIdentity,
    newcomer: NodeIdentity,
    link: BareLink,
    bystander: BareLink,
    real: Agent,
}

fn nodes(dir: &TempDir, coordinator: &Coordinator, admin: &Api) -> Nodes {
    let identities = ["node1", "node2", "node3"].map(|name| NodeIdentity::of(&enrolled(dir, name, admin)));
    let [revoked, staying, newcomer] = identities;
    let open = |identity| BareLink::open(identity, coordinator.link_port, BOOT).unwrap();
    let (link, bystander) = (open(&revoked), open(&staying));
    let real = Agent::start(dir.path(), "node4", coordinator);
    // The session that revokes was verified while the database was there.
    admin.get("/api/v1/nodes").success();
    Nodes { revoked, newcomer, link, bystander, real }
}

/// Revokes while the database is away: the session ends within the bound, and the identity does not come back.
fn revoke(coordinator: &Coordinator, admin: &Api, nodes: &Nodes) {
    let answer = admin.post("/api/v1/nodes/node1/revoke", &json!({ "reason": "stolen" }));
    let answered = Instant::now();
    let answer = answer.success();
    assert_eq!(answer["database_pending"], true, "{answer}");
    let (_, closed) = nodes.link.closed(CUT + Duration::from_secs(5)).expect("the session was not closed");
    let took = closed.saturating_duration_since(answered);
    assert!(took <= CUT, "the session lived {took:?} after the revocation was answered");
    assert!(
        BareLink::open(&nodes.revoked, coordinator.link_port, BOOT).is_err(),
        "a revoked identity came back"
    );
    assert!(
        nodes.bystander.closed(Duration::from_millis(200)).is_none(),
        "another node's session was cut too"
    );
    until("the condition is told", NOTICED, || {
        admin.conditions().iter().any(|name| name == CONDITION).then_some(())
    });
    let refused = admin.get("/api/v1/certificates").status;
    assert_eq!(refused, 503, "an answer without the database");
}

fn state_of(admin: &Api, node: &str) -> Option<Value> {
    let answer = admin.get(&format!("/api/v1/certificates?node={node}"));
    if answer.status == 200 { Some(answer.json()["items"][0]["state"].clone()) } else { None }
}

/// The database is back: everything of the outage is in it, and everything goes on.
fn recovered(coordinator: &mut Coordinator, admin: &Api, nodes: &mut Nodes) {
    until("the condition is over", NOTICED, || {
        (!admin.conditions().iter().any(|name| name == CONDITION)).then_some(())
    });
    until("the revocation is in the database", NOTICED, || {
        (state_of(admin, "node1")? == "revoked").then_some(())
    });
    let log = coordinator.program().log();
    for told in ["condition entered", "condition left"] {
        let mut lines = log.lines().filter(|line| line.contains(CONDITION));
        assert!(lines.any(|line| line.contains(told)), "the log does not tell: {told}");
    }
    let records = admin.get("/api/v1/audit?action=node.revoke&limit=10").success();
    assert_eq!(records["items"].as_array().map(Vec::len), Some(1), "{records}");
    assert_eq!(records["items"][0]["detail"]["reason"], "stolen", "{records}");
    assert!(
        nodes.bystander.closed(Duration::from_millis(200)).is_none(),
        "a session did not outlive the outage"
    );
    nodes.real.await_presence(admin, "present", SEEN);
    // Durable records go on: the agent's next start is stored.
    let before = nodes.real.events(admin, "agent.started").len();
    nodes.real.stop();
    nodes.real.serve();
    until("an event is stored again", NOTICED, || {
        (nodes.real.events(admin, "agent.started").len() > before).then_some(())
    });
    until("known nodes are admitted again", NOTICED, || {
        BareLink::open(&nodes.newcomer, coordinator.link_port, BOOT).ok()
    });
    coordinator.kill();
    coordinator.serve();
    let admin = coordinator.admin();
    assert_eq!(admin.get("/api/v1/fence").success()["fenced"], false);
    assert!(BareLink::open(&nodes.revoked, coordinator.link_port, BOOT).is_err(), "a restart revived it");
    assert_eq!(admin.get("/api/v1/audit/verify").success()["intact"], true);
}

#[test]
fn pki_12_postgresql_is_killed_and_revocation_still_cuts_and_is_caught_up_with() {
    let dir = TempDir::new().unwrap();
    let mut server = Postgres::start(dir.path());
    // Admission ends 20 s early, because the loss may be noticed so late.
    let mut coordinator = on_postgresql(dir.path(), &server, 30);
    let admin = coordinator.admin();
    let mut nodes = nodes(&dir, &coordinator, &admin);
    server.kill();
    drop(
        BareLink::open(&nodes.newcomer, coordinator.link_port, BOOT).expect("a known node was not admitted"),
    );
    revoke(&coordinator, &admin, &nodes);
    until("admission without the database ends", NOTICED, || {
        BareLink::open(&nodes.newcomer, coordinator.link_port, BOOT).err()
    });
    assert!(
        nodes.bystander.closed(Duration::from_millis(200)).is_none(),
        "a session ended with the admission"
    );
    server.serve();
    recovered(&mut coordinator, &admin, &mut nodes);
}

#[test]
fn pki_12_postgresql_hangs_and_revocation_still_cuts_and_is_caught_up_with() {
    let dir = TempDir::new().unwrap();
    let server = Postgres::start(dir.path());
    let mut coordinator = on_postgresql(dir.path(), &server, 600);
    let admin = coordinator.admin();
    let mut nodes = nodes(&dir, &coordinator, &admin);
    server.freeze();
    revoke(&coordinator, &admin, &nodes);
    server.thaw();
    recovered(&mut coordinator, &admin, &mut nodes);
}
