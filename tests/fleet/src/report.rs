//! What a run tells: a line while it runs, a summary at its end.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::recoveries::RecoverySummary;
use crate::tally::{Histogram, Tally};

/// A line for a person.
#[expect(clippy::print_stderr, reason = "progress is for the terminal")]
pub(crate) fn say(line: &str) {
    eprintln!("aim-fleet: {line}");
}

/// The state in one line.
pub(crate) fn progress(now: Duration, tally: &Tally, expected: u64) -> String {
    let quantile = |of_thousand| {
        tally.handshakes.quantile(of_thousand).map_or_else(|| "-".to_owned(), |time| format!("{time:.0?}"))
    };
    format!(
        "{:>5} s  present {}/{expected}  connecting {}  refused {}  reports {} (late {})  events {}/{} acknowledged  \
         lost {}  sessions {}  handshake p50 {} p99 {}",
        now.as_secs(),
        tally.present.get(),
        tally.connecting.get(),
        tally.refused.get(),
        tally.reports.get(),
        tally.late_reports.get(),
        tally.events_acknowledged.get(),
        tally.events.get(),
        tally.lost.get(),
        tally.opened.get(),
        quantile(500),
        quantile(990),
    )
}

/// The run in numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Nothing that must hold was broken.
    pub(crate) ok: bool,
    /// What did not hold.
    pub(crate) broken: Vec<String>,
    /// The scenario.
    pub(crate) scenario: String,
    /// Agents.
    pub(crate) nodes: u32,
    /// The seed.
    pub(crate) seed: u64,
    /// Nodes enrolled by this run.
    pub(crate) enrolled: usize,
    /// Seconds that took.
    pub(crate) enrolment_s: f64,
    /// Seconds from the first connection to all connected; absent where that was never so.
    pub(crate) all_connected_s: Option<f64>,
    /// Seconds from the first connection to the end.
    pub(crate) seconds: f64,
    /// Times in which agents were missing.
    pub(crate) recoveries: RecoverySummary,
    /// The counts.
    pub(crate) sessions: Sessions,
    /// The counts.
    pub(crate) reports: Reports,
    /// The counts.
    pub(crate) records: Records,
    /// The counts.
    pub(crate) misbehaviour: Misbehaviour,
    /// Why sessions and attempts ended.
    pub(crate) reasons: BTreeMap<String, u64>,
    /// This process.
    pub(crate) process: Process,
}

/// Sessions.
#[derive(Debug, Serialize)]
pub(crate) struct Sessions {
    opened: u64,
    lost: u64,
    attempts_failed: u64,
    refused: u64,
    renewals: u64,
    renewals_failed: u64,
    handshake_ms: Quantiles,
}

/// Times in milliseconds; absent where there was none.
#[derive(Debug, Serialize)]
pub(crate) struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
}

/// Reports.
#[derive(Debug, Serialize)]
pub(crate) struct Reports {
    sent: u64,
    sent_late: u64,
    dropped: u64,
    live_modes: u64,
}

/// Records of the spools.
#[derive(Debug, Serialize)]
pub(crate) struct Records {
    events: u64,
    events_acknowledged: u64,
    all: u64,
    all_acknowledged: u64,
    dropped: u64,
}

/// Attacks and slow sessions.
#[derive(Debug, Serialize)]
pub(crate) struct Misbehaviour {
    cut: u64,
    held_back: u64,
    unpunished: u64,
}

/// What this process took.
#[derive(Debug, Serialize)]
pub(crate) struct Process {
    resident_mib: Option<f64>,
    peak_mib: Option<f64>,
    cpu_s: Option<f64>,
}

impl Sessions {
    /// Of these counts.
    pub(crate) fn of(tally: &Tally) -> Self {
        Self {
            opened: tally.opened.get(),
            lost: tally.lost.get(),
            attempts_failed: tally.failed.get(),
            refused: tally.refused.get(),
            renewals: tally.renewals.get(),
            renewals_failed: tally.renewals_failed.get(),
            handshake_ms: Quantiles::of(&tally.handshakes),
        }
    }
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        let at = |of_thousand| histogram.quantile(of_thousand).map(|time| time.as_secs_f64() * 1000.0);
        Self { p50: at(500), p99: at(990), max: at(1000) }
    }
}

impl Reports {
    /// Of these counts.
    pub(crate) fn of(tally: &Tally) -> Self {
        Self {
            sent: tally.reports.get(),
            sent_late: tally.late_reports.get(),
            dropped: tally.dropped_reports.get(),
            live_modes: tally.live_modes.get(),
        }
    }
}

impl Records {
    /// Of these counts.
    pub(crate) fn of(tally: &Tally) -> Self {
        Self {
            events: tally.events.get(),
            events_acknowledged: tally.events_acknowledged.get(),
            all: tally.records.get(),
            all_acknowledged: tally.records_acknowledged.get(),
            dropped: tally.records_lost.get(),
        }
    }
}

impl Misbehaviour {
    /// Of these counts.
    pub(crate) fn of(tally: &Tally) -> Self {
        Self { cut: tally.cut.get(), held_back: tally.held_back.get(), unpunished: tally.unpunished.get() }
    }
}

impl Process {
    /// This process now; a figure that the kernel does not give is absent.
    pub(crate) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
        };
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let nanos: Vec<u64> = tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split_whitespace().next()?.parse().ok())
            .collect();
        let cpu_s = (!nanos.is_empty()).then(|| Duration::from_nanos(nanos.iter().sum()).as_secs_f64());
        Self { resident_mib: mib("VmRSS:"), peak_mib: mib("VmHWM:"), cpu_s }
    }
}

impl Summary {
    /// As JSON, into the file or to standard output.
    pub(crate) fn write(&self, file: Option<&std::path::Path>) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        match file {
            Some(path) => Ok(std::fs::write(path, text)?),
            None => Ok(std::io::stdout().lock().write_all(&text)?),
        }
    }
}
