//! Packets that are malformed inside their encryption, and what they leave behind.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aim_common::identity::BootId;
use aim_tests::agent::{SEEN, join_string};
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::tampered::{Space, Tamper, tampered};
use aim_tests::{Agent, Coordinator};
use quinn::ConnectionError;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const SERVER_NAME: &str = "coordinator.aim.internal";
/// Handshakes at once, and how long each of them may take before it is given up.
const AT_ONCE: usize = 16;
const GIVE_UP: Duration = Duration::from_millis(400);
const SEED: u64 = 0x0a1e_7714;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A node that is enrolled and whose agent does not run: its identity is the attacker's.
fn enrolled(dir: &TempDir, coordinator: &Coordinator, name: &str) -> NodeIdentity {
    let agent = Agent::prepare(dir.path(), name, |_| ());
    agent.enrol(&join_string(&coordinator.admin(), name)).success();
    NodeIdentity::of(&agent)
}

/// Dials with changed packets; gives how it ended.
fn dial(identity: &NodeIdentity, port: u16, tamper: Arc<Tamper>) -> ConnectionError {
    let config = tampered(identity.tls(), tamper);
    runtime().block_on(async {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connecting = endpoint.connect_with(config, to, SERVER_NAME).unwrap();
        tokio::time::timeout(SEEN, connecting).await.unwrap().err().unwrap()
    })
}

/// Replaces bytes of the first TLS message.
fn in_first_message(old: &'static [u8], new: &'static [u8]) -> Arc<Tamper> {
    assert_eq!(old.len(), new.len());
    Arc::new(move |space, frames: &mut [u8]| {
        let found = frames.windows(old.len()).position(|window| window == old);
        if let (Space::Initial, Some(at)) = (space, found) {
            frames[at..at + new.len()].copy_from_slice(new);
        }
    })
}

/// The TLS alert that the coordinator closed with.
fn alert(error: &ConnectionError) -> u64 {
    let ConnectionError::ConnectionClosed(close) = error else { panic!("not refused: {error}") };
    u64::from(close.error_code) - 0x100
}

#[test]
fn qui_03_an_empty_alpn_qui_04_and_tls_1_2_are_refused_in_the_handshake() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let identity = enrolled(&dir, &coordinator, "node1");
    let port = coordinator.link_port;
    // One name of five bytes becomes an empty one and one of four.
    let empty = dial(&identity, port, in_first_message(b"\x05aim/1", b"\x00\x04aim/"));
    assert!([47, 50, 120].contains(&alert(&empty)), "{empty}");
    // The one version that is offered becomes TLS 1.2.
    let old = dial(
        &identity,
        port,
        in_first_message(b"\x00\x2b\x00\x03\x02\x03\x04", b"\x00\x2b\x00\x03\x02\x03\x03"),
    );
    assert_eq!(alert(&old), 70, "{old}");
    // No AEAD suite is offered: TLS_RSA_WITH_AES_128_CBC_SHA stands in the place of the three.
    let suites = in_first_message(b"\x13\x02\x13\x01\x13\x03", b"\x00\x2f\x00\x2f\x00\x2f");
    assert_eq!(alert(&dial(&identity, port, suites)), 40);
    let sessions = coordinator.admin().get("/metrics").text;
    assert!(sessions.contains("aim_link_sessions 0"), "{sessions}");
    BareLink::open(&identity, port, BootId::from_random([1; 16])).map(drop).unwrap();
}

/// Small, seeded and good enough to break packets with.
#[derive(Debug)]
struct Dice(AtomicU64);

impl Dice {
    fn roll(&self, below: usize) -> usize {
        let step = |state: u64| {
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let state = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(step(state)));
        usize::try_from(state.unwrap() >> 33).unwrap() % below.max(1)
    }

    /// Changes one to eight bytes of the part that is not padding.
    fn break_frames(&self, frames: &mut [u8]) {
        let used = frames.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for _ in 0..=self.roll(8) {
            if let Some(byte) = frames.get_mut(self.roll(used)) {
                *byte = self.roll(256).to_le_bytes()[0];
            }
        }
    }
}

/// So many connections whose packets of one sort are broken, a few at a time.
async fn broken_handshakes(identity: &NodeIdentity, port: u16, space: Space, count: usize, dice: &Arc<Dice>) {
    let thrower = Arc::clone(dice);
    let tamper = move |of: Space, frames: &mut [u8]| {
        if of == space {
            thrower.break_frames(frames);
        }
    };
    let config = tampered(identity.tls(), Arc::new(tamper));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut open = JoinSet::new();
    for _ in 0..count {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connecting = endpoint.connect_with(config.clone(), to, SERVER_NAME).unwrap();
        open.spawn(tokio::time::timeout(GIVE_UP, async move {
            let connection = connecting.await?;
            let (mut send, _receive) = connection.open_bi().await?;
            let _ = send.write_all(&[b'A'; 600]).await;
            Err::<(), _>(connection.closed().await)
        }));
        if open.len() >= AT_ONCE {
            open.join_next().await;
        }
    }
    while open.join_next().await.is_some() {}
}

/// Datagrams of chance, half of them with the look of a first packet.
fn garbage(port: u16, count: usize, dice: &Dice) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    for index in 0..count {
        let length = [1, 7, 21, 100, 1200, 1452][dice.roll(6)];
        let mut datagram: Vec<u8> = (0..length).map(|_| dice.roll(256).to_le_bytes()[0]).collect();
        if index % 2 == 0 && length > 20 {
            datagram[..6].copy_from_slice(&[0xc0 | (dice.roll(64).to_le_bytes()[0]), 0, 0, 0, 1, 8]);
        }
        // A full buffer is a loss like any other.
        let _ = socket.send(&datagram);
    }
}

#[test]
fn qui_14_malformed_packets_end_nothing_and_disturb_nobody() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    let identity = enrolled(&dir, &coordinator, "node2");
    let (port, dice) = (coordinator.link_port, Arc::new(Dice(AtomicU64::new(SEED))));
    println!("seed {SEED:#x}");
    let since = agent.presence(&admin)["since"].clone();
    runtime().block_on(async {
        for (space, count) in [(Space::Initial, 300), (Space::Handshake, 100), (Space::Data, 100)] {
            broken_handshakes(&identity, port, space, count, &dice).await;
        }
    });
    garbage(port, 10_000, &dice);
    assert!(coordinator.program().is_running());
    BareLink::open(&identity, port, BootId::from_random([2; 16])).map(drop).unwrap();
    // The connection of before may have been idle for too long.
    let admin = coordinator.admin();
    let presence = agent.presence(&admin);
    assert_eq!((&presence["state"], &presence["since"]), (&"present".into(), &since), "{presence}");
    assert_eq!(agent.events(&admin, "node.absent").len(), 0);
    let log = coordinator.program().log();
    for word in ["panicked", "the task of a connection died", "the task of a stream died"] {
        assert!(!log.contains(word), "{word}");
    }
}
