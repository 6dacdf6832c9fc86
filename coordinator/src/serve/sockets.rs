//! The listening sockets, bound before anything else so that a taken port costs nothing.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::StartError;
use crate::config::Config;

/// Connections that may wait to be accepted. What comes on top the kernel drops without a word, and a client that is
/// silent as well then waits for ever for a server that does not know it (ENR-20).
const BACKLOG: i32 = 4_096;
/// All agents share one socket. The kernel's usual 208 KiB hold a hundred packets: ten thousand agents send so many in
/// 20 ms of heartbeats alone, and a coordinator that waits for a core for that long would lose the rest.
const LINK_RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// The sockets of one coordinator.
pub(super) struct Sockets {
    pub(super) https: TcpListener,
    pub(super) link: UdpSocket,
    pub(super) plain: Option<Plain>,
}

/// Where plain HTTP listens.
pub(super) enum Plain {
    Tcp(TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Binds what the configuration asks for.
pub(super) fn bind(config: &Config) -> Result<Sockets, StartError> {
    let https = bind_to("https.listen", config.https.listen, listen)?;
    let link = bind_to("link.listen", config.link.listen, UdpSocket::bind)?;
    // Best effort, as far as net.core.rmem_max allows: a small buffer only costs repeated packets.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&link, LINK_RECEIVE_BUFFER);
    let plain = config.https.plain_listen.as_deref().map(bind_plain).transpose()?;
    Ok(Sockets { https, link, plain })
}

/// Binds; where the kernel has no IPv6, `[::]` means all of IPv4.
fn bind_to<T>(
    key: &'static str,
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> std::io::Result<T>,
) -> Result<T, StartError> {
    let bound = match bind(address) {
        Err(error) if address.ip().is_unspecified() && no_ipv6(&error) => {
            bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()).into())
        }
        other => other,
    };
    bound.map_err(|source| StartError::Listen { key, address: address.to_string(), source })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn no_ipv6(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || error.kind() == ErrorKind::AddrNotAvailable
}

fn bind_plain(address: &str) -> Result<Plain, StartError> {
    let refuse =
        |source| StartError::Listen { key: "https.plain_listen", address: address.to_owned(), source };
    let Some(path) = address.strip_prefix("unix:") else {
        let address: SocketAddr = address.parse().map_err(|_| refuse(ErrorKind::InvalidInput.into()))?;
        return listen(address).map(Plain::Tcp).map_err(refuse);
    };
    // What a killed coordinator left; a living one would still answer on it.
    if std::os::unix::net::UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path).map_err(refuse)?;
    }
    std::os::unix::net::UnixListener::bind(path).map(Plain::Unix).map_err(refuse)
}

/// For tokio.
pub(super) fn listener(socket: TcpListener) -> Result<tokio::net::TcpListener, StartError> {
    socket.set_nonblocking(true).map_err(anyhow::Error::from)?;
    Ok(tokio::net::TcpListener::from_std(socket).map_err(anyhow::Error::from)?)
}

/// The address that was bound; port 0 became a real one.
pub(super) fn local(address: std::io::Result<SocketAddr>) -> Result<SocketAddr, StartError> {
    Ok(address.map_err(anyhow::Error::from)?)
}
