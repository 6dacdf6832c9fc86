//! The HTTP API on real sockets: one coordinator a test, on port 0 with a state of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod access;
mod agent_certificate;
mod audit_checkpoints;
mod audit_trail;
mod bodies;
mod enrolment;
mod event_streams;
mod guessing;
mod host;
mod hostile_texts;
mod identity;
mod ids;
mod keyvault;
mod large_tables;
mod login;
mod nodes;
mod own_scope;
mod raw_http2;
mod release;
mod sessions;
mod slow_clients;
mod start;
mod support;
mod surface;
mod users_and_roles;
