//! When a connection is idle, and for how long it may be: one rule for a silent client, half a handshake, half a
//! header and half an HTTP/2 preface, because none of them is a request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::SharedClock;

/// Until the first request is there in full header.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// Between two requests.
pub(crate) const BETWEEN_REQUESTS: Duration = Duration::from_mins(1);

/// What one connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    served: bool,
    idle_since: Duration,
}

/// A request in flight, until dropped: that is after the last byte of its answer.
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    clock: SharedClock,
    /// How long the client had taken when the header was there: from the accept on for a connection's first request.
    pub(crate) taken: Duration,
}

impl Activity {
    /// A connection that was accepted at this time.
    pub(crate) fn new(accepted: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { in_flight: 0, served: false, idle_since: accepted }) })
    }

    /// A request's header has arrived.
    pub(crate) fn begin(self: &Arc<Self>, clock: &SharedClock) -> InFlight {
        let now = clock.monotonic();
        let taken = self.with(|state| {
            let first = !std::mem::replace(&mut state.served, true);
            state.in_flight += 1;
            if first { now.saturating_sub(state.idle_since) } else { Duration::ZERO }
        });
        InFlight { activity: Arc::clone(self), clock: Arc::clone(clock), taken }
    }

    /// How long the connection may stay as it is; zero when its time is over.
    pub(crate) fn allowance(&self, now: Duration) -> Duration {
        self.with(|state| {
            let limit = if state.served { BETWEEN_REQUESTS } else { FIRST_REQUEST };
            if state.in_flight > 0 { limit } else { (state.idle_since + limit).saturating_sub(now) }
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = self.clock.monotonic();
        self.activity.with(|state| {
            state.in_flight = state.in_flight.saturating_sub(1);
            state.idle_since = now;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn api_01_a_connection_without_a_request_has_ten_seconds() {
        let activity = Activity::new(Duration::from_secs(100));
        assert_eq!(activity.allowance(Duration::from_secs(104)), Duration::from_secs(6));
        assert_eq!(activity.allowance(Duration::from_secs(111)), Duration::ZERO);
    }

    #[test]
    fn enr_20_a_first_request_counts_from_the_accept_and_a_later_one_from_its_header() {
        let clock: SharedClock = Arc::new(SystemClock::new());
        let accepted = clock.monotonic();
        let activity = Activity::new(accepted);
        let before = clock.monotonic();
        let first = activity.begin(&clock);
        assert!(
            first.taken >= before.saturating_sub(accepted) && accepted + first.taken <= clock.monotonic()
        );
        assert_eq!(activity.begin(&clock).taken, Duration::ZERO);
    }

    #[test]
    fn api_01_a_running_request_is_never_idle() {
        let clock: SharedClock = Arc::new(SystemClock::new());
        let activity = Activity::new(Duration::ZERO);
        let running = activity.begin(&clock);
        assert_eq!(activity.allowance(Duration::from_secs(9_999)), BETWEEN_REQUESTS);
        drop(running);
        assert_eq!(activity.allowance(clock.monotonic() + BETWEEN_REQUESTS), Duration::ZERO);
    }
}
