//! GPUs: what the vendor's library says in its helper process, what the PCI bus shows beside it, and what changed.
//!
//! Enters: the last answers of the `gpu` helper, `/sys/bus/pci`, `/proc`. Leaves: the section `gpus`, numbers, GPU
//! processes, events. Never: calls the library in the agent's own process, takes a card that is gone for no card.
//!
//! [`answers`] is the same for every vendor: another vendor is another [`crate::probe::Probe`] that gives them.

pub mod answers;
mod cards;
mod collector;
pub mod nvml;
mod pci;
mod processes;
mod talk;
mod watch;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use collector::GpuCollector;
pub use talk::{GpuFeed, GpuNow, GpuTalk, GpuView};

/// PCI vendor id of NVIDIA.
const NVIDIA: &[u8] = b"0x10de";

/// `[gpu]` of the agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpuConfig {
    /// Look for GPUs.
    pub enabled: bool,
    /// NVIDIA's library; absent: `libnvidia-ml.so.1` where the dynamic linker finds it.
    pub nvml_library: Option<PathBuf>,
    /// How often the library is asked.
    pub interval_ms: u64,
    /// A call that takes longer is reported as hanging.
    pub deadline_ms: u64,
}

impl Default for GpuConfig {
    fn default() -> Self {
        // Together they keep a hang's event below 15 s: 5 s to the next question, 5 s of patience, and the report.
        Self { enabled: true, nvml_library: None, interval_ms: 5_000, deadline_ms: 5_000 }
    }
}
