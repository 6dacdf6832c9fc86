//! First packets by the thousand, from addresses that never answer.
#![expect(clippy::disallowed_methods, reason = "a test fails by panicking, and waits with real deadlines")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use aim_tests::agent::SEEN;
use aim_tests::link::NodeIdentity;
use aim_tests::{Agent, Coordinator, until};
use tempfile::TempDir;

const SERVER_NAME: &str = "coordinator.aim.internal";
/// The statements' numbers.
const HALF_OPEN: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const AMPLIFICATION: usize = 3;
/// How long the flood lasts: longer than the silence that takes a node offline.
const FLOOD: Duration = Duration::from_secs(7);
/// Silence is judged within this time after the last packet.
const JUDGED: Duration = Duration::from_secs(6);

/// First packets of so many connections, each whole and good, as a client of this identity sends them.
fn first_packets(identity: &NodeIdentity, count: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sink.set_read_timeout(Some(SEEN)).unwrap();
    let to = sink.local_addr().unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(identity.tls()).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _entered = runtime.enter();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let (mut packets, mut connections) = (Vec::new(), HashSet::new());
    let mut buffer = [0; 2048];
    while packets.len() < count {
        let connecting = endpoint.connect_with(config.clone(), to, SERVER_NAME).unwrap();
        loop {
            let read = sink.recv(&mut buffer).unwrap();
            let packet = &buffer[..read];
            // The connection's id tells a first packet from the goodbye of the one before.
            if connections.insert(packet[6..6 + usize::from(packet[5])].to_vec()) {
                packets.push(packet.to_vec());
                break;
            }
        }
        drop(connecting);
    }
    packets
}

/// A socket of an address of its own, that nothing else uses.
fn stranger(number: u8, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, 1, number), 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Retry,
    Handshake,
}

/// What came for a first packet: a long header's type says.
fn answer(socket: &UdpSocket) -> Option<Answer> {
    let mut buffer = [0; 2048];
    let read = socket.recv(&mut buffer).ok()?;
    assert!(read > 5 && buffer[0] & 0x80 != 0, "not an answer to a first packet");
    Some(if (buffer[0] >> 4) & 3 == 3 { Answer::Retry } else { Answer::Handshake })
}

fn ask(packet: &[u8], number: u8, port: u16) -> Option<Answer> {
    let socket = stranger(number, port);
    socket.send(packet).unwrap();
    aim_tests::within(Duration::from_millis(500), || answer(&socket))
}

#[test]
fn qui_05_above_256_half_open_handshakes_retry_qui_06_until_they_end_after_10_s() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    let port = coordinator.link_port;
    let mut packets = first_packets(&NodeIdentity::of(&agent), HALF_OPEN + 200).into_iter();
    assert_eq!(ask(&packets.next().unwrap(), 1, port), Some(Answer::Handshake), "an unloaded coordinator");
    let silent = stranger(2, port);
    let began = Instant::now();
    for packet in packets.by_ref().take(HALF_OPEN) {
        silent.send(&packet).unwrap();
        // Lost packets would leave the count below its bound.
        std::thread::sleep(Duration::from_millis(2));
    }
    // A Retry leaves nothing behind: the same packet can be asked with again.
    let probe = until("an address that did not prove itself is asked to", HANDSHAKE / 2, || {
        let packet = packets.next()?;
        (ask(&packet, 3, port) == Some(Answer::Retry)).then_some(packet)
    });
    until("the handshakes are given up", HANDSHAKE * 2, || {
        (ask(&probe, 4, port)? == Answer::Handshake).then_some(())
    });
    let took = began.elapsed();
    assert!(took >= HANDSHAKE.saturating_sub(Duration::from_secs(1)), "given up after {took:?}");
    assert!(took < HANDSHAKE + Duration::from_secs(5), "given up after {took:?}");
}

#[test]
fn qui_05_a_flood_of_first_packets_takes_no_node_offline_and_is_not_amplified() {
    const ADDRESSES: u8 = 64;
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    let since = agent.presence(&admin)["since"].clone();
    let packets = first_packets(&NodeIdentity::of(&agent), 1_000);
    let sockets: Vec<UdpSocket> =
        (1..=ADDRESSES).map(|number| stranger(number, coordinator.link_port)).collect();
    let (mut sent, mut received) = ([0_usize; ADDRESSES as usize], [0_usize; ADDRESSES as usize]);
    let mut buffer = [0; 2048];
    let began = Instant::now();
    let mut turn = 0_usize;
    while began.elapsed() < FLOOD {
        let (place, packet) = (turn % sockets.len(), &packets[turn % packets.len()]);
        turn += 1;
        sent[place] += sockets[place].send(packet).unwrap_or_default();
        while let Ok(read) = sockets[place].recv(&mut buffer) {
            received[place] += read;
        }
    }
    let flooded = began.elapsed();
    let absent = aim_tests::within(JUDGED, || {
        for (place, socket) in sockets.iter().enumerate() {
            while let Ok(read) = socket.recv(&mut buffer) {
                received[place] += read;
            }
        }
        (agent.presence(&admin)["state"] != "present").then_some(())
    });
    let total = |bytes: &[usize]| bytes.iter().sum::<usize>();
    println!(
        "{turn} first packets in {flooded:?}; {} bytes sent, {} received",
        total(&sent),
        total(&received)
    );
    assert!(absent.is_none(), "the flood took a node offline");
    assert_eq!(agent.events(&admin, "node.absent").len(), 0, "the flood took a node offline");
    assert_eq!(agent.presence(&admin)["since"], since);
    assert!(coordinator.program().is_running());
    for (sent, received) in sent.iter().zip(&received) {
        assert!(*received <= sent * AMPLIFICATION, "{received} bytes for {sent}");
    }
}
