//! What both sides rely on: identities, permissions, tokens and join strings, backoff, time, trust by pin.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backoff;
mod enrolment;
mod identity;
mod permission;
mod tls;
mod units;
