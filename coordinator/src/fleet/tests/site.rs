//! A coordinator's link with its real KeyVault and database, and agents made of plain quinn.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aim_common::api::keyvault::{EnrolRequest, GenerateTokenRequest};
use aim_common::enrolment::TokenPurpose;
use aim_common::identity::{BootId, NodeId, Sha256Digest, SpoolId};
use aim_common::protocol::{ALPN, CloseCode, Hello, RenewRequest, RenewResponse, SpoolBatch, Welcome};
use aim_common::units::EpochMs;
use aim_common::wire::{FrameDecoder, Message, ProtocolVersion, decode, encode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::clock::{SharedClock, SystemClock};
use crate::conditions::Conditions;
use crate::config::KeyVault as KeyVaultConfig;
use crate::fleet::{self, Fleet};
use crate::inventory::{Inventory, Node};
use crate::keyvault::tokens::TokenOrder;
use crate::keyvault::{KeyVault, KeyVaultParts, PublicAddresses, Requester};
use crate::store::Store;
use crate::supervise::Tasks;

/// Long enough for a slow machine, short enough to fail.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Site {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) inventory: Arc<Inventory>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) keyvault: Arc<KeyVault>,
    pub(super) address: SocketAddr,
    tasks: Tasks,
}

/// A node's key and chain.
pub(super) struct Identity {
    pub(super) node: NodeId,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { node: self.node, chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Likewise, with the state that another one left.
    pub(super) async fn start_in(folder: tempfile::TempDir) -> Self {
        let clock: SharedClock = Arc::new(SystemClock::new());
        let conditions = Arc::new(Conditions::default());
        let store = Store::open_sqlite(&folder.path().join("coordinator.db")).await.unwrap();
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        let inventory =
            Inventory::load(store.clone(), Arc::clone(&clock), Arc::clone(&conditions), 90, &mut tasks)
                .await
                .unwrap();
        let fleet = Fleet::new(Arc::clone(&clock), Arc::clone(&inventory));
        let parts = KeyVaultParts {
            state_dir: folder.path(),
            config: KeyVaultConfig::default(),
            addresses: PublicAddresses::default(),
            store: store.clone(),
            clock,
            conditions,
            sessions: fleet.clone(),
        };
        let keyvault = Arc::new(KeyVault::open(parts).await.unwrap());
        let news = keyvault.subscribe();
        tasks.spawn("news", fleet::news::follow(Arc::clone(&inventory), store.clone(), news, stop.clone()));
        tasks.spawn("keyvault", Arc::clone(&keyvault).run(stop));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        fleet::start(&fleet, &keyvault, socket, &mut tasks).unwrap();
        Self { folder, store, inventory, fleet, keyvault, address, tasks }
    }

    pub(super) async fn stop(self) {
        drop(self.stop_and_keep().await);
    }

    /// Stops, and leaves the state to another one.
    pub(super) async fn stop_and_keep(self) -> tempfile::TempDir {
        self.tasks.shutdown().await;
        self.store.close().await;
        self.folder
    }

    /// Enrols a node as the API does it.
    pub(super) async fn enrol(&self, name: &str) -> Identity {
        let requester = Requester::coordinator();
        let wish = GenerateTokenRequest {
            node: Some(name.parse().unwrap()),
            hosts: None,
            ttl_seconds: None,
            source_cidr: None,
            public_key_sha256: None,
            replace: false,
        };
        let order = TokenOrder::new(TokenPurpose::AgentEnrol, wish).unwrap();
        let token = self.keyvault.issue_tokens(&order, &requester).await.unwrap().remove(0);
        let pair = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&pair).unwrap();
        let request = EnrolRequest {
            token: token.token,
            signature: token.signature,
            nonce: token.nonce,
            node: name.parse().unwrap(),
            csr: csr.pem().unwrap(),
        };
        let source = Ipv4Addr::LOCALHOST.into();
        let answer = self.keyvault.enrol(&request, source, &requester).await.unwrap();
        let chain = CertificateDer::pem_slice_iter(answer.certificate_chain.as_bytes());
        Identity {
            node: answer.node_id,
            chain: chain.map(Result::unwrap).collect(),
            key: PrivateKeyDer::Pkcs8(pair.serialize_der().into()),
        }
    }

    pub(super) fn node(&self, id: NodeId) -> Arc<Node> {
        self.inventory.node(id).unwrap()
    }

    fn client_builder(&self) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
        client_builder(self.keyvault.ca().root_store().unwrap())
    }

    /// A connection with this TLS configuration; its handshake may still be refused afterwards.
    pub(super) async fn dial_with(
        &self,
        config: rustls::ClientConfig,
    ) -> Result<(Endpoint, Connection), ConnectionError> {
        let endpoint = endpoint();
        let connection = endpoint.connect_with(quic(config), self.address, SERVER_NAME).unwrap().await?;
        Ok((endpoint, connection))
    }

    /// TLS of a client with this identity and ALPN.
    pub(super) fn client_tls(&self, identity: Option<&Identity>, alpn: &[&[u8]]) -> rustls::ClientConfig {
        let mut config = match identity {
            Some(identity) => self
                .client_builder()
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .unwrap(),
            None => self.client_builder().with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
        config
    }

    /// A connection with this identity and ALPN; its handshake may still be refused afterwards.
    pub(super) async fn dial(
        &self,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
    ) -> Result<(Endpoint, Connection), ConnectionError> {
        let endpoint = endpoint();
        let connection = self.dial_from(&endpoint, identity, alpn).await?;
        Ok((endpoint, connection))
    }

    /// The same from an endpoint that may have other connections.
    pub(super) async fn dial_from(
        &self,
        endpoint: &Endpoint,
        identity: Option<&Identity>,
        alpn: &[&[u8]],
    ) -> Result<Connection, ConnectionError> {
        let config = quic(self.client_tls(identity, alpn));
        endpoint.connect_with(config, self.address, SERVER_NAME).unwrap().await
    }

    /// A session up to Welcome.
    pub(super) async fn agent(&self, identity: &Identity, hello: &Hello) -> Agent {
        self.agent_from(&endpoint(), identity, hello).await
    }

    /// The same from an endpoint that may have other connections.
    pub(super) async fn agent_from(&self, endpoint: &Endpoint, identity: &Identity, hello: &Hello) -> Agent {
        let mut agent = self.connect_from(endpoint, identity).await;
        agent.send(hello).await;
        agent.welcome = Some(agent.receive::<Welcome>().await);
        agent
    }

    /// A connection with an open control stream.
    pub(super) async fn connect(&self, identity: &Identity) -> Agent {
        self.connect_from(&endpoint(), identity).await
    }

    async fn connect_from(&self, endpoint: &Endpoint, identity: &Identity) -> Agent {
        let endpoint = endpoint.clone();
        let connection = self.dial_from(&endpoint, Some(identity), &[ALPN]).await.unwrap();
        let (send, receive) = connection.open_bi().await.unwrap();
        Agent {
            _endpoint: endpoint,
            connection,
            send,
            receive,
            decoder: FrameDecoder::default(),
            welcome: None,
        }
    }
}

/// TLS of a client that trusts these roots.
pub(super) fn client_builder(
    roots: rustls::RootCertStore,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    rustls::ClientConfig::builder_with_provider(aim_common::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}

/// The name that the coordinator's certificate has.
pub(super) const SERVER_NAME: &str = "coordinator.aim.internal";

/// A socket of a client's own.
pub(super) fn endpoint() -> Endpoint {
    Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

/// QUIC over this TLS, with the agent's heartbeat.
pub(super) fn quic(tls: rustls::ClientConfig) -> ClientConfig {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(2)));
    config.transport_config(Arc::new(transport));
    config
}

/// What a test says as an agent.
pub(super) struct Agent {
    _endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    receive: RecvStream,
    decoder: FrameDecoder,
    pub(super) welcome: Option<Welcome>,
}

impl Agent {
    pub(super) async fn send<M: Message>(&mut self, message: &M) {
        self.send.write_all(&frame(message)).await.unwrap();
    }

    /// The next message of this kind on the control stream; others are passed over.
    pub(super) async fn receive<M: Message>(&mut self) -> M {
        let next = async {
            loop {
                while let Some(frame) = self.decoder.next_frame().unwrap() {
                    if frame.header.kind == M::KIND.number() {
                        return decode(&frame).unwrap();
                    }
                }
                let chunk = self.receive.read_chunk(65_536, true).await.unwrap().unwrap();
                self.decoder.push(&chunk.bytes);
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the coordinator answers")
    }

    /// Asks for a certificate on a stream of its own; gives the answer.
    pub(super) async fn renew(&self, csr_der: Vec<u8>) -> RenewResponse {
        let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
        let request = RenewRequest { csr_der: csr_der.try_into().unwrap() };
        send.write_all(&frame(&request)).await.unwrap();
        send.finish().unwrap();
        let answer = receive.read_to_end(128 * 1024);
        let bytes = tokio::time::timeout(PATIENCE, answer).await.expect("the coordinator answers").unwrap();
        let mut decoder = FrameDecoder::default();
        decoder.push(&bytes);
        decode(&decoder.next_frame().unwrap().unwrap()).unwrap()
    }

    /// A stream of its own with these messages on it.
    pub(super) async fn stream(&self) -> SendStream {
        self.connection.open_uni().await.unwrap()
    }

    /// The code that the coordinator closes with, and the text it gives.
    pub(super) async fn closed(&self) -> (Option<CloseCode>, usize) {
        closed(&self.connection).await
    }
}

pub(super) async fn closed(connection: &Connection) -> (Option<CloseCode>, usize) {
    match tokio::time::timeout(PATIENCE, connection.closed()).await.expect("the coordinator closes") {
        ConnectionError::ApplicationClosed(close) => {
            (CloseCode::from_code(close.error_code.into_inner()), close.reason.len())
        }
        _ => (None, 0),
    }
}

pub(super) fn frame<M: Message>(message: &M) -> Vec<u8> {
    encode(ProtocolVersion(1), message).unwrap()
}

pub(super) fn hello(boot: u8) -> Hello {
    Hello {
        agent_version: "0.1.0".into(),
        protocol_min: ProtocolVersion(1),
        protocol_max: ProtocolVersion(1),
        alpn: "aim/1".into(),
        features: 0,
        boot_id: BootId::from_random([boot; 16]),
        machine_id_sha256: None,
        inventory_sha256: Sha256Digest::of(b"none"),
        series_sha256: Sha256Digest::of(b"none"),
        spool_id: spool(),
        spool_first: 0,
        clock: EpochMs(0),
        started: EpochMs(0),
    }
}

pub(super) fn spool() -> SpoolId {
    SpoolId::from_random([3; 16])
}

pub(super) fn batch(records: Vec<aim_common::protocol::SpoolRecord>) -> SpoolBatch {
    SpoolBatch { spool_id: spool(), records: records.try_into().unwrap() }
}

/// Polls until the condition holds.
pub(super) async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(within, poll).await.is_ok(), "{what} did not come about within {within:?}");
}
