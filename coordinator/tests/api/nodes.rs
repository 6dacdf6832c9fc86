//! Nodes, events and the change feed, over HTTPS.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::support::Fixture;

/// Enrols nodes by host list through the API; gives their ids in its order.
async fn enrol(fixture: &Fixture, admin: &str, hosts: &str) -> Vec<String> {
    let wish = json!({ "hosts": hosts });
    let path = "/api/keyvault/agent/generate-token";
    let (status, tokens) = fixture.call(admin, "POST", path, Some(wish)).await;
    assert!(status.is_success(), "{tokens}");
    let mut ids = Vec::new();
    for token in tokens["tokens"].as_array().unwrap() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        let body = json!({"token": token["token"], "signature": token["signature"], "nonce": token["nonce"],
            "node": token["node"], "csr": csr});
        let request = fixture.request("POST", "/api/keyvault/agent/enroll").json(&body);
        let (status, answer) = super::support::answer(request).await;
        assert!(status.is_success(), "{answer}");
        ids.push(answer["node_id"].as_str().unwrap().to_owned());
    }
    // The inventory follows the KeyVault's news.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    for id in &ids {
        while fixture.call(admin, "GET", &format!("/api/v1/nodes/{id}"), None).await.0 != StatusCode::OK {
            assert!(tokio::time::Instant::now() < deadline, "node {id} does not appear");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    ids
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_filtered_ordered_paged_and_streamed() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    enrol(&fixture, &admin, "gpu[8-12],login1").await;
    let get = async |path: &str| fixture.call(&admin, "GET", path, None).await;
    let (_, page) = get("/api/v1/nodes").await;
    assert_eq!(names(&page), ["gpu8", "gpu9", "gpu10", "gpu11", "gpu12", "login1"]);
    assert_eq!(page["items"][0]["presence"]["state"], "never_seen");
    assert_eq!(page["items"][0]["cpu_utilization"], Value::Null, "unknown is not zero");

    let (_, first) = get("/api/v1/nodes?limit=4&sort=-name").await;
    assert_eq!(names(&first), ["login1", "gpu12", "gpu11", "gpu10"]);
    assert_eq!(first["total"], 6);
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = get(&format!("/api/v1/nodes?limit=4&sort=-name&cursor={cursor}")).await;
    assert_eq!(names(&second), ["gpu9", "gpu8"]);
    assert_eq!(second.get("next_cursor"), None);
    let (status, _) = get(&format!("/api/v1/nodes?cursor={cursor}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a cursor of another order");

    let (_, some) = get("/api/v1/nodes?hosts=GPU[9-10],nobody").await;
    assert_eq!(names(&some), ["gpu9", "gpu10"]);
    let body = json!({"labels": {"rack": "a12"}});
    let (status, node) = fixture.call(&admin, "PATCH", "/api/v1/nodes/gpu9", Some(body)).await;
    assert_eq!((status, &node["labels"]["rack"]), (StatusCode::OK, &json!("a12")));
    for query in ["label.rack=a12", "q=A12", "search=gpu9", "name=GPU9"] {
        let (_, found) = get(&format!("/api/v1/nodes?{query}")).await;
        assert_eq!(names(&found), ["gpu9"], "{query}");
    }
    let (status, _) = get("/api/v1/nodes?nmae=gpu9").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a misspelt filter does not show everything");

    let response = fixture.request("GET", "/api/v1/nodes").bearer_auth(&admin).send().await.unwrap();
    let tag = response.headers()["etag"].clone();
    let again = fixture.request("GET", "/api/v1/nodes").bearer_auth(&admin).header("if-none-match", &tag);
    assert_eq!(again.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);

    let all = fixture.request("GET", "/api/v1/nodes?all=true").bearer_auth(&admin).send().await.unwrap();
    assert_eq!(all.headers()["content-type"], "application/x-ndjson");
    let text = all.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rba_06_a_node_out_of_scope_looks_like_one_that_does_not_exist() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let ids = enrol(&fixture, &admin, "gpu[1-2]").await;
    let body = json!({"groups": ["blue"]});
    let (status, _) = fixture.call(&admin, "PATCH", "/api/v1/nodes/gpu1", Some(body)).await;
    assert_eq!(status, StatusCode::OK);
    let role = json!({"permissions": ["hosts:read:group:blue", "hosts:update:group:blue",
        "events:read:group:blue"]});
    let (status, answer) = fixture.call(&admin, "PUT", "/api/v1/roles/blue-reader", Some(role)).await;
    assert!(status.is_success(), "{answer}");
    let user = fixture.user(&admin, "bob", &["blue-reader"]).await;
    let get = async |path: String| fixture.call(&user, "GET", &path, None).await;

    let (_, page) = get("/api/v1/nodes".to_owned()).await;
    assert_eq!((names(&page), &page["total"]), (vec!["gpu1"], &json!(1)));
    let (_, page) = get("/api/v1/nodes?q=gpu2".to_owned()).await;
    assert_eq!((names(&page), &page["total"]), (vec![], &json!(0)));
    let unlike = |mut problem: Value| {
        problem["request_id"] = Value::Null;
        problem
    };
    for rest in ["", "/values", "/inventory", "/gpu-processes", "/inventory-changes", "/events", "/live"] {
        let nobody = "00000000-0000-4000-8000-000000000000";
        let (status, missing) = get(format!("/api/v1/nodes/{nobody}{rest}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        for hidden in [ids[1].as_str(), "gpu2"] {
            let (status, answer) = get(format!("/api/v1/nodes/{hidden}{rest}")).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{hidden}{rest}");
            assert_eq!(unlike(answer), unlike(missing.clone()));
        }
    }
    // Events of a node out of scope are neither listed nor counted.
    let (_, events) = get("/api/v1/events?kind=node.enrolled".to_owned()).await;
    assert!(events["items"].as_array().unwrap().iter().all(|event| event["node_name"] == "gpu1"), "{events}");
    let (status, _) = get("/api/v1/events?node=gpu2".to_owned()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    // Whoever may change a group's nodes may not move nodes between groups.
    let body = json!({"groups": ["red"]});
    let (status, _) = fixture.call(&user, "PATCH", "/api/v1/nodes/gpu1", Some(body)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let body = json!({"labels": {"a": "b"}});
    let (status, _) = fixture.call(&user, "PATCH", "/api/v1/nodes/gpu2", Some(body.clone())).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = fixture.call(&user, "PATCH", "/api/v1/nodes/gpu1", Some(body)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = fixture.call(&user, "DELETE", "/api/v1/nodes/gpu1", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inj_05_hostile_texts_in_every_parameter_find_nothing_and_break_nothing() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    enrol(&fixture, &admin, "gpu[1-2]").await;
    let hostile = [
        "' OR '1'='1",
        "'; DROP TABLE nodes; --",
        "%",
        "_",
        "\\",
        "%00",
        "$1",
        "\u{0}",
        "\u{2028}",
        "{{7*7}}",
        "../../etc/passwd",
        "1e999",
        "-1",
        "99999999999999999999",
        "NaN",
        "\u{feff}",
        "a' UNION SELECT 1--",
    ];
    let parameters = [
        ("nodes", "name"),
        ("nodes", "hosts"),
        ("nodes", "group"),
        ("nodes", "gpu_model"),
        ("nodes", "condition"),
        ("nodes", "label.rack"),
        ("nodes", "presence"),
        ("nodes", "sort"),
        ("nodes", "cursor"),
        ("nodes", "limit"),
        ("events", "kind"),
        ("events", "node"),
        ("events", "severity"),
        ("events", "since"),
        ("events", "until"),
        ("events", "cursor"),
        ("nodes/gpu1/inventory-changes", "section"),
        ("nodes/gpu1/events", "kind"),
    ];
    for (resource, name) in parameters {
        for text in hostile {
            let url = reqwest::Url::parse_with_params(
                &format!("{}/api/v1/{resource}", fixture.base),
                [(name, text)],
            )
            .unwrap();
            let response = fixture.client.get(url).bearer_auth(&admin).send().await.unwrap();
            let status = response.status();
            assert!(!status.is_server_error(), "{resource} {name}={text:?}: {status}");
            if status.is_success() {
                let page: Value = response.json().await.unwrap();
                assert_eq!(page["items"], json!([]), "{resource} {name}={text:?}");
            }
        }
    }
    let (_, page) = fixture.call(&admin, "GET", "/api/v1/nodes", None).await;
    assert_eq!(page["total"], 2);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_11_a_deleted_node_is_gone_and_its_successor_inherits_nothing() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let former = enrol(&fixture, &admin, "gpu1").await.remove(0);
    let body = json!({"labels": {"rack": "a12"}, "groups": ["blue"]});
    fixture.call(&admin, "PATCH", "/api/v1/nodes/gpu1", Some(body)).await;
    let (status, _) = fixture.call(&admin, "DELETE", "/api/v1/nodes/gpu1", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    for node in ["gpu1", &former] {
        let (status, _) = fixture.call(&admin, "GET", &format!("/api/v1/nodes/{node}"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let successor = enrol(&fixture, &admin, "gpu1").await.remove(0);
    assert_ne!(former, successor);
    let (_, node) = fixture.call(&admin, "GET", "/api/v1/nodes/gpu1", None).await;
    assert_eq!((&node["id"], &node["labels"], &node["groups"]), (&json!(successor), &json!({}), &json!([])));
    let audit = fixture.audit().await;
    assert_eq!(audit.iter().filter(|record| record.action == "node.delete").count(), 1);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aut_04_a_change_feed_shows_changes_and_ends_with_its_session() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    enrol(&fixture, &admin, "gpu1").await;
    let reader = fixture.user(&admin, "bob", &["engineer"]).await;
    let response = fixture.request("GET", "/api/v1/changes").bearer_auth(&reader).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let body = json!({"labels": {"rack": "a12"}});
    fixture.call(&admin, "PATCH", "/api/v1/nodes/gpu1", Some(body)).await;
    let mut text = String::new();
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        while !(text.contains("event: change") && text.contains("a12")) {
            text.push_str(&String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()));
        }
    });
    seen.await.expect("the change is seen");
    let (status, _) = fixture.call(&reader, "POST", "/api/v1/auth/logout", None).await;
    assert!(status.is_success(), "{status}");
    // One second by the statement, and some for a slow machine.
    let ended =
        tokio::time::timeout(Duration::from_secs(4), async { while stream.next().await.is_some() {} });
    ended.await.expect("the stream ends with the session");
    fixture.stop().await;
}
