//! What the collectors say, by name.

use std::time::{Duration, Instant};

use aim_agent::collect::{self, CollectorSet, Roots, Round, Sample, SampleSink, SampleValue};
use aim_common::event::EventKind;
use aim_common::inventory::{CollectorState, Section, UnknownReason};
use aim_common::metric::Metric;

/// The collectors with what the last round gave.
pub(crate) struct View {
    pub(crate) set: CollectorSet,
    samples: Vec<Sample>,
    events: Vec<EventKind>,
}

impl View {
    pub(crate) fn new(roots: &Roots) -> Self {
        Self { set: CollectorSet::new(collect::all(roots)), samples: Vec::new(), events: Vec::new() }
    }

    pub(crate) fn round(&mut self, round: Round) -> &mut Self {
        let mut sink = SampleSink::new(round);
        self.set.sample(&mut sink);
        self.samples = sink.samples;
        self.events.extend(sink.events.iter().map(|event| event.kind));
        self
    }

    pub(crate) fn full(&mut self) -> &mut Self {
        self.round(Round::Full)
    }

    /// Full rounds until it is so.
    #[expect(clippy::disallowed_methods, reason = "tests wait with real deadlines")]
    pub(crate) fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self.full()) {
            assert!(start.elapsed() < Duration::from_mins(1), "it is not so after a minute");
        }
    }

    /// Kinds of the events of all rounds.
    pub(crate) fn events(&self) -> &[EventKind] {
        &self.events
    }

    pub(crate) fn sections(&mut self) -> Vec<Section> {
        self.set.inventory(&mut SampleSink::default())
    }

    pub(crate) fn find(&self, metric: Metric, instance: &str) -> Option<SampleValue> {
        let mut found = self
            .samples
            .iter()
            .filter(|sample| sample.key.metric == metric && &*sample.key.instance == instance);
        let value = found.next().map(|sample| sample.value);
        assert!(found.next().is_none(), "{metric:?} {instance:?} was given twice in one round");
        value
    }

    /// A known number.
    #[track_caller]
    pub(crate) fn number(&self, metric: Metric, instance: &str) -> f64 {
        match self.find(metric, instance) {
            Some(SampleValue::Gauge(value) | SampleValue::Counter(value)) => value,
            other => panic!("{metric:?} {instance:?} is {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn reason(&self, metric: Metric, instance: &str) -> UnknownReason {
        match self.find(metric, instance) {
            Some(SampleValue::Unknown(reason)) => reason,
            other => panic!("{metric:?} {instance:?} is {other:?}"),
        }
    }

    pub(crate) fn instances(&self, metric: Metric) -> Vec<String> {
        let of_metric = self.samples.iter().filter(|sample| sample.key.metric == metric);
        of_metric.map(|sample| sample.key.instance.to_string()).collect()
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(crate) fn state(&self, collector: &str) -> CollectorState {
        self.set.states().find(|(name, _)| *name == collector).expect("there is such a collector").1
    }
}

/// The body of one section.
#[macro_export]
macro_rules! section {
    ($view:expr, $variant:ident) => {{
        let sections = $view.sections();
        let found = sections.into_iter().find_map(|section| match section {
            aim_common::inventory::Section::$variant(body) => Some(body),
            _ => None,
        });
        found.expect(concat!("there is a section ", stringify!($variant)))
    }};
}
