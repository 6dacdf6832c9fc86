//! One connection from handshake to end: its streams, its deadlines, its admission as the node's session.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aim_common::protocol::{CloseCode, GoodbyeCause, Hello, Welcome};
use aim_common::wire::encode;
use quinn::{Connection, SendStream};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::endpoint::close;
use super::live_mode::OFF;
use super::presence::Presence;
use super::rate::Limiter;
use super::registry::{CONTROL_QUEUE, Outgoing, Session};
use super::session::Session as Machine;
use super::takeover::{Claim, Verdict, decide};
use super::{Fleet, REPORT_INTERVAL, stream};
use crate::inventory::{Node, Opening};
use crate::keyvault::KeyVault;
use crate::keyvault::identities::PeerIdentity;

/// Packets of a process that has just died may still be on their way for so long.
const PROBE_SETTLES: Duration = Duration::from_millis(200);
/// A session that does not answer a probe within this time is dead.
const PROBE_WITHIN: Duration = Duration::from_millis(2_300);
const PROBE_EVERY: Duration = Duration::from_millis(25);
/// Deadlines are looked at as often as this, so that a step of the wall clock does not lengthen a certificate's life.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What arrived before the close is still taken within this time: a Goodbye above all.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Another newcomer may come first while the older session is probed.
const ADMISSION_ATTEMPTS: usize = 3;

/// One connection.
pub(super) struct Link {
    pub(super) fleet: Arc<Fleet>,
    /// Tells the sessions of one node apart while they overlap.
    pub(super) number: u64,
    pub(super) keyvault: Arc<KeyVault>,
    pub(super) connection: Connection,
    pub(super) leaf: CertificateDer<'static>,
    pub(super) peer: PeerIdentity,
    pub(super) limiter: Mutex<Limiter>,
    machine: Mutex<Machine>,
    session: OnceLock<Arc<Session>>,
    /// Why the session ends, as far as anybody said.
    cause: Mutex<Option<&'static str>>,
    control: mpsc::Sender<Outgoing>,
    control_stream: Mutex<Option<oneshot::Sender<SendStream>>>,
}

/// Serves the connection until it ends.
pub(super) async fn run(
    fleet: &Arc<Fleet>,
    keyvault: &Arc<KeyVault>,
    connection: &Connection,
    leaf: &CertificateDer<'static>,
    peer: PeerIdentity,
    alpn: Vec<u8>,
) {
    let now = fleet.clock.monotonic();
    let (control, mut outgoing) = mpsc::channel(CONTROL_QUEUE);
    let (control_stream, mut control_opened) = oneshot::channel();
    let link = Arc::new(Link {
        fleet: Arc::clone(fleet),
        number: fleet.connections.fetch_add(1, Ordering::Relaxed),
        keyvault: Arc::clone(keyvault),
        connection: connection.clone(),
        leaf: leaf.clone(),
        peer,
        limiter: Mutex::new(Limiter::new(now)),
        machine: Mutex::new(Machine::new(now, &alpn)),
        session: OnceLock::new(),
        cause: Mutex::default(),
        control,
        control_stream: Mutex::new(Some(control_stream)),
    });
    let mut streams: JoinSet<Result<(), CloseCode>> = JoinSet::new();
    let mut outgoing = Some(&mut outgoing);
    let mut writing = None;
    let refused = loop {
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok((send, receive)) => drop(streams.spawn(stream::read(Arc::clone(&link), receive, Some(send)))),
                Err(_) => break None,
            },
            accepted = connection.accept_uni() => match accepted {
                Ok(receive) => drop(streams.spawn(stream::read(Arc::clone(&link), receive, None))),
                Err(_) => break None,
            },
            Ok(send) = &mut control_opened, if outgoing.is_some() => {
                writing = outgoing.take().map(|queue| stream::write(connection.clone(), send, queue)).map(Box::pin);
            }
            () = async { if let Some(writing) = &mut writing { writing.await } }, if writing.is_some() => break None,
            Some(ended) = streams.join_next(), if !streams.is_empty() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(code)) => break Some(code),
                Err(error) => {
                    tracing::error!(%error, node.id = %link.peer.node_id, "the task of a stream died");
                    break Some(CloseCode::Unavailable);
                }
            },
            () = tokio::time::sleep(link.next_look()) => {
                if let Some(code) = link.overdue() {
                    break Some(code);
                }
            }
        }
    };
    if let Some(code) = refused {
        let farewell = link.refuse(code);
        match &mut writing {
            Some(writing) => tokio::select! { () = farewell => {}, () = writing => {} },
            None => farewell.await,
        }
        close(connection, code);
    }
    let last_words = async { while streams.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
        streams.shutdown().await;
    }
    link.end();
}

impl Link {
    /// The state machine, for a moment.
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, once admitted.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.session.get()
    }

    pub(super) fn set_cause(&self, cause: &'static str) {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
    }

    /// Time until a deadline may have passed.
    fn next_look(&self) -> Duration {
        let hello = self.machine().hello_deadline();
        let hello = hello.map(|deadline| deadline.saturating_sub(self.fleet.clock.monotonic()));
        let expiry = self.peer.not_after.since_ms(self.fleet.clock.now());
        let expiry = Duration::from_millis(u64::try_from(expiry).unwrap_or_default());
        hello.unwrap_or(LOOK_EVERY).min(expiry).min(LOOK_EVERY)
    }

    fn overdue(&self) -> Option<CloseCode> {
        if self.machine().hello_deadline().is_some_and(|deadline| self.fleet.clock.monotonic() >= deadline) {
            return Some(CloseCode::HelloTimeout);
        }
        (self.fleet.clock.now() >= self.peer.not_after).then_some(CloseCode::CertificateExpired)
    }

    /// The session is ended by us: says so to the log, and to the node where it can help itself.
    async fn refuse(&self, code: CloseCode) {
        self.fleet.counters.closed(code);
        tracing::info!(node.id = %self.peer.node_id, remote = %self.connection.remote_address(), ?code, "closing a session");
        self.set_cause(match code {
            CloseCode::Refused => "revoked",
            CloseCode::ProtocolViolation => "protocol violation",
            CloseCode::CertificateExpired => "certificate expired",
            CloseCode::LimitExceeded => "limit exceeded",
            _ => "unknown",
        });
        if code == CloseCode::CertificateExpired
            && let Some(session) = self.session()
        {
            session.leave(GoodbyeCause::CertificateExpired, code).await;
        }
    }

    /// The connection is over.
    fn end(&self) {
        let Some(session) = self.session() else { return };
        let was_the_nodes = self.fleet.registry.deactivate(session);
        // A coordinator that stops knows nothing of its nodes' end.
        if was_the_nodes && !self.fleet.stopping.load(Ordering::Relaxed) {
            let cause = *self.cause.lock().unwrap_or_else(PoisonError::into_inner);
            self.fleet.inventory.close_session(&session.node, self.number, cause.unwrap_or("unknown"));
        }
    }

    /// Hello came: makes this the node's session, or says why not.
    pub(super) async fn admit(&self, hello: &Hello, send: SendStream) -> Result<(), CloseCode> {
        let inventory = &self.fleet.inventory;
        let node = match inventory.node(self.peer.node_id) {
            Some(node) => node,
            // Enrolled a moment ago.
            None => inventory
                .reload_node(self.peer.node_id)
                .await
                .map_err(|_| CloseCode::Unavailable)?
                .ok_or(CloseCode::Refused)?,
        };
        // Without the database the node sends again what is stored already, and it is dropped then.
        let acknowledged = inventory.spool_position(node.id, hello.spool_id).await.ok().flatten();
        let acknowledged = acknowledged.and_then(|sequence| u64::try_from(sequence).ok());
        let session = Arc::new(self.new_session(&node, hello));
        self.become_the_nodes(&session).await?;
        // From here on the end of this connection is the end of the node's session.
        if self.session.set(Arc::clone(&session)).is_err() {
            return Err(CloseCode::ProtocolViolation);
        }
        self.keyvault.check(&self.leaf, self.fleet.clock.now()).map_err(|_| CloseCode::Refused)?;
        self.keyvault.mark_first_used(&self.peer).await;
        self.welcome(hello, &session, acknowledged, send)
    }

    fn new_session(&self, node: &Arc<Node>, hello: &Hello) -> Session {
        let observation = Session::observe(&self.connection, &*self.fleet.clock);
        Session {
            node: Arc::clone(node),
            connection: self.connection.clone(),
            serial: self.peer.serial.clone(),
            claim: Claim { generation: self.peer.generation, boot_id: hello.boot_id },
            protocol: self.machine().protocol(),
            since: self.fleet.clock.now(),
            control: self.control.clone(),
            welcomed: false.into(),
            presence: Mutex::new(Presence::new(observation)),
            address: Mutex::new(self.connection.remote_address()),
        }
    }

    fn welcome(
        &self,
        hello: &Hello,
        session: &Session,
        acknowledged: Option<u64>,
        send: SendStream,
    ) -> Result<(), CloseCode> {
        let now = self.fleet.clock.now();
        let wanted = self.fleet.inventory.open_session(
            &session.node,
            Opening {
                session: self.number,
                agent_version: hello.agent_version.to_string(),
                boot_id: hello.boot_id,
                machine_id_sha256: hello.machine_id_sha256,
                inventory_sha256: hello.inventory_sha256,
                series_sha256: hello.series_sha256,
                clock_offset_ms: hello.clock.since_ms(now),
                address: self.connection.remote_address().to_string(),
                certificate_serial: self.peer.serial.clone(),
                certificate_expires_at: self.peer.not_after,
            },
        );
        self.machine().admitted(hello, acknowledged);
        let welcome = Welcome {
            coordinator_version: env!("CARGO_PKG_VERSION").into(),
            protocol: session.protocol,
            clock: now,
            report_interval_ms: u32::try_from(REPORT_INTERVAL.as_millis()).unwrap_or(u32::MAX),
            inventory_wanted: wanted.inventory,
            series_wanted: wanted.series,
            acknowledged,
        };
        let welcome = encode(session.protocol, &welcome).map_err(|_| CloseCode::Unavailable)?;
        // The queue is empty: Welcome is its first frame.
        self.control.try_send(Outgoing::Frame(welcome)).map_err(|_| CloseCode::Unavailable)?;
        session.welcomed.store(true, Ordering::Release);
        let opened = self.control_stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        opened.and_then(|opened| opened.send(send).ok()).ok_or(CloseCode::ProtocolViolation)?;
        if let Some(live) = self.fleet.demands().of(session.node.id) {
            session.send(&live);
        }
        tracing::info!(node.id = %session.node.id, serial = %session.serial, "a session is open");
        Ok(())
    }

    /// Judges the session that is there already, if any, and takes its place or gives way.
    async fn become_the_nodes(&self, session: &Arc<Session>) -> Result<(), CloseCode> {
        let registry = &self.fleet.registry;
        for _ in 0..ADMISSION_ATTEMPTS {
            let Some(older) = registry.active(session.node.id) else {
                if registry.activate(session, None, None) {
                    return Ok(());
                }
                continue;
            };
            let answers = self.answers(&older).await;
            let now = self.fleet.clock.monotonic();
            let since = registry.last_takeover(session.node.id).map(|at| now.saturating_sub(at));
            match decide(older.claim, session.claim, answers, since) {
                Verdict::Replace => {
                    if registry.activate(session, Some(&older), answers.then_some(now)) {
                        self.fleet.counters.closed(CloseCode::Superseded);
                        close(&older.connection, CloseCode::Superseded);
                        return Ok(());
                    }
                }
                Verdict::Later => return Err(CloseCode::Unavailable),
                Verdict::Clone => {
                    self.alarm(&older, session);
                    return Err(CloseCode::CloneSuspected);
                }
            }
        }
        Err(CloseCode::Unavailable)
    }

    fn alarm(&self, older: &Session, newer: &Session) {
        let reason = if older.claim.boot_id == newer.claim.boot_id {
            "two sessions at once use one certificate"
        } else {
            "two boots at once use one identity"
        };
        tracing::error!(node.id = %newer.node.id, older = %older.connection.remote_address(),
            newer = %newer.connection.remote_address(), reason, "clone suspected");
        self.keyvault.suspect_clone(newer.node.id, reason);
    }

    /// Whether the other session is still there: something that must be acknowledged is sent, and packets are counted.
    async fn answers(&self, older: &Session) -> bool {
        let packets = || older.connection.stats().udp_rx.datagrams;
        let closed = || older.connection.close_reason().is_some();
        tokio::time::sleep(PROBE_SETTLES).await;
        let before = packets();
        let probe = self.fleet.demands().of(older.node.id).unwrap_or(OFF);
        older.send(&probe);
        let give_up = self.fleet.clock.monotonic() + PROBE_WITHIN;
        while self.fleet.clock.monotonic() < give_up && !closed() {
            if packets() != before {
                // A reset is a packet as well, and ends the connection.
                tokio::time::sleep(PROBE_EVERY).await;
                return !closed();
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
        false
    }
}
