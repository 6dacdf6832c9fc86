//! Initialisation, versions, and the handles of devices.

use std::ffi::c_char;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::abi::{Handle, INVALID_ARGUMENT, SUCCESS, put, put_text, system};

fn init(function: &str) -> nvmlReturn_t {
    match system(function, |scenario| scenario.init_error.map_or(Ok(()), Err)) {
        Ok(()) => SUCCESS,
        Err(code) => code,
    }
}

/// # Safety
/// None needed: it follows no pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    init("nvmlInit_v2")
}

/// # Safety
/// None needed: it follows no pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlInitWithFlags(_flags: u32) -> nvmlReturn_t {
    init("nvmlInitWithFlags")
}

/// # Safety
/// None needed: it follows no pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    system("nvmlShutdown", |_| Ok(())).err().unwrap_or(SUCCESS)
}

/// # Safety
/// `version` points to `length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: u32) -> nvmlReturn_t {
    let answer = system("nvmlSystemGetDriverVersion", |scenario| Ok(scenario.driver_version.clone()));
    // SAFETY: the caller's contract is `put_text`'s.
    unsafe { put_text(version, length, answer) }
}

/// # Safety
/// `version` points to `length` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: u32) -> nvmlReturn_t {
    let answer = system("nvmlSystemGetNVMLVersion", |scenario| Ok(scenario.nvml_version.clone()));
    // SAFETY: the caller's contract is `put_text`'s.
    unsafe { put_text(version, length, answer) }
}

/// # Safety
/// `version` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut i32) -> nvmlReturn_t {
    let answer = system("nvmlSystemGetCudaDriverVersion_v2", |scenario| Ok(scenario.cuda_version));
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(version, answer) }
}

/// # Safety
/// `version` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(version: *mut i32) -> nvmlReturn_t {
    // SAFETY: the same contract.
    unsafe { nvmlSystemGetCudaDriverVersion_v2(version) }
}

/// # Safety
/// `count` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut u32) -> nvmlReturn_t {
    let answer = system("nvmlDeviceGetCount_v2", |scenario| {
        u32::try_from(scenario.gpus.len()).map_err(|_| INVALID_ARGUMENT)
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(count, answer) }
}

/// # Safety
/// `device` points to a writable handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: u32,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let answer = system("nvmlDeviceGetHandleByIndex_v2", |scenario| {
        let index = index as usize;
        scenario.gpus.get(index).map(|_| Handle::Gpu(index).to_device()).ok_or(INVALID_ARGUMENT)
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(device, answer) }
}
