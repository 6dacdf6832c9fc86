//! What agent, coordinator and CLI must agree on: identity, the link's messages, enrolment, permissions,
//! host lists, inventory, metrics and units.
//!
//! Plain data and pure functions: no sockets, no clock, no randomness, no async runtime. Time and random bytes
//! are parameters.
// What a peer sends reaches this code: no index and no slice without a check (SUP-02).
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod api;
pub mod backoff;
pub mod config;
pub mod enrolment;
pub mod event;
pub mod hostlist;
pub mod identity;
pub mod inventory;
pub mod json;
pub mod log;
pub mod metric;
pub mod permission;
pub mod protocol;
pub mod tls;
pub mod units;
pub mod wire;
