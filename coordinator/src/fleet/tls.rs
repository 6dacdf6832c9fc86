//! TLS of the link, built by hand: quinn's own constructors switch 0-RTT on and ask for no client certificate.

use std::sync::Arc;
use std::time::Duration;

use aim_common::protocol::ALPN;
use quinn::crypto::rustls::{HandshakeData, NoInitialCipherSuite, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, Connection, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::CertificateDer;

use crate::keyvault::KeyVault;
use crate::keyvault::ca::CaError;

/// Streams of each sort that an agent may have open (QUI-08).
const STREAMS: VarInt = VarInt::from_u32(16);
/// Receive window of one stream in bytes.
const STREAM_WINDOW: VarInt = VarInt::from_u32(256 * 1024);
/// Receive window of a connection: what one agent can make the coordinator hold (QUI-08 allows 4 MiB).
const CONNECTION_WINDOW: VarInt = VarInt::from_u32(1024 * 1024);
/// What may be unacknowledged towards one agent.
const SEND_WINDOW: u64 = 1024 * 1024;
/// CRYPTO data that may arrive out of order: a certificate chain is 3 KiB.
const CRYPTO_BUFFER: usize = 16 * 1024;
/// Both ends notice a dead peer within this time; the agent's keep-alive comes every 2 s (QUI-12).
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(30_000);
/// Connections that wait to be looked at.
const MAX_INCOMING: usize = 4096;
/// First-flight bytes kept for each of them, and for all.
const INCOMING_BUFFER: (u64, u64) = (16 * 1024, 16 * 1024 * 1024);
/// How long an address has to answer a Retry.
const RETRY_LIFETIME: Duration = Duration::from_secs(15);

/// Why the link cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The CA's certificates cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// TLS refuses the settings.
    #[error("TLS of the link cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The provider lacks what QUIC needs.
    #[error("TLS of the link cannot be set up: {0}")]
    Suite(#[from] NoInitialCipherSuite),
    /// The socket cannot be used.
    #[error("the link's socket cannot be used: {0}")]
    Socket(#[from] std::io::Error),
}

/// TLS 1.3 only, client certificate mandatory, no tickets, no early data, one ALPN, no key log.
pub(super) fn rustls_config(keyvault: &KeyVault) -> Result<rustls::ServerConfig, LinkError> {
    let mut config = rustls::ServerConfig::builder_with_provider(aim_common::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(keyvault.node_verifier()?)
        .with_cert_resolver(keyvault.server_certificate());
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A ticket would let a revoked node in without its certificate being looked at again.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Asks agents to acknowledge each packet at once, as they ask us: a held-back acknowledgement costs both ends timers
/// and often a repeated packet.
fn acknowledge_at_once() -> AckFrequencyConfig {
    let mut wish = AckFrequencyConfig::default();
    wish.ack_eliciting_threshold(VarInt::from_u32(0));
    wish
}

/// Every limit of the transport, said and not left to the library.
pub(super) fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS)
        .max_concurrent_uni_streams(STREAMS)
        .stream_receive_window(STREAM_WINDOW)
        .receive_window(CONNECTION_WINDOW)
        .send_window(SEND_WINDOW)
        .crypto_buffer_size(CRYPTO_BUFFER)
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)))
        // The agent keeps the connection alive; its packets are the heartbeat.
        .keep_alive_interval(None)
        .ack_frequency_config(Some(acknowledge_at_once()))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0);
    transport
}

pub(super) fn server_config(keyvault: &KeyVault) -> Result<ServerConfig, LinkError> {
    let crypto = QuicServerConfig::try_from(rustls_config(keyvault)?)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(Arc::new(transport()))
        .validation_token_config(tokens)
        .retry_token_lifetime(RETRY_LIFETIME)
        .migration(true)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER.0)
        .incoming_buffer_size_total(INCOMING_BUFFER.1);
    Ok(config)
}

/// The certificate that the peer proved.
pub(super) fn leaf(connection: &Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// The ALPN that both agreed on.
pub(super) fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}
