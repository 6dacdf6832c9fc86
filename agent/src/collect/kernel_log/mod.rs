//! The kernel's log: NVIDIA's XIDs and SXIDs as events, each once.
//!
//! Enters: records of `/dev/kmsg`. Leaves: events with boot id and kernel sequence, and an event where lines were
//! overwritten before they were read. Never: blocks, repeats after a restart what was durable, trusts a line's content.

mod codes;
mod collector;
mod fold;
mod position;
mod record;
mod xid;

pub use collector::KernelLogCollector;
