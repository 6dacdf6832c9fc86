//! The registry of metrics: a fixed number, a name with its unit, a kind and a resolution each.
//!
//! Names follow the Prometheus rules (base units, `_total` for counters). Values travel as whole multiples of the
//! resolution.
//!
//! A series of a number that the coordinator does not know is passed over and counted, so that a newer agent reports what
//! both know.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What sort of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Goes up and down; reported as minimum, average and maximum of the interval.
    Gauge,
    /// Only rises until it is reset; reported as it stood at the interval's end.
    Counter,
}

macro_rules! metrics {
    ($($number:literal $name:ident $text:literal $kind:ident $resolution:literal $instance:literal $help:literal;)*) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Metric {
            $(#[doc = $help] $name = $number,)*
        }

        impl Metric {
            /// Every metric, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number on the wire; never reused.
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The metric with this number, if this build knows it.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The name in the API, with its unit.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The metric with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }

            /// Gauge or counter.
            pub const fn kind(self) -> MetricKind {
                match self { $(Self::$name => MetricKind::$kind,)* }
            }

            /// The step that values are rounded to and sent as multiples of, in the unit of the name.
            pub const fn resolution(self) -> f64 {
                match self { $(Self::$name => $resolution,)* }
            }

            /// What the instance of a series names; empty where there is only one.
            pub const fn instance_meaning(self) -> &'static str {
                match self { $(Self::$name => $instance,)* }
            }

            /// One line of help.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

metrics! {
    1 CpuUtilization "cpu_utilization_ratio" Gauge 0.001 "" "Share of all CPU time that was not idle or waiting for IO.";
    2 CpuIowait "cpu_iowait_ratio" Gauge 0.001 "" "Share of all CPU time idle with IO outstanding.";
    3 CpuSteal "cpu_steal_ratio" Gauge 0.001 "" "Share of all CPU time taken by the hypervisor.";
    4 Load1 "load1" Gauge 0.01 "" "Load average over 1 minute.";
    5 Load5 "load5" Gauge 0.01 "" "Load average over 5 minutes.";
    6 Load15 "load15" Gauge 0.01 "" "Load average over 15 minutes.";
    7 ProcessesRunning "processes_running" Gauge 1.0 "" "Processes that run or are ready to.";
    8 ProcessesBlocked "processes_blocked" Gauge 1.0 "" "Processes that wait for IO.";
    9 ContextSwitches "context_switches_total" Counter 1.0 "" "Context switches since boot.";
    10 CpuFrequency "cpu_frequency_hertz" Gauge 1_000_000.0 "" "Mean current frequency of the online CPUs.";
    11 CpuUserSeconds "cpu_user_seconds_total" Counter 0.01 "" "CPU time in user mode, all CPUs.";
    12 CpuSystemSeconds "cpu_system_seconds_total" Counter 0.01 "" "CPU time in the kernel, all CPUs.";
    13 CpuPressure "cpu_pressure_some_seconds_total" Counter 0.000_001 "" "Time in which some task waited for a CPU (PSI).";
    14 Uptime "uptime_seconds" Gauge 1.0 "" "Seconds since boot.";

    32 MemoryTotal "memory_total_bytes" Gauge 1024.0 "" "MemTotal.";
    33 MemoryAvailable "memory_available_bytes" Gauge 1024.0 "" "MemAvailable.";
    34 MemoryFree "memory_free_bytes" Gauge 1024.0 "" "MemFree.";
    35 MemoryCached "memory_cached_bytes" Gauge 1024.0 "" "Cached.";
    36 MemoryDirty "memory_dirty_bytes" Gauge 1024.0 "" "Dirty.";
    37 MemorySlab "memory_slab_bytes" Gauge 1024.0 "" "Slab.";
    38 SwapTotal "swap_total_bytes" Gauge 1024.0 "" "SwapTotal.";
    39 SwapFree "swap_free_bytes" Gauge 1024.0 "" "SwapFree.";
    40 HugepagesTotal "hugepages_total" Gauge 1.0 "page size in KiB" "Huge pages in the pool.";
    41 HugepagesFree "hugepages_free" Gauge 1.0 "page size in KiB" "Huge pages not in use.";
    42 MemoryPressureSome "memory_pressure_some_seconds_total" Counter 0.000_001 "" "Time in which some task waited for memory (PSI).";
    43 MemoryPressureFull "memory_pressure_full_seconds_total" Counter 0.000_001 "" "Time in which all tasks waited for memory (PSI).";
    44 IoPressureSome "io_pressure_some_seconds_total" Counter 0.000_001 "" "Time in which some task waited for IO (PSI).";
    45 IoPressureFull "io_pressure_full_seconds_total" Counter 0.000_001 "" "Time in which all tasks waited for IO (PSI).";
    46 OomKills "oom_kills_total" Counter 1.0 "" "Processes killed for want of memory.";
    47 MemoryCorrectableErrors "memory_correctable_errors_total" Counter 1.0 "EDAC controller" "Memory errors that ECC corrected.";
    48 MemoryUncorrectableErrors "memory_uncorrectable_errors_total" Counter 1.0 "EDAC controller" "Memory errors that ECC could not correct.";
    49 MemoryUsed "memory_used_bytes" Gauge 1024.0 "" "MemTotal less MemAvailable.";

    64 DiskReadBytes "disk_read_bytes_total" Counter 512.0 "disk" "Bytes read.";
    65 DiskWrittenBytes "disk_written_bytes_total" Counter 512.0 "disk" "Bytes written.";
    66 DiskReads "disk_reads_completed_total" Counter 1.0 "disk" "Reads completed.";
    67 DiskWrites "disk_writes_completed_total" Counter 1.0 "disk" "Writes completed.";
    68 DiskIoTime "disk_io_time_seconds_total" Counter 0.001 "disk" "Time with at least one request outstanding.";
    69 DiskReadTime "disk_read_time_seconds_total" Counter 0.001 "disk" "Time that reads took, summed.";
    70 DiskWriteTime "disk_write_time_seconds_total" Counter 0.001 "disk" "Time that writes took, summed.";
    71 DiskIoInProgress "disk_io_now" Gauge 1.0 "disk" "Requests outstanding.";

    80 FilesystemSize "filesystem_size_bytes" Gauge 1024.0 "mount point" "Size.";
    81 FilesystemFree "filesystem_free_bytes" Gauge 1024.0 "mount point" "Free, with what is reserved for root.";
    82 FilesystemAvailable "filesystem_avail_bytes" Gauge 1024.0 "mount point" "Free for ordinary users.";
    83 FilesystemFiles "filesystem_files" Gauge 1.0 "mount point" "Inodes.";
    84 FilesystemFilesFree "filesystem_files_free" Gauge 1.0 "mount point" "Inodes free.";

    96 NetworkReceiveBytes "network_receive_bytes_total" Counter 1.0 "interface" "Bytes received.";
    97 NetworkTransmitBytes "network_transmit_bytes_total" Counter 1.0 "interface" "Bytes sent.";
    98 NetworkReceivePackets "network_receive_packets_total" Counter 1.0 "interface" "Packets received.";
    99 NetworkTransmitPackets "network_transmit_packets_total" Counter 1.0 "interface" "Packets sent.";
    100 NetworkReceiveErrors "network_receive_errs_total" Counter 1.0 "interface" "Receive errors.";
    101 NetworkTransmitErrors "network_transmit_errs_total" Counter 1.0 "interface" "Transmit errors.";
    102 NetworkReceiveDrops "network_receive_drop_total" Counter 1.0 "interface" "Packets dropped on receipt, with those missed for want of buffers.";
    103 NetworkTransmitDrops "network_transmit_drop_total" Counter 1.0 "interface" "Packets dropped before sending.";
    104 NetworkCarrierChanges "network_carrier_changes_total" Counter 1.0 "interface" "Times the link went up or down.";

    128 InfinibandReceiveBytes "infiniband_port_data_received_bytes_total" Counter 4.0 "device/port" "Data octets received.";
    129 InfinibandTransmitBytes "infiniband_port_data_transmitted_bytes_total" Counter 4.0 "device/port" "Data octets sent.";
    130 InfinibandReceivePackets "infiniband_port_packets_received_total" Counter 1.0 "device/port" "Packets received.";
    131 InfinibandTransmitPackets "infiniband_port_packets_transmitted_total" Counter 1.0 "device/port" "Packets sent.";
    132 InfinibandSymbolErrors "infiniband_symbol_error_total" Counter 1.0 "device/port" "Minor link errors on one or more lanes.";
    133 InfinibandLinkDowned "infiniband_link_downed_total" Counter 1.0 "device/port" "Times the link failed to recover and went down.";
    134 InfinibandLinkRecovery "infiniband_link_error_recovery_total" Counter 1.0 "device/port" "Times the link recovered from an error.";
    135 InfinibandReceiveErrors "infiniband_port_rcv_errors_total" Counter 1.0 "device/port" "Packets received with an error.";
    136 InfinibandTransmitDiscards "infiniband_port_xmit_discards_total" Counter 1.0 "device/port" "Packets discarded before sending.";
    137 InfinibandTransmitWait "infiniband_port_xmit_wait_total" Counter 1.0 "device/port" "Ticks in which data waited for credits.";
    138 InfinibandLocalIntegrityErrors "infiniband_local_link_integrity_errors_total" Counter 1.0 "device/port" "Times the local error threshold was passed.";
    139 InfinibandBufferOverruns "infiniband_excessive_buffer_overrun_errors_total" Counter 1.0 "device/port" "Buffer overruns over the threshold.";
    140 InfinibandOutOfSequence "infiniband_out_of_sequence_total" Counter 1.0 "device/port" "RoCE: packets out of sequence.";
    141 InfinibandPacketSequenceErrors "infiniband_packet_seq_err_total" Counter 1.0 "device/port" "RoCE: NAK sequence errors received.";
    142 InfinibandTimeouts "infiniband_local_ack_timeout_err_total" Counter 1.0 "device/port" "RoCE: acknowledgement time-outs.";
    143 InfinibandReceiveRemotePhysicalErrors "infiniband_port_rcv_remote_physical_errors_total" Counter 1.0 "device/port" "Packets marked bad by the far end.";
    144 InfinibandReceiveSwitchRelayErrors "infiniband_port_rcv_switch_relay_errors_total" Counter 1.0 "device/port" "Packets a switch could not forward.";
    145 InfinibandConstraintErrors "infiniband_port_constraint_errors_total" Counter 1.0 "device/port" "Packets refused by partition or raw filters, both ways.";
    146 InfinibandVl15Dropped "infiniband_vl15_dropped_total" Counter 1.0 "device/port" "Management packets dropped.";

    160 Temperature "temperature_celsius" Gauge 0.1 "sensor" "Temperature of a sensor.";
    161 FanSpeed "fan_speed_rpm" Gauge 1.0 "fan" "Speed of a fan.";
    162 SensorPower "sensor_power_watts" Gauge 0.1 "sensor" "Power of a sensor.";

    192 GpuUtilization "gpu_utilization_ratio" Gauge 0.01 "GPU UUID" "Share of time with a kernel running.";
    193 GpuMemoryUtilization "gpu_memory_utilization_ratio" Gauge 0.01 "GPU UUID" "Share of time with memory read or written.";
    194 GpuMemoryUsed "gpu_memory_used_bytes" Gauge 1_048_576.0 "GPU UUID" "Frame buffer in use.";
    195 GpuMemoryFree "gpu_memory_free_bytes" Gauge 1_048_576.0 "GPU UUID" "Frame buffer free.";
    196 GpuTemperature "gpu_temperature_celsius" Gauge 1.0 "GPU UUID" "Temperature of the die.";
    197 GpuMemoryTemperature "gpu_memory_temperature_celsius" Gauge 1.0 "GPU UUID" "Temperature of the memory.";
    198 GpuPower "gpu_power_watts" Gauge 0.1 "GPU UUID" "Power drawn.";
    199 GpuPowerLimit "gpu_power_limit_watts" Gauge 0.1 "GPU UUID" "Power cap in force.";
    200 GpuEnergy "gpu_energy_joules_total" Counter 0.001 "GPU UUID" "Energy since the driver was loaded.";
    201 GpuSmClock "gpu_sm_clock_hertz" Gauge 1_000_000.0 "GPU UUID" "Clock of the multiprocessors.";
    202 GpuMemoryClock "gpu_memory_clock_hertz" Gauge 1_000_000.0 "GPU UUID" "Clock of the memory.";
    203 GpuThrottleReasons "gpu_throttle_reasons_bitmask" Gauge 1.0 "GPU UUID" "NVML's current clocks event reasons, as its bit mask.";
    204 GpuEccCorrectedVolatile "gpu_ecc_corrected_volatile_total" Counter 1.0 "GPU UUID" "ECC errors corrected since the driver was loaded.";
    205 GpuEccUncorrectedVolatile "gpu_ecc_uncorrected_volatile_total" Counter 1.0 "GPU UUID" "ECC errors not corrected since the driver was loaded.";
    206 GpuEccCorrectedAggregate "gpu_ecc_corrected_aggregate_total" Counter 1.0 "GPU UUID" "ECC errors corrected in the card's life.";
    207 GpuEccUncorrectedAggregate "gpu_ecc_uncorrected_aggregate_total" Counter 1.0 "GPU UUID" "ECC errors not corrected in the card's life.";
    208 GpuRemappedRowsCorrectable "gpu_remapped_rows_correctable" Gauge 1.0 "GPU UUID" "Rows remapped after correctable errors.";
    209 GpuRemappedRowsUncorrectable "gpu_remapped_rows_uncorrectable" Gauge 1.0 "GPU UUID" "Rows remapped after uncorrectable errors.";
    210 GpuRowRemapPending "gpu_row_remap_pending" Gauge 1.0 "GPU UUID" "1 where a remapping waits for a reset.";
    211 GpuRowRemapFailed "gpu_row_remap_failed" Gauge 1.0 "GPU UUID" "1 where a remapping failed.";
    212 GpuRetiredPagesSingleBit "gpu_retired_pages_single_bit" Gauge 1.0 "GPU UUID" "Pages retired after repeated single-bit errors.";
    213 GpuRetiredPagesDoubleBit "gpu_retired_pages_double_bit" Gauge 1.0 "GPU UUID" "Pages retired after a double-bit error.";
    214 GpuPcieGeneration "gpu_pcie_link_generation" Gauge 1.0 "GPU UUID" "PCIe generation now.";
    215 GpuPcieWidth "gpu_pcie_link_width" Gauge 1.0 "GPU UUID" "PCIe lanes now.";
    216 GpuPcieReplays "gpu_pcie_replay_total" Counter 1.0 "GPU UUID" "PCIe replays.";
    217 GpuNvlinkActive "gpu_nvlink_active" Gauge 1.0 "GPU UUID/link" "1 where the NVLink is active.";
    218 GpuNvlinkCrcErrors "gpu_nvlink_crc_flit_errors_total" Counter 1.0 "GPU UUID/link" "NVLink CRC errors in flow control units.";
    219 GpuNvlinkReplays "gpu_nvlink_replay_errors_total" Counter 1.0 "GPU UUID/link" "NVLink replays.";
    220 GpuNvlinkRecoveries "gpu_nvlink_recovery_errors_total" Counter 1.0 "GPU UUID/link" "NVLink recoveries.";
    221 GpuFanSpeed "gpu_fan_speed_ratio" Gauge 0.01 "GPU UUID" "Fan speed as share of its maximum.";
    222 GpuProcesses "gpu_processes" Gauge 1.0 "GPU UUID" "Processes with a context on the GPU.";
    223 GpuPcieTransmitBytes "gpu_pcie_transmit_bytes_per_second" Gauge 1024.0 "GPU UUID" "PCIe throughput from the GPU.";
    224 GpuPcieReceiveBytes "gpu_pcie_receive_bytes_per_second" Gauge 1024.0 "GPU UUID" "PCIe throughput to the GPU.";
    225 GpuEncoderUtilization "gpu_encoder_utilization_ratio" Gauge 0.01 "GPU UUID" "Share of time the encoder ran.";
    226 GpuDecoderUtilization "gpu_decoder_utilization_ratio" Gauge 0.01 "GPU UUID" "Share of time the decoder ran.";
    227 MigMemoryUsed "gpu_mig_memory_used_bytes" Gauge 1_048_576.0 "MIG UUID" "Frame buffer in use by the MIG instance.";

    256 AgentCpuSeconds "agent_cpu_seconds_total" Counter 0.001 "" "CPU time of the agent, and of its helpers that have ended.";
    257 AgentResidentMemory "agent_resident_memory_bytes" Gauge 1024.0 "" "Resident memory of the agent.";
    258 AgentSpoolRecords "agent_spool_records" Gauge 1.0 "" "Records not acknowledged yet.";
    259 AgentSkippedEntries "agent_skipped_entries_total" Counter 1.0 "collector" "Names, lines and series passed over because they are malformed or too many.";
}

// The number on the wire, the name in JSON.
impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.name())
        } else {
            serializer.serialize_u16(self.number())
        }
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            Self::from_name(&name).ok_or_else(|| D::Error::custom(format!("unknown metric {name:?}")))
        } else {
            let number = u16::deserialize(deserializer)?;
            Self::from_number(number)
                .ok_or_else(|| D::Error::custom(format!("unknown metric number {number}")))
        }
    }
}
