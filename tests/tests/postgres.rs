//! The coordinator on PostgreSQL: everything an operator and a node do, with no statement refused.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use aim_tests::agent::{SEEN, join_string};
use aim_tests::{Agent, Api, Coordinator, Postgres, until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery";
/// Inventory and events travel a moment after the first packet.
const STORED: Duration = Duration::from_secs(30);

/// A coordinator's configuration on this server; nothing runs yet.
fn prepare(dir: &Path, server: &Postgres) -> Coordinator {
    let url = server.url_file(dir).display().to_string();
    Coordinator::prepare(dir, |config| {
        let database = toml::Table::from_iter([("postgres_url_file".to_owned(), url.into())]);
        config.insert("database".into(), database.into());
    })
}

#[track_caller]
fn items(api: &Api, path: &str) -> Vec<Value> {
    api.get(path).success()["items"].as_array().unwrap().clone()
}

/// What PostgreSQL refused, by its own log.
fn refused(server: &Postgres) -> Vec<String> {
    server.log().lines().filter(|line| line.contains("ERROR:")).map(str::to_owned).collect()
}

/// A role and a user that holds it; the user logs in, reads, refreshes and logs out.
fn users_and_roles(coordinator: &Coordinator, admin: &Api) {
    let role =
        json!({ "permissions": ["hosts:read:own", "hosts:read:group:blue", "events:read:group:blue"] });
    admin.call(Method::PUT, "/api/v1/roles/watcher", Some(&role)).success();
    let user = json!({ "username": "zhang", "password": PASSWORD, "roles": ["watcher"], "groups": ["blue"] });
    let id = admin.post("/api/v1/users", &user).success()["id"].as_str().unwrap().to_owned();
    assert_eq!(admin.post("/api/v1/users", &user).status, 409, "the same name twice");
    let mut zhang = coordinator.anonymous();
    let login = zhang.login("zhang", PASSWORD);
    items(&zhang, "/api/v1/nodes");
    items(&zhang, "/api/v1/events");
    let refresh = json!({ "refresh_token": login["refresh_token"] });
    zhang.post("/api/v1/auth/refresh", &refresh).success();
    // The second use ends the session.
    assert_eq!(zhang.post("/api/v1/auth/refresh", &refresh).status, 401);
    zhang.login("zhang", PASSWORD);
    zhang.post("/api/v1/auth/logout", &json!({})).success();

    let path = format!("/api/v1/users/{id}");
    let change = json!({ "roles": [], "groups": ["red"], "enabled": false, "password": "another long one" });
    admin.call(Method::PATCH, &path, Some(&change)).success();
    admin.delete("/api/v1/roles/watcher").success();
    assert_eq!(admin.delete("/api/v1/users/admin").status, 409, "the last administrator went");
}

/// Tokens for one node and for a host list, listed by state, one revoked.
fn tokens(admin: &Api) {
    join_string(admin, "spare1");
    let list = json!({ "hosts": "gpu[001-003]", "source_cidr": "10.0.0.0/8" });
    admin.post("/api/keyvault/agent/generate-token", &list).success();
    let outstanding = items(admin, "/api/v1/tokens?state=outstanding");
    assert_eq!(outstanding.len(), 4, "{outstanding:?}");
    let first = outstanding[0]["id"].as_i64().unwrap();
    admin.delete(&format!("/api/v1/tokens/{first}")).success();
    assert_eq!(items(admin, "/api/v1/tokens?state=revoked").len(), 1);
    assert_eq!(items(admin, "/api/v1/tokens?limit=2").len(), 2);
}

/// Every list with its filters answers; texts that PostgreSQL cannot hold are no fault of the server.
fn lists(admin: &Api, node: &str) {
    for path in [
        "/api/v1/nodes?sort=name&presence=present&label.rack=r1&group=blue&q=node",
        "/api/v1/nodes?sort=-last_seen&limit=1",
        "/api/v1/events?kind=node.enrolled&severity=info&since=2026-01-01T00:00:00Z&until=2100-01-01T00:00:00Z",
        "/api/v1/certificates?state=active&node=node1&limit=5",
        "/api/v1/certificates?state=expired",
        "/api/v1/enrolment-requests",
        "/api/v1/enrolment-requests?state=pending",
        "/api/v1/audit?actor=user:admin&action=token.create&decision=allowed&limit=5",
        "/api/v1/users?limit=1",
        "/api/v1/roles",
        "/api/v1/sessions",
        &format!("/api/v1/nodes/{node}/inventory-changes?section=memory"),
    ] {
        let answer = admin.get(path);
        assert_eq!(answer.status, 200, "{path}: {} {}", answer.status, answer.text);
    }
    for path in [
        "/api/v1/events?kind=%00",
        "/api/v1/audit?actor=a%00b",
        "/api/v1/certificates?node=%00",
        "/api/v1/tokens?state=%00",
        "/api/v1/nodes/%00",
        "/api/v1/roles/%00",
    ] {
        let answer = admin.get(path);
        assert!(answer.status < 500, "{path}: {} {}", answer.status, answer.text);
    }
}

/// The node with its values, inventory, events, labels, groups and owner.
fn node_is_whole(admin: &Api, agent: &Agent) {
    until("the inventory is stored", STORED, || {
        let inventory = admin.get("/api/v1/nodes/node1/inventory").json().to_string();
        inventory.contains("hostname").then_some(())
    });
    until("values are there", STORED, || {
        let values = admin.get("/api/v1/nodes/node1/values").json().to_string();
        values.contains("memory").then_some(())
    });
    until("an event is stored", STORED, || items(admin, "/api/v1/nodes/node1/events").pop());
    let node = agent.node(admin);
    assert_eq!((&node["labels"]["rack"], &node["groups"][0]), (&json!("r1"), &json!("blue")), "{node}");
}

#[test]
fn a_fleet_lives_on_postgresql_and_outlives_restarts() {
    let dir = TempDir::new().unwrap();
    let mut server = Postgres::start(dir.path());
    let mut coordinator = prepare(dir.path(), &server);
    coordinator.serve();
    let admin = coordinator.admin();
    users_and_roles(&coordinator, &admin);
    tokens(&admin);

    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    let owner = admin.get("/api/v1/auth/session").success()["user_id"].clone();
    let change = json!({ "labels": { "rack": "r1", "row": null }, "groups": ["blue"], "owner": owner });
    admin.call(Method::PATCH, "/api/v1/nodes/node1", Some(&change)).success();
    node_is_whole(&admin, &agent);
    lists(&admin, &agent.node_id(&admin));

    // Both restart; the coordinator also goes without its database for a moment.
    agent.stop();
    agent.await_presence(&admin, "absent", SEEN);
    coordinator.stop();
    server.stop();
    assert_ne!(coordinator.serve_refused().code, 0, "it started without its database");
    server.serve();
    coordinator.serve();
    let admin = coordinator.admin();
    assert_eq!(agent.presence(&admin)["state"], "absent");
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    node_is_whole(&admin, &agent);

    admin.post("/api/v1/nodes/node1/revoke", &json!({ "reason": "sold" })).success();
    agent.await_presence(&admin, "absent", SEEN);
    admin.delete(&format!("/api/v1/nodes/{}", agent.node_id(&admin))).success();
    let verified = admin.get("/api/v1/audit/verify").success();
    assert_eq!(verified["intact"], true, "{verified}");
    // Only the name that was taken already and the texts with NUL.
    let refused = refused(&server);
    let wanted = |line: &String| line.contains("username_canonical") || line.ends_with("0x00");
    assert!(refused.iter().all(wanted), "{refused:#?}");
}

#[test]
fn a_url_that_others_can_read_stops_the_start() {
    let dir = TempDir::new().unwrap();
    let url = dir.path().join("postgres.url");
    fs::write(&url, "postgres:///aim?host=/nowhere").unwrap();
    fs::set_permissions(&url, fs::Permissions::from_mode(0o644)).unwrap();
    let file = url.display().to_string();
    let coordinator = Coordinator::prepare(dir.path(), |config| {
        let database = toml::Table::from_iter([("postgres_url_file".to_owned(), file.into())]);
        config.insert("database".into(), database.into());
    });
    let ended = coordinator.serve_refused();
    assert!(ended.code == 78 && ended.stderr.contains("chmod 0600"), "{ended:?}");
}
