//! The audit trail: every change has its record, the chain tells of tampering, refusals are bounded (group LOG).

use aim_coordinator::api::access::Rule;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::access::rows;
use crate::support::Fixture;

/// A request that changes something, for each state-changing route; a route without one fails the test.
fn change(method: &str, path: &str) -> Option<(String, Option<Value>)> {
    let password = "a long enough password";
    let body = match (method, path) {
        ("POST", "/api/v1/users") => json!({"username": "carol", "password": password}),
        ("PATCH", "/api/v1/users/{user}") => json!({"groups": ["night"]}),
        ("PUT", "/api/v1/roles/{role}") => json!({"permissions": ["events:read:*"]}),
        ("POST", "/api/v1/auth/password") => {
            json!({"current_password": password, "new_password": "another long password"})
        }
        ("POST", "/api/keyvault/salt/generate-token") => json!({}),
        ("POST", "/api/keyvault/agent/generate-token") => json!({"node": "gpu001"}),
        ("PUT", "/api/v1/salt/master-key") => {
            json!({"pem": include_str!("../../src/keyvault/testdata/salt-master.pub")})
        }
        ("PATCH", "/api/v1/nodes/{node}") => json!({"labels": {"rack": "7"}}),
        ("POST", "/api/v1/nodes/{node}/revoke" | "/api/v1/nodes/{node}/release") => {
            json!({"reason": "a test"})
        }
        (
            "DELETE",
            "/api/v1/tokens/{token}"
            | "/api/v1/nodes/{node}"
            | "/api/v1/users/{user}"
            | "/api/v1/roles/{role}"
            | "/api/v1/sessions/{session}",
        )
        | (
            "POST",
            "/api/v1/enrolment-requests/{request}/approve"
            | "/api/v1/enrolment-requests/{request}/reject"
            | "/api/v1/auth/logout",
        ) => Value::Null,
        _ => return None,
    };
    let path = path.replace("{user}", "dave").replace("{role}", "spare").replace("{token}", "1");
    Some((path, (!body.is_null()).then_some(body)))
}

/// Proved where it is tested, because it needs a restored backup.
const ELSEWHERE: &str = "/api/v1/fence/lift";

#[tokio::test(flavor = "multi_thread")]
async fn log_02_every_state_changing_route_leaves_a_record() {
    let fixture = Fixture::start_with(|config| config.keyvault.approval_queue = true).await;
    let admin = fixture.admin().await;
    fixture.call(&admin, "PUT", "/api/v1/roles/spare", Some(json!({"permissions": []}))).await;
    // Token 1, to be revoked.
    fixture.call(&admin, "POST", "/api/keyvault/salt/generate-token", Some(json!({}))).await;
    for (number, row) in rows().into_iter().enumerate() {
        if row.method.is_safe() || row.rule == Rule::Public || row.path == ELSEWHERE {
            continue;
        }
        // Somebody new, where a route ends what the caller has.
        let ends_callers = ["/api/v1/auth/", "/api/v1/sessions/", "/api/v1/users/"];
        let needs_dave = ends_callers.iter().any(|prefix| row.path.starts_with(prefix));
        let caller = if needs_dave { fixture.user(&admin, "dave", &["admin"]).await } else { admin.clone() };
        let (path, body) = change(row.method.as_str(), row.path)
            .unwrap_or_else(|| panic!("{} {}: say here what it changes", row.method, row.path));
        let (_, own) = fixture.call(&caller, "GET", "/api/v1/sessions", None).await;
        let session = own[0]["id"].as_str().unwrap();
        let mut path = path.replace("{session}", session);
        let node = format!("node-{number}");
        if path.contains("{node}") {
            fixture.enrol(&admin, &node).await;
            path = path.replace("{node}", &node);
        }
        if row.path.ends_with("/release") {
            let keyvault = &fixture.running.app.keyvault;
            let (id, _) = keyvault.identities().resolve(&node).unwrap();
            keyvault.quarantine(id, "a test").await;
        }
        if path.contains("{request}") {
            path = path.replace("{request}", &fixture.ask_for_approval(&admin, &node).await.to_string());
        }
        let before = fixture.audit().await.len();
        let by = if row.path == "/api/v1/auth/password" || row.path == "/api/v1/auth/logout" {
            &caller
        } else {
            &admin
        };
        let (status, answer) = fixture.call(by, row.method.as_str(), &path, body).await;
        assert!(status.is_success(), "{} {path}: {status} {answer}", row.method);
        let after = fixture.audit().await;
        // Deleting a living node revokes it first; everything else is one record.
        let expected = if path == format!("/api/v1/nodes/{node}") && row.method == "DELETE" { 2 } else { 1 };
        let new = &after[before..];
        assert_eq!(new.len(), expected, "{} {path}: {new:?}", row.method);
        let record = after.last().unwrap();
        let actor = if needs_dave && by == &caller { "user:dave" } else { "user:admin" };
        assert_eq!((record.actor.as_str(), record.decision.as_str()), (actor, "allowed"), "{record:?}");
        assert_eq!(record.source, "127.0.0.1");
        assert_eq!(record.request_id.len(), 16);
        assert!(!record.detail.contains("long password"), "{record:?}");
        if needs_dave {
            fixture.call(&admin, "DELETE", "/api/v1/users/dave", None).await;
        }
        fixture.call(&admin, "DELETE", "/api/v1/users/carol", None).await;
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_03_a_changed_removed_or_reordered_record_is_found() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for n in 0..5 {
        let body = json!({"permissions": ["hosts:read:*"]});
        fixture.call(&admin, "PUT", &format!("/api/v1/roles/role-{n}"), Some(body)).await;
    }
    let (_, intact) = fixture.call(&admin, "GET", "/api/v1/audit/verify", None).await;
    assert_eq!(intact["intact"], true, "{intact}");
    let mut config = (*fixture.running.app.config).clone();
    config.auth.initial_password_file = None;
    let directory = fixture.stop().await;

    let original = std::fs::read(config.sqlite_path()).unwrap();
    for (tampering, broken_at) in [
        ("UPDATE audit SET target = 'role-9' WHERE sequence = 4", 4),
        ("UPDATE audit SET actor = 'user:mallory' WHERE sequence = 2", 2),
        ("DELETE FROM audit WHERE sequence = 3", 3),
        ("DELETE FROM audit WHERE sequence = 1", 1),
        (
            "UPDATE audit SET sequence = CASE sequence WHEN 3 THEN 400 WHEN 4 THEN 3 END WHERE sequence IN (3, 4)",
            3,
        ),
    ] {
        std::fs::write(config.sqlite_path(), &original).unwrap();
        let url = format!("sqlite://{}", config.sqlite_path().display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        sqlx::query(tampering).execute(&pool).await.unwrap();
        pool.close().await;
        let found = aim_coordinator::host_commands::audit_verify(&config).await.unwrap();
        assert_eq!((found.intact, found.broken_at), (false, Some(broken_at)), "{tampering}: {found:?}");
    }
    drop(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_04_refusals_are_recorded_and_a_flood_of_them_is_bounded() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let bob = fixture.user(&admin, "bob", &["engineer"]).await;
    for _ in 0..200 {
        assert_eq!(fixture.call(&bob, "GET", "/api/v1/audit", None).await.0, StatusCode::FORBIDDEN);
    }
    let denied: Vec<_> =
        fixture.audit().await.into_iter().filter(|record| record.decision == "denied").collect();
    assert!((1..=20).contains(&denied.len()), "{} records of 200 refusals", denied.len());
    assert_eq!((denied[0].actor.as_str(), denied[0].target.as_str()), ("user:bob", "/api/v1/audit"));
    assert!(denied[0].detail.contains("audit:read"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_02_the_trail_is_paged_and_filtered() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for n in 0..5 {
        fixture
            .call(&admin, "PUT", &format!("/api/v1/roles/role-{n}"), Some(json!({"permissions": []})))
            .await;
    }
    let mut targets = Vec::new();
    let mut path = "/api/v1/audit?limit=2&action=role.put".to_owned();
    loop {
        let (status, page) = fixture.call(&admin, "GET", &path, None).await;
        assert_eq!((status, &page["total"]), (StatusCode::OK, &json!(5)), "{page}");
        targets.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["target"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/audit?limit=2&action=role.put&cursor={cursor}");
    }
    assert_eq!(targets, ["role-4", "role-3", "role-2", "role-1", "role-0"]);
    for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=x", "sort=actor", "actor='%20OR%201=1--&x=1"] {
        let (status, _) = fixture.call(&admin, "GET", &format!("/api/v1/audit?{wrong}"), None).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    fixture.stop().await;
}
