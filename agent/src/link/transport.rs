//! QUIC with every limit said: nothing is left to a library's habit.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aim_common::protocol::ALPN;
use aim_common::tls::provider;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, TransportConfig, VarInt,
};
use rustls::client::Resumption;

use crate::identity::{Identity, root_store};
use crate::timer::KernelTimers;

/// Both ends notice a dead peer within this time (QUI-12).
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// The heartbeat: QUIC's PING.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Streams the coordinator may open; one for each action under way.
const STREAMS: u32 = 16;
/// Bytes in flight on one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes in flight on the connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Asks the coordinator to acknowledge each packet at once: an acknowledgement held back for 25 ms meets the timer that
/// repeats the packet, which costs a heartbeat another packet and both ends two more wake-ups.
fn acknowledge_at_once() -> AckFrequencyConfig {
    let mut wish = AckFrequencyConfig::default();
    wish.ack_eliciting_threshold(VarInt::from_u32(0));
    wish
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(Some(HEARTBEAT))
        .ack_frequency_config(Some(acknowledge_at_once()))
        .datagram_receive_buffer_size(None);
    transport
}

fn tls(identity: &Identity) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(Arc::new(root_store(&identity.roots)?))
        .with_client_auth_cert(identity.chain.clone(), identity.key.to_pkcs8())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket would go round the check of revocation, and early data is replayable (QUI-02).
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    Ok(tls)
}

/// The configuration of one identity's connections.
pub fn client_config(identity: &Identity) -> Result<ClientConfig, rustls::Error> {
    let quic = QuicClientConfig::try_from(tls(identity)?)
        .map_err(|error| rustls::Error::General(format!("QUIC needs TLS_AES_128_GCM_SHA256: {error}")))?;
    let mut config = ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// A socket connected to one coordinator: the kernel drops what anybody else sends, so that nothing listens (AGT-01).
pub fn client_socket(coordinator: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = if coordinator.is_ipv6() {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(coordinator)?;
    Ok(socket)
}

/// No connection id towards us: the socket belongs to one peer, so that its packets need nothing to be told apart by.
struct NoConnectionId;

impl ConnectionIdGenerator for NoConnectionId {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&[])
    }

    fn cid_len(&self) -> usize {
        0
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// An endpoint of one connection.
pub fn endpoint(socket: UdpSocket) -> std::io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.cid_generator(|| Box::new(NoConnectionId));
    Endpoint::new(config, None, socket, Arc::new(KernelTimers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qui_12_the_heartbeat_is_well_within_the_idle_time() {
        assert!(HEARTBEAT * 2 < IDLE);
        let shown = format!("{:?}", transport());
        assert!(shown.contains("keep_alive_interval: Some(2s)"), "{shown}");
        assert!(shown.contains("max_idle_timeout: Some(30000)"), "{shown}");
    }

    #[test]
    fn agt_01_the_socket_takes_packets_of_the_coordinator_alone() {
        let coordinator = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let agent = client_socket(coordinator.local_addr().unwrap()).unwrap();
        let here = agent.local_addr().unwrap();
        stranger.send_to(b"stranger", here).unwrap();
        coordinator.send_to(b"coordinator", here).unwrap();
        let mut buffer = [0; 64];
        let (read, from) = agent.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..read], from), (&b"coordinator"[..], coordinator.local_addr().unwrap()));
    }
}
