//! Trust by pin: who is believed to be the coordinator.

use aim_common::identity::Sha256Digest;
use aim_common::tls::PinnedRootVerifier;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use time::OffsetDateTime;

const SERVER: &str = "coordinator.aim.internal";
/// A moment within every certificate made here but the expired one.
const NOW: i64 = 1_795_413_600;

fn params(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW - 86_400).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW + 86_400).unwrap();
    params
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> CertificateDer<'static> {
    let mut params = params(&[SERVER]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

/// Presents leaf and chain to a node that holds this pin.
fn accepted(
    pin: Sha256Digest,
    leaf: &CertificateDer<'static>,
    chain: &[CertificateDer<'static>],
    name: &str,
) -> bool {
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.unsigned_abs()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    PinnedRootVerifier::new(pin).verify_server_cert(leaf, chain, &name, &[], now).is_ok()
}

#[test]
fn enr_17_only_a_chain_to_the_pinned_root_is_trusted() {
    let (root, other) = (authority(), authority());
    let (ours, theirs) = (root.der().clone(), other.der().clone());
    let pin = Sha256Digest::of(&ours);
    let good = leaf(&root, |_| ());

    assert!(accepted(pin, &good, std::slice::from_ref(&ours), SERVER));
    // The pin of another root, no root at all, and a pin of nothing that is presented.
    assert!(!accepted(Sha256Digest::of(&theirs), &good, std::slice::from_ref(&ours), SERVER));
    assert!(!accepted(pin, &good, &[], SERVER));
    assert!(!accepted(Sha256Digest::of(b"x"), &good, std::slice::from_ref(&ours), SERVER));
    // Our root is public: presenting it beside another root's leaf must not help.
    let foreign = leaf(&other, |_| ());
    assert!(!accepted(pin, &foreign, &[ours.clone(), theirs.clone()], SERVER));
    assert!(!accepted(pin, &foreign, &[theirs, ours.clone()], SERVER));
    // The pin of a leaf does not make it a root.
    assert!(!accepted(Sha256Digest::of(&foreign), &foreign, &[ours], SERVER));
}

#[test]
fn pki_16_the_name_the_usage_and_the_time_are_checked_under_the_pin() {
    let root = authority();
    let chain = [root.der().clone()];
    let pin = Sha256Digest::of(&chain[0]);
    let refused = |leaf: &CertificateDer<'static>| !accepted(pin, leaf, &chain, SERVER);

    assert!(!accepted(pin, &leaf(&root, |_| ()), &chain, "coordinator.other.internal"));
    assert!(refused(
        &leaf(&root, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    ));
    assert!(refused(&leaf(&root, |params| {
        params.not_after = OffsetDateTime::from_unix_timestamp(NOW - 60).unwrap();
    })));
    assert!(refused(&leaf(&root, |params| {
        params.not_before = OffsetDateTime::from_unix_timestamp(NOW + 60).unwrap();
    })));
}
