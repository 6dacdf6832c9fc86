//! Calls on one GPU: named, judged, and left out once the GPU is lost.

use std::cell::RefCell;

use aim_common::inventory::{GpuState, UnknownReason};
use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;

use crate::collect::source;
use crate::probe::Calls;

/// MIG instances of one GPU that are looked at; a card has 7 at most.
const MOST_INSTANCES: u32 = 16;

/// Makes the calls on one GPU.
pub(super) struct Reader<'c> {
    calls: &'c Calls,
    state: RefCell<GpuState>,
}

impl<'c> Reader<'c> {
    /// For one GPU, which works until a call says otherwise.
    pub(super) fn new(calls: &'c Calls) -> Self {
        Self { calls, state: RefCell::new(GpuState::Working) }
    }

    /// What the calls so far said of the GPU.
    pub(super) fn state(&self) -> GpuState {
        self.state.borrow().clone()
    }

    /// A call that a GPU may not support.
    pub(super) fn ask<T>(
        &self,
        function: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<T, UnknownReason> {
        if matches!(*self.state.borrow(), GpuState::Lost) {
            return Err(UnknownReason::Unresponsive);
        }
        self.calls.enter(function);
        let answer = call();
        match &answer {
            Err(NvmlError::GpuLost) => *self.state.borrow_mut() = GpuState::Lost,
            Err(NvmlError::ResetRequired) => *self.state.borrow_mut() = GpuState::ResetRequired,
            _ => {}
        }
        fact(answer)
    }

    /// A call that every GPU answers: its failure is the GPU's.
    pub(super) fn must<T>(
        &self,
        function: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<T, UnknownReason> {
        self.ask(function, || {
            call().inspect_err(|error| {
                let why = format!("{function}: {error}");
                *self.state.borrow_mut() = GpuState::Failing(source::text(why.as_bytes()));
            })
        })
    }

    /// The MIG instances; none where the mode is off or not supported.
    pub(super) fn mig_instances<'n>(&self, device: &Device<'n>) -> Vec<Device<'n>> {
        let enabled =
            self.ask("nvmlDeviceGetMigMode", || device.mig_mode()).is_ok_and(|mode| mode.current != 0);
        if !enabled {
            return Vec::new();
        }
        let places = self.ask("nvmlDeviceGetMaxMigDeviceCount", || device.mig_device_count()).unwrap_or(0);
        // Free places answer "not found".
        (0..places.min(MOST_INSTANCES))
            .filter_map(|place| {
                let function = "nvmlDeviceGetMigDeviceHandleByIndex";
                self.ask(function, || device.mig_device_by_index(place)).ok()
            })
            .collect()
    }
}

/// An answer, or why there is none.
pub(super) fn fact<T>(answer: Result<T, NvmlError>) -> Result<T, UnknownReason> {
    answer.map_err(|error| match error {
        NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::InvalidArg
        | NvmlError::NoData => UnknownReason::NotSupported,
        NvmlError::NoPermission => UnknownReason::NeedsRoot,
        NvmlError::NotFound => UnknownReason::NotPresent,
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::Timeout => UnknownReason::Unresponsive,
        NvmlError::Utf8Error(_) | NvmlError::UnexpectedVariant(_) => UnknownReason::Malformed,
        _ => UnknownReason::ReadFailed,
    })
}
