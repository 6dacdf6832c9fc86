//! The listeners: HTTPS for everybody, plain HTTP for a proxy on this host.
//!
//! Enters: sockets bound by `serve`, the router, the certificates. Leaves: answered requests. Never: a connection
//! without a deadline, more connections than the caps, a request whose peer is not known.

mod activity;
mod connection;
mod stall;
pub mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Shared;
pub(crate) use self::connection::{HEADERS, TimeTaken};
use crate::clock::SharedClock;

/// The TLS handshake must be over within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections of one address.
const PER_ADDRESS: usize = 100;
/// Connections in all; each may hold some 100 KiB.
const IN_ALL: usize = 4_096;
/// Pause after a failed accept (no descriptors left), so that the loop does not spin (FLT-39).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests in flight at the stop have this long to end.
const DRAIN: Duration = Duration::from_secs(8);

/// Serves one router on its listeners.
#[derive(Clone)]
pub struct HttpServer {
    shared: Shared,
    tls: Arc<ServerConfig>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    in_all: Arc<Semaphore>,
    connections: TaskTracker,
    cut: CancellationToken,
}

/// One connection's place among those of its address.
struct Place {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

impl HttpServer {
    /// A server for this router.
    pub fn new(
        router: Router,
        tls: Arc<ServerConfig>,
        trusted_proxies: &[IpNet],
        clock: SharedClock,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared: Shared { router, clock, trusted_proxies: trusted_proxies.into(), stop },
            tls,
            addresses: Arc::default(),
            in_all: Arc::new(Semaphore::new(IN_ALL)),
            connections: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Accepts HTTPS connections until the stop, then lets running requests end.
    pub async fn serve_https(self, listener: TcpListener) {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.tls));
        while let Some((stream, peer)) = self.next(|| listener.accept()).await {
            let Some(place) = self.enter(peer.ip()) else { continue };
            let (shared, acceptor) = (self.shared.clone(), acceptor.clone());
            let accepted = shared.clock.monotonic();
            self.spawn(async move {
                let _held = place;
                let local = stream.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip());
                // Small answers and SSE events must not wait for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice());
                        connection::serve(shared, stream, peer.ip(), local, http2, accepted).await;
                    }
                    Ok(Err(error)) => tracing::debug!(peer = %peer.ip(), %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(peer = %peer.ip(), "TLS handshake took too long"),
                }
            });
        }
        self.drain().await;
    }

    /// Accepts plain HTTP/1.1 on loopback until the stop.
    pub async fn serve_plain_tcp(self, listener: TcpListener) {
        while let Some((stream, peer)) = self.next(|| listener.accept()).await {
            let (shared, accepted) = (self.shared.clone(), self.shared.clock.monotonic());
            self.spawn(connection::serve(shared, stream, peer.ip(), peer.ip(), false, accepted));
        }
        self.drain().await;
    }

    /// Accepts plain HTTP/1.1 on a unix socket until the stop; its peer counts as loopback.
    pub async fn serve_plain_unix(self, listener: UnixListener) {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        while let Some((stream, _)) = self.next(|| listener.accept()).await {
            let (shared, accepted) = (self.shared.clone(), self.shared.clock.monotonic());
            self.spawn(connection::serve(shared, stream, loopback, loopback, false, accepted));
        }
        self.drain().await;
    }

    /// The next connection; `None` at the stop.
    async fn next<T, F>(&self, accept: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = std::io::Result<T>>,
    {
        loop {
            let accepted = self.shared.stop.run_until_cancelled(accept()).await?;
            match accepted {
                Ok(connection) => return Some(connection),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Runs a connection unless there are too many in all.
    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let Ok(place) = Arc::clone(&self.in_all).try_acquire_owned() else { return };
        let cut = self.cut.clone();
        self.connections.spawn(async move {
            let _held = place;
            cut.run_until_cancelled(connection).await;
        });
    }

    fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_default();
        if *count >= PER_ADDRESS {
            tracing::debug!(%address, "too many connections of one address");
            return None;
        }
        *count += 1;
        Some(Place { addresses: Arc::clone(&self.addresses), address })
    }

    async fn drain(&self) {
        self.connections.close();
        if tokio::time::timeout(DRAIN, self.connections.wait()).await.is_err() {
            tracing::warn!(open = self.connections.len(), "connections still open at the stop are cut");
            self.cut.cancel();
        }
    }
}
