//! The HTTP API on real sockets: one coordinator a test, on port 0 with a state of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod access;
mod audit_checkpoints;
mod audit_trail;
mod host;
mod hostile_texts;
mod keyvault;
mod login;
mod nodes;
mod slow_clients;
mod start;
mod support;
mod surface;
mod users_and_roles;
