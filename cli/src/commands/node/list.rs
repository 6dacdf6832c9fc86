//! `aimctl node list`.

use std::collections::BTreeMap;

use aim_common::api::nodes::{NodeSummary, Presence};
use aim_common::hostlist::HostList;
use serde_json::Value;

use super::parse_filter;
use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Format, Grid, Listed, Output, Tone, View, text, typed};

/// Arguments of `node list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aimctl node list --filter presence=absent --fold     who is away, as folded host lists
  aimctl node list --filter label.rack=a1 --sort -gpu_utilization
  aimctl node list --search h100 -o name

Fields of --filter: name, presence (present, absent, never_seen), group, gpu_model, condition, label.KEY.
Fields of --sort: name, presence, enrolled_at, last_seen, gpu_model, cpu_utilization, gpu_utilization, memory_bytes.")]
pub(crate) struct ListArgs {
    /// Only nodes whose field has this value; may be repeated
    #[arg(long = "filter", value_name = "FIELD=VALUE", value_parser = parse_filter)]
    filters: Vec<(String, String)>,
    /// Only the nodes of this host list, such as gpu[001-128]
    #[arg(long, value_name = "HOSTS")]
    on: Option<HostList>,
    /// Only nodes with this text in name, labels, models or serials
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Order by this field; with - before it downwards
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// Fold the names into host lists, one for each state
    #[arg(long)]
    fold: bool,
}

impl Listed for NodeSummary {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("NAME", |node, _| Cell::new(node.name.as_str())),
        Column::always("STATE", |node, _| presence(&node.presence)),
        Column::always("SEEN", seen),
        Column::if_room(3, "CPU", |node, _| share(node.cpu_utilization)),
        Column::if_room(4, "CPUS", |node, _| Cell::or_unknown(node.cpu_threads.map(|n| n.to_string()))),
        Column::if_room(3, "MEMORY", memory),
        Column::if_room(1, "GPUS", gpus),
        Column::if_room(2, "GPU", |node, _| match node.gpus_total {
            Some(0) => Cell::none(),
            _ => share(node.gpu_utilization),
        }),
        Column::if_room(6, "MODEL", |node, _| match node.gpus_total {
            Some(0) => Cell::none(),
            _ => Cell::or_unknown(node.gpu_model.as_ref()),
        }),
        Column::if_room(5, "LABELS", |node, _| Cell::or_none(labels(node))),
        Column::wide("OS", |node, _| Cell::or_unknown(node.os_name.as_ref())),
        Column::wide("KERNEL", |node, _| Cell::or_unknown(node.kernel_release.as_ref())),
        Column::wide("AGENT", |node, _| Cell::or_unknown(node.agent_version.as_ref())),
        Column::wide("GROUPS", |node, _| {
            Cell::or_none((!node.groups.is_empty()).then(|| node.groups.join(",")))
        }),
        Column::wide("ENROLLED", |node, _| Cell::new(node.enrolled_at.to_rfc3339())),
        Column::wide("ID", |node, _| Cell::new(node.id.to_string())),
        Column::always("CONDITIONS", |node, _| {
            let cell = Cell::or_none((!node.conditions.is_empty()).then(|| node.conditions.join(" ")));
            if node.conditions.is_empty() { cell } else { cell.tone(Tone::Bad) }
        }),
    ];

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// The state in words.
pub(super) fn presence(presence: &Presence) -> Cell {
    match presence {
        Presence::NeverSeen => Cell::new("never seen").tone(Tone::Dim),
        Presence::Present { .. } => Cell::new("present").tone(Tone::Good),
        Presence::Silent { .. } => Cell::new("silent").tone(Tone::Warn),
        Presence::Absent { cause, .. } => Cell::new(format!("absent: {cause}")).tone(Tone::Bad),
    }
}

/// The state in one word, for grouping.
fn word(presence: &Presence) -> &'static str {
    match presence {
        Presence::NeverSeen => "never seen",
        Presence::Present { .. } => "present",
        Presence::Silent { .. } => "silent",
        Presence::Absent { .. } => "absent",
    }
}

fn seen(node: &NodeSummary, view: View) -> Cell {
    let age = match (node.last_seen_age_ms, node.last_seen) {
        (Some(age), _) => Some(text::span(i64::try_from(age).unwrap_or(i64::MAX))),
        (None, Some(at)) => Some(text::ago(at, view.now)),
        (None, None) => None,
    };
    Cell::or_none(age)
}

fn share(value: Option<f64>) -> Cell {
    Cell::or_unknown(value.map(text::percent))
}

fn memory(node: &NodeSummary, _: View) -> Cell {
    let part = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), text::bytes);
    Cell::new(format!("{} / {}", part(node.memory_used_bytes), part(node.memory_bytes)))
}

fn gpus(node: &NodeSummary, _: View) -> Cell {
    match (node.gpus_working, node.gpus_total) {
        (_, Some(0)) => Cell::none(),
        (Some(working), Some(total)) if working == total => Cell::new(total.to_string()),
        (Some(working), Some(total)) => Cell::new(format!("{working} of {total}")).tone(Tone::Bad),
        (None, Some(total)) => Cell::new(format!("? of {total}")),
        (_, None) => Cell::unknown(),
    }
}

/// `key=value` for each label.
pub(super) fn labels(node: &NodeSummary) -> Option<String> {
    let pairs: Vec<String> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// Runs it.
pub(super) async fn run(context: &Context, args: ListArgs) -> Result<(), CliError> {
    let client = context.client().await?;
    let mut route = Route::v1(["nodes"])
        .query_some("hosts", args.on.map(|hosts| hosts.to_string()))
        .query_some("search", args.search)
        .query_some("sort", args.sort);
    for (field, value) in args.filters {
        route = route.query(&field, value);
    }
    let rows = client.list(route, args.limit).await?;
    if args.fold && !context.output.is_data() {
        return output::print(&folded(&context.output, rows)?);
    }
    context.output.list::<NodeSummary>(rows, Context::view(&client))
}

/// One line for each state: how many, and their names folded.
fn folded(output: &Output, rows: Vec<Value>) -> Result<String, CliError> {
    let mut by_state: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for row in rows {
        let node: NodeSummary = typed(row)?;
        by_state.entry(word(&node.presence)).or_default().push(node.name.to_string());
    }
    if output.format == Format::Name {
        let names = HostList::fold(by_state.into_values().flatten());
        return Ok(if names.is_empty() { names } else { format!("{names}\n") });
    }
    let mut grid = Grid::new([("STATE", 0), ("COUNT", 0), ("NODES", 0)]);
    for (state, names) in by_state {
        grid.row(vec![
            Cell::new(state),
            Cell::new(names.len().to_string()),
            Cell::new(HostList::fold(names)),
        ]);
    }
    Ok(output.grid(&grid))
}

#[cfg(test)]
mod tests {
    use aim_common::units::EpochMs;

    use super::*;
    use crate::output::ColorChoice;

    fn node(name: &str, presence: &Value) -> Value {
        serde_json::json!({
            "id": "6f2c1e0a-1111-4222-8333-444455556666", "name": name, "presence": presence,
            "last_seen": null, "last_seen_age_ms": null, "labels": {"rack": "a1"}, "groups": [], "owner": null,
            "agent_version": null, "kernel_release": null, "os_name": null, "cpu_threads": null,
            "memory_bytes": null, "gpu_model": null, "gpus_working": 7, "gpus_total": 8,
            "conditions": ["gpu_lost"], "cpu_utilization": null, "memory_used_bytes": null,
            "gpu_utilization": null, "enrolled_at": "2026-11-23T05:00:00.000Z"
        })
    }

    fn present() -> Value {
        serde_json::json!({"state": "present", "since": "2026-11-23T05:00:00.000Z"})
    }

    #[test]
    fn what_is_not_known_is_shown_as_such_and_never_as_zero() {
        let output = Output::new(Format::Table, ColorChoice::Never);
        let rows: Vec<NodeSummary> = vec![typed(node("gpu001", &present())).unwrap()];
        let table = output.table(&rows, View { now: EpochMs(0) });
        let line = table.lines().nth(1).unwrap();
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let expected =
            ["gpu001", "present", "-", "?", "?", "? / ?", "7 of 8", "?", "?", "rack=a1", "gpu_lost"];
        assert_eq!(cells, expected, "{table}");
    }

    #[test]
    fn folding_groups_by_state() {
        let absent =
            serde_json::json!({"state": "absent", "since": "2026-11-23T05:00:00.000Z", "cause": "unknown"});
        let mut rows: Vec<Value> = (1..=128).map(|n| node(&format!("gpu{n:03}"), &present())).collect();
        rows.push(node("login1", &absent));
        let text = folded(&Output::new(Format::Table, ColorChoice::Never), rows.clone()).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["absent", "1", "login1"]);
        assert_eq!(lines[2], ["present", "128", "gpu[001-128]"]);
        let names = folded(&Output::new(Format::Name, ColorChoice::Never), rows).unwrap();
        assert_eq!(names, "gpu[001-128],login1\n");
    }
}
