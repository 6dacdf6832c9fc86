//! One connection: handshake, Hello and Welcome, then frames until an end with a cause.

use std::net::SocketAddr;
use std::time::Duration;

use aim_common::protocol::{
    ALPN, Ack, CloseCode, Goodbye, GoodbyeCause, Hello, LiveMode, RenewRequest, RenewResponse, Welcome,
};
use aim_common::units::EpochMs;
use aim_common::wire::{
    BoundedBytes, BoundedString, DecodeError, EncodeError, FrameDecoder, Message, ProtocolVersion, decode,
    encode,
};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::session::{Effect, Session, WELCOME_WITHIN};
use super::{HelloFacts, STREAM_QUEUE, Trouble};

/// Handshake of QUIC and TLS.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// An answer to a renewal.
const RENEWAL_WITHIN: Duration = Duration::from_secs(30);
/// How long a Goodbye may take to arrive.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct LinkError {
    /// Which sort.
    pub trouble: Trouble,
    /// In words.
    pub reason: String,
}

impl LinkError {
    pub(super) fn new(trouble: Trouble, reason: impl Into<String>) -> Self {
        Self { trouble, reason: reason.into() }
    }
}

/// A session after Welcome.
#[derive(Debug)]
pub struct Opened {
    /// What this node said in Hello.
    pub facts: HelloFacts,
    /// What the coordinator said.
    pub welcome: Welcome,
    /// The connection.
    pub connection: Connection,
    session: Session,
    control: Control,
}

#[derive(Debug)]
struct Control {
    send: SendStream,
    receive: RecvStream,
    decoder: FrameDecoder,
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    /// The coordinator's or our code, where there was one.
    pub code: Option<CloseCode>,
    /// The coordinator's cause, where it said one.
    pub cause: Option<GoodbyeCause>,
    /// In words.
    pub reason: String,
}

/// What a session gives while it lives.
#[derive(Debug)]
pub enum Served {
    /// Records are durable.
    Acknowledged(Ack),
    /// Report faster.
    Live(LiveMode),
    /// It is over.
    Ended(Ended),
}

fn hello(facts: &HelloFacts, clock: EpochMs) -> Hello {
    Hello {
        agent_version: BoundedString::truncated(&facts.agent_version),
        protocol_min: ProtocolVersion::MIN,
        protocol_max: ProtocolVersion::MAX,
        alpn: BoundedString::truncated(&String::from_utf8_lossy(ALPN)),
        features: 0,
        boot_id: facts.boot_id,
        machine_id_sha256: facts.machine_id_sha256,
        inventory_sha256: facts.inventory_sha256,
        series_sha256: facts.series_sha256,
        spool_id: facts.spool_id,
        spool_first: facts.spool_first,
        clock,
        started: facts.started,
    }
}

/// Connects, says Hello and waits for Welcome; only then the node is present.
pub async fn connect(
    endpoint: &Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    server_name: &str,
    facts: &HelloFacts,
    clock: EpochMs,
) -> Result<Opened, LinkError> {
    let connecting = endpoint
        .connect_with(config, address, server_name)
        .map_err(|error| LinkError::new(Trouble::Local, format!("cannot dial {address}: {error}")))?;
    let connection = tokio::time::timeout(HANDSHAKE_WITHIN, connecting)
        .await
        .map_err(|_| {
            LinkError::new(Trouble::NoAnswer, format!("no answer from {address} by UDP within 10 s"))
        })?
        .map_err(|error| trouble_of(&error))?;
    let opened = tokio::time::timeout(WELCOME_WITHIN, greet(&connection, facts, clock)).await;
    let failed = match opened {
        Ok(Ok((welcome, session, control))) => {
            return Ok(Opened { facts: facts.clone(), welcome, connection, session, control });
        }
        // In TLS 1.3 the client is done first: a refused certificate shows in the first reading (the closing says why).
        Ok(Err(error)) => match connection.close_reason() {
            Some(ConnectionError::LocallyClosed) | None => error,
            Some(reason) => trouble_of(&reason),
        },
        Err(_) => LinkError::new(Trouble::Unavailable, "no Welcome within 10 s"),
    };
    connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
    Err(failed)
}

async fn greet(
    connection: &Connection,
    facts: &HelloFacts,
    clock: EpochMs,
) -> Result<(Welcome, Session, Control), LinkError> {
    let broken = |error: &dyn std::fmt::Display| LinkError::new(Trouble::Unavailable, error.to_string());
    let (mut send, receive) = connection.open_bi().await.map_err(|error| trouble_of(&error))?;
    let hello = encode(ProtocolVersion::MIN, &hello(facts, clock)).map_err(|error| broken(&error))?;
    send.write_all(&hello).await.map_err(|error| broken(&error))?;
    let mut session = Session::new(Duration::ZERO);
    let mut control = Control { send, receive, decoder: FrameDecoder::default() };
    match next_effect(&mut session, &mut control).await {
        Ok(Effect::Opened(welcome)) => Ok((*welcome, session, control)),
        Ok(Effect::PeerLeaves(cause)) => {
            let trouble =
                if cause == GoodbyeCause::Revoked { Trouble::Refused } else { Trouble::Unavailable };
            Err(LinkError::new(trouble, format!("the coordinator leaves: {cause:?}")))
        }
        Ok(_) => Err(LinkError::new(Trouble::Unavailable, "the coordinator did not begin with Welcome")),
        Err(stop) => {
            // A connection that the coordinator closed keeps its cause: closing it again would hide a refusal.
            if let Some(code) = stop.code {
                connection.close(VarInt::from_u32(code.code()), b"");
            }
            Err(LinkError::new(Trouble::Unavailable, stop.reason))
        }
    }
}

/// The control stream brings no more.
struct Stop {
    code: Option<CloseCode>,
    reason: String,
}

/// The next effect of the control stream. Cancel-safe: bytes that were read are kept in the decoder.
async fn next_effect(session: &mut Session, control: &mut Control) -> Result<Effect, Stop> {
    loop {
        match control.decoder.next_frame() {
            Ok(Some(frame)) => {
                return session.frame(&frame).map_err(|code| Stop {
                    code: Some(code),
                    reason: format!("the coordinator sent what does not belong here ({code:?})"),
                });
            }
            Ok(None) => {}
            Err(error) => {
                return Err(Stop {
                    code: Some(session.no_frame(&error)),
                    reason: format!("the coordinator: {error}"),
                });
            }
        }
        let mut buffer = [0; 1024];
        match control.receive.read(&mut buffer).await {
            Ok(Some(read)) => control.decoder.push(buffer.get(..read).unwrap_or_default()),
            Ok(None) => {
                return Err(Stop { code: None, reason: "the coordinator ended the control stream".into() });
            }
            Err(error) => return Err(Stop { code: None, reason: error.to_string() }),
        }
    }
}

/// The queues of an open session; their streams are opened with the first frame.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) samples: mpsc::Sender<Vec<u8>>,
    pub(super) durable: mpsc::Sender<Vec<u8>>,
    writers: JoinSet<()>,
}

impl Opened {
    pub(super) fn streams(&self) -> Streams {
        let mut writers = JoinSet::new();
        let mut stream = || {
            let (frames, queue) = mpsc::channel(STREAM_QUEUE);
            writers.spawn(write_stream(self.connection.clone(), queue));
            frames
        };
        let (samples, durable) = (stream(), stream());
        Streams { samples, durable, writers }
    }

    /// Says Goodbye and closes; waits a little, so that the coordinator learns the cause.
    pub async fn leave(mut self, cause: GoodbyeCause) {
        if let Ok(frame) = encode(self.session.protocol(), &Goodbye { cause }) {
            let said = async {
                self.control.send.write_all(&frame).await.ok()?;
                self.control.send.finish().ok()?;
                self.control.send.stopped().await.ok()
            };
            // The closing tells as much as can be told to a coordinator that does not answer.
            drop(tokio::time::timeout(GOODBYE_WITHIN, said).await);
        }
        self.connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
    }

    /// Asks for a certificate over the session.
    pub(super) fn renewal(
        &self,
        csr_der: Vec<u8>,
    ) -> impl Future<Output = Result<RenewResponse, RenewalError>> + Send + use<> {
        let (connection, protocol) = (self.connection.clone(), self.session.protocol());
        async move {
            tokio::time::timeout(RENEWAL_WITHIN, renew(&connection, protocol, csr_der))
                .await
                .map_err(|_| RenewalError::Stream("no answer within 30 s".into()))?
        }
    }
}

async fn write_stream(connection: Connection, mut queue: mpsc::Receiver<Vec<u8>>) {
    let Some(first) = queue.recv().await else { return };
    // Errors end the writer; the session itself learns them from the connection.
    let Ok(mut stream) = connection.open_uni().await else { return };
    if stream.write_all(&first).await.is_err() {
        return;
    }
    while let Some(frame) = queue.recv().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// The next thing that happens in the session. Cancel-safe.
pub async fn serve(opened: &mut Opened) -> Served {
    match next_effect(&mut opened.session, &mut opened.control).await {
        Ok(Effect::Acknowledged(ack)) => Served::Acknowledged(ack),
        Ok(Effect::Live(live)) => Served::Live(live),
        Ok(Effect::PeerLeaves(cause)) => {
            let closed = tokio::time::timeout(GOODBYE_WITHIN, opened.connection.closed()).await;
            let code = closed.ok().and_then(|error| code_of(&error));
            opened.connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
            Served::Ended(Ended {
                code,
                reason: format!("the coordinator left: {cause:?}"),
                cause: Some(cause),
            })
        }
        Ok(Effect::Opened(_)) => end_with(opened, CloseCode::ProtocolViolation, "a second Welcome".into()),
        Err(Stop { code: Some(code), reason }) => end_with(opened, code, reason),
        Err(Stop { code: None, reason }) => {
            let Some(error) = opened.connection.close_reason() else {
                return end_with(opened, CloseCode::ProtocolViolation, reason);
            };
            Served::Ended(Ended { code: code_of(&error), cause: None, reason: in_words(&error) })
        }
    }
}

fn end_with(opened: &Opened, code: CloseCode, reason: String) -> Served {
    opened.connection.close(VarInt::from_u32(code.code()), b"");
    Served::Ended(Ended { code: Some(code), cause: None, reason })
}

impl Streams {
    /// Ends the writers; what they had not written belongs to the next session.
    pub(super) async fn close(mut self) {
        self.writers.shutdown().await;
    }
}

/// Why a renewal gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The stream broke, or no answer came in time.
    #[error("the stream of the renewal: {0}")]
    Stream(String),
    /// The request could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer is not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The request is longer than the protocol allows.
    #[error("the request is too long")]
    TooLong,
}

async fn renew(
    connection: &Connection,
    protocol: ProtocolVersion,
    csr_der: Vec<u8>,
) -> Result<RenewResponse, RenewalError> {
    let broken = |error: &dyn std::fmt::Display| RenewalError::Stream(error.to_string());
    let csr_der = BoundedBytes::try_from(csr_der).map_err(|_| RenewalError::TooLong)?;
    let frame = encode(protocol, &RenewRequest { csr_der })?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| broken(&error))?;
    send.write_all(&frame).await.map_err(|error| broken(&error))?;
    send.finish().map_err(|error| broken(&error))?;
    let limit = usize::try_from(RenewResponse::KIND.max_payload()).unwrap_or(usize::MAX) + 64;
    let bytes = receive.read_to_end(limit).await.map_err(|error| broken(&error))?;
    let mut decoder = FrameDecoder::default();
    decoder.push(&bytes);
    let frame =
        decoder.next_frame().map_err(|error| broken(&error))?.ok_or_else(|| broken(&"no whole answer"))?;
    Ok(decode(&frame)?)
}

fn code_of(error: &ConnectionError) -> Option<CloseCode> {
    match error {
        ConnectionError::ApplicationClosed(close) => CloseCode::from_code(close.error_code.into_inner()),
        _ => None,
    }
}

fn in_words(error: &ConnectionError) -> String {
    match (code_of(error), error) {
        (Some(code), _) => format!("the coordinator closed: {code:?}"),
        (None, ConnectionError::TimedOut) => "no packet from the coordinator for 30 s".into(),
        (None, error) => error.to_string(),
    }
}

/// TLS alerts travel in QUIC's error codes from 0x100 (RFC 9001, section 4.8).
fn alert_of(code: quinn::TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then(|| u8::try_from(code - 0x100).ok()).flatten()
}

/// Alert numbers of RFC 8446, section 6.
const CERTIFICATE_EXPIRED: u8 = 45;

fn trouble_of(error: &ConnectionError) -> LinkError {
    let words = in_words(error);
    match error {
        ConnectionError::TimedOut => LinkError::new(Trouble::NoAnswer, words),
        // We refused the server.
        ConnectionError::TransportError(refusal) => match alert_of(refusal.code) {
            Some(CERTIFICATE_EXPIRED) => LinkError::new(
                Trouble::Clock,
                format!("the coordinator's certificate is not good at this machine's time: {words}"),
            ),
            Some(_) => LinkError::new(Trouble::NotTheCoordinator, words),
            None => LinkError::new(Trouble::Local, words),
        },
        // The server refused us.
        ConnectionError::ConnectionClosed(refusal) => match alert_of(refusal.error_code) {
            Some(CERTIFICATE_EXPIRED) => LinkError::new(
                Trouble::Clock,
                format!(
                    "the coordinator holds this node's certificate for expired or not yet valid: {words}"
                ),
            ),
            Some(_) => {
                LinkError::new(Trouble::Refused, format!("the coordinator refuses this node: {words}"))
            }
            None => LinkError::new(Trouble::Unavailable, words),
        },
        ConnectionError::ApplicationClosed(_) => match code_of(error) {
            Some(CloseCode::Refused | CloseCode::CloneSuspected) => LinkError::new(Trouble::Refused, words),
            Some(CloseCode::CertificateExpired) => LinkError::new(Trouble::Expired, words),
            _ => LinkError::new(Trouble::Unavailable, words),
        },
        ConnectionError::Reset | ConnectionError::CidsExhausted | ConnectionError::VersionMismatch => {
            LinkError::new(Trouble::Unavailable, words)
        }
        ConnectionError::LocallyClosed => LinkError::new(Trouble::Local, words),
    }
}
