//! Statements of the group PKI on the real link: who is let in, who is not, and what becomes of copies.
#![expect(clippy::disallowed_methods, reason = "the statement's bound is one of real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aim_common::identity::{CertificateSerial, NodeId, Sha256Digest};
use aim_common::protocol::{ALPN, Ack, CloseCode, RenewRefusal, RenewResponse};
use aim_common::units::EpochMs;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData,
    SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::site::{Agent, Identity, PATIENCE, Site, batch, client_builder, closed, frame, hello, until};
use super::{count_events, event, until_events};
use crate::keyvault::Requester;
use crate::keyvault::identities::KnownCertificate;

const REFUSED: RenewResponse = RenewResponse::Refused(RenewRefusal::NotAllowed);

fn new_csr() -> (KeyPair, Vec<u8>) {
    let pair = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec();
    (pair, csr)
}

/// The next identity of the node, got over its session.
async fn renewed(agent: &Agent, former: &Identity) -> Identity {
    let (pair, csr) = new_csr();
    let answer = agent.renew(csr).await;
    let RenewResponse::Issued { chain_der, .. } = answer else { panic!("{answer:?}") };
    let chain = chain_der.into_iter().map(|der| CertificateDer::from(der.into_vec())).collect();
    Identity { node: former.node, chain, key: PrivateKeyDer::Pkcs8(pair.serialize_der().into()) }
}

/// TLS ends it, in the handshake or before the first byte of the application is looked at.
async fn assert_refused_by_tls(site: &Site, identity: &Identity, why: &str) {
    if let Ok((_endpoint, connection)) = site.dial(Some(identity), &[ALPN]).await {
        if let Ok((mut send, _receive)) = connection.open_bi().await {
            let _ = send.write_all(&frame(&hello(1))).await;
        }
        assert_eq!(closed(&connection).await, (None, 0), "{why}: refused by a session and not by TLS");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_09_an_older_generation_on_the_link_is_a_clone_and_shown_within_5_s() {
    let site = Site::start().await;
    let old = site.enrol("gpu1").await;
    let first = site.agent(&old, &hello(1)).await;
    let new = renewed(&first, &old).await;
    let mut agent = site.agent(&new, &hello(1)).await;
    let node = site.node(old.node);
    assert!(node.summary(site.inventory.now()).conditions.is_empty());

    let presented = Instant::now();
    assert_refused_by_tls(&site, &old, "an older generation").await;
    until("quarantine", PATIENCE, || node.summary(site.inventory.now()).conditions == ["quarantined"]).await;
    let shown = presented.elapsed();
    assert!(shown < Duration::from_secs(5), "shown after {shown:?}");
    until_events(&site, "node.clone_suspected", 1).await;
    // It reports: what it says is stored, and the node carries its flag.
    let mut durable = agent.stream().await;
    durable.write_all(&frame(&batch(vec![event(0)]))).await.unwrap();
    assert_eq!(agent.receive::<Ack>().await.sequence, 0);
    assert_eq!(count_events(&site, "gpu.xid").await, 1);
    assert!(node.state().is_present() && node.state().quarantine.is_some());
    // It gets nothing.
    assert_eq!(agent.renew(new_csr().1).await, REFUSED);

    let requester = Requester::coordinator();
    site.keyvault.release(old.node, "the copy was wiped", &requester).await.unwrap();
    until("release", PATIENCE, || node.summary(site.inventory.now()).conditions.is_empty()).await;
    renewed(&agent, &new).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_10_a_ticket_of_an_earlier_session_brings_a_revoked_node_nothing() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    // One configuration for both connections: rustls would keep tickets in it.
    let mut config = client_builder(site.keyvault.ca().root_store().unwrap())
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let (_endpoint, first) = site.dial_with(config.clone()).await.unwrap();
    // A round trip, after which a ticket would have arrived.
    let (mut send, mut receive) = first.open_bi().await.unwrap();
    send.write_all(&frame(&hello(1))).await.unwrap();
    assert!(receive.read(&mut [0; 64]).await.unwrap().is_some());
    let revoked = Instant::now();
    site.keyvault.revoke(identity.node, "stolen", &Requester::coordinator()).await.unwrap();
    assert_eq!(closed(&first).await, (Some(CloseCode::Refused), 0));
    assert!(revoked.elapsed() < Duration::from_secs(1), "cut after {:?}", revoked.elapsed());
    if let Ok((_endpoint, second)) = site.dial_with(config).await {
        assert_eq!(closed(&second).await, (None, 0), "the handshake was resumed past the certificate");
    }
    assert_eq!(site.fleet.sessions(), 0);
    site.stop().await;
}

/// The CA's own key, as whoever stole it would use it.
fn issuer(site: &Site) -> Issuer<'static, KeyPair> {
    let read = |name: &str| std::fs::read_to_string(site.folder.path().join("ca").join(name)).unwrap();
    Issuer::from_ca_cert_pem(&read("issuing.pem"), KeyPair::from_pem(&read("issuing.key")).unwrap()).unwrap()
}

/// What is wrong with a certificate.
type Change = fn(&mut CertificateParams);

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A certificate of our own CA with such contents, registered as the node's: only its contents can be refused.
fn registered(
    site: &Site,
    node: NodeId,
    number: u8,
    issuer: &Issuer<'static, KeyPair>,
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let (pair, serial) = (KeyPair::generate().unwrap(), [1, number]);
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial.to_vec().into());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let der = params.signed_by(&pair, issuer).unwrap().der().clone();
    let known = KnownCertificate {
        serial: CertificateSerial::from_bytes(&serial),
        node,
        generation: 1,
        public_key: Sha256Digest::of(&pair.subject_public_key_info()),
        not_before: EpochMs(0),
        not_after: EpochMs::MAX,
    };
    site.keyvault.identities().write().add_certificate(known, EpochMs(0));
    let chain = site.keyvault.ca().chain_der(&der);
    Identity { node, chain, key: PrivateKeyDer::Pkcs8(pair.serialize_der().into()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_14_without_the_root_key_all_goes_on_and_only_one_name_of_a_registered_node_is_let_in() {
    let site = Site::start().await;
    std::fs::remove_file(site.folder.path().join("ca/root.key")).unwrap();
    let identity = site.enrol("gpu1").await;
    let agent = site.agent(&identity, &hello(1)).await;
    renewed(&agent, &identity).await;

    let (node, issuer) = (site.enrol("gpu2").await.node, issuer(&site));
    let own = format!("spiffe://aim.internal/node/{node}");
    let other = format!("spiffe://aim.internal/node/{}", identity.node);
    let names: [(&str, Vec<SanType>); 8] = [
        ("no name", vec![]),
        ("two names", vec![uri(&own), uri(&other)]),
        ("a DNS name beside it", vec![uri(&own), SanType::DnsName("gpu2".try_into().unwrap())]),
        ("a DNS name", vec![SanType::DnsName("gpu2".try_into().unwrap())]),
        ("another trust domain", vec![uri(&format!("spiffe://other.internal/node/{node}"))]),
        ("no node", vec![uri("spiffe://aim.internal/user/admin")]),
        ("another node's name", vec![uri(&other)]),
        (
            "a node that is not registered",
            vec![uri(&format!("spiffe://aim.internal/node/{}", NodeId::from_random([9; 16])))],
        ),
    ];
    for (number, (why, names)) in (1..).zip(names) {
        let forged = registered(&site, node, number, &issuer, |params| params.subject_alt_names = names);
        assert_refused_by_tls(&site, &forged, why).await;
    }
    let usages: [(&str, Change); 3] = [
        ("for servers too", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth)),
        ("for no use in particular", |params| params.extended_key_usages.clear()),
        ("a CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
    ];
    for (number, (why, change)) in (20..).zip(usages) {
        let forged = registered(&site, node, number, &issuer, |params| {
            params.subject_alt_names = vec![uri(&own)];
            change(params);
        });
        assert_refused_by_tls(&site, &forged, why).await;
    }
    // The path length of the issuing certificate is 0: it can make no further CA.
    let (below_key, mut below) = (KeyPair::generate().unwrap(), CertificateParams::default());
    below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let below = below.signed_by(&below_key, &issuer).unwrap().der().clone();
    let sub_issuer = Issuer::from_ca_cert_der(&below, below_key).unwrap();
    let mut forged =
        registered(&site, node, 40, &sub_issuer, |params| params.subject_alt_names = vec![uri(&own)]);
    forged.chain.insert(1, below);
    assert_refused_by_tls(&site, &forged, "a CA below the issuing one").await;
    assert_eq!(site.fleet.sessions(), 1, "the one of gpu1");
    // Nothing but the contents was wrong with all of them.
    let good = registered(&site, node, 50, &issuer, |params| params.subject_alt_names = vec![uri(&own)]);
    site.agent(&good, &hello(1)).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_14_the_issuing_certificate_changes_under_running_sessions() {
    let site = Site::start().await;
    let before = site.enrol("gpu1").await;
    let agent = site.agent(&before, &hello(1)).await;
    let now = site.inventory.now().wall;
    let renewed_issuing = site.keyvault.ca().renew_issuing(now).unwrap();
    site.keyvault.server_certificate().renew(site.keyvault.ca(), now).unwrap();
    assert!(agent.connection.close_reason().is_none());
    let after = renewed(&agent, &before).await;
    assert_eq!(after.chain[1], renewed_issuing.der);
    let newcomer = site.enrol("gpu2").await;
    // Whoever comes now sees the new chain, with whichever chain of its own.
    for identity in [&newcomer, &before] {
        let (_endpoint, connection) = site.dial(Some(identity), &[ALPN]).await.unwrap();
        let shown = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
        assert_eq!(shown[1], renewed_issuing.der);
    }
    let again = site.agent(&after, &hello(1)).await;
    assert!(again.welcome.is_some());
    site.stop().await;
}

fn read(folder: &std::path::Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join("ca").join(name)).unwrap()
}

fn put(folder: &std::path::Path, name: &str, content: &[u8]) {
    crate::private_file::write(&folder.join("ca").join(name), content).unwrap();
}

fn trusting(roots: &[CertificateDer<'static>], identity: &Identity) -> rustls::ClientConfig {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let builder = client_builder(store);
    let mut config = builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// A rotation by hand on the CA's folder: the next root is distributed, then its issuing key is used, then the former
/// root goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_15_two_roots_are_trusted_on_both_sides_of_the_link_and_one_after_the_retirement() {
    let site = Site::start().await;
    let node = site.enrol("gpu1").await;
    let first_root = site.keyvault.ca().roots()[0].der.clone();
    let folder = site.stop_and_keep().await;
    let next = Site::start().await;
    let second_root = next.keyvault.ca().roots()[0].der.clone();
    let next = next.stop_and_keep().await;

    // Prepare and distribute: the bundle holds both, and a renewal hands both out.
    let (first_pem, second_pem) = (read(folder.path(), "roots.pem"), read(next.path(), "roots.pem"));
    put(folder.path(), "roots.pem", &[first_pem.clone(), second_pem.clone()].concat());
    let site = Site::start_in(folder).await;
    let agent = site.agent(&node, &hello(1)).await;
    let (pair, csr) = new_csr();
    let RenewResponse::Issued { chain_der, roots_der } = agent.renew(csr).await else { panic!("refused") };
    let handed: Vec<_> = roots_der.into_iter().map(|der| CertificateDer::from(der.into_vec())).collect();
    assert_eq!(handed, [first_root.clone(), second_root.clone()]);
    let chain = chain_der.into_iter().map(|der| CertificateDer::from(der.into_vec())).collect();
    let node = Identity { node: node.node, chain, key: PrivateKeyDer::Pkcs8(pair.serialize_der().into()) };
    let _online = site.dial_with(trusting(&handed, &node)).await.unwrap();
    let folder = site.stop_and_keep().await;

    // Activate: the next CA signs, and both are accepted from nodes.
    for name in ["root.key", "issuing.key", "issuing.pem"] {
        put(folder.path(), name, &read(next.path(), name));
    }
    let site = Site::start_in(folder).await;
    assert_eq!(site.keyvault.ca().roots()[0].der, second_root, "the one that signs comes first");
    let (_endpoint, connection) = site.dial_with(trusting(&handed, &node)).await.unwrap();
    let (mut control, _welcome) = connection.open_bi().await.unwrap();
    control.write_all(&frame(&hello(1))).await.unwrap();
    until("the node with the former chain", PATIENCE, || site.node(node.node).state().is_present()).await;
    let newcomer = site.enrol("gpu2").await;
    site.agent(&newcomer, &hello(1)).await;
    // Whoever was off while the roots were distributed does not trust the next one, and says so by not connecting.
    let behind = site.dial_with(trusting(std::slice::from_ref(&first_root), &node)).await;
    assert!(behind.is_err(), "a node accepted a root that it was never given");
    let folder = site.stop_and_keep().await;

    // Retire.
    put(folder.path(), "roots.pem", &second_pem);
    let site = Site::start_in(folder).await;
    assert_refused_by_tls(&site, &node, "a chain to the retired root").await;
    site.agent(&newcomer, &hello(1)).await;
    site.stop().await;
}

/// Shows one certificate as a client's, whatever it is for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pki_16_the_servers_own_certificate_is_refused_as_a_nodes() {
    let site = Site::start().await;
    let shown = Arc::new(Shown(site.keyvault.server_certificate().current()));
    let builder = client_builder(site.keyvault.ca().root_store().unwrap());
    let mut config = builder.with_client_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    if let Ok((_endpoint, connection)) = site.dial_with(config).await {
        assert_eq!(closed(&connection).await, (None, 0), "refused by TLS");
    }
    assert_eq!(site.fleet.sessions(), 0);
    site.stop().await;
}
