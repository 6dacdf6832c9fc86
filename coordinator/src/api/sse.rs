//! Event streams that end with the right to read them (AUT-04).

use std::pin::Pin;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::problem::ApiError;
use crate::app::SharedApp;
use crate::auth::Caller;

/// How often the session is looked at; a dead one ends its streams within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// While the database is away a stream goes on for so long on what was true before.
const TRUSTED_FOR: Duration = Duration::from_mins(1);
/// A quiet stream says so, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The caller of a stream, looked at again and again while it lasts.
pub struct Watched {
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    caller: watch::Receiver<Caller>,
}

impl Watched {
    /// A caller whose session was checked for this request.
    pub fn new(app: SharedApp, caller: Caller) -> Self {
        let (current, receiver) = watch::channel(caller);
        Self { ended: Box::pin(watch_session(app, current)), caller: receiver }
    }

    /// The caller with the permissions of this moment.
    pub fn caller(&self) -> Caller {
        self.caller.borrow().clone()
    }

    /// Waits until the stream must end: the session is dead, cannot be checked for too long, or the coordinator stops.
    pub async fn ended(&mut self) {
        (&mut self.ended).await;
    }
}

async fn watch_session(app: SharedApp, current: watch::Sender<Caller>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checked = app.clock.monotonic();
    loop {
        ticks.tick().await;
        if app.fleet.is_stopping() {
            return;
        }
        let caller = current.borrow().clone();
        match app.auth.still(&caller).await {
            Ok(caller) => {
                current.send_replace(caller);
                checked = app.clock.monotonic();
            }
            Err(ApiError::Unavailable(_)) if app.clock.monotonic().saturating_sub(checked) < TRUSTED_FOR => {}
            Err(_) => return,
        }
    }
}

/// One message; what cannot be written as JSON ends the stream rather than being left out.
pub fn message<T: Serialize>(name: &str, data: &T) -> Result<Event, axum::Error> {
    Event::default().event(name).json_data(data)
}

/// The comment that keeps a quiet stream open.
pub fn keep_alive() -> KeepAlive {
    KeepAlive::new().interval(KEEP_ALIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::CHECKED_FOR;

    #[test]
    fn aut_04_api_07_a_stream_looks_at_its_session_often_enough() {
        // What was read just before the change is believed for a while, then comes the next look.
        assert!(LOOK_EVERY + CHECKED_FOR < Duration::from_secs(1));
        assert!(TRUSTED_FOR <= Duration::from_mins(1));
    }
}
