//! Streams of a connection: bytes to frames to effects, each at the pace that limits and database allow.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aim_common::protocol::{Ack, CloseCode, GoodbyeCause, RenewRequest, SpoolBatch};
use aim_common::wire::{Frame, FrameDecoder, encode};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;

use super::link::Link;
use super::registry::Outgoing;
use super::session::{Effect, FRAME_WITHIN, StreamKey, frame_error};
use crate::inventory::{Node, SubmitError};

/// Bytes taken at once.
const CHUNK: usize = 64 * 1024;

/// Reads a stream that the peer opened, until its end or a refusal.
pub(super) async fn read(
    link: Arc<Link>,
    mut receive: RecvStream,
    mut send: Option<SendStream>,
) -> Result<(), CloseCode> {
    let key: StreamKey = VarInt::from(receive.id()).into_inner();
    link.machine().stream_opened(key, send.is_some());
    let mut decoder = FrameDecoder::default();
    // When the frame that has begun must be whole.
    let mut whole_by = None;
    loop {
        let left = whole_by.map(|by: Duration| by.saturating_sub(link.fleet.clock.monotonic()));
        let chunk = match left {
            None => receive.read_chunk(CHUNK, true).await,
            Some(left) => tokio::time::timeout(left, receive.read_chunk(CHUNK, true))
                .await
                .map_err(|_| CloseCode::LimitExceeded)?,
        };
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) | Err(ReadError::Reset(_)) => {
                return link.machine().stream_ended(key, decoder.is_partial());
            }
            // The connection's end is dealt with where it is noticed first.
            Err(_) => return Ok(()),
        };
        pace(&link, chunk.bytes.len(), false).await;
        decoder.push(&chunk.bytes);
        let (mut frames, skipped) = (0, decoder.skipped());
        while let Some(frame) = decoder.next_frame().map_err(|error| frame_error(&error))? {
            frames += 1;
            pace(&link, 0, true).await;
            take(&link, key, &frame, &mut send).await?;
        }
        link.fleet.counters.skipped_frames(decoder.skipped() - skipped);
        whole_by = match whole_by {
            _ if !decoder.is_partial() => None,
            Some(by) if frames == 0 => Some(by),
            _ => Some(link.fleet.clock.monotonic() + FRAME_WITHIN),
        };
    }
}

/// Waits as long as the session's rate asks for; meanwhile QUIC's windows hold the peer back.
async fn pace(link: &Link, bytes: usize, message: bool) {
    let wait = {
        let mut limiter = link.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let now = link.fleet.clock.monotonic();
        if message { limiter.message(now) } else { limiter.bytes(now, bytes) }
    };
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

async fn take(
    link: &Link,
    key: StreamKey,
    frame: &Frame,
    send: &mut Option<SendStream>,
) -> Result<(), CloseCode> {
    let effect = link.machine().frame(key, frame)?;
    if let Effect::Admit(hello) = effect {
        let send = send.take().ok_or(CloseCode::ProtocolViolation)?;
        return link.admit(&hello, send).await;
    }
    let session = link.session().ok_or(CloseCode::ProtocolViolation)?;
    let (inventory, node, number) = (&link.fleet.inventory, &session.node, link.number);
    match effect {
        Effect::Admit(_) => {}
        Effect::Table(table) => {
            let table = inventory.series_table(node, number, table);
            count_newer(link, node, table.map_err(|error| violation(node, &error))?);
        }
        Effect::Report(report) => {
            inventory.report(node, number, &report).map_err(|error| violation(node, &error))?;
        }
        Effect::Conditions(conditions) => inventory.conditions(node, number, &conditions),
        Effect::Processes(processes) => inventory.gpu_processes(node, number, processes),
        Effect::Loss(loss) => {
            let mut presence = session.presence.lock().unwrap_or_else(PoisonError::into_inner);
            presence.told_loss(link.fleet.clock.monotonic(), loss.lost_permille);
        }
        Effect::Store(batch) => return store(link, batch).await,
        Effect::Renew(request) => {
            let send = send.as_mut().ok_or(CloseCode::ProtocolViolation)?;
            return renew(link, &request, send).await;
        }
        Effect::Leave(cause) => link.set_cause(cause_text(&cause)),
    }
    Ok(())
}

/// A newer agent says more than this coordinator knows.
fn count_newer(link: &Link, node: &Node, skipped: usize) {
    if skipped > 0 {
        link.fleet.counters.skipped_series(skipped);
        tracing::info!(node.id = %node.id, skipped, "series of unknown metrics are passed over: the agent is newer");
    }
}

fn violation(node: &Node, error: &dyn std::fmt::Display) -> CloseCode {
    tracing::info!(node.id = %node.id, %error, "a node broke the protocol");
    CloseCode::ProtocolViolation
}

/// The word of a cause in the API.
fn cause_text(cause: &GoodbyeCause) -> &'static str {
    match cause {
        GoodbyeCause::AgentStopped => "agent stopped",
        GoodbyeCause::NodeShutdown => "node shutdown",
        GoodbyeCause::AgentUpgrade => "agent upgrade",
        GoodbyeCause::CertificateChange => "certificate change",
        GoodbyeCause::CoordinatorStopping => "coordinator stopping",
        GoodbyeCause::Revoked => "revoked",
        GoodbyeCause::CertificateExpired => "certificate expired",
    }
}

/// Acknowledges once the records are durable; until then this stream is not read on.
async fn store(link: &Link, batch: SpoolBatch) -> Result<(), CloseCode> {
    let Some(session) = link.session() else { return Err(CloseCode::ProtocolViolation) };
    let spool_id = batch.spool_id;
    match link.fleet.inventory.submit(&session.node, batch).await {
        Ok(sequence) => {
            let Some(sequence) = sequence.and_then(|sequence| u64::try_from(sequence).ok()) else {
                return Ok(());
            };
            let ack =
                encode(session.protocol, &Ack { spool_id, sequence }).map_err(|_| CloseCode::Unavailable)?;
            // A full queue waits with us; a session that ended does not want it any more.
            let _ = session.control.send(Outgoing::Frame(ack)).await;
            Ok(())
        }
        Err(SubmitError::Stopping) => Ok(()),
        Err(SubmitError::Refused(_)) => Err(CloseCode::Unavailable),
    }
}

async fn renew(link: &Link, request: &RenewRequest, send: &mut SendStream) -> Result<(), CloseCode> {
    let Some(session) = link.session() else { return Err(CloseCode::ProtocolViolation) };
    let source = link.connection.remote_address().ip().to_canonical().to_string();
    let answer = link.keyvault.renew(&link.peer, &request.csr_der, &source).await;
    let frame = encode(session.protocol, &answer).map_err(|_| CloseCode::Unavailable)?;
    // A peer that went away asks again.
    if send.write_all(&frame).await.is_ok() {
        let _ = send.finish();
    }
    Ok(())
}

/// Writes the control stream until the connection ends.
pub(super) async fn write(
    connection: Connection,
    mut send: SendStream,
    queue: &mut mpsc::Receiver<Outgoing>,
) {
    loop {
        let outgoing = tokio::select! {
            Some(outgoing) = queue.recv() => outgoing,
            _ = connection.closed() => return,
        };
        match outgoing {
            Outgoing::Frame(frame) => {
                if send.write_all(&frame).await.is_err() {
                    return;
                }
            }
            Outgoing::Last(frame, done) => {
                if send.write_all(&frame).await.is_ok() && send.finish().is_ok() {
                    // Resolves when the peer has everything.
                    let _ = send.stopped().await;
                }
                let _ = done.send(());
                return;
            }
        }
    }
}
