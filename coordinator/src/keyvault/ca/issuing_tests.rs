//! The issuing certificate's renewal, with the time as a parameter.

use std::path::Path;

use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::tests::{NOW, accepted_by_tls, key, new_ca, node};
use super::*;

/// A day of the CA's life.
fn day(number: i64) -> EpochMs {
    NOW.plus_ms(number * DAY_MS)
}

fn open(folder: &Path, at: EpochMs) -> Result<Ca, CaError> {
    Ca::open_or_create(&folder.join("ca"), &TrustDomain::default(), at)
}

fn is_renewed(ca: &Ca, at: EpochMs) -> bool {
    matches!(ca.renew_issuing_if_due(at).unwrap(), IssuingRenewal::Renewed(_))
}

/// As an agent sees the server: by the root's pin alone.
fn server_accepted(pin: Sha256Digest, chain: &[CertificateDer<'static>], at: EpochMs) -> bool {
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(at.0.unsigned_abs()));
    let name = ServerName::try_from("coordinator.aim.internal").unwrap();
    let verifier = aim_common::tls::PinnedRootVerifier::new(pin);
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).is_ok()
}

#[test]
fn pki_14_the_issuing_certificate_is_renewed_90_days_before_its_end_with_a_new_key() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let (first, pin) = (ca.issuing(), ca.pin());
    assert!(matches!(ca.renew_issuing_if_due(day(274)).unwrap(), IssuingRenewal::NotDue));
    let old_leaf = ca.issue_node(node(), &key(), 30 * DAY_MS, day(274)).unwrap();
    let old_server = ca.issue_server(&[], day(274)).unwrap().certified.cert.clone();
    assert!(is_renewed(&ca, day(275)));
    let second = ca.issuing();
    assert_ne!(first.sha256, second.sha256);
    assert_eq!(second.not_after, day(275 + 365));
    let subject_key = |certificate: &CaCertificate| issuing::subject_key(&certificate.der);
    assert_ne!(subject_key(&first), subject_key(&second), "a new key");
    assert_eq!(ca.pin(), pin, "what agents pin is the root");
    assert!(matches!(ca.renew_issuing_if_due(day(275)).unwrap(), IssuingRenewal::NotDue));

    // What is signed now, and what was signed before, each with its own chain; the same after a restart.
    let new_leaf = ca.issue_node(node(), &key(), DAY_MS, day(275)).unwrap();
    let new_server = ca.issue_server(&[], day(275)).unwrap().certified.cert.clone();
    let (_, parsed) = x509_parser::parse_x509_certificate(&second.der).unwrap();
    assert_eq!(parsed.basic_constraints().unwrap().unwrap().value.path_len_constraint, Some(0));
    for ca in [&ca, &open(folder.path(), day(275)).unwrap()] {
        assert_eq!(ca.issuing().sha256, second.sha256);
        for (leaf, issuing) in [(&new_leaf, &second), (&old_leaf, &first)] {
            let chain = ca.chain_der(&leaf.der);
            assert_eq!(chain[1], issuing.der);
            assert!(accepted_by_tls(ca, &chain, day(275)));
            let pem = ca.chain_pem(&leaf.pem);
            assert!(pem.contains(&to_pem(&issuing.der)) && pem.matches("BEGIN").count() == 3, "{pem}");
        }
    }
    assert!(server_accepted(pin, &old_server, day(303)) && server_accepted(pin, &new_server, day(304)));
}

#[test]
fn pki_14_the_old_chain_is_good_until_its_end_and_nothing_outlives_its_issuer() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let end = ca.issuing().not_after;
    let late = ca.issue_node(node(), &key(), 30 * DAY_MS, day(350)).unwrap();
    assert_eq!(late.not_after, end, "not longer than the certificate that signs it");
    let server = ca.issue_server(&[], day(350)).unwrap();
    assert!(server.renew_at < end, "the server's certificate is renewed before the issuing one ends");
    assert!(is_renewed(&ca, day(351)));
    let chain = ca.chain_der(&late.der);
    assert!(accepted_by_tls(&ca, &chain, end.plus_ms(-1000)));
    assert!(!accepted_by_tls(&ca, &chain, end.plus_ms(1000)));
    assert!(server_accepted(ca.pin(), &server.certified.cert, end.plus_ms(-1000)));
    // A year later the first one has ended and is no longer kept.
    assert!(is_renewed(&ca, day(351 + 300)));
    let kept = std::fs::read_to_string(folder.path().join("ca/issuing.pem")).unwrap();
    assert_eq!(kept.matches("BEGIN CERTIFICATE").count(), 2);
}

#[test]
fn pki_14_without_the_root_key_nothing_is_renewed_and_nothing_is_signed_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let (root_key, away) = (folder.path().join("ca/root.key"), folder.path().join("away.key"));
    std::fs::rename(&root_key, &away).unwrap();
    let first = ca.issuing();
    let said = ca.renew_issuing_if_due(day(275)).unwrap();
    assert!(matches!(said, IssuingRenewal::RootKeyAway { not_after } if not_after == first.not_after));
    assert!(open(folder.path(), day(364)).is_ok());
    for refused in [
        ca.issue_node(node(), &key(), DAY_MS, day(366)).err(),
        ca.issue_server(&[], day(366)).err(),
        open(folder.path(), day(366)).err(),
    ] {
        assert!(matches!(refused, Some(CaError::IssuingExpired { .. })), "{refused:?}");
    }
    // Another CA's root key is none of ours.
    let other = tempfile::tempdir().unwrap();
    new_ca(other.path());
    std::fs::rename(other.path().join("ca/root.key"), &root_key).unwrap();
    let foreign = ca.renew_issuing_if_due(day(275)).unwrap_err();
    assert!(matches!(&foreign, CaError::Content { path, .. } if path.ends_with("root.key")), "{foreign}");
    assert_eq!(ca.issuing().sha256, first.sha256);
    // With the right one a start mends even what has ended.
    std::fs::rename(&away, &root_key).unwrap();
    let reopened = open(folder.path(), day(500)).unwrap();
    assert_eq!(reopened.issuing().not_after, day(500 + 365));
    reopened.issue_node(node(), &key(), DAY_MS, day(500)).unwrap();
}

#[test]
fn pki_14_an_issuing_certificate_does_not_outlive_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let root_ends = ca.roots()[0].not_after;
    assert!(is_renewed(&ca, root_ends.plus_ms(-200 * DAY_MS)));
    assert_eq!(ca.issuing().not_after, root_ends);
    let said = ca.renew_issuing_if_due(root_ends.plus_ms(-10 * DAY_MS)).unwrap();
    assert!(matches!(said, IssuingRenewal::RootEnds { .. }), "{said:?}");
}

/// The four files that a renewal touches, as bytes.
fn files_of(folder: &Path) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let names = ["issuing.key", "issuing.pem", "issuing.next.key", "issuing.next.pem"];
    names.into_iter().map(|name| (name, std::fs::read(folder.join("ca").join(name)).ok())).collect()
}

fn put(folder: &Path, name: &str, content: Option<&Vec<u8>>) {
    let path = folder.join("ca").join(name);
    match content {
        Some(content) => crate::private_file::write(&path, content).unwrap(),
        None => drop(std::fs::remove_file(&path)),
    }
}

#[test]
fn pki_14_a_crash_at_any_step_of_the_renewal_leaves_one_whole_pair() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let (first, before) = (ca.issuing(), files_of(folder.path()));
    assert!(is_renewed(&ca, day(280)));
    let (second, after) = (ca.issuing(), files_of(folder.path()));
    let (old_key, old_pem) = (before[0].1.as_ref(), before[1].1.as_ref());
    let (new_key, new_pem) = (after[0].1.as_ref(), after[1].1.as_ref());
    assert!(after[2].1.is_none() && after[3].1.is_none(), "nothing is left beside");
    // Without the root key the opening itself renews nothing: what it finds is what the crash left.
    std::fs::remove_file(folder.path().join("ca/root.key")).unwrap();
    for (step, [key, pem, next_key, next_pem], expected) in [
        ("the next key is half written", [old_key, old_pem, None, None], &first),
        ("the next key is there", [old_key, old_pem, new_key, None], &first),
        ("it is decided", [old_key, old_pem, new_key, new_pem], &second),
        ("the key is renamed", [new_key, old_pem, None, new_pem], &second),
        ("both are renamed", [new_key, new_pem, None, None], &second),
    ] {
        for (name, content) in [
            ("issuing.key", key),
            ("issuing.pem", pem),
            ("issuing.next.key", next_key),
            ("issuing.next.pem", next_pem),
        ] {
            put(folder.path(), name, content);
        }
        std::fs::write(folder.path().join("ca/issuing.next.new"), "half").unwrap();
        for _ in 0..2 {
            let opened = open(folder.path(), day(280)).unwrap_or_else(|error| panic!("{step}: {error}"));
            assert_eq!(opened.issuing().sha256, expected.sha256, "{step}");
            let leaf = opened.issue_node(node(), &self::key(), DAY_MS, day(280)).unwrap();
            assert!(accepted_by_tls(&opened, &opened.chain_der(&leaf.der), day(280)), "{step}");
        }
        let left = files_of(folder.path());
        assert!(left[2].1.is_none() && left[3].1.is_none(), "{step}: something is left");
    }
}
