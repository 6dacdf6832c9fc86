//! Sockets that many agents share, and that can go deaf: every packet is lost, both ways, and nobody is told.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime, UdpPoller};

/// A burst for hundreds of agents must find room; the kernel gives what it allows.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// A socket with a switch.
#[derive(Debug)]
struct Gate {
    inner: Arc<dyn AsyncUdpSocket>,
    deaf: Arc<AtomicBool>,
}

impl Gate {
    fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }
}

impl AsyncUdpSocket for Gate {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        if self.is_deaf() { Ok(()) } else { self.inner.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        context: &mut Context,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let received = ready!(self.inner.poll_recv(context, buffers, meta));
            if received.is_err() || !self.is_deaf() {
                return Poll::Ready(received);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// A socket with its QUIC endpoint. Unlike an agent's own, it needs connection ids to tell its agents apart.
#[derive(Debug)]
pub(crate) struct Lane {
    endpoint: Endpoint,
    deaf: Arc<AtomicBool>,
}

impl Lane {
    /// A new socket that can reach this address.
    pub(crate) fn open(coordinator: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if coordinator.is_ipv6() {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        // Best effort: a small buffer only loses packets, which QUIC sends again.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        let runtime = Arc::new(TokioRuntime);
        let deaf = Arc::new(AtomicBool::new(false));
        let gate = Arc::new(Gate { inner: runtime.wrap_udp_socket(socket)?, deaf: Arc::clone(&deaf) });
        let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, gate, runtime)?;
        Ok(Self { endpoint, deaf })
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Loses every packet from now on, or none.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Ordering::Relaxed);
    }
}
