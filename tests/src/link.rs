//! A bare client of the link with a node's identity: for what a real agent would never do, and for exact moments.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aim_common::identity::{BootId, Sha256Digest, SpoolId};
use aim_common::protocol::{ALPN, CloseCode, Hello, Welcome};
use aim_common::tls::provider;
use aim_common::units::EpochMs;
use aim_common::wire::{FrameDecoder, Message, ProtocolVersion, decode, encode};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::Agent;

/// Longest wait for a handshake or an answer.
const ANSWER: Duration = Duration::from_secs(15);
const PROTOCOL: ProtocolVersion = ProtocolVersion::MAX;

/// A node's key, certificate and roots, as the agent has them on disk.
pub struct NodeIdentity {
    key: PrivateKeyDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl NodeIdentity {
    /// Reads the agent's identity file.
    #[track_caller]
    pub fn of(agent: &Agent) -> Self {
        let text = fs::read_to_string(agent.state_dir().join("identity.json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        let pem = |key: &str| file[key].as_str().unwrap().as_bytes().to_vec();
        let certificates =
            |key: &str| CertificateDer::pem_slice_iter(&pem(key)).collect::<Result<Vec<_>, _>>().unwrap();
        Self {
            key: PrivateKeyDer::from_pem_slice(&pem("private_key")).unwrap(),
            chain: certificates("certificate_chain"),
            roots: certificates("roots"),
        }
    }

    /// TLS of a client with this identity.
    pub fn tls(&self) -> rustls::ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).unwrap();
        }
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls
    }

    fn client_config(&self) -> quinn::ClientConfig {
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(self.tls()).unwrap()))
    }
}

/// A session that a test holds in its own hands.
pub struct BareLink {
    runtime: Runtime,
    connection: quinn::Connection,
    // Dropping it would close the connection.
    _endpoint: quinn::Endpoint,
    control: (quinn::SendStream, quinn::RecvStream),
}

impl BareLink {
    /// Dials, and says Hello; the error is the coordinator's way of refusing.
    pub fn open(identity: &NodeIdentity, port: u16, boot: BootId) -> Result<Self, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let opened = runtime.block_on(async {
            tokio::time::timeout(ANSWER, open(identity.client_config(), port, boot)).await
        });
        let (endpoint, connection, control) = opened.map_err(|_| "no answer".to_owned())??;
        Ok(Self { runtime, connection, _endpoint: endpoint, control })
    }

    /// Waits until the coordinator closes the connection; gives the code and the moment of it.
    pub fn closed(&self, deadline: Duration) -> Option<(Option<CloseCode>, Instant)> {
        self.runtime.block_on(async {
            let reason = tokio::time::timeout(deadline, self.connection.closed()).await.ok()?;
            Some((close_code(&reason), Instant::now()))
        })
    }

    /// Sends messages on a unidirectional stream of their own, which stays open as long as the returned value.
    pub fn send(&self, frames: &[u8]) -> quinn::SendStream {
        self.runtime.block_on(async {
            let mut stream = self.connection.open_uni().await.unwrap();
            stream.write_all(frames).await.unwrap();
            stream
        })
    }

    /// The spool that this session's records come from.
    pub fn spool() -> SpoolId {
        SpoolId::from_random([7; 16])
    }

    /// Writes bytes to the control stream as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        // A closed connection is what the test asserts afterwards.
        let _ = self.runtime.block_on(self.control.0.write_all(bytes));
    }
}

/// The close code that AIM's coordinator gave, if it closed the connection.
pub fn close_code(reason: &quinn::ConnectionError) -> Option<CloseCode> {
    match reason {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_code(close.error_code.into_inner())
        }
        _ => None,
    }
}

/// An endpoint, its connection, and the control stream both ways.
pub type Opened = (quinn::Endpoint, quinn::Connection, (quinn::SendStream, quinn::RecvStream));

/// Dials, and says Hello; the error is the coordinator's way of refusing.
pub async fn open(config: quinn::ClientConfig, port: u16, boot: BootId) -> Result<Opened, String> {
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connecting = endpoint.connect_with(config, address, "coordinator.aim.internal").unwrap();
    let connection = connecting.await.map_err(|error| error.to_string())?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
    let hello = encode(PROTOCOL, &hello(boot)).unwrap();
    send.write_all(&hello).await.map_err(|error| error.to_string())?;
    if read::<Welcome>(&mut receive).await.is_some() {
        return Ok((endpoint, connection, (send, receive)));
    }
    let reason = connection.closed().await;
    Err(close_code(&reason).map_or_else(|| reason.to_string(), |code| format!("{code:?}")))
}

fn hello(boot: BootId) -> Hello {
    Hello {
        agent_version: "test".into(),
        protocol_min: ProtocolVersion::MIN,
        protocol_max: ProtocolVersion::MAX,
        alpn: "aim/1".into(),
        features: 0,
        boot_id: boot,
        machine_id_sha256: None,
        inventory_sha256: Sha256Digest::of(b"none"),
        series_sha256: Sha256Digest::of(b"none"),
        spool_id: BareLink::spool(),
        spool_first: 0,
        clock: EpochMs(0),
        started: EpochMs(0),
    }
}

async fn read<M: Message>(receive: &mut quinn::RecvStream) -> Option<M> {
    let mut decoder = FrameDecoder::default();
    let mut bytes = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame().ok()? {
            return decode(&frame).ok();
        }
        let count = receive.read(&mut bytes).await.ok()??;
        decoder.push(bytes.get(..count)?);
    }
}
