//! Gauges and counters: a table that names the series once, then small differences from report to report.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Kind;
use crate::identity::Sha256Digest;
use crate::inventory::UnknownReason;
use crate::metric::Metric;
use crate::units::EpochMs;
use crate::wire::{BoundedString, BoundedVec, Message, encode_section};

/// Most series of one node (DOS-04).
pub const MAX_SERIES: usize = 4096;

/// What one number of a report means: a metric of one instance (`sda`, `eth0`, `mlx5_0/1`, a GPU's UUID, or empty).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The metric.
    pub metric: Metric,
    /// Of which instance; empty where the node has only one.
    pub instance: BoundedString<128>,
}

/// One place of a table: a series, or one whose metric this build does not know and passes over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SeriesEntry {
    /// A series.
    Known(SeriesKey),
    /// A newer peer's series: its changes are read and left out.
    Unknown {
        /// The metric's number.
        number: u16,
        /// Of which instance.
        instance: BoundedString<128>,
    },
}

impl SeriesEntry {
    /// The series, if this build knows its metric.
    pub const fn known(&self) -> Option<&SeriesKey> {
        match self {
            Self::Known(key) => Some(key),
            Self::Unknown { .. } => None,
        }
    }
}

impl From<SeriesKey> for SeriesEntry {
    fn from(key: SeriesKey) -> Self {
        Self::Known(key)
    }
}

/// What stands on the wire of either sort.
#[derive(Serialize, Deserialize)]
struct NumberedKey {
    metric: u16,
    instance: BoundedString<128>,
}

impl Serialize for SeriesEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(key) => key.serialize(serializer),
            Self::Unknown { number, instance } => {
                NumberedKey { metric: *number, instance: instance.clone() }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for SeriesEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return SeriesKey::deserialize(deserializer).map(Self::Known);
        }
        let NumberedKey { metric: number, instance } = NumberedKey::deserialize(deserializer)?;
        Ok(match Metric::from_number(number) {
            Some(metric) => Self::Known(SeriesKey { metric, instance }),
            None => Self::Unknown { number, instance },
        })
    }
}

/// The series of the reports that follow, by index. It resets every series' former value to 0, as does the start of
/// every session, whether the table is sent again or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeriesTable {
    /// The series; a report names them by their place here.
    pub series: BoundedVec<SeriesEntry, MAX_SERIES>,
}

impl SeriesTable {
    /// The series that this build knows, in the table's order.
    pub fn known(&self) -> impl Iterator<Item = &SeriesKey> {
        self.series.iter().filter_map(SeriesEntry::known)
    }

    /// How many series are passed over, because a newer peer named them.
    pub fn skipped(&self) -> usize {
        self.series.iter().filter(|entry| entry.known().is_none()).count()
    }

    /// The hash that Hello carries.
    pub fn sha256(&self) -> Sha256Digest {
        // Encoding a bounded table cannot fail; an empty hash would only cost one resend.
        Sha256Digest::of(&encode_section(Kind::SeriesTable, self).unwrap_or_default())
    }
}

/// How one series changed since the last report of this session (since 0 in the first one).
///
/// Numbers are whole multiples of the metric's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A gauge over the interval.
    Gauge {
        /// Difference of the average to the former average.
        average_delta: i64,
        /// How far the minimum lies below the average.
        below: u32,
        /// How far the maximum lies above the average.
        above: u32,
    },
    /// A counter: difference to the former value; negative where it was reset.
    Counter {
        /// The difference.
        delta: i64,
    },
    /// The value is not known, and why. The former value is kept as base of the next difference.
    Unknown(UnknownReason),
}

/// One changed series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesChange {
    /// Series passed over since the former entry (or the table's start): those are unchanged.
    pub skip: u16,
    /// The change.
    pub change: Change,
}

/// The values of one interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaugeReport {
    /// End of the interval by the node's clock.
    pub end: EpochMs,
    /// Length of the interval in milliseconds.
    pub interval_ms: u32,
    /// The report waited for a connection; it is history and not the present.
    pub late: bool,
    /// Reports that were dropped before this one for want of room.
    pub dropped_before: u32,
    /// The changed series in the table's order.
    pub changes: BoundedVec<SeriesChange, MAX_SERIES>,
}

/// How much of what the agent sends gets lost, by its own count; sent with a report while it loses, and once after.
///
/// The coordinator sends too little itself to know, and presence is judged by the packets that reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathLoss {
    /// Packets lost of a thousand sent of late.
    pub lost_permille: u16,
}

/// One degraded mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Its name, lower case with underscores (`gpu_probe_unresponsive`).
    pub name: BoundedString<64>,
    /// What is affected (`GPU-…`, `/mnt/home`), or empty.
    pub subject: BoundedString<256>,
    /// Since when.
    pub since: EpochMs,
    /// One line for a person: what is wrong and what to do.
    pub detail: BoundedString<512>,
}

/// All degraded modes the agent is in at this moment; replaces the former list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeConditions {
    /// The list, empty when all is well.
    pub conditions: BoundedVec<Condition, 64>,
}

/// One process with a context on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// The GPU's or MIG instance's UUID.
    pub gpu_uuid: BoundedString<96>,
    /// Process id in the host's namespace.
    pub pid: u32,
    /// Its start time in clock ticks after boot; with the pid it names the process for ever.
    pub start_ticks: u64,
    /// User id; unknown where the process is gone already.
    pub uid: Option<u32>,
    /// Its name (`/proc/PID/comm`).
    pub name: BoundedString<64>,
    /// Frame buffer it holds, in bytes.
    pub memory_bytes: Option<u64>,
    /// It computes (true) or draws (false).
    pub compute: bool,
}

/// All processes with a context on a GPU; replaces the former list. Sent when it changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GpuProcesses {
    /// The processes, ordered by GPU and pid.
    pub processes: BoundedVec<GpuProcess, 1024>,
    /// Processes left out for want of room.
    pub left_out: u32,
}

impl Message for GpuProcesses {
    const KIND: Kind = Kind::GpuProcesses;
}
impl Message for SeriesTable {
    const KIND: Kind = Kind::SeriesTable;
}
impl Message for GaugeReport {
    const KIND: Kind = Kind::GaugeReport;
}
impl Message for PathLoss {
    const KIND: Kind = Kind::PathLoss;
}
impl Message for NodeConditions {
    const KIND: Kind = Kind::NodeConditions;
}
