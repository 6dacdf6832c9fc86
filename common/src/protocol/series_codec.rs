//! Turns readings into the small differences of a [`GaugeReport`] and back. Pure: both sides hold the same state.
//!
//! **Every session starts from zeros.** At the start of each session, and whenever a [`SeriesTable`] is sent in between,
//! the agent takes a new [`SeriesEncoder`] and the coordinator calls [`SeriesDecoder::reset`] (or makes a new decoder from
//! the new table). This holds also where the coordinator already has the table (`Welcome::series_wanted` is false): the
//! table is kept, the values are not.

use std::collections::HashSet;
use std::sync::Arc;

use super::samples::{Change, GaugeReport, MAX_SERIES, SeriesChange, SeriesEntry, SeriesKey, SeriesTable};
use crate::inventory::UnknownReason;
use crate::metric::{Metric, MetricKind};
use crate::wire::BoundedVec;

/// Largest magnitude of a reading in steps: the difference of any two readings fits into an `i64`.
pub const MAX_STEPS: i64 = (1 << 62) - 1;

/// What one series says about one interval, in steps: whole multiples of the metric's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// A gauge over the interval.
    Gauge {
        /// The smallest sample.
        min: i64,
        /// The mean of the samples.
        average: i64,
        /// The largest sample.
        max: i64,
    },
    /// A counter at the interval's end.
    Counter(i64),
    /// The value is not known, and why.
    Unknown(UnknownReason),
}

/// A reading in the unit of its metric's name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A gauge over the interval.
    Gauge {
        /// The smallest sample.
        min: f64,
        /// The mean of the samples.
        average: f64,
        /// The largest sample.
        max: f64,
    },
    /// A counter at the interval's end.
    Counter(f64),
    /// The value is not known, and why.
    Unknown(UnknownReason),
}

impl Reading {
    /// Rounds a value to steps; what is not finite, and a negative counter, becomes unknown.
    pub fn of(metric: Metric, value: Value) -> Self {
        let steps = |value: f64| metric.to_steps(value);
        let known = match value {
            Value::Gauge { min, average, max } => match (steps(min), steps(average), steps(max)) {
                (Some(min), Some(average), Some(max)) => Some(Self::Gauge { min, average, max }),
                _ => None,
            },
            Value::Counter(value) => steps(value).filter(|steps| *steps >= 0).map(Self::Counter),
            Value::Unknown(reason) => Some(Self::Unknown(reason)),
        };
        known.unwrap_or(Self::Unknown(UnknownReason::Malformed)).normalized()
    }

    /// The reading in the unit of the metric's name.
    pub fn value(self, metric: Metric) -> Value {
        match self {
            Self::Gauge { min, average, max } => Value::Gauge {
                min: metric.from_steps(min),
                average: metric.from_steps(average),
                max: metric.from_steps(max),
            },
            Self::Counter(steps) => Value::Counter(metric.from_steps(steps)),
            Self::Unknown(reason) => Value::Unknown(reason),
        }
    }

    /// The nearest reading that can travel: within [`MAX_STEPS`], minimum ≤ average ≤ maximum, less than 2³² apart.
    #[must_use]
    pub fn normalized(self) -> Self {
        match self {
            Self::Gauge { min, average, max } => {
                let average = clamp(average);
                let below = spread(average, clamp(min));
                let above = spread(clamp(max), average);
                Self::Gauge { min: average - i64::from(below), average, max: average + i64::from(above) }
            }
            Self::Counter(steps) => Self::Counter(clamp(steps)),
            Self::Unknown(_) => self,
        }
    }
}

impl Metric {
    /// The nearest whole multiple of the resolution, within ±[`MAX_STEPS`]; `None` where the value is not finite.
    #[expect(clippy::cast_possible_truncation, reason = "a float-to-integer cast saturates")]
    pub fn to_steps(self, value: f64) -> Option<i64> {
        value.is_finite().then(|| clamp((value / self.resolution()).round() as i64))
    }

    /// The value of a multiple of the resolution, in the unit of the name.
    #[expect(clippy::cast_precision_loss, reason = "a value over 2^53 steps is rounded like any float")]
    pub fn from_steps(self, steps: i64) -> f64 {
        let resolution = self.resolution();
        // Dividing by the whole inverse gives the shortest decimal (0.3, not 0.30000000000000004).
        if resolution < 1.0 { steps as f64 / (1.0 / resolution).round() } else { steps as f64 * resolution }
    }
}

fn clamp(steps: i64) -> i64 {
    steps.clamp(-MAX_STEPS, MAX_STEPS)
}

/// Both within [`MAX_STEPS`], so that the difference cannot overflow.
fn spread(high: i64, low: i64) -> u32 {
    u32::try_from((high - low).max(0)).unwrap_or(u32::MAX)
}

/// Whether a series has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Never,
    Known,
    Unknown(UnknownReason),
}

/// What both sides remember of a series; 24 bytes, because a coordinator holds hundreds for each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Last known average or count: the base of the next difference, kept while the value is unknown.
    base: i64,
    below: u32,
    above: u32,
    status: Status,
}

impl Slot {
    const ZERO: Self = Self { base: 0, below: 0, above: 0, status: Status::Never };

    /// Takes the reading; gives the change, unless the reading is the former one.
    fn advance(&mut self, reading: Reading) -> Option<Change> {
        let former = *self;
        let change = match reading.normalized() {
            Reading::Gauge { min, average, max } => {
                let (below, above) = (spread(average, min), spread(max, average));
                *self = Self { base: average, below, above, status: Status::Known };
                Change::Gauge { average_delta: average - former.base, below, above }
            }
            Reading::Counter(steps) => {
                *self = Self { base: steps, below: 0, above: 0, status: Status::Known };
                Change::Counter { delta: steps - former.base }
            }
            Reading::Unknown(reason) => {
                self.status = Status::Unknown(reason);
                Change::Unknown(reason)
            }
        };
        (*self != former).then_some(change)
    }

    /// The slot after a peer's change.
    fn changed(self, kind: MetricKind, change: Change) -> Result<Self, Refusal> {
        let base = |delta: i64| {
            let sum = self.base.checked_add(delta).filter(|sum| (-MAX_STEPS..=MAX_STEPS).contains(sum));
            sum.ok_or(Refusal::Overflow)
        };
        match (kind, change) {
            (MetricKind::Gauge, Change::Gauge { average_delta, below, above }) => {
                Ok(Self { base: base(average_delta)?, below, above, status: Status::Known })
            }
            (MetricKind::Counter, Change::Counter { delta }) => {
                Ok(Self { base: base(delta)?, below: 0, above: 0, status: Status::Known })
            }
            (_, Change::Unknown(reason)) => Ok(Self { status: Status::Unknown(reason), ..self }),
            _ => Err(Refusal::Kind),
        }
    }

    fn reading(self, kind: MetricKind) -> Option<Reading> {
        match (self.status, kind) {
            (Status::Never, _) => None,
            (Status::Unknown(reason), _) => Some(Reading::Unknown(reason)),
            (Status::Known, MetricKind::Counter) => Some(Reading::Counter(self.base)),
            (Status::Known, MetricKind::Gauge) => Some(Reading::Gauge {
                min: self.base - i64::from(self.below),
                average: self.base,
                max: self.base + i64::from(self.above),
            }),
        }
    }
}

enum Refusal {
    Kind,
    Overflow,
}

/// The agent's side: readings in, changes out. One for each table and session.
#[derive(Debug, Clone)]
pub struct SeriesEncoder {
    slots: Vec<Slot>,
}

impl SeriesEncoder {
    /// For a table of `len` series, from zeros.
    pub fn new(len: usize) -> Self {
        Self { slots: vec![Slot::ZERO; len.min(MAX_SERIES)] }
    }

    /// The changes against the former call. `readings` are in the table's order and of their metrics' kinds; series that
    /// are missing at the end count as unchanged.
    pub fn encode(&mut self, readings: &[Reading]) -> BoundedVec<SeriesChange, MAX_SERIES> {
        let mut changes = Vec::new();
        let mut skip = 0;
        for (slot, reading) in self.slots.iter_mut().zip(readings) {
            if let Some(change) = slot.advance(*reading) {
                changes.push(SeriesChange { skip, change });
                skip = 0;
            } else {
                skip += 1;
            }
        }
        BoundedVec::truncated(changes).0
    }
}

/// Why a table is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// One series is in it twice.
    #[error("series table names {0:?} twice")]
    Duplicate(Box<SeriesEntry>),
}

/// Why a report is refused; the decoder's state is as before.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApplyError {
    /// It changes a series that the table does not have.
    #[error("report changes series {index} of a table with {len}")]
    BeyondTable {
        /// The index.
        index: usize,
        /// The series in the table.
        len: usize,
    },
    /// It gives a gauge's change to a counter, or the reverse.
    #[error("report gives the wrong kind of change to {}", .metric.name())]
    Kind {
        /// The metric.
        metric: Metric,
    },
    /// A difference leads out of the range of readings.
    #[error("report moves {} out of range", .metric.name())]
    Overflow {
        /// The metric.
        metric: Metric,
    },
}

/// The coordinator's side: reports in, readings out. One for each node.
#[derive(Debug, Clone)]
pub struct SeriesDecoder {
    table: Arc<SeriesTable>,
    slots: Vec<Slot>,
}

impl SeriesDecoder {
    /// For a table, from zeros; refuses a table that names a series twice.
    pub fn new(table: impl Into<Arc<SeriesTable>>) -> Result<Self, TableError> {
        let table = table.into();
        let mut seen = HashSet::with_capacity(table.series.len());
        for entry in &table.series {
            if !seen.insert(entry) {
                return Err(TableError::Duplicate(Box::new(entry.clone())));
            }
        }
        let slots = vec![Slot::ZERO; table.series.len()];
        Ok(Self { table, slots })
    }

    /// Back to zeros and "never reported": to be called at the start of every session that keeps the table.
    pub fn reset(&mut self) {
        self.slots.fill(Slot::ZERO);
    }

    /// The table.
    pub fn table(&self) -> &Arc<SeriesTable> {
        &self.table
    }

    /// Takes a report whole or not at all.
    pub fn apply(&mut self, report: &GaugeReport) -> Result<(), ApplyError> {
        let mut changed = Vec::with_capacity(report.changes.len());
        let mut next = 0;
        for SeriesChange { skip, change } in &report.changes {
            let index = next + usize::from(*skip);
            next = index + 1;
            let (Some(slot), Some(entry)) = (self.slots.get(index), self.table.series.get(index)) else {
                return Err(ApplyError::BeyondTable { index, len: self.slots.len() });
            };
            // Of a metric that this build does not know even the kind is unknown.
            let Some(metric) = entry.known().map(|key| key.metric) else { continue };
            let slot = slot.changed(metric.kind(), *change).map_err(|refusal| match refusal {
                Refusal::Kind => ApplyError::Kind { metric },
                Refusal::Overflow => ApplyError::Overflow { metric },
            })?;
            changed.push((index, slot));
        }
        for (index, slot) in changed {
            if let Some(place) = self.slots.get_mut(index) {
                *place = slot;
            }
        }
        Ok(())
    }

    /// Every known series in the table's order with its last reading; `None` where this session has not reported it yet.
    pub fn readings(&self) -> impl Iterator<Item = (&SeriesKey, Option<Reading>)> {
        let series = self.table.series.iter().zip(&self.slots);
        let known = series.filter_map(|(entry, slot)| Some((entry.known()?, slot)));
        known.map(|(key, slot)| (key, slot.reading(key.metric.kind())))
    }
}

#[cfg(test)]
mod tests;
