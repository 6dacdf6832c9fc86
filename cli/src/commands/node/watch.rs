//! `aimctl node watch`: all nodes, or one node's values.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use aim_common::api::changes::Change;
use aim_common::api::nodes::{LiveValues, NodeSummary};
use aim_common::identity::NodeId;
use futures_util::StreamExt;
use serde_json::Value;

use super::list::presence;
use super::values;
use crate::client::{Client, Route};
use crate::commands::watch::{Feed, Update};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, text, typed};

/// Nothing is drawn more often than this.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// Home, then clear to the end of the screen: no flicker, and the history above stays.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Shows all nodes: drawn again on a terminal, one line a change elsewhere.
pub(super) async fn all(context: &Context) -> Result<(), CliError> {
    let client = context.client().await?;
    let mut nodes: BTreeMap<NodeId, NodeSummary> = BTreeMap::new();
    let mut feed = pin!(Feed::new(&client, Route::v1(["changes"])).updates());
    let mut draw = tokio::time::interval(DRAW_EVERY);
    let mut stale = false;
    loop {
        tokio::select! {
            update = feed.next() => match update.transpose()? {
                None => return Ok(()),
                Some(Update::Began) => {
                    nodes = read_all(&client).await?;
                    stale = true;
                    if !context.output.redraws() && !context.output.is_data() {
                        nodes.values().try_for_each(|node| line(&client, node))?;
                    }
                }
                Some(Update::Message(value)) => stale |= apply(context, &client, &mut nodes, value).await?,
            },
            _ = draw.tick() => {
                if stale && context.output.redraws() {
                    let mut rows: Vec<NodeSummary> = nodes.values().cloned().collect();
                    rows.sort_by(|a, b| a.name.cmp(&b.name));
                    let table = context.output.table(&rows, Context::view(&client));
                    output::print(&format!("{CLEAR}{} in all, on {}\n\n{table}", rows.len(), client.server()))?;
                    stale = false;
                }
            }
        }
    }
}

async fn read_all(client: &Client) -> Result<BTreeMap<NodeId, NodeSummary>, CliError> {
    let rows = client.list(Route::v1(["nodes"]), None).await?;
    rows.into_iter().map(|row| typed::<NodeSummary>(row).map(|node| (node.id, node))).collect()
}

/// Takes one change; true where the table looks different now.
async fn apply(
    context: &Context,
    client: &Client,
    nodes: &mut BTreeMap<NodeId, NodeSummary>,
    value: Value,
) -> Result<bool, CliError> {
    // A kind of change that only a newer aimctl knows is not for this one.
    let Ok(change) = serde_json::from_value::<Change>(value.clone()) else { return Ok(false) };
    if context.output.is_data() && !matches!(change, Change::Event { .. }) {
        context.output.stream_item(&value)?;
    }
    match change {
        Change::Node { node } => {
            if !context.output.redraws() && !context.output.is_data() {
                line(client, &node)?;
            }
            nodes.insert(node.id, *node);
        }
        Change::NodeDeleted { id } => {
            if let Some(node) = nodes.remove(&id)
                && !context.output.redraws()
                && !context.output.is_data()
            {
                output::print(&format!("{}  {}  deleted\n", client.now(), node.name))?;
            }
        }
        Change::Lagged { .. } => *nodes = read_all(client).await?,
        Change::Event { .. } => return Ok(false),
    }
    Ok(true)
}

fn line(client: &Client, node: &NodeSummary) -> Result<(), CliError> {
    let conditions = Cell::new(node.conditions.join(" "));
    let text = format!(
        "{}  {}  {}  {}",
        client.now(),
        Cell::new(node.name.as_str()).text(),
        presence(&node.presence).text(),
        conditions.text()
    );
    output::print(&format!("{}\n", text.trim_end()))
}

/// Shows one node's values as they come.
pub(super) async fn one(context: &Context, node: &str, prefix: Option<&str>) -> Result<(), CliError> {
    let client = context.client().await?;
    // Asking for the node first tells "no such node" from "no live values yet".
    let found: NodeSummary = typed(client.get(Route::v1(["nodes", node])).await?)?;
    let mut feed = Feed::new(&client, Route::v1(["nodes", &found.id.to_string(), "live"]));
    loop {
        let Update::Message(value) = feed.next().await? else { continue };
        if context.output.is_data() {
            context.output.stream_item(&value)?;
            continue;
        }
        // Another message than values is of a newer coordinator.
        let Ok(live) = serde_json::from_value::<LiveValues>(value.clone()) else { continue };
        let rows = match value {
            Value::Object(mut fields) => fields.remove("values"),
            _ => None,
        };
        let Some(Value::Array(rows)) = rows else { continue };
        let rows = values::rows(values::matching(rows, prefix))?;
        let table = context.output.table(&rows, Context::view(&client));
        let interval = text::span(i64::from(live.interval_ms));
        let head = format!(
            "{}  {}  every {interval}  {}",
            found.name,
            presence(&live.presence).text(),
            client.now()
        );
        let clear = if context.output.redraws() { CLEAR } else { "" };
        output::print(&format!("{clear}{head}\n\n{table}\n"))?;
    }
}
