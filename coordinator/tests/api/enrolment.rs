//! What the KeyVault refuses over HTTPS, one statement of the group ENR after another.

use std::time::Duration;

use aim_common::api::keyvault::ProofRequest;
use aim_common::enrolment::{CHALLENGE_LEN, ProofPurpose, proof_input};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use crate::support::{Fixture, answer};

const SALT_KEY: &str = include_str!("../../src/keyvault/testdata/salt-master.pub");
const SALT_GENERATE: &str = "/api/keyvault/salt/generate-token";
const MASTER_PUB: &str = "/api/keyvault/salt/master-pub";
const AGENT_GENERATE: &str = "/api/keyvault/agent/generate-token";
const ENROLL: &str = "/api/keyvault/agent/enroll";
const PROOFS: [(&str, ProofPurpose); 2] = [
    ("/api/keyvault/agent/recover", ProofPurpose::Recover),
    ("/api/keyvault/agent/renew", ProofPurpose::Renew),
];

/// A coordinator behind a proxy on this machine, so that a test can come from any address.
async fn behind_a_proxy() -> Fixture {
    Fixture::start_with(|config| config.https.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]).await
}

fn from(request: RequestBuilder, address: &str) -> RequestBuilder {
    request.header("X-Forwarded-For", address)
}

async fn issue(fixture: &Fixture, admin: &str, path: &str, wish: Value) -> Value {
    let (status, token) = fixture.call(admin, "POST", path, Some(wish)).await;
    assert_eq!(status, StatusCode::OK, "{token}");
    token
}

fn csr_of(pair: &KeyPair) -> String {
    CertificateParams::default().serialize_request(pair).unwrap().pem().unwrap()
}

fn enrol(fixture: &Fixture, token: &Value, node: &str) -> RequestBuilder {
    let csr = csr_of(&KeyPair::generate().unwrap());
    let parts = ["token", "signature", "nonce"].map(|part| token[part].clone());
    let [token, signature, nonce] = parts;
    let body = json!({"token": token, "signature": signature, "nonce": nonce, "node": node, "csr": csr});
    fixture.request("POST", ENROLL).json(&body)
}

fn master_pub(fixture: &Fixture, token: &Value) -> RequestBuilder {
    let text = |name: &str| token[name].as_str().unwrap().to_owned();
    let request = fixture.request("GET", MASTER_PUB);
    request
        .header("X-AIM-Token", text("token"))
        .header("X-AIM-Signature", text("signature"))
        .header("X-AIM-Nonce", text("nonce"))
}

fn changed(token: &Value, part: &str, value: &str) -> Value {
    let mut token = token.clone();
    token[part] = json!(value);
    token
}

async fn import_salt_key(fixture: &Fixture, admin: &str) {
    let body = Some(json!({"pem": SALT_KEY}));
    assert_eq!(fixture.call(admin, "PUT", "/api/v1/salt/master-key", body).await.0, StatusCode::OK);
}

/// Waits until the sweeper has ended the token.
async fn await_expiry(fixture: &Fixture, admin: &str) {
    let deadline = fixture.running.app.clock.monotonic() + Duration::from_mins(1);
    loop {
        let (_, tokens) = fixture.call(admin, "GET", "/api/v1/tokens?state=expired", None).await;
        if tokens["total"].as_u64() > Some(0) {
            return;
        }
        assert!(fixture.running.app.clock.monotonic() < deadline, "the token is still good: {tokens}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Status, headers and body of an answer, without what differs from request to request.
async fn seen(request: RequestBuilder) -> (StatusCode, Vec<(String, String)>, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let headers =
        response.headers().iter().filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let mut body: Value = response.json().await.unwrap();
    body.as_object_mut().unwrap().remove("request_id");
    (status, headers, body)
}

/// Both steps of recover or renew; the key that is named, and the key that signs.
async fn proof(
    fixture: &Fixture,
    (path, purpose): (&str, ProofPurpose),
    named: &KeyPair,
    signer: &KeyPair,
) -> RequestBuilder {
    let public_key = STANDARD.encode(named.subject_public_key_info());
    let ask = ProofRequest::Challenge { public_key: public_key.clone() };
    let (status, given) = answer(fixture.request("POST", path).json(&ask)).await;
    assert_eq!(status, StatusCode::OK, "{given}");
    let challenge = given["challenge"].as_str().unwrap().to_owned();
    let bytes: [u8; CHALLENGE_LEN] = STANDARD.decode(&challenge).unwrap().try_into().unwrap();
    let signature = STANDARD.encode(signer.sign(&proof_input(purpose, &bytes, &[])).unwrap());
    fixture.request("POST", path).json(&ProofRequest::Proof { public_key, challenge, signature, csr: None })
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_02_whatever_is_wrong_with_a_token_or_proof_every_read_answers_alike() {
    let fixture = behind_a_proxy().await;
    let admin = fixture.admin().await;
    import_salt_key(&fixture, &admin).await;
    let wish = json!({"ttl_seconds": 1});
    let expired = issue(&fixture, &admin, SALT_GENERATE, wish).await;
    let expired_agent =
        issue(&fixture, &admin, AGENT_GENERATE, json!({"node": "gpu1", "ttl_seconds": 1})).await;
    await_expiry(&fixture, &admin).await;
    let salt = issue(&fixture, &admin, SALT_GENERATE, json!({})).await;
    let agent = issue(&fixture, &admin, AGENT_GENERATE, json!({"node": "gpu1"})).await;
    let (used, revoked) = (
        issue(&fixture, &admin, AGENT_GENERATE, json!({"node": "gpu2"})).await,
        issue(&fixture, &admin, AGENT_GENERATE, json!({"node": "gpu3"})).await,
    );
    assert_eq!(answer(enrol(&fixture, &used, "gpu2")).await.0, StatusCode::OK);
    let (_, tokens) = fixture.call(&admin, "GET", "/api/v1/tokens?state=outstanding", None).await;
    let path = format!("/api/v1/tokens/{}", tokens["items"][0]["id"]);
    assert_eq!(fixture.call(&admin, "DELETE", &path, None).await.0, StatusCode::NO_CONTENT);

    let zeros = "0".repeat(64);
    let unknown = "00000000-0000-4000-8000-000000000000";
    let mut tries = vec![
        ("expired", master_pub(&fixture, &expired)),
        ("of the other purpose", master_pub(&fixture, &agent)),
        ("another nonce", master_pub(&fixture, &changed(&salt, "nonce", &zeros[..32]))),
        ("another's nonce", master_pub(&fixture, &changed(&salt, "nonce", agent["nonce"].as_str().unwrap()))),
        ("enrol: expired", enrol(&fixture, &expired_agent, "gpu1")),
        ("enrol: used", enrol(&fixture, &used, "gpu2")),
        ("enrol: revoked", enrol(&fixture, &revoked, "gpu3")),
        ("enrol: unknown", enrol(&fixture, &changed(&agent, "token", unknown), "gpu1")),
        ("enrol: malformed", enrol(&fixture, &changed(&agent, "token", "x"), "gpu1")),
        ("enrol: signature", enrol(&fixture, &changed(&agent, "signature", &zeros), "gpu1")),
        ("enrol: nonce", enrol(&fixture, &changed(&agent, "nonce", &zeros[..32]), "gpu1")),
        ("enrol: another node", enrol(&fixture, &agent, "gpu9")),
        ("enrol: of the other purpose", enrol(&fixture, &salt, "gpu1")),
    ];
    let (stranger, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for step in PROOFS {
        tries.push(("proof: unknown key", proof(&fixture, step, &stranger, &stranger).await));
        tries.push(("proof: another's signature", proof(&fixture, step, &stranger, &other).await));
    }
    let expected = seen(fixture.request("GET", MASTER_PUB)).await;
    assert_eq!((expected.0, &expected.2["code"]), (StatusCode::UNAUTHORIZED, &json!("token_refused")));
    for (number, (what, request)) in tries.into_iter().enumerate() {
        // Each from an address of its own, so that the limit of failures stays out of it.
        assert_eq!(seen(from(request, &format!("192.0.2.{number}"))).await, expected, "{what}");
    }
    assert_eq!(answer(master_pub(&fixture, &salt)).await.0, StatusCode::OK, "the good one was used up");
    assert_eq!(answer(enrol(&fixture, &agent, "gpu1")).await.0, StatusCode::OK, "the good one was used up");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_09_over_https_a_token_of_one_purpose_is_refused_for_the_other_and_stays_good() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    import_salt_key(&fixture, &admin).await;
    let salt = issue(&fixture, &admin, SALT_GENERATE, json!({"node": "gpu1"})).await;
    let agent = issue(&fixture, &admin, AGENT_GENERATE, json!({"node": "gpu1"})).await;
    assert_eq!(answer(enrol(&fixture, &salt, "gpu1")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(answer(master_pub(&fixture, &agent)).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(answer(master_pub(&fixture, &salt)).await.0, StatusCode::OK);
    assert_eq!(answer(enrol(&fixture, &agent, "gpu1")).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_10_over_https_each_binding_is_kept_recorded_and_costs_no_token() {
    let fixture = behind_a_proxy().await;
    let admin = fixture.admin().await;
    import_salt_key(&fixture, &admin).await;
    let range = json!({"node": "gpu1", "source_cidr": "10.1.0.0/16"});
    let agent = issue(&fixture, &admin, AGENT_GENERATE, range).await;
    let salt = issue(&fixture, &admin, SALT_GENERATE, json!({"source_cidr": "10.1.0.0/16"})).await;
    let pair = KeyPair::generate().unwrap();
    let key = aim_common::identity::Sha256Digest::of(&pair.subject_public_key_info()).to_string();
    let bound = json!({"node": "gpu2", "public_key_sha256": key});
    let bound = issue(&fixture, &admin, AGENT_GENERATE, bound).await;
    for (request, reason) in [
        (from(enrol(&fixture, &agent, "gpu1"), "10.2.0.1"), "wrong_address"),
        (from(master_pub(&fixture, &salt), "192.0.2.1"), "wrong_address"),
        (from(enrol(&fixture, &agent, "gpu7"), "10.1.0.1"), "wrong_node"),
        (enrol(&fixture, &bound, "gpu2"), "wrong_public_key"),
    ] {
        assert_eq!(answer(request).await.0, StatusCode::UNAUTHORIZED, "{reason}");
        let records = fixture.audit().await;
        let last = records.last().unwrap();
        assert_eq!((last.action.as_str(), last.decision.as_str()), ("token.redeem", "denied"), "{reason}");
        assert!(last.detail.contains(reason), "{last:?}");
    }
    let within = from(enrol(&fixture, &agent, "gpu1"), "10.1.255.255");
    assert_eq!(answer(within).await.0, StatusCode::OK);
    assert_eq!(answer(from(master_pub(&fixture, &salt), "10.1.0.0")).await.0, StatusCode::OK);
    let mut body = json!({"node": "gpu2", "csr": csr_of(&pair)});
    for part in ["token", "signature", "nonce"] {
        body[part] = bound[part].clone();
    }
    assert_eq!(answer(fixture.request("POST", ENROLL).json(&body)).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_12_over_https_the_eleventh_failure_in_a_minute_is_answered_429_for_every_way_in() {
    let fixture = behind_a_proxy().await;
    let admin = fixture.admin().await;
    import_salt_key(&fixture, &admin).await;
    let good = issue(&fixture, &admin, SALT_GENERATE, json!({})).await;
    let unknown = changed(&good, "token", "00000000-0000-4000-8000-000000000000");
    for _ in 0..10 {
        let (status, _) = answer(from(master_pub(&fixture, &unknown), "192.0.2.1")).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let recorded = fixture.audit().await.len();
    for request in [master_pub(&fixture, &good), enrol(&fixture, &good, "gpu1")] {
        let response = from(request, "192.0.2.1").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(fixture.audit().await.len(), recorded, "nothing was looked up or written");
    assert_eq!(answer(from(master_pub(&fixture, &good), "192.0.2.2")).await.0, StatusCode::OK);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_13_an_enrolment_takes_no_token_from_the_query() {
    let fixture = Fixture::start_with(|config| config.keyvault.master_pub_query = true).await;
    let admin = fixture.admin().await;
    let token = issue(&fixture, &admin, AGENT_GENERATE, json!({"node": "gpu1"})).await;
    let text = |name: &str| token[name].as_str().unwrap();
    let query = format!("token={}&nonce={}&signature={}", text("token"), text("nonce"), text("signature"));
    let csr = csr_of(&KeyPair::generate().unwrap());
    let path = format!("{ENROLL}?{query}&node=gpu1");
    let (status, problem) =
        answer(fixture.request("POST", &path).json(&json!({"node": "gpu1", "csr": csr}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    for secret in ["token", "nonce", "signature"] {
        assert!(!problem.to_string().contains(text(secret)), "an error page repeats the {secret}");
    }
    assert_eq!(answer(enrol(&fixture, &token, "gpu1")).await.0, StatusCode::OK, "it was used up");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_14_the_running_coordinator_forgets_an_expired_hash_within_a_minute() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    issue(&fixture, &admin, SALT_GENERATE, json!({"ttl_seconds": 1})).await;
    let kept = issue(&fixture, &admin, SALT_GENERATE, json!({})).await;
    await_expiry(&fixture, &admin).await;
    let database = fixture.directory.path().join("state/coordinator.db");
    let mut connection =
        SqliteConnection::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    let rows: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT state, storage_hash FROM tokens ORDER BY id")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    connection.close().await.unwrap();
    assert_eq!(rows[0], ("expired".to_owned(), None));
    let (state, hash) = &rows[1];
    assert!(state == "outstanding" && hash.as_ref().is_some_and(|hash| hash.len() == 64), "{rows:?}");
    assert!(!hash.as_ref().unwrap().contains(&kept["token"].as_str().unwrap().replace('-', "")));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_16_over_https_beyond_the_cap_issuing_is_answered_429_until_tokens_end() {
    let fixture = Fixture::start_with(|config| config.keyvault.outstanding_tokens_max = 5).await;
    let admin = fixture.admin().await;
    issue(&fixture, &admin, AGENT_GENERATE, json!({"hosts": "gpu[1-4]"})).await;
    for wish in [json!({"hosts": "gpu[5-6]"}), json!({"hosts": "gpu[5-100]"})] {
        let (status, problem) = fixture.call(&admin, "POST", AGENT_GENERATE, Some(wish)).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{problem}");
    }
    issue(&fixture, &admin, SALT_GENERATE, json!({})).await;
    let request = fixture.request("POST", SALT_GENERATE).bearer_auth(&admin);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("retry-after"));
    let (_, tokens) = fixture.call(&admin, "GET", "/api/v1/tokens?state=outstanding", None).await;
    assert_eq!(tokens["total"], 5);
    let path = format!("/api/v1/tokens/{}", tokens["items"][0]["id"]);
    assert_eq!(fixture.call(&admin, "DELETE", &path, None).await.0, StatusCode::NO_CONTENT);
    issue(&fixture, &admin, SALT_GENERATE, json!({})).await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enr_18_a_different_master_key_replaces_none_unless_told_to() {
    let fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    import_salt_key(&fixture, &admin).await;
    // Another key of the same sort; even one other byte of the file is a different file.
    let other = KeyPair::generate().unwrap().public_key_pem();
    for pem in [other.as_str(), SALT_KEY.trim_end()] {
        let refused = fixture.call(&admin, "PUT", "/api/v1/salt/master-key", Some(json!({"pem": pem}))).await;
        assert_eq!(refused.0, StatusCode::CONFLICT, "{}", refused.1);
    }
    let (_, held) = fixture.call(&admin, "GET", "/api/v1/salt/master-key", None).await;
    assert_eq!(held["pem"], SALT_KEY);
    import_salt_key(&fixture, &admin).await;
    let body = Some(json!({"pem": other, "replace": true}));
    assert_eq!(fixture.call(&admin, "PUT", "/api/v1/salt/master-key", body).await.0, StatusCode::OK);
    let token = issue(&fixture, &admin, SALT_GENERATE, json!({})).await;
    let (_, given) = answer(master_pub(&fixture, &token)).await;
    assert_eq!(STANDARD.decode(given["pub_key"].as_str().unwrap()).unwrap(), other.as_bytes());
    fixture.stop().await;
}
