//! Nodes' names at the edge, and what somebody without a login learns of nodes (group IDN).

use aim_coordinator::api::access::Rule;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::access::{fill, rows};
use crate::support::{Fixture, answer};

const AGENT_GENERATE: &str = "/api/keyvault/agent/generate-token";
const HOSTILE: [&str; 16] = [
    "",
    ".",
    "..",
    "-a",
    "a.",
    "a..b",
    "../a",
    "a/b",
    "a\\b",
    "a\u{0}b",
    "a\nb",
    "a%2eb",
    "g\u{fc}1",
    "\u{ff47}pu1",
    "\u{202e}1upg",
    "gpu1 ",
];

#[tokio::test(flavor = "multi_thread")]
async fn idn_02_without_a_login_no_route_tells_anything_of_a_node() {
    let fixture = Fixture::start_with(|config| config.keyvault.approval_queue = true).await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "canary-node").await;
    let (_, node) = fixture.call(&admin, "GET", "/api/v1/nodes/canary-node", None).await;
    let id = node["id"].as_str().unwrap().to_owned();
    let tells = |text: &str| text.contains("canary") || text.contains(&id);
    assert!(tells(&node.to_string()));
    let mut asked = 0;
    for row in rows() {
        // The same question about the node itself, and without it.
        for path in
            [fill(row.path), row.path.replace("{node}", "canary-node"), row.path.replace("{node}", &id)]
        {
            let response = fixture.request(row.method.as_str(), &path).json(&json!({})).send().await.unwrap();
            let status = response.status();
            assert!(
                row.rule == Rule::Public || status == StatusCode::UNAUTHORIZED,
                "{} {path}: {status}",
                row.method
            );
            let headers = format!("{:?}", response.headers());
            let body = response.text().await.unwrap();
            assert!(!tells(&headers) && !tells(&body), "{} {path}: {headers} {body}", row.method);
            asked += 1;
        }
    }
    assert!(asked > 100, "only {asked} questions");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idn_06_hostile_names_are_refused_wherever_a_name_comes_in() {
    let fixture = Fixture::start_with(|config| config.keyvault.approval_queue = true).await;
    let admin = fixture.admin().await;
    let long = "a".repeat(254);
    for name in HOSTILE.iter().copied().chain([long.as_str()]) {
        let (status, problem) =
            fixture.call(&admin, "POST", AGENT_GENERATE, Some(json!({"node": name}))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "a token for {name:?}: {problem}");
        let enrol = json!({"token": "", "signature": "", "nonce": "", "node": name, "csr": ""});
        for (path, body) in [
            ("/api/keyvault/agent/enroll", enrol),
            ("/api/keyvault/agent/request", json!({"node": name, "csr": ""})),
        ] {
            let (status, problem) = answer(fixture.request("POST", path).json(&body)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} as {name:?}: {problem}");
            assert!(problem.to_string().contains("name"), "refused for something else: {problem}");
        }
    }
    let (_, tokens) = fixture.call(&admin, "GET", "/api/v1/tokens", None).await;
    assert_eq!(tokens["total"], 0, "{tokens}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idn_06_a_name_in_other_letters_is_the_same_node() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    fixture.enrol(&admin, "Gpu-1.Rack_2").await;
    let (_, node) = fixture.call(&admin, "GET", "/api/v1/nodes/GPU-1.RACK_2", None).await;
    assert_eq!(node["name"], "Gpu-1.Rack_2", "{node}");
    let token = fixture.call(&admin, "POST", AGENT_GENERATE, Some(json!({"node": "gpu-1.rack_2"}))).await.1;
    let csr = crate::support::csr();
    let body = json!({"token": token["token"], "signature": token["signature"], "nonce": token["nonce"],
        "node": "gpu-1.rack_2", "csr": csr});
    let (status, problem): (_, Value) =
        answer(fixture.request("POST", "/api/keyvault/agent/enroll").json(&body)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    fixture.stop().await;
}
