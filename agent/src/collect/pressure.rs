//! Pressure stall information, `/proc/pressure/*`: a part of the CPU and memory collectors.

use aim_common::inventory::UnknownReason;
use aim_common::metric::Metric;

use super::source::{self, KeptFile, float};
use super::{Roots, SampleSink};

/// One resource's pressure.
#[derive(Debug)]
pub(super) struct Pressure {
    file: KeptFile,
    some: Metric,
    full: Option<Metric>,
}

impl Pressure {
    /// For `cpu`, `memory` or `io`.
    pub(super) fn new(roots: &Roots, resource: &str, some: Metric, full: Option<Metric>) -> Self {
        Self { file: KeptFile::new(roots.proc.join("pressure").join(resource)), some, full }
    }

    /// Gives the time stalled since boot.
    pub(super) fn sample(&mut self, buffer: &mut Vec<u8>, sink: &mut SampleSink) {
        let text = self.file.read_value(buffer).map_err(|error| source::reason(&error));
        let lines = [Some((&b"some"[..], self.some)), self.full.map(|full| (&b"full"[..], full))];
        for (line, metric) in lines.into_iter().flatten() {
            sink.counter_or_reason(metric, "", text.and_then(|text| stalled_seconds(text, line)));
        }
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`.
fn stalled_seconds(text: &[u8], name: &[u8]) -> Result<f64, UnknownReason> {
    let line = source::lines(text).find(|line| source::words(line).next() == Some(name));
    let mut words = source::words(line.ok_or(UnknownReason::NotSupported)?);
    let total = words.find_map(|word| word.strip_prefix(b"total=")).and_then(source::number);
    total.map(|microseconds| float(microseconds) / 1e6).ok_or(UnknownReason::Malformed)
}
