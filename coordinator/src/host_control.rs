//! What must work on the coordinator's own host while HTTPS, logins or the database do not: revocation (PKI-12).
//!
//! A unix socket in the state directory, one line of JSON each way. Who may connect is decided by the kernel: the
//! directory is 0700, and the peer must be root or the coordinator's own user.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aim_common::api::certificates::RevokeResponse;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::keyvault::{KeyVault, Requester};

/// One request or answer; a reason has at most 500 characters.
const LINE_BYTES: u64 = 8 * 1024;
/// A command and its answer take milliseconds; a peer that stalls is left.
const DEADLINE: Duration = Duration::from_secs(10);

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum HostCommand {
    /// Ends a node's identity.
    Revoke {
        /// Its id or name.
        node: String,
        /// Why.
        reason: String,
    },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAnswer {
    /// The revocation is in force.
    Revoked(RevokeResponse),
    /// It was not done.
    Refused(String),
}

/// Where the socket of a state directory is.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// Binds the socket. The state directory is locked, so that what lies there was left by a killed coordinator.
pub fn bind(state_dir: &Path) -> std::io::Result<UnixListener> {
    let path = socket_path(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

/// Answers commands, one at a time, until the stop.
pub async fn serve(listener: UnixListener, keyvault: Arc<KeyVault>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let outcome = match accepted {
            Ok((stream, _)) => tokio::time::timeout(DEADLINE, answer(stream, &keyvault)).await,
            Err(error) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(Err(error))
            }
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a command on this host broke off"),
            Err(_) => tracing::warn!("a command on this host stalled"),
        }
    }
}

async fn answer(stream: UnixStream, keyvault: &KeyVault) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let (reader, mut writer) = stream.into_split();
    let answer = if peer == 0 || peer == rustix::process::geteuid().as_raw() {
        let line = read_line(reader).await?;
        match serde_json::from_str(&line) {
            Ok(command) => execute(command, keyvault, &host_requester(peer)).await,
            Err(error) => HostAnswer::Refused(format!("the command is not understood: {error}")),
        }
    } else {
        HostAnswer::Refused("only root and the coordinator's own user may command it".to_owned())
    };
    write_line(&mut writer, &answer).await
}

/// Executes a command, in the running coordinator or in one that was opened for it.
pub async fn execute(command: HostCommand, keyvault: &KeyVault, requester: &Requester) -> HostAnswer {
    let HostCommand::Revoke { node, reason } = command;
    let Some((id, _)) = keyvault.identities().resolve(&node) else {
        return HostAnswer::Refused(format!("there is no living node {node:?}"));
    };
    match keyvault.revoke(id, &reason, requester).await {
        Ok(revoked) => HostAnswer::Revoked(revoked),
        Err(error) => HostAnswer::Refused(error.to_string()),
    }
}

/// Asks the running coordinator; `None` where none runs.
pub async fn ask(state_dir: &Path, command: &HostCommand) -> std::io::Result<Option<HostAnswer>> {
    let stream = match UnixStream::connect(socket_path(state_dir)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let exchange = async {
        let (reader, mut writer) = stream.into_split();
        write_line(&mut writer, command).await?;
        let line = read_line(reader).await?;
        serde_json::from_str(&line).map_err(std::io::Error::other)
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Ok(answer) => answer.map(Some),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// Who commands, for the audit trail.
pub fn host_requester(uid: u32) -> Requester {
    Requester { actor: format!("host:{uid}"), source: String::new(), request_id: String::new() }
}

async fn read_line(reader: impl tokio::io::AsyncRead + Unpin) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(reader.take(LINE_BYTES)).read_line(&mut line).await?;
    Ok(line)
}

async fn write_line<T: Serialize>(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    value: &T,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
