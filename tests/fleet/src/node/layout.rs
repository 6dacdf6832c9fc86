//! The series of a node: some 300, as an agent on a machine with 8 GPUs has. One layout serves the whole fleet.

use std::sync::Arc;

use aim_common::metric::Metric;
use aim_common::protocol::{SeriesKey, SeriesTable};
use aim_common::wire::{BoundedString, BoundedVec};

use super::{GPU_MEMORY_MIB, GPUS, MEMORY_KIB, Node};

/// Whose value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The node's.
    Node,
    /// A thing with the same name on every node.
    Named(&'static str),
    /// A GPU's.
    Gpu(u32),
}

/// How a value moves. Numbers are steps of the metric's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// It stays.
    Constant(i64),
    /// It wanders between two bounds.
    Walk(i64, i64),
    /// It stays low while no job runs, and wanders near the second while one does.
    Busy(i64, i64),
    /// A counter with so many thousandths of a step a second.
    Counter(i64),
    /// Seconds since boot.
    Uptime,
}

/// One series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Series {
    pub(super) metric: Metric,
    pub(super) place: Place,
    pub(super) shape: Shape,
}

/// The series, and a table of their shape that stands for every node's own.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(super) series: Vec<Series>,
    /// Shared by all nodes, so that nobody keeps a table; GPUs have placeholders in it.
    pub(crate) shape: Arc<SeriesTable>,
}

impl Layout {
    /// The one layout.
    pub(crate) fn new() -> Self {
        let mut series = host();
        for gpu in 0..GPUS {
            series.extend(GPU.iter().map(|(metric, shape)| Series {
                metric: *metric,
                place: Place::Gpu(gpu),
                shape: *shape,
            }));
        }
        let shape = Arc::new(table(&series, |gpu| format!("GPU-{gpu}")));
        Self { series, shape }
    }

    /// The node's own table, with its GPUs' UUIDs: what travels and what Hello's hash is of.
    pub(crate) fn table_of(&self, node: &Node) -> SeriesTable {
        table(&self.series, |gpu| node.gpu_uuid(gpu))
    }
}

fn table(series: &[Series], uuid: impl Fn(u32) -> String) -> SeriesTable {
    let key = |series: &Series| {
        let instance = match series.place {
            Place::Node => BoundedString::default(),
            Place::Named(name) => name.into(),
            Place::Gpu(gpu) => BoundedString::truncated(&uuid(gpu)),
        };
        SeriesKey { metric: series.metric, instance }
    };
    SeriesTable { series: BoundedVec::truncated(series.iter().map(|series| key(series).into()).collect()).0 }
}

fn host() -> Vec<Series> {
    let mut series = Vec::new();
    let mut add = |place: Place, rows: &[(Metric, Shape)]| {
        series.extend(rows.iter().map(|(metric, shape)| Series { metric: *metric, place, shape: *shape }));
    };
    add(Place::Node, NODE);
    for disk in ["nvme0n1", "nvme1n1"] {
        add(Place::Named(disk), DISK);
    }
    for mount in ["/", "/scratch"] {
        add(Place::Named(mount), FILESYSTEM);
    }
    for interface in ["eno1", "ib0"] {
        add(Place::Named(interface), NETWORK);
    }
    for port in ["mlx5_0/1", "mlx5_1/1"] {
        add(Place::Named(port), INFINIBAND);
    }
    series
}

const NODE: &[(Metric, Shape)] = &[
    (Metric::CpuUtilization, Shape::Walk(20, 900)),
    (Metric::CpuIowait, Shape::Walk(0, 30)),
    (Metric::CpuSteal, Shape::Constant(0)),
    (Metric::Load1, Shape::Walk(100, 12_800)),
    (Metric::Load5, Shape::Walk(100, 12_800)),
    (Metric::Load15, Shape::Walk(100, 12_800)),
    (Metric::ProcessesRunning, Shape::Walk(1, 128)),
    (Metric::ProcessesBlocked, Shape::Constant(0)),
    (Metric::ContextSwitches, Shape::Counter(40_000_000)),
    (Metric::CpuFrequency, Shape::Walk(2_000, 3_800)),
    (Metric::CpuUserSeconds, Shape::Counter(4_000_000)),
    (Metric::CpuSystemSeconds, Shape::Counter(400_000)),
    (Metric::CpuPressure, Shape::Counter(2_000_000)),
    (Metric::Uptime, Shape::Uptime),
    (Metric::MemoryTotal, Shape::Constant(MEMORY_KIB)),
    (Metric::MemoryAvailable, Shape::Walk(MEMORY_KIB / 4, MEMORY_KIB)),
    (Metric::MemoryFree, Shape::Walk(MEMORY_KIB / 8, MEMORY_KIB / 2)),
    (Metric::MemoryCached, Shape::Walk(MEMORY_KIB / 16, MEMORY_KIB / 4)),
    (Metric::MemoryDirty, Shape::Walk(0, 100_000)),
    (Metric::MemorySlab, Shape::Constant(8_000_000)),
    (Metric::SwapTotal, Shape::Constant(0)),
    (Metric::SwapFree, Shape::Constant(0)),
    (Metric::OomKills, Shape::Constant(0)),
    (Metric::MemoryUsed, Shape::Walk(MEMORY_KIB / 16, MEMORY_KIB / 2)),
    (Metric::MemoryPressureSome, Shape::Counter(0)),
    (Metric::IoPressureSome, Shape::Counter(1_000_000)),
    (Metric::AgentCpuSeconds, Shape::Counter(2_000)),
    (Metric::AgentResidentMemory, Shape::Constant(9_800)),
    (Metric::AgentSpoolRecords, Shape::Constant(0)),
];

const DISK: &[(Metric, Shape)] = &[
    (Metric::DiskReadBytes, Shape::Counter(200_000_000)),
    (Metric::DiskWrittenBytes, Shape::Counter(90_000_000)),
    (Metric::DiskReads, Shape::Counter(800_000)),
    (Metric::DiskWrites, Shape::Counter(300_000)),
    (Metric::DiskIoTime, Shape::Counter(120_000)),
    (Metric::DiskIoInProgress, Shape::Walk(0, 4)),
];

const FILESYSTEM: &[(Metric, Shape)] = &[
    (Metric::FilesystemSize, Shape::Constant(1_800_000_000)),
    (Metric::FilesystemFree, Shape::Walk(900_000_000, 1_000_000_000)),
    (Metric::FilesystemAvailable, Shape::Walk(800_000_000, 900_000_000)),
    (Metric::FilesystemFiles, Shape::Constant(120_000_000)),
    (Metric::FilesystemFilesFree, Shape::Walk(110_000_000, 110_010_000)),
];

const NETWORK: &[(Metric, Shape)] = &[
    (Metric::NetworkReceiveBytes, Shape::Counter(90_000_000_000)),
    (Metric::NetworkTransmitBytes, Shape::Counter(70_000_000_000)),
    (Metric::NetworkReceivePackets, Shape::Counter(60_000_000)),
    (Metric::NetworkTransmitPackets, Shape::Counter(50_000_000)),
    (Metric::NetworkReceiveErrors, Shape::Constant(0)),
    (Metric::NetworkTransmitErrors, Shape::Constant(0)),
    (Metric::NetworkReceiveDrops, Shape::Counter(20)),
    (Metric::NetworkCarrierChanges, Shape::Constant(2)),
];

const INFINIBAND: &[(Metric, Shape)] = &[
    (Metric::InfinibandReceiveBytes, Shape::Counter(4_000_000_000_000)),
    (Metric::InfinibandTransmitBytes, Shape::Counter(4_000_000_000_000)),
    (Metric::InfinibandReceivePackets, Shape::Counter(2_000_000_000)),
    (Metric::InfinibandTransmitPackets, Shape::Counter(2_000_000_000)),
    (Metric::InfinibandSymbolErrors, Shape::Constant(0)),
    (Metric::InfinibandLinkDowned, Shape::Constant(1)),
    (Metric::InfinibandTransmitWait, Shape::Counter(30_000)),
];

const GPU: &[(Metric, Shape)] = &[
    (Metric::GpuUtilization, Shape::Busy(0, 100)),
    (Metric::GpuMemoryUtilization, Shape::Busy(0, 70)),
    (Metric::GpuMemoryUsed, Shape::Busy(4, GPU_MEMORY_MIB - 4_000)),
    (Metric::GpuMemoryFree, Shape::Walk(1_000, 4_000)),
    (Metric::GpuTemperature, Shape::Busy(31, 72)),
    (Metric::GpuMemoryTemperature, Shape::Busy(38, 86)),
    (Metric::GpuPower, Shape::Busy(720, 6_900)),
    (Metric::GpuPowerLimit, Shape::Constant(7_000)),
    (Metric::GpuEnergy, Shape::Counter(400_000_000)),
    (Metric::GpuSmClock, Shape::Busy(345, 1_980)),
    (Metric::GpuMemoryClock, Shape::Constant(2_619)),
    (Metric::GpuThrottleReasons, Shape::Constant(0)),
    (Metric::GpuEccCorrectedVolatile, Shape::Constant(0)),
    (Metric::GpuEccUncorrectedVolatile, Shape::Constant(0)),
    (Metric::GpuEccCorrectedAggregate, Shape::Constant(3)),
    (Metric::GpuEccUncorrectedAggregate, Shape::Constant(0)),
    (Metric::GpuRemappedRowsCorrectable, Shape::Constant(0)),
    (Metric::GpuRemappedRowsUncorrectable, Shape::Constant(0)),
    (Metric::GpuRowRemapPending, Shape::Constant(0)),
    (Metric::GpuRowRemapFailed, Shape::Constant(0)),
    (Metric::GpuPcieGeneration, Shape::Constant(5)),
    (Metric::GpuPcieWidth, Shape::Constant(16)),
    (Metric::GpuPcieReplays, Shape::Constant(0)),
    (Metric::GpuProcesses, Shape::Busy(0, 1)),
    (Metric::GpuPcieTransmitBytes, Shape::Busy(20, 12_000_000)),
    (Metric::GpuPcieReceiveBytes, Shape::Busy(20, 12_000_000)),
];

#[cfg(test)]
mod tests {
    use aim_common::protocol::SeriesDecoder;

    use super::*;

    #[test]
    fn a_node_has_about_300_series_none_twice_and_its_own_gpus() {
        let layout = Layout::new();
        assert!((280..=320).contains(&layout.series.len()), "{} series", layout.series.len());
        let node = |name: &str| Node::new(name.parse().unwrap(), 1);
        let (one, other) = (layout.table_of(&node("n1")), layout.table_of(&node("n2")));
        assert_ne!(one.sha256(), other.sha256());
        assert_eq!(one.series.len(), layout.shape.series.len());
        SeriesDecoder::new(one).unwrap();
    }
}
