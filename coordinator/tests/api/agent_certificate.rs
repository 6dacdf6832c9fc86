//! A node's certificate opens nothing on the API (RBA-01): whoever shows it there is anybody.

use reqwest::StatusCode;
use serde_json::json;

use crate::access::{admitted, rows};
use crate::support::{Fixture, answer};

#[tokio::test(flavor = "multi_thread")]
async fn rba_01_an_agent_certificate_is_worth_nothing_on_the_api() {
    let mut fixture = Fixture::start().await;
    let admin = fixture.admin().await;
    let asked = Some(json!({"node": "gpu1"}));
    let (_, token) = fixture.call(&admin, "POST", "/api/keyvault/agent/generate-token", asked).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let body = json!({"token": token["token"], "signature": token["signature"], "nonce": token["nonce"],
        "node": "gpu1", "csr": csr});
    let (status, enrolled) = answer(fixture.request("POST", "/api/keyvault/agent/enroll").json(&body)).await;
    assert_eq!(status, StatusCode::OK, "{enrolled}");
    let mut anonymous = Vec::new();
    for row in rows() {
        anonymous.push((row.method.clone(), row.path, admitted(&fixture, None, &row).await));
    }
    let pem = format!("{}{}", enrolled["certificate_chain"].as_str().unwrap(), key.serialize_pem());
    let roots = fixture.running.app.keyvault.ca().bundle_pem();
    fixture.client = reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(roots.as_bytes()).unwrap())
        .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
        .resolve("localhost", fixture.running.https_addr)
        .build()
        .unwrap();
    for (row, (method, path, expected)) in rows().iter().zip(anonymous) {
        assert_eq!(admitted(&fixture, None, row).await, expected, "{method} {path}");
    }
    fixture.stop().await;
}
