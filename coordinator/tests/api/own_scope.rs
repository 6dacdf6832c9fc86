//! Scope `own` on every verb that there is: the stored owner decides, and nothing in a request (RBA-03).

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Fixture;

struct Site {
    fixture: Fixture,
    admin: String,
    bob: String,
    bobs_id: String,
}

/// `mine` is Bob's node, `theirs` is Carol's, `nobodys` has no owner; Bob may do everything with his own.
async fn site() -> Site {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for node in ["mine", "theirs", "nobodys"] {
        fixture.enrol(&admin, node).await;
    }
    let permissions = json!({"permissions": ["hosts:*:own", "events:*:own", "certificates:*:own", "keyvault:*:own",
        "users:*:own", "roles:*:own", "audit:*:own"]});
    let (status, _) = fixture.call(&admin, "PUT", "/api/v1/roles/owner", Some(permissions)).await;
    assert_eq!(status, StatusCode::OK);
    let bob = fixture.user(&admin, "bob", &["owner"]).await;
    fixture.user(&admin, "carol", &["owner"]).await;
    let mut ids = Vec::new();
    for (node, owner) in [("mine", "bob"), ("theirs", "carol")] {
        let (_, user) = fixture.call(&admin, "GET", &format!("/api/v1/users/{owner}"), None).await;
        ids.push(user["id"].as_str().unwrap().to_owned());
        let body = json!({"owner": user["id"]});
        let (status, answer) =
            fixture.call(&admin, "PATCH", &format!("/api/v1/nodes/{node}"), Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    Site { fixture, admin, bob, bobs_id: ids.remove(0) }
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_03_own_decides_read_list_search_count_and_export() {
    let Site { fixture, bob, bobs_id, .. } = site().await;
    let get = async |path: &str| fixture.call(&bob, "GET", path, None).await;
    for query in [
        "",
        "?limit=2",
        "?q=m",
        "?search=i",
        "?sort=-name",
        "?hosts=mine,theirs,nobodys",
        "?presence=never_seen",
    ] {
        let (status, page) = get(&format!("/api/v1/nodes{query}")).await;
        assert_eq!(
            (status, names(&page), &page["total"]),
            (StatusCode::OK, vec!["mine"], &json!(1)),
            "{query}"
        );
    }
    let (_, none) = get("/api/v1/nodes?name=theirs").await;
    assert_eq!((names(&none), &none["total"]), (vec![], &json!(0)));
    let (_, export) = get("/api/v1/nodes?all=true").await;
    assert_eq!(export["name"], "mine", "one line and no other: {export}");
    for rest in ["", "/values", "/inventory", "/gpu-processes", "/inventory-changes", "/events"] {
        assert_eq!(get(&format!("/api/v1/nodes/mine{rest}")).await.0, StatusCode::OK, "{rest}");
    }
    for node in ["theirs", "nobodys", "00000000-0000-4000-8000-000000000000"] {
        for rest in ["", "/values", "/inventory", "/gpu-processes", "/inventory-changes", "/events", "/live"]
        {
            assert_eq!(
                get(&format!("/api/v1/nodes/{node}{rest}")).await.0,
                StatusCode::NOT_FOUND,
                "{node}{rest}"
            );
        }
        assert_eq!(get(&format!("/api/v1/events?node={node}")).await.0, StatusCode::NOT_FOUND, "{node}");
    }
    let (_, events) = get("/api/v1/events?kind=node.enrolled").await;
    assert_eq!((&events["total"], &events["items"][0]["node_name"]), (&json!(1), &json!("mine")), "{events}");
    // The request cannot say whose it wants to be.
    for query in [format!("?owner={bobs_id}"), "?own=false".to_owned(), "?scope=*".to_owned()] {
        assert_eq!(get(&format!("/api/v1/nodes{query}")).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    // What has no owner is nobody's.
    for path in [
        "/api/v1/users",
        "/api/v1/users/bob",
        "/api/v1/roles",
        "/api/v1/audit",
        "/api/v1/audit/verify",
        "/api/v1/tokens",
        "/api/v1/certificates",
        "/api/v1/enrolment-requests",
    ] {
        assert_eq!(get(path).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_03_own_decides_create_update_and_delete_and_no_request_makes_an_owner() {
    let Site { fixture, admin, bob, bobs_id } = site().await;
    let call =
        async |method: &str, path: &str, body: Option<Value>| fixture.call(&bob, method, path, body).await.0;
    let labels = json!({"labels": {"rack": "a12"}});
    assert_eq!(call("PATCH", "/api/v1/nodes/mine", Some(labels.clone())).await, StatusCode::OK);
    for node in ["theirs", "nobodys"] {
        let path = format!("/api/v1/nodes/{node}");
        assert_eq!(call("PATCH", &path, Some(labels.clone())).await, StatusCode::NOT_FOUND);
        assert_eq!(call("PATCH", &path, Some(json!({"owner": bobs_id}))).await, StatusCode::NOT_FOUND);
        assert_eq!(call("DELETE", &path, None).await, StatusCode::NOT_FOUND);
        let reason = json!({"reason": "a test"});
        assert_eq!(call("POST", &format!("{path}/revoke"), Some(reason)).await, StatusCode::NOT_FOUND);
    }
    for body in [json!({"owner": null}), json!({"owner": bobs_id}), json!({"groups": ["blue"]})] {
        assert_eq!(
            call("PATCH", "/api/v1/nodes/mine", Some(body.clone())).await,
            StatusCode::FORBIDDEN,
            "{body}"
        );
    }
    for (path, body) in [
        ("/api/keyvault/agent/generate-token", json!({"node": "new1"})),
        ("/api/keyvault/salt/generate-token", json!({})),
        ("/api/v1/users", json!({"username": "eve", "password": "a long enough password"})),
    ] {
        assert_eq!(call("POST", path, Some(body)).await, StatusCode::FORBIDDEN, "{path}");
    }
    let with_owner = json!({"node": "new1", "owner": bobs_id});
    let (status, _) =
        fixture.call(&admin, "POST", "/api/keyvault/agent/generate-token", Some(with_owner)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "an owner is set on a node that is there");

    // A new owner counts at the next request.
    let (_, carol) = fixture.call(&admin, "GET", "/api/v1/users/carol", None).await;
    let given = Some(json!({"owner": carol["id"]}));
    assert_eq!(fixture.call(&admin, "PATCH", "/api/v1/nodes/mine", given).await.0, StatusCode::OK);
    assert_eq!(call("DELETE", "/api/v1/nodes/mine", None).await, StatusCode::NOT_FOUND);
    let back = Some(json!({"owner": bobs_id}));
    assert_eq!(fixture.call(&admin, "PATCH", "/api/v1/nodes/mine", back).await.0, StatusCode::OK);
    let reason = Some(json!({"reason": "a test"}));
    assert_eq!(call("POST", "/api/v1/nodes/mine/revoke", reason).await, StatusCode::OK);
    assert_eq!(call("DELETE", "/api/v1/nodes/mine", None).await, StatusCode::NO_CONTENT);
    let (_, left) = fixture.call(&admin, "GET", "/api/v1/nodes", None).await;
    assert_eq!(names(&left), ["nobodys", "theirs"]);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_03_own_decides_what_an_event_stream_shows() {
    let Site { fixture, admin, bob, .. } = site().await;
    let response = fixture.request("GET", "/api/v1/changes").bearer_auth(&bob).send().await.unwrap();
    let mut feed = response.bytes_stream();
    for node in ["theirs", "nobodys", "mine"] {
        let body = json!({"labels": {"mark": format!("of-{node}")}});
        fixture.call(&admin, "PATCH", &format!("/api/v1/nodes/{node}"), Some(body)).await;
    }
    let mut text = String::new();
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        while !text.contains("of-mine") {
            text.push_str(&String::from_utf8_lossy(&feed.next().await.unwrap().unwrap()));
        }
    });
    seen.await.expect("the own node's change is seen");
    assert!(!text.contains("theirs") && !text.contains("nobodys"), "{text}");
    fixture.stop().await;
}
