//! The scenario file: every attribute has the value of a healthy card, so that a scenario names only what differs.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Deserialize;

/// The file looked for in the library's own folder.
pub(crate) const FILE_NAME: &str = "libnvidia-ml.scenario.json";
/// Names another scenario file; helpers have a cleared environment, so that only direct users of the library use it.
const VARIABLE: &str = "AIM_FAKE_NVML_SCENARIO";

/// What the library shall say.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scenario {
    /// NVML error code of `nvmlInit` (18: library and driver differ; 9: no driver).
    pub(crate) init_error: Option<u32>,
    pub(crate) driver_version: String,
    pub(crate) nvml_version: String,
    pub(crate) cuda_version: i32,
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) faults: Vec<Fault>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            init_error: None,
            driver_version: "550.54.15".into(),
            nvml_version: "12.550.54.15".into(),
            cuda_version: 12040,
            gpus: vec![Gpu::default(); 8],
            faults: Vec::new(),
        }
    }
}

/// One function misbehaves, on one GPU or on all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// The C name (`nvmlDeviceGetTemperature`).
    pub(crate) function: String,
    /// Index of the GPU; all where absent.
    #[serde(default)]
    pub(crate) gpu: Option<usize>,
    pub(crate) effect: Effect,
}

/// How a function misbehaves.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// Returns this NVML error code.
    Error(u32),
    /// Does not return as long as the scenario says so.
    Hang,
    /// Writes to this file first: on a frozen file system that is an uninterruptible sleep.
    WriteTo(PathBuf),
    /// Takes this long.
    DelayMs(u64),
}

/// One GPU; `null` is NVML's "not supported".
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gpu {
    /// Every call says that the GPU is lost.
    pub(crate) lost: bool,
    /// Default: made from the index.
    pub(crate) uuid: Option<String>,
    /// Default: made from the index.
    pub(crate) serial: Option<String>,
    /// PCI address as NVML writes it; default: made from the index.
    pub(crate) pci: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) vbios: Option<String>,
    pub(crate) inforom: Option<String>,
    pub(crate) memory_total: u64,
    pub(crate) memory_used: u64,
    pub(crate) memory_reserved: u64,
    pub(crate) utilization: Option<(u32, u32)>,
    pub(crate) encoder_utilization: Option<u32>,
    pub(crate) decoder_utilization: Option<u32>,
    pub(crate) temperature: Option<u32>,
    pub(crate) memory_temperature: Option<u32>,
    pub(crate) power_milliwatts: Option<u32>,
    pub(crate) power_limit_milliwatts: Option<u32>,
    pub(crate) default_power_limit_milliwatts: Option<u32>,
    /// Lowest and highest.
    pub(crate) power_limit_range_milliwatts: Option<(u32, u32)>,
    pub(crate) energy_millijoules: Option<u64>,
    pub(crate) sm_clock_mhz: Option<u32>,
    pub(crate) memory_clock_mhz: Option<u32>,
    pub(crate) throttle_reasons: Option<u64>,
    pub(crate) ecc_enabled: Option<bool>,
    pub(crate) ecc_corrected: (u64, u64),
    /// Volatile and aggregate.
    pub(crate) ecc_uncorrected: (u64, u64),
    /// Correctable, uncorrectable, pending, failed; `null` before Ampere.
    pub(crate) remapped_rows: Option<(u32, u32, u32, u32)>,
    /// Single-bit and double-bit causes; not supported where rows are remapped.
    pub(crate) retired_pages: Option<(u32, u32)>,
    /// Generation and width now.
    pub(crate) pcie_now: Option<(u32, u32)>,
    /// Highest generation and width.
    pub(crate) pcie_max: Option<(u32, u32)>,
    pub(crate) pcie_replays: Option<u32>,
    /// KiB/s sent and received.
    pub(crate) pcie_throughput: Option<(u32, u32)>,
    /// Per cent of each fan; none on a passive card.
    pub(crate) fans: Vec<u32>,
    pub(crate) persistence_mode: Option<bool>,
    pub(crate) compute_mode: u32,
    pub(crate) nvlinks: Vec<NvLink>,
    pub(crate) mig_enabled: Option<bool>,
    pub(crate) mig: Vec<MigInstance>,
    pub(crate) processes: Vec<Process>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            lost: false,
            uuid: None,
            serial: None,
            pci: None,
            name: Some("NVIDIA H100 80GB HBM3".into()),
            vbios: Some("96.00.74.00.01".into()),
            inforom: Some("G520.0200.00.05".into()),
            memory_total: 85_520_809_984,
            memory_used: 1_073_741_824,
            memory_reserved: 0,
            utilization: Some((93, 41)),
            encoder_utilization: Some(0),
            decoder_utilization: Some(0),
            temperature: Some(54),
            memory_temperature: Some(61),
            power_milliwatts: Some(612_345),
            power_limit_milliwatts: Some(700_000),
            default_power_limit_milliwatts: Some(700_000),
            power_limit_range_milliwatts: Some((200_000, 700_000)),
            energy_millijoules: Some(123_456_789),
            sm_clock_mhz: Some(1_980),
            memory_clock_mhz: Some(2_619),
            throttle_reasons: Some(0),
            ecc_enabled: Some(true),
            ecc_corrected: (0, 0),
            ecc_uncorrected: (0, 0),
            remapped_rows: Some((0, 0, 0, 0)),
            retired_pages: None,
            pcie_now: Some((5, 16)),
            pcie_max: Some((5, 16)),
            pcie_replays: Some(0),
            pcie_throughput: Some((1_024, 2_048)),
            fans: Vec::new(),
            persistence_mode: Some(true),
            compute_mode: 0,
            nvlinks: vec![NvLink::default(); 18],
            mig_enabled: Some(false),
            mig: Vec::new(),
            processes: Vec::new(),
        }
    }
}

impl Gpu {
    /// UUID of the card at this index.
    pub(crate) fn uuid_at(&self, index: usize) -> String {
        self.uuid.clone().unwrap_or_else(|| format!("GPU-00000000-0000-4000-8000-{index:012x}"))
    }

    /// Serial number of the card at this index.
    pub(crate) fn serial_at(&self, index: usize) -> String {
        self.serial.clone().unwrap_or_else(|| format!("165022300{index:04}"))
    }

    /// PCI address of the card at this index.
    pub(crate) fn pci_at(&self, index: usize) -> String {
        self.pci.clone().unwrap_or_else(|| format!("00000000:{:02X}:00.0", 0x17 + index * 0x10))
    }
}

/// One NVLink.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NvLink {
    pub(crate) active: bool,
    pub(crate) version: u32,
    pub(crate) remote_pci: String,
    pub(crate) replays: u64,
    pub(crate) recoveries: u64,
    pub(crate) crc_errors: u64,
}

impl Default for NvLink {
    fn default() -> Self {
        Self {
            active: true,
            version: 4,
            remote_pci: "00000000:C1:00.0".into(),
            replays: 0,
            recoveries: 0,
            crc_errors: 0,
        }
    }
}

/// One MIG instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MigInstance {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) memory_total: u64,
    pub(crate) memory_used: u64,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
}

/// One process on a GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// `null`: NVML does not know.
    pub(crate) memory: Option<u64>,
    #[serde(default)]
    pub(crate) graphics: bool,
}

/// Time, length and inode: any of them tells a new file.
type Stamp = (SystemTime, u64, u64);

struct Loaded {
    stamp: Option<Stamp>,
    scenario: Arc<Scenario>,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The scenario as the file stands now. A file that cannot be understood leaves the former scenario: writers are not
/// atomic. Without a file all is well, so that a hang ends with the folder of the test that wanted it.
pub(crate) fn current() -> Arc<Scenario> {
    let path = path();
    let stamp = path.as_deref().and_then(stamp);
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(former) = loaded.as_ref().filter(|former| former.stamp == stamp) {
        return Arc::clone(&former.scenario);
    }
    let read = match (stamp, path) {
        (Some(_), Some(path)) => std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()),
        _ => Some(Scenario::default()),
    };
    let scenario = match (read, loaded.as_ref()) {
        (Some(read), _) => Arc::new(read),
        (None, Some(former)) => return Arc::clone(&former.scenario),
        (None, None) => Arc::new(Scenario::default()),
    };
    *loaded = Some(Loaded { stamp, scenario: Arc::clone(&scenario) });
    scenario
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn path() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return Some(named.into());
    }
    Some(own_path()?.with_file_name(FILE_NAME))
}

/// Where this library was loaded from: the mapping that holds its own code.
fn own_path() -> Option<PathBuf> {
    let code = own_path as fn() -> Option<PathBuf> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (start..end)
            .contains(&code)
            .then(|| rest.find('/').and_then(|at| rest.get(at..)).map(without_deleted))?
    })
}

/// The kernel marks the path of a library whose file is gone.
fn without_deleted(path: &str) -> PathBuf {
    path.strip_suffix(" (deleted)").unwrap_or(path).into()
}
