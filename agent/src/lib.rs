//! The AIM agent: collect → report → link; identity; probes.

pub mod clock;
pub mod collect;
pub mod entropy;
