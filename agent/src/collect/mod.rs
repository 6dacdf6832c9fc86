//! What a node is and does: one file per source, one line in the table of [`all`].
//!
//! Enters: the kernel's files below [`Roots`], and the answers of probe processes. Leaves: inventory sections, samples
//! and event drafts. Never: blocks the caller for longer than a heartbeat allows, starts a process per sample, takes unknown for zero.

mod agent_self;
mod aside;
mod cpu;
mod disks;
mod dmi;
pub mod filesystems;
pub mod gpu;
mod infiniband;
pub mod kernel_log;
mod memory;
mod network;
mod pressure;
mod processor;
mod set;
mod sink;
mod source;
mod standing;
pub mod system;
mod thermal;

use std::path::{Path, PathBuf};

use aim_common::inventory::Section;
use aim_common::protocol::{Condition, GpuProcesses};

use crate::clock::SharedClock;
use crate::probe::Probes;

pub use set::CollectorSet;
pub use sink::{EventDraft, Round, Sample, SampleSink, SampleValue};
pub(crate) use source::float;

/// Every collector, in the order in which series find their place where a node has too many.
pub fn all(roots: &Roots) -> Vec<Box<dyn Collector>> {
    vec![
        Box::new(agent_self::AgentCollector::new(roots)),
        Box::new(system::SystemCollector::new(roots)),
        Box::new(dmi::DmiCollector::new(roots)),
        Box::new(cpu::CpuCollector::new(roots)),
        Box::new(memory::MemoryCollector::new(roots)),
        Box::new(aside::Aside::new(infiniband::InfinibandCollector::new(roots))),
        Box::new(disks::DiskCollector::new(roots)),
        Box::new(aside::Aside::new(thermal::ThermalCollector::new(roots))),
        Box::new(network::NetworkCollector::new(roots)),
    ]
}

/// Every collector that reads the answers of a probe process or keeps state; the run loop owns both.
pub fn probed(
    roots: &Roots,
    probes: &Probes,
    state_directory: &Path,
    clock: &SharedClock,
) -> Vec<Box<dyn Collector>> {
    let kernel_log = kernel_log::KernelLogCollector::new(roots, state_directory, SharedClock::clone(clock));
    let mut collectors: Vec<Box<dyn Collector>> = vec![Box::new(kernel_log)];
    if let Some(feed) = probes.gpu() {
        collectors.push(Box::new(gpu::GpuCollector::new(feed, roots, SharedClock::clone(clock))));
    }
    if let Some(feed) = probes.filesystems() {
        collectors.push(Box::new(filesystems::FilesystemCollector::new(feed, SharedClock::clone(clock))));
    }
    collectors
}

/// Where the kernel's trees are: `/` on a node, a fixture in a test.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/etc`.
    pub etc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into(), dev: "/dev".into() }
    }
}

/// Why a collector gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// What it reads does not exist on this node.
    #[error("{0} does not exist on this node")]
    NotPresent(String),
    /// It lacks a right; names it.
    #[error("{what} needs {privilege}")]
    NeedsPrivilege {
        /// What was read.
        what: String,
        /// The right (`CAP_SYSLOG`, `root`).
        privilege: &'static str,
    },
    /// The read failed.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What was read.
        what: String,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// The content is not what the kernel's documentation says.
    #[error("{what} holds something unexpected: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Its probe process is stuck; names the call.
    #[error("{what} does not answer: stuck in {call}")]
    Unresponsive {
        /// What was asked.
        what: String,
        /// The call that does not return.
        call: String,
    },
}

/// One source. Both calls return at once: what can hang is asked by a probe process, or aside on a thread where the hang
/// is bounded, and these give its last answer.
pub trait Collector: Send {
    /// Its name in conditions, events and the agent's inventory.
    fn name(&self) -> &'static str;

    /// Rights it needs beyond those of any user (`CAP_SYSLOG`), with what is lost without them; for `check` and the unit.
    fn privileges(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What the node is, seen from this source; `None` where it adds no section.
    fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
        Ok(None)
    }

    /// The numbers of this moment.
    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError>;

    /// The degraded modes that this source sees at this moment.
    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }

    /// The processes on the node's GPUs, where this source knows them and they changed since the last call.
    fn gpu_processes(&mut self) -> Option<GpuProcesses> {
        None
    }

    /// Called once all events given to a sink so far are durable: from here a restart need not repeat them.
    fn committed(&mut self) -> Result<(), CollectError> {
        Ok(())
    }
}
