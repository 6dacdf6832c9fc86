//! What every exported function needs: error codes, handles, faults, and the writing of answers.

use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::scenario::{Effect, Gpu, MigInstance, Scenario, current};

pub(crate) const SUCCESS: nvmlReturn_t = 0;
pub(crate) const INVALID_ARGUMENT: nvmlReturn_t = 2;
pub(crate) const NOT_SUPPORTED: nvmlReturn_t = 3;
pub(crate) const NOT_FOUND: nvmlReturn_t = 6;
pub(crate) const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
pub(crate) const GPU_IS_LOST: nvmlReturn_t = 15;

/// An answer, or NVML's error code.
pub(crate) type Answer<T> = Result<T, nvmlReturn_t>;

/// What a device handle names. A handle is a number, never an address that is followed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handle {
    /// A whole GPU by index.
    Gpu(usize),
    /// A MIG instance by GPU and index.
    Mig(usize, usize),
}

const MIG_SHIFT: u32 = 16;

impl Handle {
    /// The handle as NVML hands it out; never null.
    pub(crate) fn to_device(self) -> nvmlDevice_t {
        let number = match self {
            Self::Gpu(gpu) => gpu + 1,
            Self::Mig(gpu, instance) => (gpu + 1) | ((instance + 1) << MIG_SHIFT),
        };
        std::ptr::without_provenance_mut(number)
    }

    fn from_device(device: nvmlDevice_t) -> Answer<Self> {
        let number = device.addr();
        let gpu = (number & ((1 << MIG_SHIFT) - 1)).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        Ok((number >> MIG_SHIFT).checked_sub(1).map_or(Self::Gpu(gpu), |instance| Self::Mig(gpu, instance)))
    }
}

/// A GPU of the scenario, or an instance of it.
pub(crate) struct Device {
    scenario: Arc<Scenario>,
    /// Index of the GPU.
    pub(crate) index: usize,
    instance: Option<usize>,
}

impl Device {
    /// The GPU.
    pub(crate) fn gpu(&self) -> Answer<&Gpu> {
        self.scenario.gpus.get(self.index).ok_or(INVALID_ARGUMENT)
    }

    /// The MIG instance, where the handle names one.
    pub(crate) fn mig(&self) -> Answer<Option<&MigInstance>> {
        let Some(instance) = self.instance else { return Ok(None) };
        self.gpu()?.mig.get(instance).map(Some).ok_or(INVALID_ARGUMENT)
    }
}

/// Answers a call that concerns no GPU.
pub(crate) fn system<T>(function: &str, answer: impl FnOnce(&Scenario) -> Answer<T>) -> Answer<T> {
    suffer(function, None)?;
    answer(&current())
}

/// Answers a call on a device, after its faults.
pub(crate) fn device<T>(
    function: &str,
    handle: nvmlDevice_t,
    answer: impl FnOnce(&Device) -> Answer<T>,
) -> Answer<T> {
    let (index, instance) = match Handle::from_device(handle)? {
        Handle::Gpu(gpu) => (gpu, None),
        Handle::Mig(gpu, instance) => (gpu, Some(instance)),
    };
    suffer(function, Some(index))?;
    let device = Device { scenario: current(), index, instance };
    if device.gpu()?.lost {
        return Err(GPU_IS_LOST);
    }
    answer(&device)
}

/// Meets the faults of the scenario; a hang lasts as long as the scenario holds it.
fn suffer(function: &str, gpu: Option<usize>) -> Answer<()> {
    loop {
        let scenario = current();
        let fault = scenario
            .faults
            .iter()
            .find(|fault| fault.function == function && (fault.gpu.is_none() || fault.gpu == gpu));
        match fault.map(|fault| &fault.effect) {
            None => return Ok(()),
            Some(Effect::Error(code)) => return Err(*code),
            Some(Effect::Hang) => std::thread::sleep(Duration::from_millis(20)),
            Some(Effect::DelayMs(milliseconds)) => {
                std::thread::sleep(Duration::from_millis(*milliseconds));
                return Ok(());
            }
            Some(Effect::WriteTo(path)) => {
                let _ = std::fs::write(path, b"x");
                return Ok(());
            }
        }
    }
}

/// Writes an answer through the caller's pointer.
///
/// # Safety
/// `out` is null or points to writable memory for one `T`, as NVML's header demands of the caller.
pub(crate) unsafe fn put<T>(out: *mut T, answer: Answer<T>) -> nvmlReturn_t {
    match answer {
        Err(code) => code,
        Ok(_) if out.is_null() => INVALID_ARGUMENT,
        Ok(value) => {
            // SAFETY: not null, and valid for one `T` by this function's contract.
            unsafe { out.write(value) };
            SUCCESS
        }
    }
}

/// Writes two answers of one call.
///
/// # Safety
/// As [`put`], for both pointers.
pub(crate) unsafe fn put_two<A, B>(first: *mut A, second: *mut B, answer: Answer<(A, B)>) -> nvmlReturn_t {
    match answer {
        Err(code) => code,
        // SAFETY: both pointers are as `put` wants them, by this function's contract.
        Ok((a, b)) => unsafe { put(first, Ok(a)).max(put(second, Ok(b))) },
    }
}

/// Writes a text with its final zero.
///
/// # Safety
/// `buffer` is null or points to `length` writable bytes, as NVML's header demands of the caller.
pub(crate) unsafe fn put_text(buffer: *mut c_char, length: u32, answer: Answer<String>) -> nvmlReturn_t {
    let text = match answer {
        Ok(text) => text,
        Err(code) => return code,
    };
    if buffer.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: the text and its zero fit into the `length` bytes that the caller vouches for.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), buffer, text.len());
        buffer.add(text.len()).write(0);
    }
    SUCCESS
}

/// Writes a list: with too little room only its length and "insufficient size", as NVML does.
///
/// # Safety
/// `count` points to the room in elements, and `out` is null or has that much room.
pub(crate) unsafe fn put_list<T>(count: *mut u32, out: *mut T, answer: Answer<Vec<T>>) -> nvmlReturn_t {
    let list = match answer {
        Ok(list) => list,
        Err(code) => return code,
    };
    if count.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and valid by this function's contract.
    let room = unsafe { count.read() } as usize;
    let len = u32::try_from(list.len()).unwrap_or(u32::MAX);
    // SAFETY: as above.
    unsafe { count.write(len) };
    if list.is_empty() {
        return SUCCESS;
    }
    if out.is_null() || room < list.len() {
        return INSUFFICIENT_SIZE;
    }
    for (at, element) in list.into_iter().enumerate() {
        // SAFETY: `at` is below the room that the caller vouches for.
        unsafe { out.add(at).write(element) };
    }
    SUCCESS
}
