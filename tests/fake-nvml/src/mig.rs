//! Multi-Instance GPU: mode, and handles of instances.

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t, nvmlReturn_t};

use crate::abi::{Handle, NOT_FOUND, NOT_SUPPORTED, device, put, put_two};

/// Instances that a card can have at most.
const MOST_INSTANCES: u32 = 7;

/// # Safety
/// Both pointers point to writable integers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    handle: nvmlDevice_t,
    current: *mut u32,
    pending: *mut u32,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetMigMode", handle, |on| {
        let enabled = u32::from(on.gpu()?.mig_enabled.ok_or(NOT_SUPPORTED)?);
        Ok((enabled, enabled))
    });
    // SAFETY: the caller's contract is `put_two`'s.
    unsafe { put_two(current, pending, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(handle: nvmlDevice_t, out: *mut u32) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetMaxMigDeviceCount", handle, |on| {
        Ok(on.gpu()?.mig_enabled.map_or(0, |_| MOST_INSTANCES))
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: nvmlDevice_t,
    index: u32,
    out: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetMigDeviceHandleByIndex", handle, |on| {
        let index = index as usize;
        on.gpu()?.mig.get(index).map(|_| Handle::Mig(on.index, index).to_device()).ok_or(NOT_FOUND)
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    handle: nvmlDevice_t,
    out: *mut nvmlDeviceAttributes_t,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetAttributes_v2", handle, |on| {
        let instance = on.mig()?.ok_or(NOT_SUPPORTED)?;
        Ok(nvmlDeviceAttributes_t {
            multiprocessorCount: 16,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 1,
            sharedEncoderCount: 0,
            sharedJpegCount: 1,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: 1,
            computeInstanceSliceCount: 1,
            memorySizeMB: instance.memory_total / (1024 * 1024),
        })
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}
