//! The end of a quarantine by the API.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Fixture;

const RELEASE: &str = "/api/v1/nodes/gpu1/release";

async fn conditions(fixture: &Fixture, admin: &str) -> Value {
    fixture.call(admin, "GET", "/api/v1/nodes/gpu1", None).await.1["conditions"].clone()
}

async fn until_conditions(fixture: &Fixture, admin: &str, wanted: &Value) {
    let clock = &fixture.running.app.clock;
    let deadline = clock.monotonic() + Duration::from_secs(5);
    loop {
        let shown = conditions(fixture, admin).await;
        if shown == *wanted {
            return;
        }
        assert!(clock.monotonic() < deadline, "{shown} is shown after 5 s and not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_09_a_quarantine_is_shown_and_ended_by_whoever_may_with_a_reason_and_a_record() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "gpu1").await;
    let (status, _) =
        fixture.call(&admin, "PATCH", "/api/v1/nodes/gpu1", Some(json!({"groups": ["blue"]}))).await;
    assert_eq!(status, StatusCode::OK);
    let keyvault = &fixture.running.app.keyvault;
    let (node, _) = keyvault.identities().resolve("gpu1").unwrap();
    let reason = || Some(json!({"reason": "the copied disk was wiped"}));
    assert_eq!(fixture.call(&admin, "POST", RELEASE, reason()).await.0, StatusCode::CONFLICT, "it is free");
    keyvault.quarantine(node, "two boots at once use one identity").await;
    until_conditions(&fixture, &admin, &json!(["quarantined"])).await;

    // Whoever may read it, may revoke it, or may change another group's nodes, may not.
    for (user, permissions, expected) in [
        (
            "reader",
            json!(["certificates:read:*", "certificates:revoke:*", "hosts:*:*"]),
            StatusCode::FORBIDDEN,
        ),
        ("green", json!(["certificates:update:group:green", "hosts:read:*"]), StatusCode::NOT_FOUND),
    ] {
        let role = Some(json!({ "permissions": permissions }));
        fixture.call(&admin, "PUT", &format!("/api/v1/roles/{user}"), role).await;
        let token = fixture.user(&admin, user, &[user]).await;
        assert_eq!(fixture.call(&token, "POST", RELEASE, reason()).await.0, expected, "{user}");
    }
    for bad in [json!({}), json!({"reason": ""}), json!({"reason": "x".repeat(501)}), json!({"why": "x"})] {
        let (status, _) = fixture.call(&admin, "POST", RELEASE, Some(bad)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    let missing = fixture.call(&admin, "POST", "/api/v1/nodes/gpu9/release", reason()).await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
    assert!(keyvault.identities().is_quarantined(node));
    assert_eq!(conditions(&fixture, &admin).await, json!(["quarantined"]));

    let role = Some(json!({"permissions": ["certificates:update:group:blue"]}));
    fixture.call(&admin, "PUT", "/api/v1/roles/blue", role).await;
    let blue = fixture.user(&admin, "blue", &["blue"]).await;
    let (status, released) = fixture.call(&blue, "POST", RELEASE, reason()).await;
    assert_eq!((status, &released["node_id"]), (StatusCode::OK, &json!(node)), "{released}");
    assert!(released["released_at"].is_string(), "{released}");
    assert!(!keyvault.identities().is_quarantined(node));
    until_conditions(&fixture, &admin, &json!([])).await;
    let audit = fixture.audit().await;
    let record = audit.iter().find(|record| record.action == "node.release").unwrap();
    assert_eq!((record.actor.as_str(), record.source.as_str()), ("user:blue", "127.0.0.1"));
    assert_eq!(record.target, format!("node:{node}"));
    assert!(record.detail.contains("wiped") && record.request_id.len() == 16, "{record:?}");
    assert_eq!(audit.iter().filter(|record| record.action == "node.quarantine").count(), 1);
    assert_eq!(fixture.call(&blue, "POST", RELEASE, reason()).await.0, StatusCode::CONFLICT, "a second time");
    fixture.stop().await;
}
