//! The node's identity on disk and its connections, against certificates and a QUIC server made here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use aim_agent::identity::{Identity, IdentityParts, IdentityStore, NodeKey, UnfitIdentity};
use aim_agent::link::{HelloFacts, Trouble, client_config, client_socket, connect, endpoint};
use aim_common::identity::{BootId, NodeId, Sha256Digest, SpoolId, TrustDomain};
use aim_common::protocol::ALPN;
use aim_common::units::EpochMs;
use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

type Root = CertifiedIssuer<'static, KeyPair>;

fn root() -> Root {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(root: &Root, key: &NodeKey, san: SanType, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
    leaf_until(root, key, san, usage, 4096)
}

fn leaf_until(
    root: &Root,
    key: &NodeKey,
    san: SanType,
    usage: ExtendedKeyUsagePurpose,
    year: i32,
) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    params.subject_alt_names = vec![san];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::from_pem(&key.to_pem()).unwrap();
    params.signed_by(&key, root).unwrap().der().clone()
}

fn node_id(byte: u8) -> NodeId {
    NodeId::from_random([byte; 16])
}

fn spiffe(id: NodeId) -> SanType {
    SanType::URI(format!("spiffe://aim.internal/node/{id}").try_into().unwrap())
}

fn server_name() -> SanType {
    SanType::DnsName("coordinator.aim.internal".try_into().unwrap())
}

fn parts(root: &Root, key: NodeKey, leaf: CertificateDer<'static>) -> IdentityParts {
    IdentityParts {
        node_id: node_id(1),
        node_name: "n1".parse().unwrap(),
        trust_domain: TrustDomain::default(),
        link_addresses: vec!["127.0.0.1:1".into()],
        https_addresses: vec!["127.0.0.1:2".into()],
        key,
        chain: vec![leaf],
        roots: vec![root.der().clone()],
    }
}

fn identity(root: &Root) -> Identity {
    let key = NodeKey::generate().unwrap();
    let leaf = leaf(root, &key, spiffe(node_id(1)), ExtendedKeyUsagePurpose::ClientAuth);
    Identity::new(parts(root, key, leaf), &[root.der().clone()]).unwrap()
}

#[test]
fn pki_08_at_every_step_of_a_renewal_there_is_a_whole_pair_on_disk() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let (root, store) = (root(), IdentityStore::new(dir.path()));
    let (old, new) = (identity(&root), identity(&root));
    store.save(&old).unwrap();
    let current = |store: &IdentityStore| store.load().unwrap().unwrap().serial().clone();
    store.save_next(&new).unwrap();
    assert_eq!(&current(&store), old.serial(), "the old pair stays until the new one is proven");
    assert_eq!(store.load_next().unwrap().unwrap().serial(), new.serial());
    // A crash within the writing of the next pair leaves a half of a temporary file, which nobody reads.
    std::fs::write(dir.path().join("identity.next.json.tmp"), "{\"form").unwrap();
    assert_eq!(store.load_next().unwrap().unwrap().serial(), new.serial());
    store.promote_next().unwrap();
    assert_eq!(&current(&store), new.serial());
    assert!(store.load_next().unwrap().is_none());
}

#[test]
fn pki_08_a_certificate_for_another_key_node_root_or_use_is_not_taken() {
    let (ours, other) = (root(), root());
    let take =
        |key: NodeKey, leaf, trusted: &Root| Identity::new(parts(&ours, key, leaf), &[trusted.der().clone()]);
    let key = || NodeKey::generate().unwrap();
    let client = || ExtendedKeyUsagePurpose::ClientAuth;
    let (mine, foreign) = (key(), key());
    let certificate = leaf(&ours, &foreign, spiffe(node_id(1)), client());
    assert!(matches!(take(mine, certificate, &ours), Err(UnfitIdentity::OtherKey)));
    let mine = key();
    let certificate = leaf(&ours, &mine, spiffe(node_id(2)), client());
    assert!(matches!(take(mine, certificate, &ours), Err(UnfitIdentity::OtherNode { .. })));
    let mine = key();
    let certificate = leaf(&other, &mine, spiffe(node_id(1)), client());
    assert!(matches!(take(mine, certificate, &ours), Err(UnfitIdentity::Chain(_))));
    let mine = key();
    let certificate = leaf(&ours, &mine, spiffe(node_id(1)), ExtendedKeyUsagePurpose::ServerAuth);
    assert!(matches!(take(mine, certificate, &ours), Err(UnfitIdentity::Chain(_))));
}

/// A QUIC server with this certificate that takes connections and says nothing.
fn server(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> quinn::Endpoint {
    let mut tls = rustls::ServerConfig::builder_with_provider(aim_common::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
}

fn facts() -> HelloFacts {
    HelloFacts {
        agent_version: "test".into(),
        boot_id: BootId::from_random([1; 16]),
        machine_id_sha256: None,
        inventory_sha256: Sha256Digest::of(b""),
        series_sha256: Sha256Digest::of(b""),
        spool_id: SpoolId::from_random([1; 16]),
        spool_first: 1,
        started: EpochMs(0),
    }
}

/// Connects to a server with such a certificate; gives the trouble and the bytes of Hello that the server saw.
async fn trouble_with(
    root: &Root,
    signer: &Root,
    san: SanType,
    usage: ExtendedKeyUsagePurpose,
) -> (Trouble, usize) {
    let key = NodeKey::generate().unwrap();
    trouble_with_certificate(root, leaf(signer, &key, san, usage), &key).await
}

async fn trouble_with_certificate(
    root: &Root,
    certificate: CertificateDer<'static>,
    key: &NodeKey,
) -> (Trouble, usize) {
    let server = server(certificate, key.to_pkcs8());
    let address = server.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let Some(incoming) = server.accept().await else { return 0 };
        let Ok(connection) = incoming.await else { return 0 };
        let Ok((_send, mut receive)) = connection.accept_bi().await else { return 0 };
        let mut buffer = [0; 4096];
        let read = receive.read(&mut buffer).await.ok().flatten().unwrap_or_default();
        connection.close(1_u32.into(), b"");
        read
    });
    let node = identity(root);
    let endpoint = endpoint(client_socket(address).unwrap()).unwrap();
    let facts = facts();
    let connecting = connect(
        &endpoint,
        client_config(&node).unwrap(),
        address,
        "coordinator.aim.internal",
        &facts,
        EpochMs(0),
    );
    let error = tokio::time::timeout(Duration::from_secs(30), connecting).await.unwrap().unwrap_err();
    (error.trouble, tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap().unwrap())
}

#[tokio::test]
async fn pki_16_an_agents_certificate_another_name_or_another_root_is_no_coordinator() {
    let (ours, other) = (root(), root());
    let (server_auth, client_auth) =
        (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    let elsewhere = SanType::DnsName("coordinator.elsewhere.internal".try_into().unwrap());
    let refused = (Trouble::NotTheCoordinator, 0);
    assert_eq!(trouble_with(&ours, &ours, spiffe(node_id(7)), client_auth.clone()).await, refused);
    assert_eq!(trouble_with(&ours, &ours, server_name(), client_auth).await, refused);
    assert_eq!(trouble_with(&ours, &ours, elsewhere, server_auth.clone()).await, refused);
    assert_eq!(trouble_with(&ours, &other, server_name(), server_auth.clone()).await, refused);
    // Past its time it is the coordinator's all the same, and hears nothing.
    let key = NodeKey::generate().unwrap();
    let expired = leaf_until(&ours, &key, server_name(), server_auth.clone(), 2020);
    let (trouble, heard) = trouble_with_certificate(&ours, expired, &key).await;
    assert!(trouble != Trouble::Refused && heard == 0, "{trouble:?}, {heard} bytes");
    // The right one hears Hello; its close code 1 is a refusal of this node.
    let (trouble, heard) = trouble_with(&ours, &ours, server_name(), server_auth).await;
    assert!(trouble == Trouble::Refused && heard > 12, "{trouble:?}, {heard} bytes");
}
