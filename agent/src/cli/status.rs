//! `aim-agent status`: what the running agent says of itself, with the age of what it says.

use std::fmt::Write;

use aim_agent::clock::{Clock, SystemClock};
use aim_agent::config::Config;
use aim_agent::exit::Exit;
use aim_agent::run::{LinkState, Status};
use aim_common::units::EpochMs;

use super::{Output, fail, say};

/// Show whether the agent runs and is connected.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn main(args: &Args, config: &Config) -> Exit {
    let path = config.status_path();
    let status = match Status::read(&path) {
        Ok(status) => status,
        Err(reason) => return fail(Exit::NotRunning, &format!("{reason}; is the agent running?")),
    };
    let now = SystemClock::new().now();
    let stale = status.is_stale(now);
    let text = match args.output {
        Output::Json => json(&status, now, stale),
        Output::Table => table(&status, now, stale),
    };
    match (say(&text), stale, &status.link) {
        (Exit::Ok, true, _) => Exit::NotRunning,
        (Exit::Ok, false, LinkState::Disconnected) => Exit::NotConnected,
        (said, _, _) => said,
    }
}

fn json(status: &Status, now: EpochMs, stale: bool) -> String {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("age_ms".into(), now.since_ms(status.written_at).into());
        fields.insert("stale".into(), stale.into());
    }
    format!("{value:#}\n")
}

fn table(status: &Status, now: EpochMs, stale: bool) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12} {}", aim_agent::log::escape(value));
    };
    let since = status.link_since;
    let link = match (stale, &status.link) {
        (true, _) => "unknown: the agent does not run, or stopped writing its status".to_owned(),
        (false, LinkState::Connected) => format!("connected since {since}"),
        (false, LinkState::Disconnected) => {
            format!("not connected since {since}: {}", status.reason.as_deref().unwrap_or("connecting"))
        }
    };
    row("link", &link);
    row("coordinator", status.coordinator.as_deref().unwrap_or("-"));
    row("node", &format!("{} ({})", status.node_name, status.node_id));
    row("certificate", &format!("good until {}", status.certificate_not_after));
    row("waiting", &format!("{} records, {} reports", status.spool_waiting, status.reports_waiting));
    row("agent", &format!("{}, pid {}, started {}", status.version, status.pid, status.started_at));
    row("age", &format!("{} s", now.since_ms(status.written_at) / 1000));
    for condition in &status.conditions {
        let subject = if condition.subject.is_empty() {
            String::new()
        } else {
            format!(" {}", condition.subject.as_str())
        };
        let name = condition.name.as_str();
        row(
            "condition",
            &format!("{name}{subject} since {}: {}", condition.since, condition.detail.as_str()),
        );
    }
    text
}
