//! One connection, from its first byte on: TLS, the protocol that ALPN chose, requests, and its end.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt;
use http::header;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::activity::Activity;
use super::stall::StallGuard;
use crate::api::peer::{LocalAddress, PeerAddress};
use crate::clock::SharedClock;

/// A request's header must be complete within this time.
const HEADER_READ: Duration = Duration::from_secs(10);
/// Header bytes of one request.
const HEADER_BYTES: usize = 16 * 1024;
/// Headers of one request.
pub(crate) const HEADERS: usize = 100;
/// Requests at once on one HTTP/2 connection; a browser page needs far fewer.
const STREAMS: u32 = 64;
/// Streams that a client may reset before the connection is closed (rapid reset).
const RESETS: usize = 20;
/// Answer bytes waiting for a slow reader, per stream.
const SEND_BUFFER: usize = 256 * 1024;

/// How long a client had taken when its request's header was there; every request carries it as an extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeTaken(pub(crate) Duration);

/// What all connections of a listener share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) router: Router,
    pub(crate) clock: SharedClock,
    pub(crate) trusted_proxies: Arc<[IpNet]>,
    pub(crate) stop: CancellationToken,
}

/// Serves requests on an established stream until it ends, idles too long, or the server stops.
pub(crate) async fn serve<IO>(
    shared: Shared,
    stream: IO,
    peer: IpAddr,
    local: IpAddr,
    http2: bool,
    accepted: Duration,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(accepted);
    let service = {
        let (shared, activity) = (shared.clone(), Arc::clone(&activity));
        hyper::service::service_fn(move |request| {
            answer(shared.clone(), Arc::clone(&activity), request, peer, local)
        })
    };
    let io = TokioIo::new(StallGuard::new(stream));
    let ended = if http2 {
        let connection = http2_builder().serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = idle_too_long(&activity, &shared.clock) => return,
            () = shared.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let connection = http1_builder().serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = idle_too_long(&activity, &shared.clock) => return,
            () = shared.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

async fn answer(
    shared: Shared,
    activity: Arc<Activity>,
    request: http::Request<Incoming>,
    peer: IpAddr,
    local: IpAddr,
) -> Result<http::Response<Body>, Infallible> {
    let in_flight = activity.begin(&shared.clock);
    let mut request = request.map(Body::new);
    let client = PeerAddress::resolve(peer, request.headers_mut(), &shared.trusted_proxies);
    request.extensions_mut().insert(client);
    request.extensions_mut().insert(LocalAddress(local));
    request.extensions_mut().insert(TimeTaken(in_flight.taken));
    let response = end_streams_at_stop(shared.router.oneshot(request).await?, shared.stop);
    // The request is in flight until its answer's body has been sent or dropped.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &in_flight;
            frame
        }))
    }))
}

/// An event stream has no end of its own; it must not hold up the stop.
fn end_streams_at_stop(response: http::Response<Body>, stop: CancellationToken) -> http::Response<Body> {
    let is_stream =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if !is_stream {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(stop.cancelled_owned())))
}

async fn idle_too_long(activity: &Activity, clock: &SharedClock) {
    loop {
        let allowance = activity.allowance(clock.monotonic());
        if allowance.is_zero() {
            return;
        }
        tokio::time::sleep(allowance).await;
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADERS);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .max_header_list_size(16 * 1024)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
