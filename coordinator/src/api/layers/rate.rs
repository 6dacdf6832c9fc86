//! Rates of one address and of all together (API-03); the rate of one session is kept where sessions are known.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::peer::PeerAddress;
use crate::api::problem::ApiError;
use crate::auth::rate::Rate;
use crate::clock::SharedClock;
use crate::config::Rates;

/// The buckets, shared by all requests.
#[derive(Clone)]
pub struct RequestRates {
    clock: SharedClock,
    buckets: Arc<Mutex<(Rate<IpAddr>, Rate<()>)>>,
}

impl RequestRates {
    /// The configured rates.
    pub fn new(rates: Rates, clock: SharedClock) -> Self {
        let buckets = (Rate::new(rates.address_per_second), Rate::new(rates.global_per_second));
        Self { clock, buckets: Arc::new(Mutex::new(buckets)) }
    }

    fn take(&self, address: IpAddr) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.0.take(&network(address), now)?;
        buckets.1.take(&(), now)
    }
}

/// One customer's network: an IPv6 client has 2^64 addresses at hand.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// See the module.
pub async fn limit(State(rates): State<RequestRates>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().copied();
    match peer.map_or(Ok(()), |peer| rates.take(peer.0)) {
        Ok(()) => next.run(request).await,
        Err(wait) => ApiError::TooMany { retry_after_seconds: wait.as_secs().max(1) }.into_response(),
    }
}
