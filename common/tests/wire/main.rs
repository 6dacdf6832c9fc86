//! The wire format: golden bytes of every kind, round trips of any value, hostile bytes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod any;
mod golden;
mod hostile;
mod round_trip;
mod samples;
