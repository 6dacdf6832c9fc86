//! How a GPU does, and who uses it.

use aim_common::inventory::{Fact, Text, UnknownReason};
use aim_common::metric::Metric;
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{
    Clock, EccCounter, MemoryError, PcieUtilCounter, RetirementCause, TemperatureSensor,
};
use nvml_wrapper::enum_wrappers::nv_link::ErrorCounter;
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{
    NVML_FI_DEV_MEMORY_TEMP, NVML_FI_DEV_REMAPPED_COR, NVML_FI_DEV_REMAPPED_FAILURE,
    NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_UNC,
};

use super::reader::{Reader, fact};
use crate::collect::gpu::answers::{Holder, Number, Reading};
use crate::collect::source::{self, float};

/// NVLinks of one GPU that are looked at; NVIDIA's header knows 18.
const MOST_LINKS: u32 = 36;
/// Processes of one GPU that are reported.
const MOST_PROCESSES: usize = 1024;

/// One call for what has no call of its own, remapped rows above all.
const FIELDS: [(u32, Metric); 5] = [
    (NVML_FI_DEV_MEMORY_TEMP, Metric::GpuMemoryTemperature),
    (NVML_FI_DEV_REMAPPED_COR, Metric::GpuRemappedRowsCorrectable),
    (NVML_FI_DEV_REMAPPED_UNC, Metric::GpuRemappedRowsUncorrectable),
    (NVML_FI_DEV_REMAPPED_PENDING, Metric::GpuRowRemapPending),
    (NVML_FI_DEV_REMAPPED_FAILURE, Metric::GpuRowRemapFailed),
];

/// Reads all numbers and processes into the reading.
pub(super) fn read(reader: &Reader<'_>, device: &Device<'_>, mig: &[Device<'_>], reading: &mut Reading) {
    let mut numbers = Numbers(Vec::new());
    load(reader, device, &mut numbers);
    power_and_clocks(reader, device, &mut numbers);
    health(reader, device, &mut numbers);
    pcie(reader, device, &mut numbers);
    links(reader, device, &mut numbers);
    let uuid = reading.uuid.known().cloned().unwrap_or_default();
    let mut holders = processes(reader, device, &uuid);
    for instance in mig {
        let Ok(uuid) = reader.ask("nvmlDeviceGetUUID", || instance.uuid()) else { continue };
        let uuid = source::text(uuid.as_bytes());
        let used = reader.ask("nvmlDeviceGetMemoryInfo_v2", || instance.memory_info());
        numbers.part(Metric::MigMemoryUsed, &uuid, used.map(|memory| float(memory.used)));
        holders = merge(holders, processes(reader, instance, &uuid));
    }
    numbers.put(Metric::GpuProcesses, holders.as_ref().map(|held| float(held.len() as u64)).map_err(|r| *r));
    let mut holders = holders.unwrap_or_default();
    holders.truncate(MOST_PROCESSES);
    reading.numbers = numbers.0;
    reading.processes = holders;
}

struct Numbers(Vec<Number>);

impl Numbers {
    fn put(&mut self, metric: Metric, value: Result<f64, UnknownReason>) {
        self.part(metric, &Text::default(), value);
    }

    fn part(&mut self, metric: Metric, part: &Text, value: Result<f64, UnknownReason>) {
        self.0.push(Number { metric, part: part.clone(), value: Fact::from(value) });
    }
}

fn load(reader: &Reader<'_>, device: &Device<'_>, numbers: &mut Numbers) {
    let rates = reader.ask("nvmlDeviceGetUtilizationRates", || device.utilization_rates());
    let (gpu, memory) = match rates {
        Ok(rates) => (Ok(percent(rates.gpu)), Ok(percent(rates.memory))),
        Err(reason) => (Err(reason), Err(reason)),
    };
    numbers.put(Metric::GpuUtilization, gpu);
    numbers.put(Metric::GpuMemoryUtilization, memory);
    let memory = reader.ask("nvmlDeviceGetMemoryInfo_v2", || device.memory_info());
    let (used, free) = match memory {
        Ok(memory) => (Ok(float(memory.used)), Ok(float(memory.free))),
        Err(reason) => (Err(reason), Err(reason)),
    };
    numbers.put(Metric::GpuMemoryUsed, used);
    numbers.put(Metric::GpuMemoryFree, free);
    let encoder = reader.ask("nvmlDeviceGetEncoderUtilization", || device.encoder_utilization());
    numbers.put(Metric::GpuEncoderUtilization, encoder.map(|encoder| percent(encoder.utilization)));
    let decoder = reader.ask("nvmlDeviceGetDecoderUtilization", || device.decoder_utilization());
    numbers.put(Metric::GpuDecoderUtilization, decoder.map(|decoder| percent(decoder.utilization)));
}

fn power_and_clocks(reader: &Reader<'_>, device: &Device<'_>, numbers: &mut Numbers) {
    let milli = |value: u32| f64::from(value) / 1000.0;
    let mega = |value: u32| f64::from(value) * 1_000_000.0;
    let temperature = reader.ask("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
    numbers.put(Metric::GpuTemperature, temperature.map(f64::from));
    let power = reader.ask("nvmlDeviceGetPowerUsage", || device.power_usage());
    numbers.put(Metric::GpuPower, power.map(milli));
    let limit = reader.ask("nvmlDeviceGetEnforcedPowerLimit", || device.enforced_power_limit());
    numbers.put(Metric::GpuPowerLimit, limit.map(milli));
    let energy = reader.ask("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption());
    numbers.put(Metric::GpuEnergy, energy.map(|millijoules| float(millijoules) / 1000.0));
    let sm = reader.ask("nvmlDeviceGetClockInfo", || device.clock_info(Clock::SM));
    numbers.put(Metric::GpuSmClock, sm.map(mega));
    let memory = reader.ask("nvmlDeviceGetClockInfo", || device.clock_info(Clock::Memory));
    numbers.put(Metric::GpuMemoryClock, memory.map(mega));
    let reasons =
        reader.ask("nvmlDeviceGetCurrentClocksThrottleReasons", || device.current_throttle_reasons());
    numbers.put(Metric::GpuThrottleReasons, reasons.map(|reasons| float(reasons.bits())));
    numbers.put(Metric::GpuFanSpeed, fastest_fan(reader, device));
}

fn fastest_fan(reader: &Reader<'_>, device: &Device<'_>) -> Result<f64, UnknownReason> {
    let fans = reader.ask("nvmlDeviceGetNumFans", || device.num_fans())?;
    let speed = |fan| reader.ask("nvmlDeviceGetFanSpeed_v2", || device.fan_speed(fan));
    // A card has a handful of fans; the number is the driver's word.
    let speeds = (0..fans.min(16)).map(speed).collect::<Result<Vec<_>, _>>()?;
    speeds.into_iter().max().map(percent).ok_or(UnknownReason::NotSupported)
}

fn health(reader: &Reader<'_>, device: &Device<'_>, numbers: &mut Numbers) {
    let counters = [
        (Metric::GpuEccCorrectedVolatile, MemoryError::Corrected, EccCounter::Volatile),
        (Metric::GpuEccUncorrectedVolatile, MemoryError::Uncorrected, EccCounter::Volatile),
        (Metric::GpuEccCorrectedAggregate, MemoryError::Corrected, EccCounter::Aggregate),
        (Metric::GpuEccUncorrectedAggregate, MemoryError::Uncorrected, EccCounter::Aggregate),
    ];
    for (metric, error, counter) in counters {
        let errors = reader.ask("nvmlDeviceGetTotalEccErrors", || device.total_ecc_errors(error, counter));
        numbers.put(metric, errors.map(float));
    }
    let causes = [
        (Metric::GpuRetiredPagesSingleBit, RetirementCause::MultipleSingleBitEccErrors),
        (Metric::GpuRetiredPagesDoubleBit, RetirementCause::DoubleBitEccError),
    ];
    for (metric, cause) in causes {
        let pages = reader.ask("nvmlDeviceGetRetiredPages_v2", || device.retired_pages(cause));
        numbers.put(metric, pages.map(|pages| float(pages.len() as u64)));
    }
    let ids = FIELDS.map(|(id, _)| FieldId(id));
    let mut values =
        reader.ask("nvmlDeviceGetFieldValues", || device.field_values_for(&ids)).map(Vec::into_iter);
    for (_, metric) in FIELDS {
        let value = match &mut values {
            Ok(values) => match values.next() {
                Some(field) => fact(field.and_then(|field| field.value)).map(|value| number(&value)),
                None => Err(UnknownReason::Malformed),
            },
            Err(reason) => Err(*reason),
        };
        numbers.put(metric, value);
    }
}

fn pcie(reader: &Reader<'_>, device: &Device<'_>, numbers: &mut Numbers) {
    let generation = reader.ask("nvmlDeviceGetCurrPcieLinkGeneration", || device.current_pcie_link_gen());
    numbers.put(Metric::GpuPcieGeneration, generation.map(f64::from));
    let width = reader.ask("nvmlDeviceGetCurrPcieLinkWidth", || device.current_pcie_link_width());
    numbers.put(Metric::GpuPcieWidth, width.map(f64::from));
    let replays = reader.ask("nvmlDeviceGetPcieReplayCounter", || device.pcie_replay_counter());
    numbers.put(Metric::GpuPcieReplays, replays.map(f64::from));
    let ways = [
        (Metric::GpuPcieTransmitBytes, PcieUtilCounter::Send),
        (Metric::GpuPcieReceiveBytes, PcieUtilCounter::Receive),
    ];
    for (metric, way) in ways {
        let kib = reader.ask("nvmlDeviceGetPcieThroughput", || device.pcie_throughput(way));
        numbers.put(metric, kib.map(|kib| f64::from(kib) * 1024.0));
    }
}

fn links(reader: &Reader<'_>, device: &Device<'_>, numbers: &mut Numbers) {
    for (number, active) in nvlink_states(reader, device) {
        let link = device.link_wrapper_for(number);
        let part = Text::truncated(&number.to_string());
        numbers.part(Metric::GpuNvlinkActive, &part, active.map(|active| f64::from(u8::from(active))));
        let counters = [
            (Metric::GpuNvlinkReplays, ErrorCounter::DlReplay),
            (Metric::GpuNvlinkRecoveries, ErrorCounter::DlRecovery),
            (Metric::GpuNvlinkCrcErrors, ErrorCounter::DlCrcFlit),
        ];
        for (metric, counter) in counters {
            let errors = reader.ask("nvmlDeviceGetNvLinkErrorCounter", || link.error_counter(counter));
            numbers.part(metric, &part, errors.map(float));
        }
    }
}

/// The states of the links that the GPU has: the first number that it does not know ends them.
pub(super) fn nvlink_states(
    reader: &Reader<'_>,
    device: &Device<'_>,
) -> impl Iterator<Item = (u32, Result<bool, UnknownReason>)> {
    (0..MOST_LINKS)
        .map(|number| {
            let link = device.link_wrapper_for(number);
            (number, reader.ask("nvmlDeviceGetNvLinkState", || link.is_active()))
        })
        .take_while(|(_, state)| {
            !matches!(state, Err(UnknownReason::NotSupported | UnknownReason::Unresponsive))
        })
}

type Holders = Result<Vec<Holder>, UnknownReason>;

fn processes(reader: &Reader<'_>, device: &Device<'_>, uuid: &Text) -> Holders {
    let compute =
        reader.ask("nvmlDeviceGetComputeRunningProcesses_v3", || device.running_compute_processes());
    let graphics =
        reader.ask("nvmlDeviceGetGraphicsRunningProcesses_v3", || device.running_graphics_processes());
    let held = |compute: bool| {
        move |process: ProcessInfo| Holder {
            gpu_uuid: uuid.clone(),
            pid: process.pid,
            memory_bytes: match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            },
            compute,
        }
    };
    merge(
        compute.map(|list| list.into_iter().map(held(true)).collect()),
        graphics.map(|list| list.into_iter().map(held(false)).collect()),
    )
}

/// What one source knows is known.
fn merge(first: Holders, second: Holders) -> Holders {
    match (first, second) {
        (Ok(mut first), Ok(second)) => {
            first.extend(second);
            Ok(first)
        }
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(reason), Err(_)) => Err(reason),
    }
}

fn percent(value: u32) -> f64 {
    f64::from(value) / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "counts over 2^53 are rounded")]
fn number(value: &SampleValue) -> f64 {
    match value {
        SampleValue::F64(number) => *number,
        SampleValue::U32(number) => f64::from(*number),
        SampleValue::U64(number) => float(*number),
        SampleValue::I64(number) => *number as f64,
    }
}
