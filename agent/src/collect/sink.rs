//! Where collectors put numbers and events.

use aim_common::event::{EventKind, Severity};
use aim_common::inventory::UnknownReason;
use aim_common::metric::Metric;
use aim_common::protocol::SeriesKey;
use aim_common::units::EpochMs;
use aim_common::wire::BoundedString;

/// One number of one moment, in the unit of the metric's name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampleValue {
    /// A gauge.
    Gauge(f64),
    /// A counter.
    Counter(f64),
    /// Not known, and why.
    Unknown(UnknownReason),
}

/// A number with its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which series.
    pub key: SeriesKey,
    /// The number.
    pub value: SampleValue,
}

/// Something that happened; the agent adds boot id and sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// What happened.
    pub kind: EventKind,
    /// How bad it is.
    pub severity: Severity,
    /// When, where the source tells; else the moment of collecting.
    pub occurred: Option<EpochMs>,
    /// What it happened to, or empty.
    pub subject: String,
    /// One line for a person.
    pub message: String,
    /// Details by name.
    pub attributes: Vec<(String, String)>,
}

/// How much a round reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Round {
    /// Within an interval: only what moves between two reports and is cheap (CPU time, memory).
    Within,
    /// At an interval's end: everything.
    #[default]
    Full,
}

/// Takes the samples and events of one round.
#[derive(Debug, Default)]
pub struct SampleSink {
    /// How much this round reads.
    pub round: Round,
    /// The samples in the order given.
    pub samples: Vec<Sample>,
    /// The events in the order given.
    pub events: Vec<EventDraft>,
}

impl SampleSink {
    /// For a round.
    pub fn new(round: Round) -> Self {
        Self { round, ..Self::default() }
    }

    /// A gauge, or why it is not known.
    pub fn gauge_or_reason(&mut self, metric: Metric, instance: &str, value: Result<f64, UnknownReason>) {
        match value {
            Ok(value) => self.gauge(metric, instance, value),
            Err(reason) => self.unknown(metric, instance, reason),
        }
    }

    /// A counter, or why it is not known.
    pub fn counter_or_reason(&mut self, metric: Metric, instance: &str, value: Result<f64, UnknownReason>) {
        match value {
            Ok(value) => self.counter(metric, instance, value),
            Err(reason) => self.unknown(metric, instance, reason),
        }
    }

    /// A gauge; a value that is not finite becomes unknown.
    pub fn gauge(&mut self, metric: Metric, instance: &str, value: f64) {
        let value = if value.is_finite() {
            SampleValue::Gauge(value)
        } else {
            SampleValue::Unknown(UnknownReason::Malformed)
        };
        self.push(metric, instance, value);
    }

    /// A counter; a value that is not finite becomes unknown.
    pub fn counter(&mut self, metric: Metric, instance: &str, value: f64) {
        let value = if value.is_finite() {
            SampleValue::Counter(value)
        } else {
            SampleValue::Unknown(UnknownReason::Malformed)
        };
        self.push(metric, instance, value);
    }

    /// A number that is not known.
    pub fn unknown(&mut self, metric: Metric, instance: &str, reason: UnknownReason) {
        self.push(metric, instance, SampleValue::Unknown(reason));
    }

    /// An event.
    pub fn event(&mut self, event: EventDraft) {
        self.events.push(event);
    }

    fn push(&mut self, metric: Metric, instance: &str, value: SampleValue) {
        let key = SeriesKey { metric, instance: BoundedString::truncated(instance) };
        self.samples.push(Sample { key, value });
    }
}
