//! The one place that reads the clock.

use aim_common::units::EpochMs;

/// Now, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> EpochMs {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    EpochMs(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
