//! `aimctl node events`, `history`, `processes`.

use aim_common::api::nodes::{GpuProcessList, GpuProcessView, InventoryChange};

use crate::client::Route;
use crate::commands::event;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Listed, text, typed};

/// Arguments of `node events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Name or id
    node: String,
    #[command(flatten)]
    filters: event::Filters,
}

/// Arguments of `node history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// Name or id
    node: String,
    /// Of this section only, such as gpus, memory or system
    #[arg(long, value_name = "SECTION")]
    section: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

impl Listed for InventoryChange {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::if_room(1, "AT", |change, _| Cell::new(change.at.to_rfc3339())),
        Column::if_room(2, "AGE", |change, view| Cell::new(text::ago(change.at, view.now))),
        Column::always("PATH", |change, _| Cell::new(&change.path)),
        Column::always("FROM", |change, _| part(&change.from)),
        Column::always("TO", |change, _| part(&change.to)),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }
}

fn part(value: &serde_json::Value) -> Cell {
    match value {
        serde_json::Value::Null => Cell::none(),
        serde_json::Value::String(text) => Cell::new(text),
        other => Cell::new(other.to_string()),
    }
}

impl Listed for GpuProcessView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("PID", |process, _| Cell::new(process.pid.to_string())),
        Column::if_room(1, "UID", |process, _| Cell::or_unknown(process.uid.map(|uid| uid.to_string()))),
        Column::always("NAME", |process, _| Cell::new(&process.name)),
        Column::always("MEMORY", |process, _| Cell::or_unknown(process.memory_bytes.map(text::bytes))),
        Column::if_room(2, "KIND", |process, _| {
            Cell::new(if process.compute { "compute" } else { "graphics" })
        }),
        Column::always("GPU", |process, _| Cell::new(&process.gpu_uuid)),
    ];

    fn name(&self) -> String {
        self.pid.to_string()
    }
}

/// Lists events of one node.
pub(super) async fn events(context: &Context, args: EventsArgs) -> Result<(), CliError> {
    event::list(context, Some(args.node), args.filters).await
}

/// Lists changes of the inventory.
pub(super) async fn inventory(context: &Context, args: HistoryArgs) -> Result<(), CliError> {
    let client = context.client().await?;
    let route = Route::v1(["nodes", &args.node, "inventory-changes"]).query_some("section", args.section);
    let rows = client.list(route, Some(args.limit)).await?;
    context.output.list::<InventoryChange>(rows, Context::view(&client))
}

/// Lists processes on GPUs.
pub(super) async fn processes(context: &Context, node: &str) -> Result<(), CliError> {
    let client = context.client().await?;
    let list = client.get(Route::v1(["nodes", node, "gpu-processes"])).await?;
    if context.output.is_data() {
        return context.output.data(&list);
    }
    let list: GpuProcessList = typed(list)?;
    match (list.age_ms, list.left_out) {
        (None, _) => {
            output::note("unknown: the node has not reported its processes");
            return Ok(());
        }
        (Some(_), 0) => {}
        (Some(_), left_out) => output::note(&format!("{left_out} more are not in the node's report")),
    }
    context.output.typed_list(&list.items, Context::view(&client))
}
