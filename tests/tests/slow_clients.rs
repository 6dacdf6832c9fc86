//! Two thousand clients that send nothing, or half of something, a byte at a time (API-01).
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aim_tests::Coordinator;
use aim_tests::https::{GoodClient, Https, p99};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

const CLIENTS: u8 = 40;
const OF_EACH: u16 = 50;
/// Half a header and no byte at all; a body. The statement's times.
const HEADER: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
/// For what goes before: the connection waits in the kernel for its turn; a slow machine takes its time.
const EARLY: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(10);
/// The statement's bound for everybody else.
const GOOD: Duration = Duration::from_millis(500);
/// Between two bytes of a slow client.
const TRICKLE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Silent,
    HalfHeader,
    HalfBody,
}

impl Kind {
    fn limit(self) -> Duration {
        if matches!(self, Self::HalfBody) { BODY } else { HEADER }
    }
}

/// What is open at one time, and the most there ever was.
#[derive(Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Reads until the server ends the connection, sending a byte now and then; what it said.
async fn until_cut(mut stream: impl AsyncRead + AsyncWrite + Unpin, trickle: &[u8]) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        tokio::select! {
            // An error is an end too: a reset, or TLS without its goodbye.
            read = stream.read(&mut buffer) => match read {
                Ok(count @ 1..) => said.extend_from_slice(&buffer[..count]),
                _ => return said,
            },
            () = tokio::time::sleep(TRICKLE), if !trickle.is_empty() => {
                if stream.write_all(trickle).await.is_err() || stream.flush().await.is_err() {
                    return said;
                }
            }
        }
    }
}

/// One slow client from its first byte to its end; how long it was left alone.
async fn slow(
    https: Https,
    kind: Kind,
    from: Ipv4Addr,
    opening: Arc<Semaphore>,
    open: Arc<Open>,
) -> Duration {
    let turn = opening.acquire().await.unwrap();
    let enter = || {
        open.most.fetch_max(open.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Instant::now()
    };
    let (begun, said) = match kind {
        Kind::Silent => {
            let stream = https.tcp(from).await.unwrap();
            let begun = enter();
            drop(turn);
            (begun, until_cut(stream, b"").await)
        }
        Kind::HalfHeader | Kind::HalfBody => {
            let mut stream = https.http1(from).await.unwrap();
            let begun = enter();
            let half: &[u8] = match kind {
                Kind::HalfBody => {
                    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                      Content-Length: 100\r\n\r\n{\"u"
                }
                _ => b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
            };
            stream.write_all(half).await.unwrap();
            stream.flush().await.unwrap();
            drop(turn);
            (begun, until_cut(stream, b"a").await)
        }
    };
    open.now.fetch_sub(1, Ordering::SeqCst);
    if matches!(kind, Kind::HalfBody) {
        assert!(said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    }
    begun.elapsed()
}

fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    assert!(
        maximum.is_none_or(|most| most >= 5_000),
        "this test needs 5,000 open files: ulimit -Hn says {maximum:?}"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn api_01_two_thousand_slow_clients_are_all_cut_on_time_and_good_requests_take_less_than_500_ms() {
    raise_descriptor_limit();
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let (port, pin) = (coordinator.https_port, coordinator.pin());
    let token = coordinator.admin().token().unwrap().to_owned();
    let https = Https::new(port, pin);
    let undisturbed = GoodClient::undisturbed(port, pin, &token);
    let good = GoodClient::start(port, pin, token);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (opening, open) = (Arc::new(Semaphore::new(4)), Arc::new(Open::default()));
    let ended = runtime.block_on(async {
        // Those that are left alone for longest come first, so that all are there at one time.
        let kinds = (0..OF_EACH).map(|n| match n % 3 {
            0 => Kind::HalfBody,
            1 => Kind::HalfHeader,
            _ => Kind::Silent,
        });
        let mut kinds: Vec<Kind> = kinds.collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.limit()));
        let clients = kinds.into_iter().flat_map(|kind| (1..=CLIENTS).map(move |client| (kind, client)));
        let tasks: Vec<_> = clients
            .map(|(kind, client)| {
                let from = Ipv4Addr::new(127, 9, 0, client);
                let one = slow(https.clone(), kind, from, Arc::clone(&opening), Arc::clone(&open));
                (kind, tokio::spawn(one))
            })
            .collect();
        let mut ended = Vec::new();
        for (kind, task) in tasks {
            ended.push((kind, task.await.unwrap()));
        }
        ended
    });
    let times = good.stop();
    assert_eq!(ended.len(), 2_000);
    for (kind, after) in &ended {
        let limit = kind.limit();
        assert!(*after + EARLY > limit, "{kind:?} was cut after {after:?}: it was never held open");
        assert!(*after < limit + LATE, "{kind:?} was open for {after:?}");
    }
    let most = open.most.load(Ordering::SeqCst);
    assert!(most > 1_000, "{most} at one time");
    let (count, p99) = (times.len(), p99(times));
    println!(
        "{most} slow clients at one time; p99 of {count} good requests: {p99:?}, {undisturbed:?} before"
    );
    // A machine that is slow by itself is not the slow clients' doing.
    assert!(p99 < GOOD + undisturbed, "p99 of {count} good requests: {p99:?}, {undisturbed:?} before");
}
