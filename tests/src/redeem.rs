//! A node's side of an enrolment without an agent, for many of them at once.

use aim_common::api::keyvault::EnrolRequest;
use aim_common::enrolment::JoinString;
use aim_common::identity::{CertificateSerial, Sha256Digest};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Api;
use crate::api::{SERVER_NAME, client};

/// Somebody with one connection and one key.
pub struct Redeemer {
    http: reqwest::Client,
    url: String,
    csr: String,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redeemed {
    /// With a certificate of this serial.
    Certificate(String),
    /// With this status.
    Refused(u16),
    /// Without an answer: nobody knows.
    Unanswered,
}

impl Redeemer {
    /// For the coordinator on this port.
    pub fn new(port: u16, pin: Sha256Digest) -> Self {
        let url = format!("https://{SERVER_NAME}:{port}/api/keyvault/agent/enroll");
        Self { http: client(port, pin), url, csr: new_csr() }
    }

    /// Opens its connection, so that what follows is the redemption alone.
    pub async fn connect(&self) {
        let _ = self.http.get(&self.url).send().await;
    }

    /// A certificate was issued for the key: the next try needs another one.
    pub fn take_new_key(&mut self) {
        self.csr = new_csr();
    }

    /// Redeems the token, coming from this address as a trusted proxy says.
    pub async fn redeem(&self, join: &JoinString, address: &str) -> Redeemed {
        let request = EnrolRequest {
            token: join.token.expose(),
            signature: join.signature.expose(),
            nonce: join.nonce.expose(),
            node: join.node.clone(),
            csr: self.csr.clone(),
        };
        let sent = self.http.post(&self.url).header("X-Forwarded-For", address).json(&request).send().await;
        let Ok(answer) = sent else { return Redeemed::Unanswered };
        let status = answer.status();
        let Ok(body) = answer.json::<Value>().await else { return Redeemed::Unanswered };
        if status.is_success() {
            Redeemed::Certificate(serial(body["certificate_chain"].as_str().unwrap()))
        } else {
            Redeemed::Refused(status.as_u16())
        }
    }
}

fn new_csr() -> String {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

/// The leaf's serial as the coordinator writes it.
fn serial(chain: &str) -> String {
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    CertificateSerial::from_bytes(leaf.raw_serial()).to_string()
}

/// A join string for each name of a host list, in its order.
#[track_caller]
pub fn joins(api: &Api, hosts: &str) -> Vec<JoinString> {
    let answer = api.post("/api/keyvault/agent/generate-token", &json!({ "hosts": hosts })).success();
    let tokens = answer["tokens"].as_array().unwrap().clone();
    tokens.iter().map(|token| token["join"].as_str().unwrap().parse().unwrap()).collect()
}
