//! What one agent can make the coordinator hold: data that never becomes whole, in as many pieces as the limits allow.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aim_common::identity::BootId;
use aim_tests::agent::join_string;
use aim_tests::link::{NodeIdentity, open};
use aim_tests::tampered::{Space, tampered};
use aim_tests::{Agent, Coordinator};
use tempfile::TempDir;

/// The statement's bound.
const MAY_COST: u64 = 8 * 1024 * 1024;
/// Pieces of one stream that QUIC keeps apart at most; one more ends the connection.
const PIECES: u64 = 1_000;
/// Bytes of frames in one packet, below the smallest size that the path's discovery begins with.
const PACKET: usize = 1_100;
/// Without progress for so long the coordinator's windows hold the client back.
const HELD_BACK: Duration = Duration::from_secs(3);
/// What the client would send if it were let.
const WOULD_SEND: usize = 32 * 1024 * 1024;

/// Payloads that stand in the place of the client's own.
type Queue = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// A variable-length integer of four bytes.
fn number(value: u64) -> [u8; 4] {
    (u32::try_from(value).unwrap() | 0x8000_0000).to_be_bytes()
}

/// A STREAM frame with offset and length.
fn piece(stream: u64, offset: u64, length: u64) -> Vec<u8> {
    let mut frame = vec![0x0e];
    for field in [stream, offset, length] {
        frame.extend(number(field));
    }
    frame.resize(frame.len() + usize::try_from(length).unwrap(), b'A');
    frame
}

/// The streams that the client itself does not use: its own are 0, 2, 6, 10 and 14.
fn hostile_streams() -> Vec<u64> {
    let unidirectional = (4..16).map(|index| index * 4 + 2);
    (1..16).map(|index| index * 4).chain(unidirectional).collect()
}

/// The smallest pieces, every second one missing, on every stream.
fn small_pieces() -> VecDeque<Vec<u8>> {
    let frames = (0..PIECES)
        .flat_map(|index| hostile_streams().into_iter().map(move |stream| piece(stream, 1 + index * 9, 8)));
    let mut packets = VecDeque::from([Vec::new()]);
    for frame in frames {
        if packets.back().unwrap().len() + frame.len() > PACKET {
            packets.push_back(Vec::new());
        }
        packets.back_mut().unwrap().extend(frame);
    }
    packets
}

/// Large pieces, all but the first one, on every stream: as much as the windows may be.
fn large_pieces() -> VecDeque<Vec<u8>> {
    let streams = hostile_streams();
    let count = WOULD_SEND / 1_000;
    (0..count)
        .map(|index| {
            let stream = streams[index % streams.len()];
            piece(stream, 1 + u64::try_from(index / streams.len()).unwrap() * 1_000, 1_000)
        })
        .collect()
}

/// A session that goes on holding what it made the coordinator hold.
struct Held {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
    _control: (quinn::SendStream, quinn::RecvStream),
    _own: Vec<quinn::SendStream>,
}

/// Opens a session and sends these payloads, as many as the coordinator's windows let the client send packets.
async fn send(identity: &NodeIdentity, port: u16, packets: VecDeque<Vec<u8>>, boot: u8) -> (Held, usize) {
    let queue: Queue = Arc::default();
    let attacks = Arc::new(AtomicBool::new(false));
    let (taken, attacking) = (Arc::clone(&queue), Arc::clone(&attacks));
    let tamper = move |space: Space, frames: &mut [u8]| {
        if space != Space::Data || !attacking.load(Ordering::SeqCst) {
            return;
        }
        let packet = (frames.len() > PACKET).then(|| taken.lock().unwrap().pop_front()).flatten();
        // What the client itself would say must not leave: a PING stands in its place.
        let packet = packet.unwrap_or_else(|| vec![1]);
        frames.fill(0);
        frames[..packet.len()].copy_from_slice(&packet);
    };
    let config = tampered(identity.tls(), Arc::new(tamper));
    let (endpoint, connection, control) = open(config, port, BootId::from_random([boot; 16])).await.unwrap();
    let mut own = Vec::new();
    for _ in 0..4 {
        own.push(connection.open_uni().await.unwrap());
    }
    let all = packets.len();
    *queue.lock().unwrap() = packets;
    attacks.store(true, Ordering::SeqCst);
    let filler = vec![b'A'; PACKET];
    'sending: loop {
        for stream in &mut own {
            if queue.lock().unwrap().is_empty() {
                break 'sending;
            }
            match tokio::time::timeout(HELD_BACK, stream.write_all(&filler)).await {
                Ok(Ok(())) => {}
                _ => break 'sending,
            }
        }
    }
    let sent = all - queue.lock().unwrap().len();
    (Held { connection, _endpoint: endpoint, _control: control, _own: own }, sent)
}

/// A figure of /proc/PID/status in bytes.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn qui_08_a_flood_of_fragments_costs_the_coordinator_at_most_8_mib() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let identities: Vec<NodeIdentity> = ["small", "large", "before"]
        .map(|name| {
            let agent = Agent::prepare(dir.path(), name, |_| ());
            agent.enrol(&join_string(&admin, name)).success();
            NodeIdentity::of(&agent)
        })
        .into();
    let (pid, port) = (coordinator.program().pid(), coordinator.link_port);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // What a first session costs once is no cost of the flood.
    let (quiet, _) = runtime.block_on(send(&identities[2], port, VecDeque::new(), 3));
    let mut held = vec![quiet];
    for (index, packets) in [small_pieces(), large_pieces()].into_iter().enumerate() {
        let all = packets.len();
        let before = status(pid, "VmRSS");
        let (session, sent) =
            runtime.block_on(send(&identities[index], port, packets, u8::try_from(index).unwrap()));
        let cost = status(pid, "VmHWM").saturating_sub(before);
        println!("{sent} of {all} packets of pieces; the coordinator grew by {} KiB at most", cost / 1024);
        assert!(
            sent > 300 && session.connection.close_reason().is_none(),
            "{:?}",
            session.connection.close_reason()
        );
        assert!(cost <= MAY_COST, "{cost} bytes for {sent} packets");
        held.push(session);
    }
    assert!(coordinator.program().is_running());
}
