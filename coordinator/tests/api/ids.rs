//! Objects that a request names anywhere but in its path: each one is judged (RBA-06, RBA-07).

use std::collections::BTreeSet;
use std::time::Duration;

use aim_coordinator::api::router;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Fixture, welch};

/// Names of query parameters and body fields that mean an object; the tests below try each.
const OBJECTS: &[&str] =
    &["cursor", "group", "groups", "hosts", "name", "node", "owner", "permissions", "roles"];
/// Those that mean none: values, filters by a word, secrets that are judged as such.
const VALUES: &[&str] = &[
    "action",
    "actor",
    "all",
    "challenge",
    "condition",
    "csr",
    "current_password",
    "decision",
    "enabled",
    "gpu_model",
    "inventory",
    "kind",
    "label.KEY",
    "labels",
    "limit",
    "mode",
    "new_password",
    "nonce",
    "password",
    "pem",
    "presence",
    "public_key",
    "public_key_sha256",
    "q",
    "reason",
    "refresh_token",
    "replace",
    "section",
    "severity",
    "signature",
    "since",
    "sort",
    "source_cidr",
    "state",
    "step",
    "token",
    "ttl_seconds",
    "until",
    "username",
];

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|path| document.pointer(path.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// The names of a body's fields, whatever it is made of.
fn fields(document: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    let schema = resolved(document, schema);
    found.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    for part in ["oneOf", "anyOf", "allOf"] {
        for one in schema[part].as_array().into_iter().flatten() {
            fields(document, one, found);
        }
    }
}

#[test]
fn rba_07_every_name_that_a_request_can_carry_is_known_to_mean_an_object_or_not() {
    let document = serde_json::to_value(router::routes().1).unwrap();
    let mut found = BTreeSet::new();
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values())
    {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["in"] == "query" {
                found.insert(parameter["name"].as_str().unwrap().to_owned());
            }
        }
        fields(&document, &operation["requestBody"]["content"]["application/json"]["schema"], &mut found);
    }
    let known: BTreeSet<String> = OBJECTS.iter().chain(VALUES).map(|name| (*name).to_owned()).collect();
    assert_eq!(
        found, known,
        "does the new name mean an object? Put it into its list, and try it below if it does"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_07_each_id_in_a_query_a_body_and_a_list_is_checked() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    for node in ["blue1", "blue2", "red1"] {
        fixture.enrol(&admin, node).await;
    }
    for node in ["blue1", "blue2"] {
        let body = json!({"groups": ["blue"]});
        fixture.call(&admin, "PATCH", &format!("/api/v1/nodes/{node}"), Some(body)).await;
    }
    let role = json!({"permissions": ["hosts:*:group:blue", "events:read:group:blue", "certificates:revoke:group:blue",
        "keyvault:create:group:blue", "users:*:*", "roles:*:*"]});
    let (status, answer) = fixture.call(&admin, "PUT", "/api/v1/roles/blue", Some(role)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let bob = fixture.user(&admin, "bob", &["blue"]).await;
    let call =
        async |method: &str, path: &str, body: Option<Value>| fixture.call(&bob, method, path, body).await;

    // A list in the query: each element.
    for (hosts, expected) in [("blue[1-2],red1", 2), ("red1,blue2", 1), ("red1", 0)] {
        let (_, page) = call("GET", &format!("/api/v1/nodes?hosts={hosts}"), None).await;
        assert_eq!(page["total"], expected, "{hosts}");
        assert!(!page.to_string().contains("red1"), "{page}");
    }
    for query in ["nodes?name=red1", "nodes?group=red", "nodes?q=red"] {
        assert_eq!(call("GET", &format!("/api/v1/{query}"), None).await.1["total"], 0, "{query}");
    }
    assert_eq!(call("GET", "/api/v1/events?node=red1", None).await.0, StatusCode::NOT_FOUND);
    // A cursor of a list that shows more leads nowhere else.
    let (_, first) = fixture.call(&admin, "GET", "/api/v1/nodes?limit=1&sort=-name", None).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, page) = call("GET", &format!("/api/v1/nodes?sort=-name&cursor={cursor}"), None).await;
    assert!(!page.to_string().contains("red1") && page["total"] == 2, "{page}");

    // Another id in the body than in the path is not a way in, and not a way to be heard at all.
    for (method, path, body) in [
        ("PATCH", "/api/v1/nodes/blue1", json!({"node": "red1", "labels": {"a": "b"}})),
        ("PATCH", "/api/v1/nodes/blue1", json!({"id": "red1", "labels": {"a": "b"}})),
        ("POST", "/api/v1/nodes/blue1/revoke", json!({"reason": "x", "node": "red1"})),
        ("PATCH", "/api/v1/users/bob", json!({"id": "admin", "enabled": true})),
        ("PUT", "/api/v1/roles/mine", json!({"name": "admin", "permissions": []})),
    ] {
        let (status, answer) = call(method, path, Some(body.clone())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{method} {path} {body}: {answer}");
    }

    // A list in the body: one element that is not allowed refuses the whole, wherever it stands.
    let password = "a long enough password";
    for roles in [json!(["blue", "sre"]), json!(["sre", "blue"]), json!(["admin"])] {
        let user = json!({"username": "eve", "password": password, "roles": roles});
        assert_eq!(call("POST", "/api/v1/users", Some(user)).await.0, StatusCode::FORBIDDEN, "{roles}");
        let change = Some(json!({ "roles": roles }));
        assert_eq!(call("PATCH", "/api/v1/users/bob", change).await.0, StatusCode::FORBIDDEN, "{roles}");
    }
    for permissions in
        [json!(["hosts:read:group:blue", "hosts:read:*"]), json!(["hosts:read:group:red", "users:read:*"])]
    {
        let body = Some(json!({ "permissions": permissions }));
        assert_eq!(call("PUT", "/api/v1/roles/mine", body).await.0, StatusCode::FORBIDDEN, "{permissions}");
    }
    for body in [json!({"groups": ["red"]}), json!({"groups": ["blue", "red"]}), json!({"owner": null})] {
        let (status, _) = call("PATCH", "/api/v1/nodes/blue1", Some(body.clone())).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    }
    for body in [json!({"node": "blue3"}), json!({"hosts": "blue3,red2"})] {
        let (status, _) = call("POST", "/api/keyvault/agent/generate-token", Some(body.clone())).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "nodes that are not there yet are in no group: {body}");
    }
    let (_, users) = fixture.call(&admin, "GET", "/api/v1/users", None).await;
    assert_eq!(users["total"], 2, "nothing was made by halves: {users}");
    let (_, red) = fixture.call(&admin, "GET", "/api/v1/nodes/red1", None).await;
    assert_eq!((&red["labels"], &red["groups"]), (&json!({}), &json!([])), "{red}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rba_06_by_time_nobody_tells_a_hidden_node_from_one_that_does_not_exist() {
    const PAIRS: usize = 300;
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "gpu1").await;
    let role = json!({"permissions": ["hosts:*:group:blue", "certificates:revoke:group:blue"]});
    fixture.call(&admin, "PUT", "/api/v1/roles/blue", Some(role)).await;
    let bob = fixture.user(&admin, "bob", &["blue"]).await;
    let clock = &fixture.running.app.clock;
    for (method, rest, body) in [("GET", "", None), ("POST", "/revoke", Some(json!({"reason": "x"})))] {
        let timed = async |node: &str| {
            let begun = clock.monotonic();
            let path = format!("/api/v1/nodes/{node}{rest}");
            let (status, _) = fixture.call(&bob, method, &path, body.clone()).await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            clock.monotonic().saturating_sub(begun)
        };
        let (mut hidden, mut missing): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
        for round in 0..PAIRS {
            if round % 2 == 0 {
                hidden.push(timed("gpu1").await);
                missing.push(timed("gpu2").await);
            } else {
                missing.push(timed("gpu2").await);
                hidden.push(timed("gpu1").await);
            }
        }
        let t = welch(&hidden, &missing);
        assert!(t.abs() < 4.5, "{method} {rest}: t = {t}");
    }
    fixture.stop().await;
}
