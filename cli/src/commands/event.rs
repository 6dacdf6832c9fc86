//! `aimctl event`: what happened, when, to which node.

use aim_common::api::changes::Change;
use aim_common::api::events::EventView;
use aim_common::event::Severity;
use clap::ValueEnum;
use serde_json::Value;

use super::watch::{Feed, Update};
use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed, Tone, text};

/// What can be done with events.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EventCommand {
    /// List events, newest first
    List(ListArgs),
    /// Show events as they are stored, until interrupted
    Watch {
        /// Of this node only, by name or id
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// Of this severity or worse
        #[arg(long, value_enum)]
        severity: Option<Level>,
    },
}

/// Arguments of `event list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aimctl event list --severity critical --since 1d
  aimctl event list --node gpu001 --kind gpu.xid -o json")]
pub(crate) struct ListArgs {
    /// Of this node only, by name or id
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    #[command(flatten)]
    filters: Filters,
}

/// Which events.
#[derive(Debug, clap::Args)]
pub(crate) struct Filters {
    /// Of this kind only, such as gpu.xid
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Of this severity or worse
    #[arg(long, value_enum)]
    severity: Option<Level>,
    /// Not older than this, such as 30m, 12h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    since: Option<i64>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// How bad, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Level {
    /// Worth knowing
    Info,
    /// Worth a look in working hours
    Warning,
    /// Someone's work is affected now
    Critical,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    fn covers(self, severity: Severity) -> bool {
        let least = match self {
            Self::Info => Severity::Info,
            Self::Warning => Severity::Warning,
            Self::Critical => Severity::Critical,
        };
        severity >= least
    }
}

impl Listed for EventView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::if_room(2, "AT", |event, _| Cell::new(event.occurred_at.to_rfc3339())),
        Column::if_room(4, "AGE", |event, view| Cell::new(text::ago(event.occurred_at, view.now))),
        Column::always("NODE", |event, _| Cell::new(event.node_name.as_str())),
        Column::if_room(1, "SEVERITY", |event, _| severity(event.severity)),
        Column::always("KIND", |event, _| Cell::new(&event.kind)),
        Column::if_room(3, "SUBJECT", |event, _| {
            Cell::or_none((!event.subject.is_empty()).then_some(&event.subject))
        }),
        Column::wide("ID", |event, _| Cell::new(event.id.to_string())),
        Column::wide("STORED", |event, _| Cell::new(event.stored_at.to_rfc3339())),
        Column::wide("ATTRIBUTES", |event, _| {
            let pairs: Vec<String> = event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Cell::or_none((!pairs.is_empty()).then(|| pairs.join(" ")))
        }),
        Column::always("MESSAGE", |event, _| Cell::new(&event.message)),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }
}

fn severity(severity: Severity) -> Cell {
    match severity {
        Severity::Info => Cell::new("info"),
        Severity::Warning => Cell::new("warning").tone(Tone::Warn),
        Severity::Critical => Cell::new("critical").tone(Tone::Bad),
    }
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: EventCommand) -> Result<(), CliError> {
    match command {
        EventCommand::List(args) => list(context, args.node, args.filters).await,
        EventCommand::Watch { node, severity } => watch(context, node.as_deref(), severity).await,
    }
}

/// Lists events.
pub(crate) async fn list(context: &Context, node: Option<String>, filters: Filters) -> Result<(), CliError> {
    let client = context.client().await?;
    let since = filters.since.map(|ms| client.now().plus_ms(-ms).to_rfc3339());
    let route = Route::v1(["events"])
        .query_some("node", node)
        .query_some("kind", filters.kind)
        .query_some("severity", filters.severity.map(Level::word))
        .query_some("since", since);
    let rows = client.list(route, Some(filters.limit)).await?;
    context.output.list::<EventView>(rows, Context::view(&client))
}

async fn watch(context: &Context, node: Option<&str>, level: Option<Level>) -> Result<(), CliError> {
    let client = context.client().await?;
    let wanted = |event: &EventView| {
        let same = |name: &str| {
            event.node_name.as_str().eq_ignore_ascii_case(name) || event.node_id.to_string() == name
        };
        node.is_none_or(same) && level.is_none_or(|level| level.covers(event.severity))
    };
    let mut feed = Feed::new(&client, Route::v1(["changes"]));
    loop {
        match feed.next().await? {
            Update::Began => {}
            Update::Message(value) => match serde_json::from_value::<Change>(value.clone()) {
                Ok(Change::Event { event }) if wanted(&event) => show(context, &event, value)?,
                Ok(Change::Lagged { missed }) => {
                    let hint = "aimctl event list shows what was stored";
                    output::note(&format!("{missed} changes came too fast and are missing here; {hint}"));
                }
                // Another kind of change, or one that only a newer aimctl knows.
                Ok(_) | Err(_) => {}
            },
        }
    }
}

fn show(context: &Context, event: &EventView, mut change: Value) -> Result<(), CliError> {
    if context.output.is_data() {
        return context.output.stream_item(&change["event"].take());
    }
    let line = [
        event.occurred_at.to_rfc3339(),
        event.node_name.to_string(),
        severity(event.severity).text().to_owned(),
        event.kind.clone(),
        event.subject.clone(),
        event.message.clone(),
    ];
    let words: Vec<String> =
        line.iter().filter(|word| !word.is_empty()).map(|word| text::escape(word)).collect();
    output::print(&format!("{}\n", words.join("  ")))
}

/// Reads `90s`, `30m`, `12h`, `7d` as milliseconds.
pub(crate) fn parse_span(given: &str) -> Result<i64, String> {
    let refuse =
        || format!("{given:?} is not a length of time; write a number with s, m, h or d, such as 30m");
    let (number, unit) = given.split_at_checked(given.len().saturating_sub(1)).ok_or_else(refuse)?;
    let factor = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refuse()),
    };
    let count: u32 = number.parse().map_err(|_| refuse())?;
    Ok(i64::from(count).saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_or_refused_with_an_example() {
        assert_eq!(parse_span("90s"), Ok(90_000));
        assert_eq!(parse_span("7d"), Ok(604_800_000));
        for bad in ["", "5", "m", "-3m", "1.5h", "3w", "5分"] {
            assert!(parse_span(bad).unwrap_err().contains("30m"), "{bad:?}");
        }
    }

    #[test]
    fn a_level_covers_itself_and_worse() {
        assert!(Level::Warning.covers(Severity::Critical) && Level::Warning.covers(Severity::Warning));
        assert!(!Level::Warning.covers(Severity::Info));
    }
}
