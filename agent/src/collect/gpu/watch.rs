//! What happened to the cards: edges between one look and the next. Pure.

use std::collections::BTreeMap;

use aim_common::event::{EventKind, Severity};
use aim_common::inventory::{Fact, Gpu, GpuState, Text};
use aim_common::metric::Metric;

use super::answers::Reading;
use crate::collect::EventDraft;

/// Remembers of each card what an event is made from.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// By the card's key; bounded by the cards that are remembered.
    cards: BTreeMap<Text, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    lost: bool,
    uncorrected: Option<f64>,
    rows: Option<Rows>,
}

/// What a reading says of remapped rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rows {
    correctable: f64,
    uncorrectable: f64,
    pending: bool,
    failed: bool,
}

impl Watch {
    /// Looks at one card; `reading` only where it is a new one.
    pub(super) fn look(&mut self, key: &Text, gpu: &Gpu, reading: Option<&Reading>) -> Vec<EventDraft> {
        let seen = self.cards.entry(key.clone()).or_default();
        let mut events = Vec::new();
        events.extend(seen.bus(gpu));
        if let Some(reading) = reading {
            events.extend(seen.ecc(gpu, reading));
            events.extend(seen.remapping(gpu, reading));
        }
        events
    }
}

impl Seen {
    fn bus(&mut self, gpu: &Gpu) -> Option<EventDraft> {
        let (lost, why) = match &gpu.state {
            GpuState::Lost => {
                (true, "fell off the bus: it needs a reset of the node, and service if it does it again")
            }
            GpuState::ResetRequired => (true, "asks for a reset"),
            GpuState::Working => (false, "answers again"),
            // A hang or a driver that fails has its own event, and says nothing of the card.
            GpuState::Failing(_) => return None,
        };
        if lost == self.lost {
            return None;
        }
        self.lost = lost;
        let (kind, severity) = if lost {
            (EventKind::GpuLost, Severity::Critical)
        } else {
            (EventKind::GpuRecovered, Severity::Info)
        };
        Some(draft(kind, severity, gpu, why, vec![]))
    }

    fn ecc(&mut self, gpu: &Gpu, reading: &Reading) -> Option<EventDraft> {
        let now = number(reading, Metric::GpuEccUncorrectedVolatile)?;
        let before = self.uncorrected.replace(now)?;
        // A smaller count is a new one: the driver was loaded again.
        let more = if now < before { now } else { now - before };
        (more > 0.0).then(|| {
            let attributes = vec![("errors", more.to_string()), ("since_driver_load", now.to_string())];
            draft(
                EventKind::GpuEccUncorrectable,
                Severity::Critical,
                gpu,
                "had uncorrectable memory errors: its processes may have been killed or hold wrong data",
                attributes,
            )
        })
    }

    fn remapping(&mut self, gpu: &Gpu, reading: &Reading) -> Option<EventDraft> {
        let rows = Rows {
            correctable: number(reading, Metric::GpuRemappedRowsCorrectable)?,
            uncorrectable: number(reading, Metric::GpuRemappedRowsUncorrectable)?,
            pending: number(reading, Metric::GpuRowRemapPending)? > 0.0,
            failed: number(reading, Metric::GpuRowRemapFailed)? > 0.0,
        };
        let before = self.rows.replace(rows);
        let (severity, what) = rows.news_since(before)?;
        let attributes = vec![
            ("correctable", rows.correctable.to_string()),
            ("uncorrectable", rows.uncorrectable.to_string()),
            ("pending", rows.pending.to_string()),
            ("failed", rows.failed.to_string()),
        ];
        Some(draft(EventKind::GpuRowRemap, severity, gpu, what, attributes))
    }
}

impl Rows {
    /// What is new; at first sight only what somebody must act upon.
    fn news_since(self, before: Option<Self>) -> Option<(Severity, &'static str)> {
        let was = |flag: fn(&Self) -> bool| before.as_ref().is_some_and(flag);
        if self.failed && !was(|rows| rows.failed) {
            return Some((Severity::Critical, "could not remap a bad row: the card is due for replacement"));
        }
        if self.pending && !was(|rows| rows.pending) {
            return Some((
                Severity::Warning,
                "will remap a bad row at its next reset: drain the node and reset it",
            ));
        }
        let more = before.is_some_and(|before| {
            self.correctable > before.correctable || self.uncorrectable > before.uncorrectable
        });
        more.then_some((Severity::Info, "remapped a row of its memory"))
    }
}

fn number(reading: &Reading, metric: Metric) -> Option<f64> {
    let number = reading.numbers.iter().find(|number| number.metric == metric)?;
    number.value.known().copied()
}

fn draft(
    kind: EventKind,
    severity: Severity,
    gpu: &Gpu,
    what: &str,
    attributes: Vec<(&'static str, String)>,
) -> EventDraft {
    let known = |fact: &Fact<Text>| fact.known().map(|text| text.as_str().to_owned());
    let subject = known(&gpu.uuid).or_else(|| known(&gpu.pci_address)).unwrap_or_default();
    let mut named = vec![("index", gpu.index.to_string())];
    named.extend(known(&gpu.pci_address).map(|address| ("pci_address", address)));
    named.extend(known(&gpu.serial).map(|serial| ("serial", serial)));
    named.extend(attributes);
    EventDraft {
        kind,
        severity,
        occurred: None,
        message: format!("GPU {} ({}) {what}", gpu.index, known(&gpu.pci_address).unwrap_or_default()),
        subject,
        attributes: named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
