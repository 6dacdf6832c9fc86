//! The newest values of one node: differences in, readings out, current or known to be old.

use std::sync::Arc;

use aim_common::api::nodes::{ReadingView, ValueView};
use aim_common::identity::Sha256Digest;
use aim_common::metric::Metric;
use aim_common::protocol::{ApplyError, Reading, SeriesDecoder, TableError, Value};
use aim_common::protocol::{GaugeReport, SeriesTable};
use aim_common::units::EpochMs;

use super::moment::Moment;

/// A list shows utilisation no longer than this many intervals.
const CURRENT_INTERVALS: u64 = 3;
/// Bounds of a believable interval: the live mode's, and an hour.
const INTERVAL_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;

/// Why a report is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReportError {
    /// No series table came before it.
    #[error("a report came before the series table")]
    NoTable,
    /// It does not fit the table.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The readings of one interval.
#[derive(Debug, Clone)]
struct Interval {
    table: Arc<SeriesTable>,
    readings: Vec<Option<Reading>>,
    at: EpochMs,
    length_ms: u32,
    received: Moment,
}

/// What the list shows of the values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Utilization {
    /// CPU, 0 to 1.
    pub cpu: Option<f64>,
    /// Memory in use in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Mean of the GPUs, 0 to 1.
    pub gpu: Option<f64>,
}

/// The series of one node.
#[derive(Debug, Default)]
pub struct Series {
    decoder: Option<SeriesDecoder>,
    current: Option<Interval>,
    utilization: Utilization,
}

impl Series {
    /// A session begins from zeros; says whether the table is held already.
    pub fn begin_session(&mut self, table_sha256: Sha256Digest) -> bool {
        let Some(decoder) = &mut self.decoder else { return false };
        if decoder.table().sha256() == table_sha256 {
            decoder.reset();
            return true;
        }
        self.decoder = None;
        false
    }

    /// Takes a new table; says how many of its series are passed over, because this coordinator is older.
    pub fn set_table(&mut self, table: SeriesTable) -> Result<usize, TableError> {
        let skipped = table.skipped();
        self.decoder = Some(SeriesDecoder::new(table)?);
        Ok(skipped)
    }

    /// Takes a report. A late one is history: it moves the decoder and leaves the present as it is.
    pub fn apply(&mut self, report: &GaugeReport, received: Moment) -> Result<(), ReportError> {
        let decoder = self.decoder.as_mut().ok_or(ReportError::NoTable)?;
        decoder.apply(report)?;
        if report.late {
            return Ok(());
        }
        let interval = Interval {
            table: Arc::clone(decoder.table()),
            readings: decoder.readings().map(|(_, reading)| reading).collect(),
            at: EpochMs(report.end.0.clamp(0, EpochMs::MAX.0)),
            length_ms: report.interval_ms.clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end()),
            received,
        };
        self.utilization = interval.utilization();
        self.current = Some(interval);
        Ok(())
    }

    /// Every value with its age.
    pub fn values(&self, now: Moment) -> Vec<ValueView> {
        self.current.as_ref().map(|interval| interval.views(now)).unwrap_or_default()
    }

    /// Length of the last interval in milliseconds; 0 before the first report.
    pub fn interval_ms(&self) -> u32 {
        self.current.as_ref().map_or(0, |interval| interval.length_ms)
    }

    /// What the list shows, while it is current.
    pub fn utilization(&self, now: Moment) -> Utilization {
        match &self.current {
            Some(interval)
                if interval.received.age_ms(now) <= CURRENT_INTERVALS * u64::from(interval.length_ms) =>
            {
                self.utilization
            }
            _ => Utilization::default(),
        }
    }
}

impl Interval {
    fn views(&self, now: Moment) -> Vec<ValueView> {
        let age_ms = self.received.age_ms(now);
        self.table
            .known()
            .zip(&self.readings)
            .filter_map(|(key, reading)| {
                let reading = match (*reading)?.value(key.metric) {
                    Value::Gauge { min, average, max } => ReadingView::Gauge { min, avg: average, max },
                    Value::Counter(value) => ReadingView::Counter { value },
                    Value::Unknown(reason) => ReadingView::Unknown { reason },
                };
                Some(ValueView {
                    metric: key.metric,
                    instance: key.instance.to_string(),
                    kind: key.metric.kind(),
                    reading,
                    at: self.at,
                    age_ms,
                })
            })
            .collect()
    }

    /// The averages of one metric, over all its instances.
    fn averages(&self, metric: Metric) -> impl Iterator<Item = f64> {
        self.table.known().zip(&self.readings).filter_map(move |(key, reading)| {
            match (key.metric == metric).then_some((*reading)?)?.value(metric) {
                Value::Gauge { average, .. } => Some(average),
                _ => None,
            }
        })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    #[expect(clippy::cast_precision_loss, reason = "a node has few GPUs")]
    fn utilization(&self) -> Utilization {
        let gpus: Vec<f64> = self.averages(Metric::GpuUtilization).collect();
        Utilization {
            cpu: self.averages(Metric::CpuUtilization).next(),
            memory_used_bytes: self.averages(Metric::MemoryUsed).next().map(|bytes| bytes as u64),
            gpu: (!gpus.is_empty()).then(|| gpus.iter().sum::<f64>() / gpus.len() as f64),
        }
    }
}
