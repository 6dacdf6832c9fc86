//! Certificates in the whole KeyVault: statements of the group PKI that need its database and its clocks.

use aim_common::protocol::RenewRefusal;

use super::super::certificates::ISSUING_EXPIRING;
use super::super::enrol::new_certificate;
use super::super::pending::Pending;
use super::super::public_key::NodePublicKey;
use super::*;

const DAY_MS: i64 = 24 * HOUR_MS;
const REFUSED: RenewResponse = RenewResponse::Refused(RenewRefusal::NotAllowed);

fn new_csr() -> Vec<u8> {
    csr_der(&KeyPair::generate().unwrap())
}

/// A renewed certificate that is in use from now on.
async fn renewed(vault: &KeyVault, old: &CertificateDer<'_>) -> CertificateDer<'static> {
    let answer = vault.renew(&vault.peer(old).unwrap(), &new_csr(), "10.0.0.1").await;
    let new = issued(answer);
    vault.mark_first_used(&vault.peer(&new).unwrap()).await;
    new
}

#[tokio::test]
async fn pki_04_a_key_of_another_node_is_refused_in_a_renewal_too() {
    let place = Place::new();
    let vault = place.open().await;
    let (_, used) = vault.new_node("gpu1").await;
    let (other, own) = vault.new_node("gpu2").await;
    let peer = vault.peer(&leaf(&other)).unwrap();
    vault.mark_first_used(&peer).await;
    for key in [&used, &own] {
        let refused = vault.renew(&peer, &csr_der(key), "10.0.0.1").await;
        assert_eq!(refused, RenewResponse::Refused(RenewRefusal::BadRequest));
    }
    issued(vault.renew(&peer, &new_csr(), "10.0.0.1").await);
}

#[tokio::test]
async fn pki_06_the_database_takes_no_serial_twice() {
    let place = Place::new();
    let vault = place.open().await;
    let (first, _) = vault.new_node("gpu1").await;
    let (second, _) = vault.new_node("gpu2").await;
    let now = place.clock.now();
    let key = NodePublicKey::from_spki(&KeyPair::generate().unwrap().subject_public_key_info()).unwrap();
    let made = vault.ca.issue_node(second.node_id, &key, HOUR_MS, now).unwrap();
    let mut certificate = new_certificate(second.node_id, 2, &key, &made, now);
    certificate.serial = vault.peer(&leaf(&first)).unwrap().serial;
    let record = vault.audit(
        &admin(),
        "certificate.renew",
        "node".to_owned(),
        crate::store::audit::Decision::Allowed,
        serde_json::json!({}),
    );
    assert!(!vault.store.certificate_add(&certificate, &record).await.unwrap(), "the serial came twice");
    certificate.serial = made.serial;
    assert!(vault.store.certificate_add(&certificate, &record).await.unwrap());
}

#[tokio::test]
async fn pki_07_a_renewal_needs_a_certificate_in_force_and_is_for_its_own_node_only() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let (other, _) = vault.new_node("gpu2").await;
    let first = leaf(&identity);
    let peer = vault.peer(&first).unwrap();
    assert_eq!(peer.not_after, place.clock.now().plus_ms(DAY_MS), "24 h unless configured otherwise");
    vault.mark_first_used(&peer).await;
    // Another node's id beside the own serial is no right to that node's certificate.
    let mixed = PeerIdentity { node_id: other.node_id, ..peer.clone() };
    assert_eq!(vault.renew(&mixed, &new_csr(), "10.0.0.1").await, REFUSED);
    let second = renewed(&vault, &first).await;
    let newer = vault.peer(&second).unwrap();
    assert_eq!((newer.node_id, newer.generation), (identity.node_id, 2));
    assert_eq!(vault.renew(&peer, &new_csr(), "10.0.0.1").await, REFUSED, "superseded");
    place.clock.pass(DAY_MS);
    assert_eq!(vault.renew(&newer, &new_csr(), "10.0.0.1").await, REFUSED, "expired");
    let known = vault.peer(&leaf(&other)).err();
    assert_eq!(known, Some(PeerRefusal::Expired));
    let (third, _) = vault.new_node("gpu3").await;
    let peer = vault.peer(&leaf(&third)).unwrap();
    vault.revoke(third.node_id, "stolen", &admin()).await.unwrap();
    assert_eq!(vault.renew(&peer, &new_csr(), "10.0.0.1").await, REFUSED, "revoked");
}

#[tokio::test]
async fn pki_09_a_quarantined_node_gets_nothing_and_an_operator_can_release_it() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, key) = vault.new_node("gpu1").await;
    let certificate = leaf(&identity);
    vault.mark_first_used(&vault.peer(&certificate).unwrap()).await;
    let free = vault.release(identity.node_id, "no need", &admin()).await;
    assert!(matches!(free, Err(VaultError::Conflict(_))));
    vault.quarantine(identity.node_id, "two boots at once use one identity").await;
    let peer = vault.peer(&certificate).unwrap();
    assert!(peer.quarantined, "it may still report");
    assert_eq!(vault.renew(&peer, &new_csr(), "10.0.0.1").await, REFUSED);
    for purpose in [ProofPurpose::Recover, ProofPurpose::Renew] {
        let csr = (purpose == ProofPurpose::Renew).then(|| KeyPair::generate().unwrap());
        let refused = vault.prove_key(purpose, &key, csr.as_ref()).await;
        assert!(matches!(refused, Err(VaultError::Refused)), "{purpose:?}");
    }
    for bad in ["", &"x".repeat(501)] {
        let refused = vault.release(identity.node_id, bad, &admin()).await;
        assert!(matches!(refused, Err(VaultError::Invalid { field: "/reason", .. })));
    }
    let nobody = vault.release(NodeId::from_random([9; 16]), "why", &admin()).await;
    assert!(matches!(nobody, Err(VaultError::NotFound(_))));

    let mut news = vault.subscribe();
    vault.release(identity.node_id, "the copied disk was wiped", &admin()).await.unwrap();
    assert_eq!(news.try_recv().unwrap(), NodeNews::Released(identity.node_id));
    let record = vault.audit_of("node.release").await.remove(0);
    assert_eq!((record.actor.as_str(), record.source.as_str()), ("user:admin", "10.9.9.9"));
    assert_eq!(record.target, format!("node:{}", identity.node_id));
    assert!(record.detail.contains("wiped"), "{}", record.detail);
    let second = renewed(&vault, &certificate).await;
    vault.store.close().await;
    let vault = place.open().await;
    assert!(!vault.peer(&second).unwrap().quarantined, "after a restart");
    // The copy comes back: it is found again.
    let copy = vault.prove_key(ProofPurpose::Renew, &key, Some(&KeyPair::generate().unwrap())).await;
    assert!(matches!(copy, Err(VaultError::Refused)));
    assert!(vault.peer(&second).unwrap().quarantined);
    assert_eq!(vault.audit_of("node.quarantine").await.len(), 2);
}

#[tokio::test]
async fn pki_09_a_release_waits_for_a_quarantine_that_waits_for_the_database() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    // In force and kept, as while the database is away.
    vault.identities.write().quarantine(identity.node_id);
    let (node, at) = (identity.node_id, place.clock.now());
    let kept = Pending::Quarantine { node, reason: "two boots".to_owned(), at };
    vault.pending.lock().unwrap().push(kept);
    vault.release(node, "the copy is gone", &admin()).await.unwrap();
    vault.write_kept().await.unwrap();
    vault.store.close().await;
    let vault = place.open().await;
    assert!(!vault.peer(&leaf(&identity)).unwrap().quarantined, "a late quarantine came after its end");
    assert_eq!(vault.audit_of("node.quarantine").await.len(), 1);
}

#[tokio::test]
async fn pki_12_known_nodes_are_admitted_for_as_long_as_configured_and_again_afterwards() {
    let mut place = Place::new();
    place.config.admission_without_database_seconds = 60;
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let certificate = leaf(&identity);
    // The loss is noticed at most 20 s late, so that admission ends 20 s early.
    vault.identities.set_stale(false);
    let since = Some(place.clock.monotonic());
    vault.store.close().await;
    for (ms, admitted) in [(39_000, true), (1_000, false), (3_600_000, false)] {
        place.clock.pass(ms);
        vault.watch_database(since).await;
        assert_eq!(vault.peer(&certificate).is_ok(), admitted, "{ms}");
    }
    let vault = place.open().await;
    assert!(vault.watch_database(since).await.is_none());
    vault.peer(&certificate).unwrap();
}

#[tokio::test]
async fn pki_14_the_issuing_certificate_is_renewed_live_and_a_condition_says_when_it_cannot() {
    let place = Place::new();
    let vault = place.open().await;
    let (first, pin) = (vault.ca.issuing(), vault.ca.pin());
    vault.renew_issuing().await;
    assert!(!vault.conditions.is_active(ISSUING_EXPIRING));
    let root_key = place.state_dir().join("ca/root.key");
    let away = place.folder.path().join("root.key");
    std::fs::rename(&root_key, &away).unwrap();
    place.clock.pass(274 * DAY_MS);
    vault.renew_issuing().await;
    assert!(!vault.conditions.is_active(ISSUING_EXPIRING), "91 days before the end");
    place.clock.pass(DAY_MS);
    vault.renew_issuing().await;
    assert!(vault.conditions.is_active(ISSUING_EXPIRING), "90 days before the end");
    let detail = vault.conditions.list().remove(0).detail;
    assert!(detail.contains("root.key") && detail.contains(&first.not_after.to_string()), "{detail}");
    let (before, _) = vault.new_node("gpu1").await;
    let old_server = vault.server_certificate().current();

    std::fs::rename(&away, &root_key).unwrap();
    vault.renew_issuing().await;
    assert!(!vault.conditions.is_active(ISSUING_EXPIRING));
    assert_ne!(vault.ca.issuing().sha256, first.sha256);
    assert_eq!(vault.ca.pin(), pin);
    let server = vault.server_certificate().current();
    assert_eq!((&old_server.cert[1], &server.cert[1]), (&first.der, &vault.ca.issuing().der));
    let record = vault.audit_of("ca.renew-issuing").await.remove(0);
    assert!(record.detail.contains(&vault.ca.issuing().sha256.to_string()), "{}", record.detail);
    // The node from before the change is known, and renews into the new chain.
    let peer = vault.peer(&leaf(&before)).unwrap();
    vault.mark_first_used(&peer).await;
    let answer = vault.renew(&peer, &new_csr(), "10.0.0.1").await;
    let RenewResponse::Issued { chain_der, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(chain_der[1].to_vec(), vault.ca.issuing().der.to_vec());
}

#[tokio::test]
async fn pki_17_ten_minutes_of_skew_break_neither_connection_nor_renewal() {
    const TEN_MINUTES: i64 = 10 * 60 * 1000;
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let mut certificate = leaf(&identity);
    vault.mark_first_used(&vault.peer(&certificate).unwrap()).await;
    // Issued before a step and used after it, forth and back.
    for (name, step) in [("a", -TEN_MINUTES), ("b", TEN_MINUTES), ("c", TEN_MINUTES), ("d", -TEN_MINUTES)] {
        let (new, _) = vault.new_node(name).await;
        place.clock.step_wall(step);
        vault.peer(&leaf(&new)).unwrap();
        certificate = renewed(&vault, &certificate).await;
    }
    place.clock.step_wall(-16 * 60 * 1000);
    assert_eq!(vault.peer(&certificate), Err(PeerRefusal::Expired), "further than it was back-dated");
}

#[tokio::test]
async fn pki_18_a_node_that_loops_is_given_a_certificate_once_a_minute() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, old) = vault.new_node("gpu1").await;
    vault.mark_first_used(&vault.peer(&leaf(&identity)).unwrap()).await;
    place.clock.pass(2 * DAY_MS);
    let ask = async || vault.prove_key(ProofPurpose::Renew, &old, Some(&KeyPair::generate().unwrap())).await;
    ask().await.unwrap();
    place.clock.pass(59_999);
    let soon = ask().await;
    assert!(matches!(soon, Err(VaultError::TooMany { retry_after_seconds: 60 })), "{soon:?}");
    place.clock.pass(1);
    ask().await.unwrap();
}

#[tokio::test]
async fn pki_18_the_window_is_fourteen_days_to_the_millisecond() {
    let place = Place::new();
    let vault = place.open().await;
    for (name, late_ms, good) in [("gpu1", 14 * DAY_MS - 1, true), ("gpu2", 14 * DAY_MS, false)] {
        let (identity, old) = vault.new_node(name).await;
        vault.mark_first_used(&vault.peer(&leaf(&identity)).unwrap()).await;
        let ends = vault.peer(&leaf(&identity)).unwrap().not_after;
        place.clock.pass(ends.since_ms(place.clock.now()) + late_ms);
        let answer = vault.prove_key(ProofPurpose::Renew, &old, Some(&KeyPair::generate().unwrap())).await;
        assert_eq!(answer.is_ok(), good, "{name}: {answer:?}");
    }
}

/// A record's detail as JSON.
fn detail(row: &AuditRow) -> serde_json::Value {
    serde_json::from_str(&row.detail).unwrap()
}

#[tokio::test]
async fn pki_19_every_refusal_and_the_end_of_an_identity_name_serial_and_key() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, used) = vault.new_node("gpu1").await;
    let fingerprint = |pair: &KeyPair| Sha256Digest::of(&pair.subject_public_key_info()).to_string();
    // A name that is taken, a key that is taken, a wish.
    let (token, fresh) = (vault.agent_token(wish("gpu1")).await, KeyPair::generate().unwrap());
    assert!(vault.try_enrol(&token, "gpu1", &fresh).await.is_err());
    let token = vault.agent_token(wish("gpu2")).await;
    assert!(vault.try_enrol(&token, "gpu2", &used).await.is_err());
    let refused: Vec<AuditRow> =
        vault.audit_of("node.enrol").await.into_iter().filter(|row| row.decision == "denied").collect();
    for (row, (name, key)) in refused.iter().zip([("gpu1", &fresh), ("gpu2", &used)]) {
        assert_eq!((row.target.clone(), row.source.clone()), (format!("name:{name}"), SOURCE.to_string()));
        assert_eq!(detail(row)["public_key_sha256"], fingerprint(key));
    }
    assert_eq!(refused.len(), 2);
    // A refused renewal, of a good key.
    let peer = vault.peer(&leaf(&identity)).unwrap();
    let wanted = KeyPair::generate().unwrap();
    vault.quarantine(identity.node_id, "two boots").await;
    vault.renew(&peer, &csr_der(&wanted), "10.0.0.7").await;
    let row = vault.audit_of("certificate.renew").await.remove(0);
    assert_eq!((row.decision.as_str(), row.source.as_str()), ("denied", "10.0.0.7"));
    let target = format!("node:{}", peer.node_id);
    assert_eq!((row.actor.as_str(), row.target.as_str()), (target.as_str(), target.as_str()));
    assert_eq!(detail(&row)["public_key_sha256"], fingerprint(&wanted));
    assert_eq!(detail(&row)["serial"], peer.serial.as_str());
    // The end of it all.
    vault.revoke(identity.node_id, "stolen", &admin()).await.unwrap();
    let row = vault.audit_of("node.revoke").await.remove(0);
    assert_eq!((row.actor.as_str(), row.source.as_str()), ("user:admin", "10.9.9.9"));
    let named = &detail(&row)["certificates"][0];
    assert_eq!(named["serial"], peer.serial.as_str());
    assert_eq!(named["public_key_sha256"], fingerprint(&used));
    // A proof of a key that nobody knows.
    let stranger = KeyPair::generate().unwrap();
    assert!(vault.prove_key(ProofPurpose::Recover, &stranger, None).await.is_err());
    let row = vault.audit_of("certificate.recover").await.remove(0);
    assert_eq!((row.decision.as_str(), row.source.clone()), ("denied", SOURCE.to_string()));
    assert_eq!(detail(&row)["public_key_sha256"], fingerprint(&stranger));
}
