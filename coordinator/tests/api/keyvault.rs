//! The KeyVault over HTTPS: shapes that installers depend on, uniform refusals, approval, revocation (group ENR).

use aim_coordinator::keyvault::csr;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::{Fixture, answer};

const SALT_KEY: &str = include_str!("../../src/keyvault/testdata/salt-master.pub");
const SALT_FINGERPRINT: &str = include_str!("../../src/keyvault/testdata/salt-master.fingerprint");
const GENERATE: &str = "/api/keyvault/salt/generate-token";
const MASTER_PUB: &str = "/api/keyvault/salt/master-pub";
const ENROLL: &str = "/api/keyvault/agent/enroll";

fn with_token(request: RequestBuilder, token: &Value) -> RequestBuilder {
    let text = |name: &str| token[name].as_str().unwrap().to_owned();
    request
        .header("X-AIM-Token", text("token"))
        .header("X-AIM-Signature", text("signature"))
        .header("X-AIM-Nonce", text("nonce"))
}

fn new_csr() -> String {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn enrol_body(token: &Value, node: &str) -> Value {
    json!({"token": token["token"], "signature": token["signature"], "nonce": token["nonce"], "node": node, "csr": new_csr()})
}

async fn agent_token(fixture: &Fixture, admin: &str, node: &str) -> Value {
    let body = Some(json!({"node": node}));
    let (status, token) = fixture.call(admin, "POST", "/api/keyvault/agent/generate-token", body).await;
    assert_eq!(status, StatusCode::OK, "{token}");
    token
}

async fn enrol(fixture: &Fixture, admin: &str, node: &str) -> Value {
    let token = agent_token(fixture, admin, node).await;
    let (status, identity) = answer(fixture.request("POST", ENROLL).json(&enrol_body(&token, node))).await;
    assert_eq!(status, StatusCode::OK, "{identity}");
    identity
}

async fn import_salt_key(fixture: &Fixture, admin: &str) {
    let body = json!({"pem": SALT_KEY});
    let (status, view) = fixture.call(admin, "PUT", "/api/v1/salt/master-key", Some(body)).await;
    assert_eq!(
        (status, view["fingerprint"].as_str()),
        (StatusCode::OK, Some(SALT_FINGERPRINT.trim())),
        "{view}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_01_a_token_needs_a_session_with_the_permission() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let engineer = fixture.user(&admin, "bob", &["engineer"]).await;
    for path in [GENERATE, "/api/keyvault/agent/generate-token"] {
        let body = json!({"node": "gpu1"});
        let (status, _) = answer(fixture.request("POST", path).json(&body)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let (status, _) = fixture.call(&engineer, "POST", path, Some(body)).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    let sre = fixture.user(&admin, "carol", &["sre"]).await;
    assert_eq!(fixture.call(&sre, "POST", GENERATE, None).await.0, StatusCode::OK);
    let (_, tokens) = fixture.call(&admin, "GET", "/api/v1/tokens", None).await;
    assert_eq!(tokens["total"], 1, "a refused call left a token: {tokens}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_18_the_flow_of_the_specification_gives_the_key_byte_for_byte_once() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let (status, token) = fixture.call(&admin, "POST", GENERATE, None).await;
    assert_eq!(status, StatusCode::OK, "an empty body will do");
    let names: Vec<&String> = token.as_object().unwrap().keys().collect();
    assert_eq!(names, ["expires_at", "nonce", "signature", "token"]);
    let lengths = ["token", "signature", "nonce"].map(|name| token[name].as_str().unwrap().len());
    assert_eq!(lengths, [36, 64, 32]);

    let (status, problem) = answer(with_token(fixture.request("GET", MASTER_PUB), &token)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("import it"), "{problem}");
    import_salt_key(&fixture, &admin).await;
    let response = with_token(fixture.request("GET", MASTER_PUB), &token).send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let key: Value = response.json().await.unwrap();
    assert_eq!(STANDARD.decode(key["pub_key"].as_str().unwrap()).unwrap(), SALT_KEY.as_bytes());
    let (status, _) = answer(with_token(fixture.request("GET", MASTER_PUB), &token)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the second time");

    let (_, token) = fixture.call(&admin, "POST", GENERATE, Some(json!({}))).await;
    let text = |name: &str| token[name].as_str().unwrap().to_owned();
    let authorization =
        format!("AIM token={},nonce={},signature={}", text("token"), text("nonce"), text("signature"));
    let (status, _) = answer(fixture.request("GET", MASTER_PUB).header("Authorization", authorization)).await;
    assert_eq!(status, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_02_every_refusal_looks_the_same() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    import_salt_key(&fixture, &admin).await;
    let (_, good) = fixture.call(&admin, "POST", GENERATE, None).await;
    let (_, used) = fixture.call(&admin, "POST", GENERATE, None).await;
    answer(with_token(fixture.request("GET", MASTER_PUB), &used)).await;
    let changed = |name: &str, value: &str| {
        let mut token = good.clone();
        token[name] = json!(value);
        token
    };
    let mut refusals = vec![answer(fixture.request("GET", MASTER_PUB)).await];
    for token in [
        used,
        changed("token", "00000000-0000-4000-8000-000000000000"),
        changed("token", "malformed"),
        changed("signature", &"0".repeat(64)),
        changed("nonce", &"0".repeat(32)),
        agent_token(&fixture, &admin, "gpu1").await,
    ] {
        refusals.push(answer(with_token(fixture.request("GET", MASTER_PUB), &token)).await);
    }
    for (status, problem) in &mut refusals {
        assert_eq!(*status, StatusCode::UNAUTHORIZED, "{problem}");
        problem.as_object_mut().unwrap().remove("request_id");
    }
    assert!(refusals.windows(2).all(|pair| pair[0] == pair[1]), "{refusals:#?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_13_the_query_form_is_off_unless_switched_on() {
    for switched_on in [false, true] {
        let fixture = Fixture::start_with(|config| config.keyvault.master_pub_query = switched_on).await;
        let admin = fixture.admin().await;
        import_salt_key(&fixture, &admin).await;
        let (_, token) = fixture.call(&admin, "POST", GENERATE, None).await;
        let text = |name: &str| token[name].as_str().unwrap();
        let path = format!(
            "{MASTER_PUB}?token={}&nonce={}&signature={}",
            text("token"),
            text("nonce"),
            text("signature")
        );
        let (status, _) = answer(fixture.request("GET", &path)).await;
        let expected = if switched_on { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(status, expected, "switched on: {switched_on}");
        fixture.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_list_gets_one_token_a_node_each_with_its_join_string() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let body = json!({"hosts": "gpu[01-03]"});
    let (status, answered) =
        fixture.call(&admin, "POST", "/api/keyvault/agent/generate-token", Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{answered}");
    let tokens = answered["tokens"].as_array().unwrap();
    let nodes: Vec<&str> = tokens.iter().map(|token| token["node"].as_str().unwrap()).collect();
    assert_eq!(nodes, ["gpu01", "gpu02", "gpu03"]);
    assert!(tokens.iter().all(|token| token["join"].as_str().unwrap().starts_with("aim1.")));
    let (_, listed) = fixture.call(&admin, "GET", "/api/v1/tokens?state=outstanding", None).await;
    assert_eq!(listed["total"], 3);
    for token in tokens {
        assert!(!listed.to_string().contains(token["token"].as_str().unwrap()), "a list shows no secret");
    }
    let id = listed["items"][0]["id"].as_i64().unwrap();
    let path = format!("/api/v1/tokens/{id}");
    assert_eq!(fixture.call(&admin, "DELETE", &path, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(fixture.call(&admin, "DELETE", &path, None).await.0, StatusCode::NOT_FOUND);
    let (status, _) = answer(fixture.request("POST", ENROLL).json(&enrol_body(&tokens[2], "gpu03"))).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "the newest one was revoked");
    for bad in [json!({}), json!({"node": "a", "hosts": "b"}), json!({"node": "a", "ttl_seconds": 86_401})] {
        let (status, _) = fixture.call(&admin, "POST", "/api/keyvault/agent/generate-token", Some(bad)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pki_02_a_csr_with_wishes_is_refused_and_recorded_and_costs_no_token() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let token = agent_token(&fixture, &admin, "gpu1").await;
    let mut params = CertificateParams::new(vec!["coordinator.aim.internal".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut body = enrol_body(&token, "gpu1");
    body["csr"] = json!(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap());
    let (status, problem) = answer(fixture.request("POST", ENROLL).json(&body)).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("/csr")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("asks for"), "{problem}");
    let records = fixture.audit().await;
    let refused = records.iter().find(|record| record.action == "certificate.request").unwrap();
    assert_eq!((refused.decision.as_str(), refused.source.as_str()), ("denied", "127.0.0.1"));
    let (status, _) = answer(fixture.request("POST", ENROLL).json(&enrol_body(&token, "gpu1"))).await;
    assert_eq!(status, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_shown_after_enrolment_and_its_revocation_is_recorded() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let identity = enrol(&fixture, &admin, "gpu1").await;
    let id = identity["node_id"].as_str().unwrap();
    let (_, listed) = fixture.call(&admin, "GET", "/api/v1/certificates?node=GPU1", None).await;
    assert_eq!((&listed["total"], &listed["items"][0]["state"]), (&json!(1), &json!("issued")), "{listed}");
    let revoke = |node: &str| format!("/api/v1/nodes/{node}/revoke");
    let (status, _) = fixture.call(&admin, "POST", &revoke("gpu1"), Some(json!({"reason": ""}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let reason = Some(json!({"reason": "stolen"}));
    let (status, revoked) = fixture.call(&admin, "POST", &revoke("gpu1"), reason.clone()).await;
    assert_eq!((status, revoked["node_id"].as_str()), (StatusCode::OK, Some(id)), "{revoked}");
    assert_eq!(revoked["database_pending"], false);
    assert_eq!(fixture.call(&admin, "POST", &revoke("gpu1"), reason).await.0, StatusCode::NOT_FOUND);
    let (_, listed) = fixture.call(&admin, "GET", "/api/v1/certificates?state=revoked", None).await;
    assert_eq!(listed["items"][0]["node_id"].as_str(), Some(id), "{listed}");
    let records = fixture.audit().await;
    let record = records.iter().find(|record| record.action == "node.revoke").unwrap();
    assert_eq!((record.actor.as_str(), record.source.as_str()), ("user:admin", "127.0.0.1"));
    assert_eq!((record.target.as_str(), record.request_id.len()), (format!("node:{id}").as_str(), 16));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_approval_queue_is_off_unless_switched_on() {
    let fixture = Fixture::start().await;
    let body = json!({"node": "gpu1", "csr": new_csr()});
    let (status, _) = answer(fixture.request("POST", "/api/keyvault/agent/request").json(&body)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_or_rejects_who_has_no_token() {
    let fixture = Fixture::start_with(|config| config.keyvault.approval_queue = true).await;
    let admin = fixture.admin().await;
    let ask = async |node: &str, csr: &str| {
        let body = json!({"node": node, "csr": csr, "inventory": {"gpus": 8}});
        answer(fixture.request("POST", "/api/keyvault/agent/request").json(&body)).await
    };
    let (wanted, unwanted) = (new_csr(), new_csr());
    let fingerprint = csr::public_key_of_pem(&wanted).unwrap().fingerprint().to_string();
    let (_, pending) = ask("gpu1", &wanted).await;
    assert_eq!(
        (pending["status"].as_str(), pending["public_key_sha256"].as_str()),
        (Some("pending"), Some(fingerprint.as_str()))
    );
    ask("gpu1", &wanted).await;
    ask("gpu2", &unwanted).await;
    let (_, queue) = fixture.call(&admin, "GET", "/api/v1/enrolment-requests?state=pending", None).await;
    assert_eq!(queue["total"], 2, "asking again adds nothing: {queue}");
    assert_eq!(queue["items"][1]["inventory"], json!({"gpus": 8}));
    let path =
        |at: usize, verb: &str| format!("/api/v1/enrolment-requests/{}/{verb}", queue["items"][at]["id"]);
    assert_eq!(fixture.call(&admin, "POST", &path(1, "approve"), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(fixture.call(&admin, "POST", &path(0, "reject"), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(fixture.call(&admin, "POST", &path(0, "approve"), None).await.0, StatusCode::NOT_FOUND);
    let (_, approved) = ask("gpu1", &wanted).await;
    assert_eq!(approved["identity"]["node_name"], "gpu1", "{approved}");
    assert_eq!(ask("gpu2", &unwanted).await.1["status"], "rejected");
    let actions: Vec<String> = fixture.audit().await.into_iter().map(|record| record.action).collect();
    for action in ["enrolment.request", "node.enrol", "enrolment.reject"] {
        assert!(actions.iter().any(|found| found == action), "{action} in {actions:?}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pki_13_no_answer_holds_a_private_key() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let identity = enrol(&fixture, &admin, "gpu1").await;
    let (_, ca) = fixture.call(&admin, "GET", "/api/v1/ca", None).await;
    let key = std::fs::read_to_string(fixture.directory.path().join("state/ca/issuing.key")).unwrap();
    let body = key.lines().nth(1).unwrap();
    for answer in [&identity, &ca] {
        assert!(!answer.to_string().contains("PRIVATE KEY") && !answer.to_string().contains(body));
    }
    assert_eq!(ca["trust_domain"], "aim.internal");
    assert_eq!(ca["roots"].as_array().unwrap().len(), 1);
    let directory = fixture.stop().await;
    let database = std::fs::read(directory.path().join("state/coordinator.db")).unwrap();
    assert!(!database.windows(body.len()).any(|window| window == body.as_bytes()));
}
