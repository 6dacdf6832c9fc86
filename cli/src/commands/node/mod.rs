//! `aimctl node`: what nodes are, how they do, their labels and identities.

mod change;
mod history;
mod list;
mod show;
mod show_tables;
mod values;
mod wait;
mod watch;

use aim_common::hostlist::HostList;

pub(crate) use self::change::{RevokeArgs, revoke};

use crate::context::Context;
use crate::error::CliError;

/// What can be done with nodes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes with their presence and how they do
    List(list::ListArgs),
    /// Show one node: identity, hardware, conditions, newest values with their age
    #[command(after_help = "Example: aimctl node show gpu001 -o json")]
    Show {
        /// Name or id
        node: String,
    },
    /// Show changes as they happen: of all nodes, or one node's values every second
    #[command(after_help = "\
Examples:
  aimctl node watch              presence and load of all nodes, live
  aimctl node watch gpu001       one node's values; it reports every second while somebody looks")]
    Watch {
        /// Name or id
        node: Option<String>,
        /// Only values whose metric begins with this, such as gpu_
        #[arg(long, value_name = "PREFIX", requires = "node")]
        metric: Option<String>,
    },
    /// Show one node's newest values, each with its age
    #[command(after_help = "Example: aimctl node values gpu001 --metric gpu_")]
    Values {
        /// Name or id
        node: String,
        /// Only values whose metric begins with this
        #[arg(long, value_name = "PREFIX")]
        metric: Option<String>,
    },
    /// Wait until nodes are present and their values have arrived
    #[command(after_help = "Example: aimctl node wait 'gpu[001-128]' --timeout 5m && echo all there")]
    Wait {
        /// Host list, or an id
        hosts: HostList,
        /// Give up after this long; exit code 1 then
        #[arg(long, value_name = "TIME", default_value = "1m", value_parser = super::event::parse_span)]
        timeout: i64,
    },
    /// List events of one node, newest first
    Events(history::EventsArgs),
    /// List changes of one node's inventory: what, when, from, to
    #[command(after_help = "Example: aimctl node history gpu001 --section gpus")]
    History(history::HistoryArgs),
    /// List processes on one node's GPUs
    Processes {
        /// Name or id
        node: String,
    },
    /// Set or remove labels
    #[command(after_help = "\
Examples:
  aimctl node label 'gpu[001-128]' rack=a1 tier=train     set
  aimctl node label gpu001 tier-                          remove")]
    Label {
        /// Host list, or an id
        hosts: HostList,
        /// KEY=VALUE sets, KEY- removes
        #[arg(required = true, value_name = "LABEL", value_parser = change::parse_label)]
        labels: Vec<change::Label>,
    },
    /// Set the groups that permissions with a group: scope match
    #[command(after_help = "Example: aimctl node group 'gpu[001-008]' lab1   (no group: none from now on)")]
    Group {
        /// Host list, or an id
        hosts: HostList,
        /// All groups from now on
        groups: Vec<String>,
    },
    /// Delete nodes and all that is known of them; a node that is deleted must be enrolled again
    Delete {
        /// Host list, or an id
        hosts: HostList,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Revoke nodes' identities: sessions are cut at once, reconnects refused
    Revoke(RevokeArgs),
    /// Trust nodes again that are in quarantine because their identity seemed to be in two places
    #[command(after_help = "Example: aimctl node release gpu001 --reason 'the copied disk was wiped'")]
    Release {
        /// Host list, or an id
        hosts: HostList,
        /// Why; kept in the audit trail
        #[arg(long)]
        reason: String,
    },
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::List(args) => list::run(context, args).await,
        NodeCommand::Show { node } => show::run(context, &node).await,
        NodeCommand::Watch { node: None, .. } => watch::all(context).await,
        NodeCommand::Watch { node: Some(node), metric } => {
            watch::one(context, &node, metric.as_deref()).await
        }
        NodeCommand::Values { node, metric } => values::run(context, &node, metric.as_deref()).await,
        NodeCommand::Wait { hosts, timeout } => wait::run(context, hosts, timeout).await,
        NodeCommand::Events(args) => history::events(context, args).await,
        NodeCommand::History(args) => history::inventory(context, args).await,
        NodeCommand::Processes { node } => history::processes(context, &node).await,
        NodeCommand::Label { hosts, labels } => change::label(context, hosts, labels).await,
        NodeCommand::Group { hosts, groups } => change::group(context, hosts, groups).await,
        NodeCommand::Delete { hosts, yes } => change::delete(context, hosts, yes).await,
        NodeCommand::Revoke(args) => revoke(context, args).await,
        NodeCommand::Release { hosts, reason } => change::release(context, hosts, reason).await,
    }
}

/// Reads `FIELD=VALUE`.
pub(crate) fn parse_filter(given: &str) -> Result<(String, String), String> {
    match given.split_once('=') {
        Some((field, value)) if !field.is_empty() => Ok((field.to_owned(), value.to_owned())),
        _ => Err(format!("{given:?} is not FIELD=VALUE")),
    }
}
