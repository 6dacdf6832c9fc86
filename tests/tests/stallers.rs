//! A thousand clients that begin an enrolment and stall.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aim_tests::agent::join_string;
use aim_tests::api::{SERVER_NAME, pinned_tls};
use aim_tests::{Agent, Coordinator, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// The statement's numbers.
const STALLERS: usize = 1_000;
const CUT: Duration = Duration::from_secs(10);
const GOOD: Duration = Duration::from_secs(5);
/// What a loaded machine takes to notice a cut.
const SLOW_MACHINE: Duration = Duration::from_secs(10);
/// Stallers of one address: a coordinator holds 100 connections of one.
const OF_ONE_ADDRESS: usize = 50;

/// Where a client stalls.
#[derive(Debug, Clone, Copy)]
enum Stall {
    Silent,
    HalfHandshake,
    HalfHeader,
    HalfBody,
}

/// What all stallers share.
struct Crowd {
    port: u16,
    tls: TlsConnector,
    stalling: AtomicUsize,
    over: AtomicBool,
    lives: Mutex<Vec<(Stall, Duration)>>,
}

/// Waits for the end of the connection, and for what was said before.
async fn until_cut(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8], crowd: &Crowd) {
    if stream.write_all(bytes).await.is_err() {
        return;
    }
    crowd.stalling.fetch_add(1, Ordering::SeqCst);
    let mut buffer = [0; 1024];
    // An error is an end too.
    while let Ok(1..) = stream.read(&mut buffer).await {}
    crowd.stalling.fetch_sub(1, Ordering::SeqCst);
}

async fn connect(number: usize, port: u16) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    let host = u8::try_from(2 + number / OF_ONE_ADDRESS).unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).ok()?;
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.ok()
}

/// Stalls again and again, until the good one has come through.
async fn stall(number: usize, crowd: Arc<Crowd>) {
    let how = [Stall::Silent, Stall::HalfHandshake, Stall::HalfHeader, Stall::HalfBody][number % 4];
    let head = format!(
        "POST /api/keyvault/agent/enroll HTTP/1.1\r\nHost: {SERVER_NAME}:{}\r\nContent-Type: application/json\r\n",
        crowd.port
    );
    while !crowd.over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let Some(tcp) = connect(number, crowd.port).await else { continue };
        match how {
            Stall::Silent => until_cut(tcp, b"", &crowd).await,
            Stall::HalfHandshake => until_cut(tcp, &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], &crowd).await,
            Stall::HalfHeader | Stall::HalfBody => {
                let name = ServerName::try_from(SERVER_NAME).unwrap();
                let Ok(tls) = crowd.tls.connect(name, tcp).await else { continue };
                let rest = if matches!(how, Stall::HalfBody) {
                    "Content-Length: 4096\r\n\r\n{\"token\":"
                } else {
                    "X-"
                };
                until_cut(tls, format!("{head}{rest}").as_bytes(), &crowd).await;
            }
        }
        crowd.lives.lock().unwrap().push((how, begun.elapsed()));
    }
}

/// Both sides of a thousand connections; the coordinator inherits the limit.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = 8_192.min(limit.maximum.unwrap_or(8_192));
    let raised =
        Rlimit { current: Some(wanted.max(limit.current.unwrap_or(wanted))), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
}

#[test]
fn enr_20_a_thousand_stalled_enrolments_are_cut_after_ten_seconds_and_hold_up_no_good_one() {
    raise_open_files();
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let join = join_string(&coordinator.admin(), "node1");
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let crowd = Arc::new(Crowd {
        port: coordinator.https_port,
        tls: TlsConnector::from(Arc::new(pinned_tls(coordinator.pin()))),
        stalling: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        lives: Mutex::default(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stallers: Vec<_> =
        (0..STALLERS).map(|number| runtime.spawn(stall(number, Arc::clone(&crowd)))).collect();
    // Some are cut and come again at any moment, so that not quite all of them stall at once.
    until("the crowd stalls", Duration::from_mins(2), || {
        (crowd.stalling.load(Ordering::SeqCst) >= STALLERS * 95 / 100).then_some(())
    });
    let begun = Instant::now();
    agent.enrol(&join).success();
    let took = begun.elapsed();
    assert!(took <= GOOD, "the good enrolment took {took:?}");
    crowd.over.store(true, Ordering::SeqCst);
    runtime.block_on(async {
        for staller in stallers {
            let ended = tokio::time::timeout(Duration::from_mins(1), staller).await;
            ended.expect("a staller was never cut").unwrap();
        }
    });
    let lives = crowd.lives.lock().unwrap();
    assert!(lives.len() >= STALLERS, "{} lives", lives.len());
    for (how, life) in lives.iter() {
        assert!(*life <= CUT + SLOW_MACHINE, "{how:?} was open for {life:?}");
    }
}
