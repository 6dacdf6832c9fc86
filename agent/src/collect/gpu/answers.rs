//! What a GPU probe can be asked and what it answers, for every vendor alike.

use std::path::PathBuf;

use aim_common::inventory::{Fact, Gpu, GpuLibraryState, GpuState, Text};
use aim_common::metric::Metric;
use serde::{Deserialize, Serialize};

/// A question to the helper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// How the library does; loads it first where it is not loaded.
    Library {
        /// The library's file; the vendor's own name where absent.
        path: Option<PathBuf>,
    },
    /// One GPU.
    Gpu {
        /// The library's index.
        index: u32,
        /// With what changes seldom.
        facts: bool,
    },
}

/// An answer of the helper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Question::Library`].
    Library(Library),
    /// To [`Question::Gpu`].
    Gpu(Box<Reading>),
}

/// How the library does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Library {
    /// Whether it answers.
    pub state: GpuLibraryState,
    /// Driver version.
    pub driver_version: Fact<Text>,
    /// Highest CUDA version of the driver.
    pub cuda_version: Fact<Text>,
    /// Version of the library.
    pub library_version: Fact<Text>,
    /// GPUs that it lists.
    pub count: u32,
}

/// One GPU at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The library's index.
    pub index: u32,
    /// UUID.
    pub uuid: Fact<Text>,
    /// PCI address, as the kernel writes it.
    pub pci_address: Fact<Text>,
    /// Whether it answers.
    pub state: GpuState,
    /// What changes seldom, where it was asked for.
    pub facts: Option<Gpu>,
    /// Its numbers.
    pub numbers: Vec<Number>,
    /// Processes with a context on it.
    pub processes: Vec<Holder>,
}

/// One number of a GPU, in the unit of the metric's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Number {
    /// The metric.
    pub metric: Metric,
    /// Which part of the GPU: an NVLink's number, a MIG instance's UUID, or empty.
    pub part: Text,
    /// The number.
    pub value: Fact<f64>,
}

/// A process with a context on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// UUID of the GPU or MIG instance.
    pub gpu_uuid: Text,
    /// Process id.
    pub pid: u32,
    /// Frame buffer it holds.
    pub memory_bytes: Option<u64>,
    /// It computes (true) or draws (false).
    pub compute: bool,
}
