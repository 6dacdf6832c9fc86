//! Rates of one address and of all together (API-03); the rate of one session is kept where sessions are known.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::peer::{PeerAddress, network};
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

/// See the module.
pub async fn limit(State(rates): State<RequestRates>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddress>().copied();
    match peer.map_or(Ok(()), |peer| rates.take(peer.0)) {
        Ok(()) => next.run(request).await,
        Err(wait) => ApiError::too_many(wait).into_response(),
    }
}
