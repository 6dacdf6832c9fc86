//! Values that the checks put into the store.

use aim_common::enrolment::TokenPurpose;
use aim_common::identity::{CertificateSerial, NodeId, NodeName, Sha256Digest, UserId};
use aim_common::units::EpochMs;
use aim_coordinator::store::Store;
use aim_coordinator::store::audit::{AuditFilter, Decision, NewAuditRecord};
use aim_coordinator::store::enrolment::{Claim, Enrolled, NewCertificate};
use aim_coordinator::store::tokens::NewToken;
use aim_coordinator::store::users::NewUser;

/// The time at which most checks begin.
pub(crate) const NOW: EpochMs = EpochMs(1_700_000_000_000);
pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) fn record(action: &'static str) -> NewAuditRecord {
    NewAuditRecord {
        at: NOW,
        actor: "user:admin".to_owned(),
        source: "192.0.2.1".to_owned(),
        action,
        target: "node:one".to_owned(),
        decision: Decision::Allowed,
        detail: serde_json::json!({ "why": "测试 \"quoted\" \\ and ' too" }),
        request_id: "r1".to_owned(),
    }
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::from_random([number; 16])
}

pub(crate) fn user_id(number: u8) -> UserId {
    UserId::from_random([number; 16])
}

pub(crate) fn digest(text: &str) -> Sha256Digest {
    Sha256Digest::of(text.as_bytes())
}

pub(crate) fn token(secret: &str) -> NewToken {
    NewToken {
        storage_hash: digest(secret),
        purpose: TokenPurpose::AgentEnrol,
        node: Some(name("gpu001")),
        source: Some("10.0.0.0/8".parse().unwrap()),
        public_key: None,
        replace: false,
        created_at: NOW,
        expires_at: NOW.plus_ms(HOUR),
        created_by: "user:admin".to_owned(),
    }
}

pub(crate) fn certificate(node: NodeId, generation: i64, key: &str) -> NewCertificate {
    NewCertificate {
        serial: serial(key),
        node,
        generation,
        public_key: digest(key),
        pem: format!("-----BEGIN CERTIFICATE-----\n{key}\n-----END CERTIFICATE-----\n"),
        not_before: NOW.plus_ms(-HOUR),
        not_after: NOW.plus_ms(24 * HOUR),
        issued_at: NOW.plus_ms(generation),
    }
}

/// The serial of the certificate with this key.
pub(crate) fn serial(key: &str) -> CertificateSerial {
    let bytes: Vec<u8> = digest(key).to_string().into_bytes();
    CertificateSerial::from_bytes(&bytes[..16])
}

/// Enrols a node with a token of its own.
pub(crate) async fn enrol(store: &Store, node: NodeId, name_text: &str) {
    let secret = format!("token of {name_text}");
    assert!(store.tokens_insert(&[token(&secret)], 1000, &record("token.create")).await.unwrap());
    let certificate = certificate(node, 1, &format!("key of {name_text}"));
    let claim = digest(&secret);
    let enrolled =
        store.enrol(Claim::Token(&claim), &name(name_text), false, &certificate, &record("node.enrol")).await;
    assert_eq!(enrolled.unwrap(), Enrolled::Done { superseded: None });
}

pub(crate) fn user(number: u8, username: &str, roles: &[&str]) -> NewUser {
    NewUser {
        id: user_id(number),
        username: username.to_owned(),
        password_hash: "$2b$12$hash".to_owned(),
        password_generated: number == 1,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        groups: vec!["blue".to_owned()],
    }
}

/// How many audit records match.
pub(crate) async fn records(store: &Store, filter: &AuditFilter) -> usize {
    let (rows, total) = store.audit_page(filter, i64::MAX, 10_000).await.unwrap();
    assert!(is_total(total, rows.len()), "{total:?} of {}", rows.len());
    rows.len()
}

/// A total that took too long to count is not known, which a busy machine may cause.
pub(crate) fn is_total(total: Option<i64>, count: usize) -> bool {
    total.is_none_or(|total| usize::try_from(total) == Ok(count))
}
