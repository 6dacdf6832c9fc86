//! The AIM agent: collect → report → link; identity; probes.

pub mod clock;
pub mod collect;
pub mod config;
pub mod entropy;
pub mod exit;
pub mod files;
pub mod identity;
pub mod inventory;
pub mod link;
pub mod log;
pub mod private_memory;
pub mod probe;
pub mod report;
pub mod run;
pub mod spool;
mod timer;
