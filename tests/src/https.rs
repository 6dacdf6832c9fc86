//! Bare connections to the API from any loopback address, for clients that do what no library would; and one that is
//! good and takes the time of its requests.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aim_common::identity::Sha256Digest;
use aim_common::tls::{PinnedRootVerifier, provider};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::wait::until;

const SERVER_NAME: &str = "coordinator.aim.internal";

fn client_config(pin: Sha256Digest, protocols: &[&[u8]]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(PinnedRootVerifier::new(pin))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// Where the API of one coordinator is.
#[derive(Clone)]
pub struct Https {
    address: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Https {
    /// The API on this port, trusted by its pin.
    pub fn new(port: u16, pin: Sha256Digest) -> Self {
        let connector = |protocol: &[u8]| TlsConnector::from(Arc::new(client_config(pin, &[protocol])));
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            http1: connector(b"http/1.1"),
            http2: connector(b"h2"),
        }
    }

    /// TCP and no more.
    pub async fn tcp(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(self.address).await
    }

    /// TLS for HTTP/1.1.
    pub async fn http1(&self, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
        self.tls(&self.http1, from).await
    }

    /// TLS for HTTP/2.
    pub async fn http2(&self, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
        self.tls(&self.http2, from).await
    }

    async fn tls(&self, connector: &TlsConnector, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.tcp(from).await?;
        stream.set_nodelay(true)?;
        connector.connect(ServerName::try_from(SERVER_NAME).unwrap(), stream).await
    }
}

/// Somebody who works with the API all the while, on a thread of its own.
pub struct GoodClient {
    stopped: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Duration>>,
}

impl GoodClient {
    /// Asks for its own session with this bearer token, on a kept connection and on a new one in turn.
    pub fn start(port: u16, pin: Sha256Digest, token: String) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let (seen, count) = (Arc::clone(&stopped), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ask(port, pin, &token, &seen, &count))
        });
        Self { stopped, answered, thread }
    }

    /// Waits until it has had so many answers.
    #[track_caller]
    pub fn await_answers(&self, count: usize) {
        until("the good client has its answers", Duration::from_mins(1), || {
            (self.answered.load(Ordering::SeqCst) >= count).then_some(())
        });
    }

    /// What it has to bear while nothing happens: the p99 of a hundred requests.
    #[track_caller]
    pub fn undisturbed(port: u16, pin: Sha256Digest, token: &str) -> Duration {
        let quiet = Self::start(port, pin, token.to_owned());
        quiet.await_answers(100);
        p99(quiet.stop())
    }

    /// Ends it; the times that its requests took, every one of which was answered well.
    #[track_caller]
    pub fn stop(self) -> Vec<Duration> {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

async fn ask(
    port: u16,
    pin: Sha256Digest,
    token: &str,
    stopped: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<Duration> {
    /// So that it takes no machine for itself.
    const PAUSE: Duration = Duration::from_millis(20);
    let client = |idle: usize| {
        reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(pin, &[b"h2", b"http/1.1"]))
            .no_proxy()
            .pool_max_idle_per_host(idle)
            .timeout(Duration::from_secs(20))
            .resolve(SERVER_NAME, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .build()
            .unwrap()
    };
    let (kept, new) = (client(1), client(0));
    let url = format!("https://{SERVER_NAME}:{port}/api/v1/auth/session");
    let mut times = Vec::new();
    while !stopped.load(Ordering::SeqCst) {
        for client in [&kept, &new] {
            let begun = Instant::now();
            let answer = client.get(&url).bearer_auth(token).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), 200);
            answer.bytes().await.unwrap();
            times.push(begun.elapsed());
            answered.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
    }
    times
}

/// The time that 99 of 100 stay below.
pub fn p99(mut times: Vec<Duration>) -> Duration {
    assert!(times.len() >= 10, "only {} samples", times.len());
    times.sort_unstable();
    times[(times.len() * 99).div_ceil(100) - 1]
}
