//! Who gets through the handshake, and what of a peer is read before.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use aim_common::api::nodes::Presence;
use aim_common::protocol::{ALPN, CloseCode};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionError, Endpoint};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::server::ServerSessionMemoryCache;

use super::site::{Identity, PATIENCE, SERVER_NAME, Site, closed, endpoint, frame, hello, quic, until};
use crate::fleet::tls;

/// The node's own certificate made anew by the CA's own key, with the same serial and key, and one thing changed.
fn reissued(site: &Site, identity: &Identity, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let file = |name| std::fs::read_to_string(site.folder.path().join("ca").join(name)).unwrap();
    let issuing = KeyPair::from_pem(&file("issuing.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file("issuing.pem"), issuing).unwrap();
    let (_, former) = x509_parser::parse_x509_certificate(&identity.chain[0]).unwrap();
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(former.raw_serial()));
    params.not_before = former.validity().not_before.to_datetime();
    params.not_after = former.validity().not_after.to_datetime();
    let name = format!("spiffe://aim.internal/node/{}", identity.node);
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let key = KeyPair::try_from(&identity.key).unwrap();
    let mut reissued = identity.clone();
    reissued.chain[0] = params.signed_by(&key, &issuer).unwrap().der().clone();
    reissued
}

/// The coordinator's TLS refuses this client, and reads nothing of what it says; gives the text of the refusal.
async fn refusal(site: &Site, identity: Option<&Identity>) -> String {
    let connection = match site.dial(identity, &[ALPN]).await {
        Ok((endpoint, connection)) => {
            // The client ends its part of the handshake first: the refusal comes a moment later.
            if let Ok((mut send, _receive)) = connection.open_bi().await {
                let _ = send.write_all(&frame(&hello(1))).await;
            }
            assert_eq!(closed(&connection).await, (None, 0), "refused by TLS and not by a session");
            drop(endpoint);
            connection.close_reason().unwrap()
        }
        Err(error) => error,
    };
    let ConnectionError::ConnectionClosed(close) = connection else { panic!("not refused: {connection}") };
    assert!((0x100..0x200).contains(&u64::from(close.error_code)), "no alert of TLS: {close}");
    String::from_utf8(close.reason.to_vec()).unwrap()
}

fn self_signed(identity: &Identity) -> Identity {
    let stranger = rcgen::generate_simple_self_signed(["gpu1".to_owned()]).unwrap();
    Identity {
        node: identity.node,
        chain: vec![stranger.cert.der().clone()],
        key: rustls_pki_types::PrivateKeyDer::Pkcs8(stranger.signing_key.serialize_der().into()),
    }
}

fn tampered(identity: &Identity) -> Identity {
    let mut tampered = identity.clone();
    let mut der = tampered.chain[0].to_vec();
    *der.last_mut().unwrap() ^= 1;
    tampered.chain[0] = der.into();
    tampered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_01_without_a_good_certificate_nothing_is_processed_qui_13_nor_anything_told() {
    let site = Site::start().await;
    let good = site.enrol("gpu1").await;
    let other_site = Site::start().await;
    let other_ca = other_site.enrol("gpu1").await;
    let expired = reissued(&site, &good, |params| {
        params.not_after = params.not_before + Duration::from_mins(10);
    });
    let not_yet_valid = reissued(&site, &good, |params| params.not_before += Duration::from_hours(1));
    let of_a_server = reissued(&site, &good, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let no_chain = Identity { chain: vec![good.chain[0].clone()], ..good.clone() };
    for (what, identity) in [
        ("no certificate", None),
        ("self-signed", Some(self_signed(&good))),
        ("another CA's", Some(other_ca)),
        ("tampered", Some(tampered(&good))),
        ("expired", Some(expired)),
        ("not yet valid", Some(not_yet_valid)),
        ("for servers", Some(of_a_server)),
        ("without its issuer", Some(no_chain)),
    ] {
        let text = refusal(&site, identity.as_ref()).await;
        // The words of TLS itself are no secret; a path, a query or a place in the source would be.
        for internal in ["/", "\\", "SELECT", "INSERT", ".rs", "panicked", "node/", "sqlite"] {
            assert!(!text.contains(internal), "{what}: {text}");
        }
        assert!(text.len() < 200, "{what}: {text}");
    }
    assert_eq!(site.fleet.sessions(), 0);
    assert_eq!(site.node(good.node).state().presence, Presence::NeverSeen);
    assert!(site.fleet.counters().closings().all(|(_, count)| count == 0), "a frame was judged");
    // Each of them was refused for that one thing: the same certificate made anew is taken.
    let control = reissued(&site, &good, |_| ());
    drop(site.agent(&control, &hello(1)).await);
    other_site.stop().await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_02_no_early_data_no_tickets_qui_04_no_key_log() {
    let site = Site::start().await;
    let config = tls::rustls_config(&site.keyvault).unwrap();
    assert_eq!(config.max_early_data_size, 0);
    assert_eq!(config.send_tls13_tickets, 0);
    assert!(!config.session_storage.can_cache());
    assert!(!config.key_log.will_log("CLIENT_TRAFFIC_SECRET_0"));
    assert_eq!(config.alpn_protocols, [ALPN.to_vec()]);
    for suite in &config.crypto_provider().cipher_suites {
        let Some(tls13) = suite.tls13() else { continue };
        assert!(tls13.quic.is_some(), "{suite:?} is no AEAD suite of QUIC");
    }
    site.stop().await;
}

/// A server with the coordinator's certificate and name that gives tickets and takes early data.
fn generous_server(site: &Site) -> Endpoint {
    let mut tls = tls::rustls_config(&site.keyvault).unwrap();
    tls.send_tls13_tickets = 4;
    tls.session_storage = ServerSessionMemoryCache::new(64);
    tls.max_early_data_size = u32::MAX;
    let crypto = QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_02_a_client_with_tickets_and_early_data_gets_nothing_by_them() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    let mut eager = site.client_tls(Some(&identity), &[ALPN]);
    eager.enable_early_data = true;
    let eager = quic(eager);
    let client = endpoint();
    let dial = |to| client.connect_with(eager.clone(), to, SERVER_NAME).unwrap();

    // The coordinator gives it nothing to come back with.
    for _ in 0..2 {
        let Err(connecting) = dial(site.address).into_0rtt() else { panic!("there is a ticket") };
        let connection = connecting.await.unwrap();
        // Tickets would come before the answer to anything that follows the handshake.
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(b"GET / HTTP/1.1").await.unwrap();
        let _ = tokio::time::timeout(PATIENCE, receive.read_to_end(10)).await.unwrap();
        assert_eq!(closed(&connection).await, (Some(CloseCode::ProtocolViolation), 0));
    }

    // Elsewhere it gets tickets, and its early data is taken.
    let generous = generous_server(&site);
    let accepting = generous.clone();
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(incoming) = accepting.accept().await {
            open.push(incoming.await);
        }
    });
    let there = generous.local_addr().unwrap();
    let first = dial(there).await.unwrap();
    let resumed = async {
        loop {
            match dial(there).into_0rtt() {
                Ok((connection, accepted)) => break (connection, accepted.await),
                Err(connecting) => drop(connecting.await),
            }
        }
    };
    let (second, accepted) = tokio::time::timeout(PATIENCE, resumed).await.unwrap();
    assert!(accepted, "the test's own server does not take early data");
    drop((first, second));

    // The coordinator takes neither the ticket nor what came with it.
    let Ok((connection, accepted)) = dial(site.address).into_0rtt() else {
        panic!("no early data was offered")
    };
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&frame(&hello(1))).await.unwrap();
    assert!(!accepted.await, "early data was taken");
    assert_eq!(closed(&connection).await, (Some(CloseCode::HelloTimeout), 0), "an early Hello was read");
    assert_eq!(site.node(identity.node).state().presence, Presence::NeverSeen);
    server.abort();
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_03_another_alpn_or_none_is_refused_in_the_handshake() {
    let site = Site::start().await;
    let identity = site.enrol("gpu1").await;
    for offered in
        [&[][..], &[&b"h3"[..]], &[&b"aim/0"[..]], &[&b"aim/2"[..]], &[&b"AIM/1"[..]], &[&b"aim/11"[..]]]
    {
        let refused = site.dial(Some(&identity), offered).await.err();
        assert!(matches!(refused, Some(ConnectionError::ConnectionClosed(_))), "{offered:?}: {refused:?}");
    }
    for offered in [[&b"aim/9"[..], ALPN], [ALPN, &b"aim/0"[..]]] {
        let (_endpoint, connection) = site.dial(Some(&identity), &offered).await.unwrap();
        assert_eq!(tls::alpn(&connection).as_deref(), Some(ALPN), "the highest common one is taken");
    }
    site.stop().await;
}

#[test]
fn qui_06_the_newest_wins_only_after_the_older_failed_its_probe() {
    let server = tokio::runtime::Runtime::new().unwrap();
    let (site, living, dying) = server.block_on(async {
        let site = Site::start().await;
        let (living, dying) = (site.enrol("gpu1").await, site.enrol("gpu2").await);
        (site, living, dying)
    });
    // Its sockets go without a word, as with kill -9, when its runtime ends.
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let dead = doomed.block_on(site.agent(&dying, &hello(1)));
    doomed.shutdown_background();
    server.block_on(async {
        let newest = site.agent(&dying, &hello(2)).await;
        assert!(newest.connection.close_reason().is_none());
        assert_eq!(site.fleet.sessions(), 1);
        assert!(site.node(dying.node).state().quarantine.is_none(), "a crash is no clone");

        let older = site.agent(&living, &hello(1)).await;
        let mut newer = site.connect(&living).await;
        newer.send(&hello(1)).await;
        assert_eq!(newer.closed().await, (Some(CloseCode::CloneSuspected), 0));
        assert!(older.connection.close_reason().is_none(), "the older one answers, and stays");
        until("two sessions", PATIENCE, || site.fleet.sessions() == 2).await;
        drop((older, newest));
        site.stop().await;
    });
    drop(dead);
}
