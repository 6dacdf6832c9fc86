//! NVLink state and error counters.

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t, nvmlReturn_t};

use crate::abi::{Answer, INVALID_ARGUMENT, NOT_SUPPORTED, device, put};
use crate::scenario::NvLink;

fn link<T>(
    function: &str,
    handle: nvmlDevice_t,
    number: u32,
    read: impl FnOnce(&NvLink) -> Answer<T>,
) -> Answer<T> {
    device(function, handle, |on| {
        let links = &on.gpu()?.nvlinks;
        if links.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        read(links.get(number as usize).ok_or(INVALID_ARGUMENT)?)
    })
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    handle: nvmlDevice_t,
    number: u32,
    out: *mut u32,
) -> nvmlReturn_t {
    let answer = link("nvmlDeviceGetNvLinkState", handle, number, |link| Ok(u32::from(link.active)));
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkVersion(
    handle: nvmlDevice_t,
    number: u32,
    out: *mut u32,
) -> nvmlReturn_t {
    let answer = link("nvmlDeviceGetNvLinkVersion", handle, number, |link| Ok(link.version));
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    handle: nvmlDevice_t,
    number: u32,
    out: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    let answer = link("nvmlDeviceGetNvLinkRemotePciInfo_v2", handle, number, |link| {
        crate::device::pci_info(&link.remote_pci)
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    handle: nvmlDevice_t,
    number: u32,
    counter: u32,
    out: *mut u64,
) -> nvmlReturn_t {
    let answer = link("nvmlDeviceGetNvLinkErrorCounter", handle, number, |link| match counter {
        0 => Ok(link.replays),
        1 => Ok(link.recoveries),
        2 => Ok(link.crc_errors),
        _ => Err(NOT_SUPPORTED),
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}
