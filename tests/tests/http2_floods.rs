//! Floods of HTTP/2 frames against a real coordinator: bounded memory, and nobody else notices (API-10).
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aim_tests::https::{GoodClient, Https, p99};
use aim_tests::{Coordinator, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Streams and frames of one flood, by the statement.
const STREAMS: u64 = 100_000;
/// A flood that is cut again and again need not reach the number; it has had its time then.
const LASTS: Duration = Duration::from_secs(6);
/// Connections that flood at once.
const CONNECTIONS: u8 = 4;
/// Most growth of the coordinator's memory.
const GROWTH: u64 = 64 * 1024 * 1024;
/// API-01's bound for good clients.
const GOOD: Duration = Duration::from_millis(500);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    into.extend_from_slice(&[kind, flags]);
    into.extend_from_slice(&stream.to_be_bytes());
    into.extend_from_slice(payload);
}

/// Method by its number in HPACK's static table, `https`, a path and `localhost`.
fn request(method: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[method, 0x87, 0x04, length], path.as_bytes(), &[0x01, 9], b"localhost"].concat()
}

#[derive(Debug, Clone, Copy)]
enum Flood {
    RapidReset,
    Continuation,
    EmptyData,
    OpenStreams,
    UnreadAnswers,
}

impl Flood {
    /// The next frames of a connection, and how many there are.
    fn frames(self, connection: &mut u32) -> (Vec<u8>, u64) {
        const AT_ONCE: u32 = 500;
        const GET: u8 = 0x82;
        const POST: u8 = 0x83;
        let mut bytes = Vec::new();
        let first = *connection;
        for n in 0..AT_ONCE {
            let stream = 2 * (first + n) + 1;
            match self {
                Self::RapidReset => {
                    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request(GET, "/healthz"), &mut bytes);
                    frame(RESET, 0, stream, &[0, 0, 0, 8], &mut bytes);
                }
                Self::Continuation if first == 0 && n == 0 => {
                    frame(HEADERS, END_STREAM, 1, &request(GET, "/healthz"), &mut bytes);
                }
                // A header field of 1,000 bytes that enters no table, in each of them.
                Self::Continuation => {
                    let field = [&[0, 1, b'x', 127, 0xe9, 0x06][..], &[b'a'; 1_000]].concat();
                    frame(CONTINUATION, 0, 1, &field, &mut bytes);
                }
                Self::EmptyData if first == 0 && n < 32 => {
                    frame(HEADERS, END_HEADERS, stream, &request(POST, "/api/v1/auth/login"), &mut bytes);
                }
                Self::EmptyData => frame(DATA, 0, 2 * (n % 32) + 1, &[], &mut bytes),
                Self::OpenStreams => {
                    frame(HEADERS, END_HEADERS, stream, &request(POST, "/api/v1/auth/login"), &mut bytes);
                }
                Self::UnreadAnswers => {
                    let path =
                        if n % 2 == 0 { "/viewer/swagger-ui-bundle.js" } else { "/api/v1/openapi.json" };
                    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request(GET, path), &mut bytes);
                }
            }
        }
        *connection += AT_ONCE;
        (bytes, u64::from(AT_ONCE))
    }
}

/// Floods on one connection after the other, until the number or the time is reached.
async fn flood(https: Https, flood: Flood, from: Ipv4Addr, sent: Arc<AtomicU64>) {
    let end = Instant::now() + LASTS;
    let over = || sent.load(Ordering::SeqCst) >= STREAMS || Instant::now() > end;
    while !over() {
        let Ok(stream) = https.http2(from).await else { continue };
        let (mut reader, mut writer) = tokio::io::split(stream);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        if writer.write_all(preface).await.is_err() {
            continue;
        }
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while !matches!(flood, Flood::UnreadAnswers)
                && reader.read(&mut buffer).await.is_ok_and(|count| count > 0)
            {}
            reader
        });
        let mut connection = 0;
        while !over() {
            let (bytes, frames) = flood.frames(&mut connection);
            let written = tokio::time::timeout(Duration::from_secs(1), async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            });
            match written.await {
                Ok(Ok(())) => sent.fetch_add(frames, Ordering::SeqCst),
                _ => break,
            };
        }
        if matches!(flood, Flood::UnreadAnswers) {
            // It keeps what it has opened, and lets the server wait.
            tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;
        }
        reading.abort();
    }
}

/// Resident bytes of a process.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The most that a process has resident, looked at all the while.
fn watch(pid: u32, stopped: &AtomicBool) -> u64 {
    let mut most = 0;
    while !stopped.load(Ordering::SeqCst) {
        most = most.max(resident(pid));
        std::thread::sleep(Duration::from_millis(10));
    }
    most
}

#[test]
fn api_10_floods_of_http2_frames_cost_less_than_64_mib_and_good_clients_do_not_notice() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let (port, pin) = (coordinator.https_port, coordinator.pin());
    let pid = coordinator.program().pid();
    let token = coordinator.admin().token().unwrap().to_owned();
    let https = Https::new(port, pin);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let floods =
        [Flood::RapidReset, Flood::Continuation, Flood::EmptyData, Flood::OpenStreams, Flood::UnreadAnswers];
    // The first requests fill what is kept for good: connections of the database, the document, the viewer.
    let api = coordinator.anonymous();
    for path in ["/api/v1/openapi.json", "/viewer/swagger-ui-bundle.js"] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    // A machine that is slow by itself is not the floods' doing.
    let undisturbed = GoodClient::undisturbed(port, pin, &token);
    let mut former = 0;
    until("the memory is steady", Duration::from_secs(30), || {
        let now = resident(pid);
        (std::mem::replace(&mut former, now) == now).then_some(())
    });
    let before = resident(pid);
    for (number, kind) in (1..).zip(floods) {
        let stopped = Arc::new(AtomicBool::new(false));
        let watching = {
            let stopped = Arc::clone(&stopped);
            std::thread::spawn(move || watch(pid, &stopped))
        };
        let good = GoodClient::start(port, pin, token.clone());
        let sent = Arc::new(AtomicU64::new(0));
        let begun = Instant::now();
        runtime.block_on(async {
            let tasks: Vec<_> = (1..=CONNECTIONS)
                .map(|n| {
                    tokio::spawn(flood(
                        https.clone(),
                        kind,
                        Ipv4Addr::new(127, 9, number, n),
                        Arc::clone(&sent),
                    ))
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        let took = begun.elapsed();
        // The flood may have been a short one.
        good.await_answers(50);
        let times = good.stop();
        stopped.store(true, Ordering::SeqCst);
        let growth = watching.join().unwrap().saturating_sub(before);
        let (count, p99) = (times.len(), p99(times));
        let sent = sent.load(Ordering::SeqCst);
        println!(
            "{kind:?}: {sent} in {took:?}, {} KiB more, p99 of {count} good requests {p99:?}, {undisturbed:?} before",
            growth / 1024
        );
        assert!(sent >= 1_000, "{kind:?}: only {sent} were sent");
        assert!(growth < GROWTH, "{kind:?}: the memory grew by {growth} bytes");
        assert!(
            p99 < GOOD + undisturbed,
            "{kind:?}: p99 of {count} good requests: {p99:?}, {undisturbed:?} before"
        );
    }
}
