use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use aim_common::identity::{NodeId, SpiffeId};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::UnixTime;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::keyvault::csr;
use crate::keyvault::public_key::NodePublicKey;

/// 2026-01-01T00:00:00Z
pub(crate) const NOW: EpochMs = EpochMs(1_767_225_600_000);
const LIFETIME_MS: i64 = DAY_MS;

pub(crate) fn new_ca(folder: &Path) -> Ca {
    Ca::open_or_create(&folder.join("ca"), &TrustDomain::default(), NOW).unwrap()
}

pub(super) fn key() -> NodePublicKey {
    NodePublicKey::from_spki(&KeyPair::generate().unwrap().subject_public_key_info()).unwrap()
}

pub(super) fn node() -> NodeId {
    NodeId::from_random([7; 16])
}

/// Verifies as TLS does it, at a time.
pub(super) fn accepted_by_tls(ca: &Ca, chain: &[CertificateDer<'static>], at: EpochMs) -> bool {
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(ca.root_store().unwrap()),
        aim_common::tls::provider(),
    )
    .build()
    .unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(u64::try_from(at.0).unwrap()));
    verifier.verify_client_cert(&chain[0], &chain[1..], at).is_ok()
}

#[test]
fn pki_01_a_node_certificate_holds_exactly_what_the_registry_says() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = KeyPair::generate_for(kind).unwrap();
        // The subject is the one wish a request may hold; it is ignored.
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "coordinator.aim.internal");
        let request = params.serialize_request(&pair).unwrap();
        let key = csr::public_key_of_der(request.der()).unwrap();
        let issued = ca.issue_node(node(), &key, LIFETIME_MS, NOW).unwrap();
        let (rest, leaf) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(leaf.subject().to_string(), format!("CN={}", node()));
        let identity = SpiffeId { trust_domain: TrustDomain::default(), node: node() }.to_string();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names, vec![GeneralName::URI(&identity)]);
        let basic = leaf.basic_constraints().unwrap().unwrap().value;
        assert!(!basic.ca && basic.path_len_constraint.is_none());
        // Bit 0 is digitalSignature.
        assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
        assert_eq!(leaf.public_key().raw, pair.subject_public_key_info());
        // Nothing else: SAN, key usage, extended key usage, basic constraints, both key identifiers.
        assert_eq!(leaf.extensions().len(), 6);
        assert_eq!(leaf.validity().not_before.timestamp() * 1000, NOW.0 - BACK_DATE_MS);
        assert_eq!(leaf.validity().not_after.timestamp() * 1000, NOW.0 + LIFETIME_MS);
        assert!(accepted_by_tls(&ca, &ca.chain_der(&issued.der), NOW));
    }
}

#[test]
fn pki_06_serials_are_random_and_unique() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let key = key();
    let issue = || ca.issue_node(node(), &key, LIFETIME_MS, NOW).unwrap().serial;
    let (first, second) = (issue(), issue());
    assert_ne!(first, second, "two certificates of one key have two serials");
    assert_eq!(first.as_str().len(), 34, "16 random bytes behind 01");
}

#[test]
fn pki_06_a_million_serials_differ_and_each_of_128_bits_is_random() {
    const SERIALS: u32 = 1_000_000;
    let mut seen = std::collections::HashSet::with_capacity(SERIALS as usize);
    let mut ones = [0_u32; 128];
    for _ in 0..SERIALS {
        // What every certificate gets: `new_params` takes it from nowhere else.
        let serial = issue::random_serial().unwrap().to_bytes();
        assert_eq!((serial.len(), serial[0]), (17, 1), "DER writes all of it");
        let random: [u8; 16] = serial[1..].try_into().unwrap();
        for (bit, ones) in ones.iter_mut().enumerate() {
            *ones += u32::from(random[bit / 8] >> (bit % 8) & 1);
        }
        assert!(seen.insert(random), "a serial came twice");
    }
    // A fair bit is 1 % off its half only once in 10^88 tests.
    let half = SERIALS / 2;
    for (bit, ones) in ones.iter().enumerate() {
        assert!(ones.abs_diff(half) < half / 50, "bit {bit} is set in {ones} of {SERIALS}");
    }
}

#[test]
fn pki_13_an_open_key_or_folder_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    new_ca(folder.path());
    let ca_folder = folder.path().join("ca");
    let reopen = || Ca::open_or_create(&ca_folder, &TrustDomain::default(), NOW);
    reopen().unwrap();
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["root.key", "issuing.key", "issuing.pem", "roots.pem"] {
        let path = ca_folder.join(name);
        chmod(&path, 0o644);
        assert!(matches!(reopen(), Err(CaError::File(PrivateFileError::Mode { .. }))), "{name}");
        chmod(&path, 0o600);
    }
    chmod(&ca_folder, 0o770);
    assert!(matches!(reopen(), Err(CaError::File(PrivateFileError::Mode { .. }))));
    chmod(&ca_folder, 0o700);
    reopen().unwrap();
}

#[test]
fn pki_14_the_root_key_may_be_away_and_the_issuing_certificate_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let pin = new_ca(folder.path()).pin();
    std::fs::remove_file(folder.path().join("ca/root.key")).unwrap();
    let ca = new_ca(folder.path());
    assert_eq!(ca.pin(), pin);
    let issued = ca.issue_node(node(), &key(), LIFETIME_MS, NOW).unwrap();
    assert!(accepted_by_tls(&ca, &ca.chain_der(&issued.der), NOW));
    let issuing = ca.issuing();
    let (_, issuing) = x509_parser::parse_x509_certificate(&issuing.der).unwrap();
    let basic = issuing.basic_constraints().unwrap().unwrap().value;
    assert!(basic.ca && basic.path_len_constraint == Some(0));
    let usage = issuing.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.any);
    assert!(issuing.name_constraints().unwrap().is_none());
}

#[test]
fn pki_15_the_bundle_may_hold_two_roots() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let other_folder = tempfile::tempdir().unwrap();
    let other = new_ca(other_folder.path());
    let both = format!("{}{}", other.bundle_pem(), ca.bundle_pem());
    crate::private_file::write(&folder.path().join("ca/roots.pem"), both.as_bytes()).unwrap();
    let reopened = new_ca(folder.path());
    assert_eq!(reopened.roots().len(), 2);
    assert_eq!(reopened.pin(), ca.pin(), "the root that signed the issuing certificate comes first");
    let of_other = other.issue_node(node(), &key(), LIFETIME_MS, NOW).unwrap();
    assert!(accepted_by_tls(&reopened, &other.chain_der(&of_other.der), NOW));
    assert!(!accepted_by_tls(&ca, &other.chain_der(&of_other.der), NOW));
}

#[test]
fn pki_16_a_server_certificate_is_for_servers_only() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let names = ["aim.example.org".to_owned(), "10.1.2.3".to_owned(), "::1".to_owned()];
    let server = ca.issue_server(&names, NOW).unwrap();
    let chain = &server.certified.cert;
    assert_eq!(chain.len(), 3, "leaf, issuing, root");
    assert!(!accepted_by_tls(&ca, chain, NOW), "no client");
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    let verifier = aim_common::tls::PinnedRootVerifier::new(ca.pin());
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(u64::try_from(NOW.0).unwrap()));
    let accepted = |chain: &[CertificateDer<'static>], name: &str| {
        use rustls::client::danger::ServerCertVerifier;
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).is_ok()
    };
    for name in ["coordinator.aim.internal", "aim.example.org", "10.1.2.3", "::1"] {
        assert!(accepted(chain, name), "{name}");
    }
    assert!(!accepted(chain, "other.example.org"));
    let agent = ca.issue_node(node(), &key(), LIFETIME_MS, NOW).unwrap();
    assert!(!accepted(&ca.chain_der(&agent.der), "coordinator.aim.internal"), "no server");
    assert!(matches!(ca.issue_server(&["no name".to_owned()], NOW), Err(CaError::ServerName(_))));
}

#[test]
fn pki_17_certificates_are_back_dated() {
    let folder = tempfile::tempdir().unwrap();
    let ca = new_ca(folder.path());
    let issued = ca.issue_node(node(), &key(), LIFETIME_MS, NOW).unwrap();
    let chain = ca.chain_der(&issued.der);
    for minutes in [-10, 0, 10] {
        assert!(accepted_by_tls(&ca, &chain, NOW.plus_ms(minutes * 60_000)), "{minutes} min");
    }
    assert!(!accepted_by_tls(&ca, &chain, NOW.plus_ms(-16 * 60_000)));
    assert!(!accepted_by_tls(&ca, &chain, NOW.plus_ms(LIFETIME_MS + 1000)));
}

#[test]
fn the_trust_domain_is_frozen() {
    let folder = tempfile::tempdir().unwrap();
    new_ca(folder.path());
    let other: TrustDomain = "other.internal".parse().unwrap();
    let error = Ca::open_or_create(&folder.path().join("ca"), &other, NOW).err().unwrap();
    assert!(matches!(error, CaError::TrustDomain { .. }));
    assert!(error.to_string().contains("set keyvault.trust_domain back to aim.internal"), "{error}");
}

#[test]
fn a_damaged_or_foreign_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    new_ca(folder.path());
    let ca_folder = folder.path().join("ca");
    let other = tempfile::tempdir().unwrap();
    new_ca(other.path());
    let foreign = std::fs::read(other.path().join("ca/issuing.key")).unwrap();
    for (name, content) in
        [("issuing.key", foreign), ("issuing.pem", b"nothing".to_vec()), ("roots.pem", vec![])]
    {
        let kept = std::fs::read(ca_folder.join(name)).unwrap();
        crate::private_file::write(&ca_folder.join(name), &content).unwrap();
        let error = Ca::open_or_create(&ca_folder, &TrustDomain::default(), NOW).err().unwrap();
        assert!(error.to_string().contains(name), "{error}");
        crate::private_file::write(&ca_folder.join(name), &kept).unwrap();
    }
    new_ca(folder.path());
}

#[test]
fn an_interrupted_creation_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ca.new")).unwrap();
    std::fs::write(folder.path().join("ca.new/root.key"), "half").unwrap();
    new_ca(folder.path());
    assert!(!folder.path().join("ca.new").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a request says that is accepted at all, nothing of it but the key is in the certificate.
    #[test]
    fn pki_01_no_subject_and_no_key_changes_what_is_certified(
        names in proptest::collection::vec("[a-zA-Z0-9 *./:@=-]{1,40}", 0..4),
        kind in 0_usize..3,
        node in any::<[u8; 16]>(),
        minutes in 1_i64..=43_200,
    ) {
        static CA: std::sync::OnceLock<(tempfile::TempDir, Ca)> = std::sync::OnceLock::new();
        let (_, ca) = CA.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let ca = new_ca(folder.path());
            (folder, ca)
        });
        let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        let pair = KeyPair::generate_for(kinds[kind]).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let fields = [
            rcgen::DnType::CommonName, rcgen::DnType::OrganizationName, rcgen::DnType::OrganizationalUnitName,
            rcgen::DnType::CountryName,
        ];
        for (field, name) in fields.into_iter().zip(&names) {
            params.distinguished_name.push(field, name.clone());
        }
        let request = params.serialize_request(&pair).unwrap();
        let key = csr::public_key_of_der(request.der()).unwrap();
        let node = NodeId::from_random(node);
        let issued = ca.issue_node(node, &key, minutes * 60_000, NOW).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        prop_assert_eq!(leaf.subject().to_string(), format!("CN={node}"));
        let identity = SpiffeId { trust_domain: TrustDomain::default(), node }.to_string();
        let alternative = leaf.subject_alternative_name().unwrap().unwrap().value;
        prop_assert_eq!(&alternative.general_names, &vec![GeneralName::URI(&identity)]);
        prop_assert!(!leaf.is_ca());
        prop_assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        prop_assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
        prop_assert_eq!(leaf.extensions().len(), 6);
        prop_assert_eq!(leaf.public_key().raw, pair.subject_public_key_info());
        let life = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        prop_assert_eq!(life, ((NOW.0 - BACK_DATE_MS) / 1000, NOW.0 / 1000 + minutes * 60));
    }
}
