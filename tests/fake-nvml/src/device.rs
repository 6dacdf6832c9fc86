//! Everything asked of one device.

use std::ffi::c_char;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlFieldValue_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t, nvmlReturn_t,
    nvmlUtilization_t, nvmlValue_t, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT,
};

use crate::abi::{
    Answer, Device, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, device, put, put_list, put_text, put_two,
};
use crate::scenario::{Gpu, Process};

/// NVML's "memory of this process is not known".
const MEMORY_UNKNOWN: u64 = u64::MAX;
/// NVML's "no instance".
const NO_INSTANCE: u32 = u32::MAX;

/// Exports functions of the shape `(device, *mut T)`.
macro_rules! getters {
    ($($name:ident -> $type:ty = $read:expr;)*) => {$(
        /// # Safety
        /// `out` points to writable memory for the answer.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(handle: nvmlDevice_t, out: *mut $type) -> nvmlReturn_t {
            let read: fn(&Device) -> Answer<$type> = $read;
            // SAFETY: the caller's contract is `put`'s.
            unsafe { put(out, device(stringify!($name), handle, read)) }
        }
    )*};
}

/// Exports functions of the shape `(device, *mut A, *mut B)`.
macro_rules! pairs {
    ($($name:ident -> ($first:ty, $second:ty) = $read:expr;)*) => {$(
        /// # Safety
        /// Both pointers point to writable memory for the answers.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            handle: nvmlDevice_t,
            first: *mut $first,
            second: *mut $second,
        ) -> nvmlReturn_t {
            let read: fn(&Device) -> Answer<($first, $second)> = $read;
            // SAFETY: the caller's contract is `put_two`'s.
            unsafe { put_two(first, second, device(stringify!($name), handle, read)) }
        }
    )*};
}

/// Exports functions of the shape `(device, *mut char, length)`.
macro_rules! texts {
    ($($name:ident = $read:expr;)*) => {$(
        /// # Safety
        /// `out` points to `length` writable bytes.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(handle: nvmlDevice_t, out: *mut c_char, length: u32) -> nvmlReturn_t {
            let read: fn(&Device) -> Answer<String> = $read;
            // SAFETY: the caller's contract is `put_text`'s.
            unsafe { put_text(out, length, device(stringify!($name), handle, read)) }
        }
    )*};
}

fn supported<T>(value: Option<T>) -> Answer<T> {
    value.ok_or(NOT_SUPPORTED)
}

texts! {
    nvmlDeviceGetUUID = |on| match on.mig()? {
        Some(instance) => Ok(instance.uuid.clone()),
        None => Ok(on.gpu()?.uuid_at(on.index)),
    };
    nvmlDeviceGetName = |on| match on.mig()? {
        Some(instance) => Ok(instance.name.clone()),
        None => supported(on.gpu()?.name.clone()),
    };
    nvmlDeviceGetSerial = |on| Ok(on.gpu()?.serial_at(on.index));
    nvmlDeviceGetVbiosVersion = |on| supported(on.gpu()?.vbios.clone());
    nvmlDeviceGetInforomImageVersion = |on| supported(on.gpu()?.inforom.clone());
}

getters! {
    nvmlDeviceGetPciInfo_v3 -> nvmlPciInfo_t = |on| pci_info(&on.gpu()?.pci_at(on.index));
    nvmlDeviceGetUtilizationRates -> nvmlUtilization_t = |on| {
        supported(on.gpu()?.utilization.map(|(gpu, memory)| nvmlUtilization_t { gpu, memory }))
    };
    nvmlDeviceGetPowerUsage -> u32 = |on| supported(on.gpu()?.power_milliwatts);
    nvmlDeviceGetEnforcedPowerLimit -> u32 = |on| supported(on.gpu()?.power_limit_milliwatts);
    nvmlDeviceGetPowerManagementLimit -> u32 = |on| supported(on.gpu()?.power_limit_milliwatts);
    nvmlDeviceGetPowerManagementDefaultLimit -> u32 = |on| {
        supported(on.gpu()?.default_power_limit_milliwatts)
    };
    nvmlDeviceGetTotalEnergyConsumption -> u64 = |on| supported(on.gpu()?.energy_millijoules);
    nvmlDeviceGetCurrentClocksThrottleReasons -> u64 = |on| supported(on.gpu()?.throttle_reasons);
    nvmlDeviceGetCurrPcieLinkGeneration -> u32 = |on| supported(on.gpu()?.pcie_now.map(|now| now.0));
    nvmlDeviceGetCurrPcieLinkWidth -> u32 = |on| supported(on.gpu()?.pcie_now.map(|now| now.1));
    nvmlDeviceGetMaxPcieLinkGeneration -> u32 = |on| supported(on.gpu()?.pcie_max.map(|max| max.0));
    nvmlDeviceGetMaxPcieLinkWidth -> u32 = |on| supported(on.gpu()?.pcie_max.map(|max| max.1));
    nvmlDeviceGetPcieReplayCounter -> u32 = |on| supported(on.gpu()?.pcie_replays);
    nvmlDeviceGetNumFans -> u32 = |on| {
        u32::try_from(on.gpu()?.fans.len()).ok().filter(|fans| *fans > 0).ok_or(NOT_SUPPORTED)
    };
    nvmlDeviceGetPersistenceMode -> u32 = |on| supported(on.gpu()?.persistence_mode.map(u32::from));
    nvmlDeviceGetComputeMode -> u32 = |on| Ok(on.gpu()?.compute_mode);
}

pairs! {
    nvmlDeviceGetPowerManagementLimitConstraints -> (u32, u32) = |on| {
        supported(on.gpu()?.power_limit_range_milliwatts)
    };
    nvmlDeviceGetEccMode -> (u32, u32) = |on| {
        supported(on.gpu()?.ecc_enabled.map(|enabled| (u32::from(enabled), u32::from(enabled))))
    };
    // The second number is the sampling period in microseconds.
    nvmlDeviceGetEncoderUtilization -> (u32, u32) = |on| {
        supported(on.gpu()?.encoder_utilization.map(|now| (now, 167_000)))
    };
    nvmlDeviceGetDecoderUtilization -> (u32, u32) = |on| {
        supported(on.gpu()?.decoder_utilization.map(|now| (now, 167_000)))
    };
}

pub(crate) fn pci_info(address: &str) -> Answer<nvmlPciInfo_t> {
    let number = |from: usize, to: usize| {
        address.get(from..to).and_then(|part| u32::from_str_radix(part, 16).ok()).ok_or(INVALID_ARGUMENT)
    };
    let mut info = nvmlPciInfo_t {
        busIdLegacy: [0; 16],
        domain: number(0, 8)?,
        bus: number(9, 11)?,
        device: number(12, 14)?,
        pciDeviceId: 0x2330_10de,
        pciSubSystemId: 0x16c1_10de,
        busId: [0; 32],
    };
    for (to, from) in info.busId.iter_mut().take(31).zip(address.bytes()) {
        *to = from.cast_signed();
    }
    Ok(info)
}

/// # Safety
/// `out` points to a structure with its version filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    handle: nvmlDevice_t,
    out: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetMemoryInfo_v2", handle, |on| {
        let gpu = on.gpu()?;
        let (total, used, reserved) =
            on.mig()?.map_or((gpu.memory_total, gpu.memory_used, gpu.memory_reserved), |instance| {
                (instance.memory_total, instance.memory_used, 0)
            });
        let free = total.saturating_sub(used).saturating_sub(reserved);
        Ok(nvmlMemory_v2_t { version: 0x0200_0028, total, reserved, free, used })
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    handle: nvmlDevice_t,
    _sensor: u32,
    out: *mut u32,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetTemperature", handle, |on| supported(on.gpu()?.temperature));
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(
    handle: nvmlDevice_t,
    clock: u32,
    out: *mut u32,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetClockInfo", handle, |on| match clock {
        0 | 1 => supported(on.gpu()?.sm_clock_mhz),
        2 => supported(on.gpu()?.memory_clock_mhz),
        _ => Err(NOT_SUPPORTED),
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    handle: nvmlDevice_t,
    error: u32,
    counter: u32,
    out: *mut u64,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetTotalEccErrors", handle, |on| {
        let gpu = on.gpu()?;
        if gpu.ecc_enabled != Some(true) {
            return Err(NOT_SUPPORTED);
        }
        let (volatile, aggregate) = if error == 0 { gpu.ecc_corrected } else { gpu.ecc_uncorrected };
        Ok(if counter == 0 { volatile } else { aggregate })
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

fn retired_pages(function: &str, handle: nvmlDevice_t, cause: u32) -> Answer<Vec<u64>> {
    device(function, handle, |on| {
        let (single, double) = supported(on.gpu()?.retired_pages)?;
        Ok((0..u64::from(if cause == 0 { single } else { double })).collect())
    })
}

/// # Safety
/// `count` and `addresses` as NVML's header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages(
    handle: nvmlDevice_t,
    cause: u32,
    count: *mut u32,
    addresses: *mut u64,
) -> nvmlReturn_t {
    // SAFETY: the caller's contract is `put_list`'s.
    unsafe { put_list(count, addresses, retired_pages("nvmlDeviceGetRetiredPages", handle, cause)) }
}

/// # Safety
/// `count`, `addresses` and `timestamps` as NVML's header says; the last two have the same room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetRetiredPages_v2(
    handle: nvmlDevice_t,
    cause: u32,
    count: *mut u32,
    addresses: *mut u64,
    _timestamps: *mut u64,
) -> nvmlReturn_t {
    // SAFETY: the caller's contract is `put_list`'s.
    unsafe { put_list(count, addresses, retired_pages("nvmlDeviceGetRetiredPages_v2", handle, cause)) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFanSpeed_v2(
    handle: nvmlDevice_t,
    fan: u32,
    out: *mut u32,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetFanSpeed_v2", handle, |on| {
        on.gpu()?.fans.get(fan as usize).copied().ok_or(INVALID_ARGUMENT)
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `out` points to a writable integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPcieThroughput(
    handle: nvmlDevice_t,
    counter: u32,
    out: *mut u32,
) -> nvmlReturn_t {
    let answer = device("nvmlDeviceGetPcieThroughput", handle, |on| {
        let (sent, received) = supported(on.gpu()?.pcie_throughput)?;
        Ok(if counter == 0 { sent } else { received })
    });
    // SAFETY: the caller's contract is `put`'s.
    unsafe { put(out, answer) }
}

/// # Safety
/// `values` points to `count` fields with their ids filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    handle: nvmlDevice_t,
    count: i32,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    let (Ok(count), false) = (usize::try_from(count), values.is_null()) else { return INVALID_ARGUMENT };
    // SAFETY: `count` fields by the caller's contract, and nobody else holds them during the call.
    let fields = unsafe { std::slice::from_raw_parts_mut(values, count) };
    let answer = device("nvmlDeviceGetFieldValues", handle, |on| {
        for field in fields {
            match field_value(on.gpu()?, field.fieldId) {
                Ok(value) => {
                    field.nvmlReturn = SUCCESS;
                    field.valueType = nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
                    field.value = nvmlValue_t { uiVal: value };
                }
                Err(code) => field.nvmlReturn = code,
            }
        }
        Ok(())
    });
    answer.err().unwrap_or(SUCCESS)
}

/// The numbers are NVML's field ids.
fn field_value(gpu: &Gpu, id: u32) -> Answer<u32> {
    let rows = || supported(gpu.remapped_rows);
    match id {
        82 => supported(gpu.memory_temperature),
        142 => Ok(rows()?.0),
        143 => Ok(rows()?.1),
        144 => Ok(rows()?.2),
        145 => Ok(rows()?.3),
        _ => Err(NOT_SUPPORTED),
    }
}

fn processes(function: &str, handle: nvmlDevice_t, graphics: bool) -> Answer<Vec<nvmlProcessInfo_t>> {
    device(function, handle, |on| {
        let all: &[Process] = match on.mig()? {
            Some(instance) => &instance.processes,
            None => &on.gpu()?.processes,
        };
        Ok(all.iter().filter(|process| process.graphics == graphics).map(process_info).collect())
    })
}

fn process_info(process: &Process) -> nvmlProcessInfo_t {
    nvmlProcessInfo_t {
        pid: process.pid,
        usedGpuMemory: process.memory.unwrap_or(MEMORY_UNKNOWN),
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    }
}

/// # Safety
/// `count` points to the room in elements; `out` is null or has that room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: *mut u32,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    // SAFETY: the caller's contract is `put_list`'s.
    unsafe { put_list(count, out, processes("nvmlDeviceGetComputeRunningProcesses_v3", handle, false)) }
}

/// # Safety
/// `count` points to the room in elements; `out` is null or has that room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: *mut u32,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    // SAFETY: the caller's contract is `put_list`'s.
    unsafe { put_list(count, out, processes("nvmlDeviceGetGraphicsRunningProcesses_v3", handle, true)) }
}
