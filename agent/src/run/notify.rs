//! What the service manager is told. Without one nothing is said, and that is no error.

use std::time::Duration;

use sd_notify::NotifyState;

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

/// The agent runs; being connected is not its business.
pub(super) fn ready() {
    say(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub(super) fn status(line: &str) {
    say(&[NotifyState::Status(line)]);
}

/// The end has begun.
pub(super) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// The loop turns.
pub(super) fn watchdog() {
    say(&[NotifyState::Watchdog]);
}

/// How often the loop must say so: twice as often as the manager asks.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|period| period / 2)
}
