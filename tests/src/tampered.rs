//! A QUIC client whose packets are changed after they were built and before they are sealed: what no real client sends.

use std::sync::Arc;

use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn::{ConnectError, ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

/// Which keys a packet is sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Initial packets: the first TLS message and the transport parameters in it.
    Initial,
    /// Handshake packets: certificate, its proof, the end of the handshake.
    Handshake,
    /// All others.
    Data,
}

/// Changes the frames of a packet, in place.
pub type Tamper = dyn Fn(Space, &mut [u8]) + Send + Sync;

/// The configuration of a client whose packets go through `tamper`.
pub fn tampered(tls: rustls::ClientConfig, tamper: Arc<Tamper>) -> quinn::ClientConfig {
    let inner = Arc::new(QuicClientConfig::try_from(tls).unwrap());
    quinn::ClientConfig::new(Arc::new(TamperedConfig { inner, tamper }))
}

struct TamperedConfig {
    inner: Arc<QuicClientConfig>,
    tamper: Arc<Tamper>,
}

impl ClientConfig for TamperedConfig {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.inner).start_session(version, server_name, params)?;
        Ok(Box::new(TamperedSession { inner, tamper: Arc::clone(&self.tamper), next: Space::Handshake }))
    }
}

struct TamperedSession {
    inner: Box<dyn Session>,
    tamper: Arc<Tamper>,
    /// What the next keys are for.
    next: Space,
}

impl TamperedSession {
    fn wrap(&self, space: Space, keys: Keys) -> Keys {
        Keys { header: keys.header, packet: self.wrap_pair(space, keys.packet) }
    }

    fn wrap_pair(&self, space: Space, keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let KeyPair { local, remote } = keys;
        let local = Box::new(TamperedKey { inner: local, space, tamper: Arc::clone(&self.tamper) });
        KeyPair { local, remote }
    }
}

impl Session for TamperedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.wrap(Space::Initial, self.inner.initial_keys(dst_cid, side))
    }

    fn handshake_data(&self) -> Option<Box<dyn std::any::Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn std::any::Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.inner.write_handshake(buf)?;
        let space = std::mem::replace(&mut self.next, Space::Data);
        Some(self.wrap(space, keys))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        // After some hundred packets a client takes new keys by itself.
        let keys = self.inner.next_1rtt_keys()?;
        Some(self.wrap_pair(Space::Data, keys))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

struct TamperedKey {
    inner: Box<dyn PacketKey>,
    space: Space,
    tamper: Arc<Tamper>,
}

impl PacketKey for TamperedKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let frames_end = buf.len() - self.inner.tag_len();
        (self.tamper)(self.space, buf.get_mut(header_len..frames_end).unwrap());
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
