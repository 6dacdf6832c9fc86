//! Deletes history that is past its time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::store::Store;

const EVERY: Duration = Duration::from_hours(1);
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Runs until stopped, each hour; 0 days keep everything.
pub(super) async fn run(store: Store, clock: SharedClock, days: u32, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        if days == 0 {
            continue;
        }
        match store.history_delete_before(clock.now().plus_ms(-i64::from(days) * DAY_MS)).await {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, days, "events past their time were deleted"),
            Err(error) => {
                tracing::warn!(%error, "events past their time could not be deleted; trying again in an hour");
            }
        }
    }
}
