//! The QUIC endpoint and its sessions.

pub mod control;
