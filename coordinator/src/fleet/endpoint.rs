//! Who gets as far as a session: address validation under load, handshake deadline, identity checked once more.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aim_common::protocol::{ALPN, CloseCode};
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, TokioRuntime, VarInt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::registry::Slot;
use super::{Fleet, LinkError, link, tls};
use crate::keyvault::KeyVault;

/// A handshake takes at most this long (QUI-06).
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Above so many half-open handshakes an address must prove itself first (QUI-05).
const HALF_OPEN_RETRY: usize = 256;
/// Above so many, new ones are refused: 10,000 agents that come back at once find their turn by their backoff.
const HALF_OPEN_MAX: usize = 2048;
/// How long sessions have to end when the coordinator stops.
const FAREWELL: Duration = Duration::from_secs(3);

pub(super) fn open(keyvault: &KeyVault, socket: UdpSocket) -> Result<Endpoint, LinkError> {
    let config = tls::server_config(keyvault)?;
    Ok(Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?)
}

/// Counts a handshake for as long as it lives.
struct HalfOpen(Arc<AtomicUsize>);

impl HalfOpen {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is done with a first packet.
#[derive(Debug, PartialEq, Eq)]
enum Reception {
    Accept,
    Retry,
    Refuse,
}

fn receive(half_open: usize, validated: bool) -> Reception {
    match half_open {
        HALF_OPEN_MAX.. => Reception::Refuse,
        HALF_OPEN_RETRY.. if !validated => Reception::Retry,
        _ => Reception::Accept,
    }
}

/// Takes connections until stopped; then tells every agent and waits for the sessions to end.
pub(super) async fn accept(
    fleet: Arc<Fleet>,
    keyvault: Arc<KeyVault>,
    endpoint: Endpoint,
    stop: CancellationToken,
) {
    let half_open = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                // The endpoint's driver is gone: this task's end ends the process (QUI-14).
                let Some(incoming) = incoming else { return };
                match receive(half_open.load(Ordering::Relaxed), incoming.remote_address_validated()) {
                    Reception::Accept => {
                        let half_open = HalfOpen::begin(&half_open);
                        connections.spawn(connection(Arc::clone(&fleet), Arc::clone(&keyvault), incoming, half_open));
                    }
                    // An address that cannot be asked again has answered before.
                    Reception::Retry => {
                        let _ = incoming.retry();
                    }
                    Reception::Refuse => incoming.refuse(),
                }
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a connection died");
                }
            }
            () = stop.cancelled() => break,
        }
    }
    farewell(&fleet, &endpoint, connections).await;
}

/// Every agent hears that the coordinator stops, so that it comes back with backoff and spools meanwhile.
async fn farewell(fleet: &Fleet, endpoint: &Endpoint, mut connections: JoinSet<()>) {
    endpoint.set_server_config(None);
    fleet.stopping.store(true, Ordering::Relaxed);
    let mut goodbyes = JoinSet::new();
    for session in fleet.registry.all() {
        goodbyes.spawn(async move { session.stop().await });
    }
    let ended = tokio::time::timeout(FAREWELL, async {
        while goodbyes.join_next().await.is_some() {}
        while connections.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        tracing::warn!(left = connections.len(), "sessions that did not end in time are cut");
    }
    endpoint.close(VarInt::from_u32(CloseCode::Unavailable.code()), b"");
    let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
}

async fn connection(fleet: Arc<Fleet>, keyvault: Arc<KeyVault>, incoming: Incoming, half_open: HalfOpen) {
    let remote = incoming.remote_address();
    let connection = match tokio::time::timeout(HANDSHAKE_WITHIN, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "a handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%remote, "a handshake did not end in time");
            return;
        }
    };
    drop(half_open);
    if let Err(code) = identified(&fleet, &keyvault, &connection).await {
        fleet.counters.closed(code);
        close(&connection, code);
    }
}

/// The identity comes from the certificate, checked again because it may have been revoked during the handshake.
async fn identified(
    fleet: &Arc<Fleet>,
    keyvault: &Arc<KeyVault>,
    connection: &Connection,
) -> Result<(), CloseCode> {
    let remote = connection.remote_address();
    let leaf = tls::leaf(connection).ok_or(CloseCode::Refused)?;
    let alpn = tls::alpn(connection).filter(|alpn| alpn == ALPN).ok_or(CloseCode::ProtocolViolation)?;
    let peer = keyvault.check(&leaf, fleet.clock.now()).map_err(|refusal| {
        tracing::info!(%remote, reason = %refusal, "a peer was refused after its handshake");
        CloseCode::Refused
    })?;
    let slot = Slot::take(&fleet.registry, peer.node_id, connection).ok_or_else(|| {
        tracing::warn!(node.id = %peer.node_id, %remote, "a node has too many connections");
        CloseCode::LimitExceeded
    })?;
    // Once more: a revocation before the slot was taken did not find this connection.
    keyvault.check(&leaf, fleet.clock.now()).map_err(|_| CloseCode::Refused)?;
    link::run(fleet, keyvault, connection, &leaf, peer, alpn).await;
    drop(slot);
    Ok(())
}

/// Closes with a code and without any text (QUI-13).
pub(super) fn close(connection: &Connection, code: CloseCode) {
    connection.close(VarInt::from_u32(code.code()), b"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qui_05_above_256_half_open_handshakes_an_address_must_prove_itself() {
        assert_eq!(receive(255, false), Reception::Accept);
        assert_eq!(receive(256, false), Reception::Retry);
        assert_eq!(receive(256, true), Reception::Accept);
        assert_eq!(receive(2048, true), Reception::Refuse);
    }
}
