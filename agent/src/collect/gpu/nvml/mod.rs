//! NVIDIA's library, called in the helper process.
//!
//! Every call is named before it is made; "not supported" is an answer; a lost GPU ends that GPU's reading and no
//! other. Never: creates a CUDA context, keeps a library whose driver changed under it.

mod facts;
mod numbers;
mod reader;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aim_common::inventory::{Fact, GpuLibraryState, Text, UnknownReason};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::answers::{Answer, Library, Question, Reading};
use crate::collect::source;
use crate::probe::{Calls, Probe};
use reader::{Reader, fact};

/// The probe of the `gpu` helper.
#[derive(Debug)]
pub struct NvmlProbe {
    /// `/proc/driver/nvidia/version`, there where the kernel module is loaded.
    module: PathBuf,
    /// Cloned for each question and never locked during a call.
    nvml: Mutex<Option<Arc<Nvml>>>,
}

impl NvmlProbe {
    /// With the node's `/proc`.
    pub fn new(proc: &Path) -> Self {
        Self { module: proc.join("driver/nvidia/version"), nvml: Mutex::new(None) }
    }

    fn loaded(&self) -> Option<Arc<Nvml>> {
        self.nvml.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, nvml: Option<Arc<Nvml>>) {
        *self.nvml.lock().unwrap_or_else(PoisonError::into_inner) = nvml;
    }

    fn library(&self, path: Option<&Path>, calls: &Calls) -> Library {
        let nvml = match self.loaded() {
            Some(nvml) => nvml,
            None => match self.load(path, calls) {
                Ok(nvml) => nvml,
                Err(state) => return Library::without(state),
            },
        };
        calls.enter("nvmlDeviceGetCount_v2");
        let count = match nvml.device_count() {
            Ok(count) => count,
            Err(error) => {
                // What was loaded is of no more use: the next question loads it anew.
                self.keep(None);
                return Library::without(state_of(&error));
            }
        };
        calls.enter("nvmlSystemGetDriverVersion");
        let driver_version = fact(nvml.sys_driver_version()).map_text();
        calls.enter("nvmlSystemGetNVMLVersion");
        let library_version = fact(nvml.sys_nvml_version()).map_text();
        calls.enter("nvmlSystemGetCudaDriverVersion_v2");
        let cuda_version = fact(nvml.sys_cuda_driver_version().map(cuda_version)).map_text();
        Library { state: GpuLibraryState::Working, driver_version, cuda_version, library_version, count }
    }

    fn load(&self, path: Option<&Path>, calls: &Calls) -> Result<Arc<Nvml>, GpuLibraryState> {
        // Initialising without the module would make NVIDIA's tools load it, against whoever just unloaded it.
        if path.is_none() && !self.module.exists() {
            return Err(GpuLibraryState::DriverNotLoaded);
        }
        calls.enter("nvmlInit_v2");
        let mut builder = Nvml::builder();
        if let Some(path) = path {
            builder.lib_path(<Path as AsRef<OsStr>>::as_ref(path));
        }
        let nvml = Arc::new(builder.init().map_err(|error| state_of(&error))?);
        self.keep(Some(Arc::clone(&nvml)));
        Ok(nvml)
    }

    fn gpu(&self, index: u32, facts: bool, calls: &Calls) -> Reading {
        calls.about(format!("GPU {index}"));
        match self.loaded() {
            Some(nvml) => read(&nvml, index, facts, calls),
            None => Reading::unreadable(index, "the library is not loaded"),
        }
    }
}

impl Probe for NvmlProbe {
    type Question = Question;
    type Answer = Answer;
    // One for each GPU of the largest nodes in use that may be wedged at a time.
    const MOST_WORKERS: usize = 8;

    fn answer(&self, question: Question, calls: &Calls) -> Answer {
        match question {
            Question::Library { path } => Answer::Library(self.library(path.as_deref(), calls)),
            Question::Gpu { index, facts } => Answer::Gpu(Box::new(self.gpu(index, facts, calls))),
        }
    }
}

fn read(nvml: &Nvml, index: u32, with_facts: bool, calls: &Calls) -> Reading {
    let reader = Reader::new(calls);
    let Ok(device) = reader.must("nvmlDeviceGetHandleByIndex_v2", || nvml.device_by_index(index)) else {
        return Reading { state: reader.state(), ..Reading::unreadable(index, "") };
    };
    let uuid = reader.must("nvmlDeviceGetUUID", || device.uuid()).map(|uuid| source::text(uuid.as_bytes()));
    let pci_address = reader
        .ask("nvmlDeviceGetPciInfo_v3", || device.pci_info())
        .map(|pci| source::text(kernel_address(&pci.bus_id).as_bytes()));
    let mut reading = Reading {
        index,
        uuid: uuid.into(),
        pci_address: pci_address.into(),
        state: reader.state(),
        facts: None,
        numbers: Vec::new(),
        processes: Vec::new(),
    };
    let instances = reader.mig_instances(&device);
    numbers::read(&reader, &device, &instances, &mut reading);
    if with_facts {
        reading.facts = Some(facts::read(&reader, &device, &instances, &reading));
    }
    reading.state = reader.state();
    if let Some(facts) = &mut reading.facts {
        facts.state = reading.state.clone();
    }
    reading
}

impl Library {
    fn without(state: GpuLibraryState) -> Self {
        let unknown = Fact::Unknown(UnknownReason::NotPresent);
        Self {
            state,
            driver_version: unknown.clone(),
            cuda_version: unknown.clone(),
            library_version: unknown,
            count: 0,
        }
    }
}

impl Reading {
    fn unreadable(index: u32, why: &str) -> Self {
        Self {
            index,
            uuid: Fact::Unknown(UnknownReason::Unresponsive),
            pci_address: Fact::Unknown(UnknownReason::Unresponsive),
            state: aim_common::inventory::GpuState::Failing(Text::truncated(why)),
            facts: None,
            numbers: Vec::new(),
            processes: Vec::new(),
        }
    }
}

/// What an error of the library as a whole means.
fn state_of(error: &NvmlError) -> GpuLibraryState {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => GpuLibraryState::LibraryMissing,
        NvmlError::DriverNotLoaded => GpuLibraryState::DriverNotLoaded,
        NvmlError::LibRmVersionMismatch => GpuLibraryState::DriverMismatch,
        other => GpuLibraryState::Failing(source::text(other.to_string().as_bytes())),
    }
}

/// `12040` is CUDA 12.4.
fn cuda_version(version: i32) -> String {
    format!(
        "{}.{}",
        nvml_wrapper::cuda_driver_version_major(version),
        nvml_wrapper::cuda_driver_version_minor(version)
    )
}

/// NVML writes `00000000:17:00.0`, the kernel `0000:17:00.0`.
fn kernel_address(address: &str) -> String {
    let address = address.to_ascii_lowercase();
    match address.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => {
            format!("{}:{rest}", domain.get(4..).unwrap_or_default())
        }
        _ => address,
    }
}

/// Turns library strings into bounded, harmless text.
trait MapText {
    fn map_text(self) -> Fact<Text>;
}

impl MapText for Result<String, UnknownReason> {
    fn map_text(self) -> Fact<Text> {
        self.and_then(|text| source::some_text(text.as_bytes())).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_versions_are_written_as_elsewhere_on_the_node() {
        assert_eq!(kernel_address("00000000:C1:00.0"), "0000:c1:00.0");
        assert_eq!(kernel_address("00010000:17:00.0"), "00010000:17:00.0");
        assert_eq!(kernel_address("0000:17:00.0"), "0000:17:00.0");
        assert_eq!(cuda_version(12040), "12.4");
        assert_eq!(cuda_version(13000), "13.0");
    }
}
