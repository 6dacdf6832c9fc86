//! `make bench`: measures the figures of docs/performance.md beside their peers and prints one table.
//!
//! Needs root for the network namespaces, and the release binaries beside it. `bench [NAME]` runs the group that holds
//! the figure NAME.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is for the terminal")]

mod agent;
mod enrolment;
mod figure;
mod netns;
mod peers;
mod process;
mod site;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::figure::Figure;
use crate::site::Site;

/// The figures of each group, which is measured in one run.
const AGENT: &[&str] = &[
    "agent_rss_mib",
    "agent_idle_cpu_s_per_hour",
    "agent_cpu_s_per_hour",
    "agent_idle_wire_bytes_per_15s",
    "agent_wire_bytes_per_report",
];
const ENROLMENT: &[&str] = &["enrol_per_core_s"];
/// The agent's CPU seconds are few: shorter runs do not repeat.
const AGENT_RUN: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let wanted = std::env::args().nth(1);
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(wanted.as_deref()))) {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("bench: not held: {}", missed.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(wanted: Option<&str>) -> anyhow::Result<Vec<&'static str>> {
    if let Some(name) = wanted
        && !AGENT.contains(&name)
        && !ENROLMENT.contains(&name)
    {
        bail!("there is no figure {name}; there are: {}", [AGENT, ENROLMENT].concat().join(", "));
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let executable = std::env::current_exe()?;
    let binaries = executable.parent().context("the bench has no folder")?;
    let asked = |group: &[&str]| wanted.is_none_or(|name| group.contains(&name));
    let site = Site::start(binaries).await?;
    let mut figures: Vec<Figure> = Vec::new();
    if asked(ENROLMENT) {
        figures.extend(enrolment::measure(&site).await?);
    }
    if asked(AGENT) {
        figures.extend(agent::measure(&site, AGENT_RUN).await?);
    }
    figure::report(&figures, &results_path(binaries))
}

/// `target/bench/results.json`, beside the folder of the binaries.
fn results_path(binaries: &Path) -> std::path::PathBuf {
    binaries.parent().unwrap_or(binaries).join("bench/results.json")
}
