//! `aimctl token`: join strings for nodes, tokens for Salt minions.

use std::path::{Path, PathBuf};

use aim_common::api::keyvault::{GenerateTokenRequest, GeneratedToken, GeneratedTokens};
use aim_common::api::tokens::TokenView;
use aim_common::hostlist::HostList;
use aim_common::identity::{NodeName, Sha256Digest};
use reqwest::Method;

use crate::client::{Client, Route};
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, Column, Grid, Listed, Tone, text, typed};
use crate::profile::replace_file;

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token for one node, or one for each node of a host list
    Create(CreateArgs),
    /// List tokens; never their secrets
    List {
        /// In this state only: outstanding, redeemed, revoked or expired
        #[arg(long)]
        state: Option<String>,
    },
    /// Revoke outstanding tokens
    Revoke {
        /// Numbers, as the list shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
}

/// Arguments of `token create`.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("target").args(["node", "on"])),
    after_help = "\
A join string is a secret, good for one enrolment. Without --join-file it is printed to standard output: one line, or
for a host list a line of name and join string for each node.

Examples:
  aimctl token create --node gpu001 | ssh root@gpu001 aim-agent enroll --join-file -
  aimctl token create --on 'gpu[001-128]' --ttl 2h --join-file joins/
  aimctl token create --node gpu001 --replace --join-file gpu001.join      a machine that was installed anew
  aimctl token create --salt --on 'gpu[001-128]' -o json                   for Salt minions"
)]
pub(crate) struct CreateArgs {
    /// The node that the token is for
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// The nodes that tokens are for, as a host list such as gpu[001-128,130]
    #[arg(long, value_name = "HOSTS")]
    on: Option<String>,
    /// A token for the Salt master's public key instead of a join string
    #[arg(long, conflicts_with_all = ["replace", "public_key_sha256", "join_file"])]
    salt: bool,
    /// How long the token is good, such as 10m or 2h [default: 5m, 1h for a host list; at most 24h]
    #[arg(long, value_name = "TIME", value_parser = super::event::parse_span)]
    ttl: Option<i64>,
    /// Only from this address range, such as 10.1.0.0/16
    #[arg(long, value_name = "CIDR")]
    cidr: Option<String>,
    /// Only for this public key: SHA-256 as `aim-agent enroll` prints it
    #[arg(long, value_name = "SHA256", conflicts_with = "on")]
    public_key_sha256: Option<Sha256Digest>,
    /// The node exists and is to be superseded: the machine was installed anew
    #[arg(long)]
    replace: bool,
    /// Write the join string to this file, mode 0600; for a host list: NODE.join in this folder
    #[arg(long, value_name = "PATH")]
    join_file: Option<PathBuf>,
}

impl Listed for TokenView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::always("ID", |token, _| Cell::new(token.id.to_string())),
        Column::always("NODE", |token, _| Cell::or_none(token.node.as_ref().map(NodeName::as_str))),
        Column::always("STATE", |token, _| {
            let tone = if token.state == "outstanding" { Tone::Good } else { Tone::Dim };
            Cell::new(&token.state).tone(tone)
        }),
        Column::if_room(1, "PURPOSE", |token, _| Cell::new(&token.purpose)),
        Column::always("LEFT", |token, view| match token.state.as_str() {
            "outstanding" => Cell::new(text::until(token.expires_at, view.now)),
            _ => Cell::none(),
        }),
        Column::if_room(2, "AGE", |token, view| Cell::new(text::ago(token.created_at, view.now))),
        Column::if_room(3, "BY", |token, _| Cell::new(&token.created_by)),
        Column::if_room(4, "FROM", |token, _| Cell::or_none(token.source_cidr.as_ref())),
    ];

    fn name(&self) -> String {
        self.id.to_string()
    }
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: TokenCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    match command {
        TokenCommand::Create(args) => create(context, &client, args).await,
        TokenCommand::List { state } => {
            let rows = client.list(Route::v1(["tokens"]).query_some("state", state), None).await?;
            context.output.list::<TokenView>(rows, Context::view(&client))
        }
        TokenCommand::Revoke { ids } => {
            for id in ids {
                client.delete(Route::v1(["tokens", &id.to_string()])).await?;
                output::note(&format!("token {id} is revoked"));
            }
            Ok(())
        }
    }
}

async fn create(context: &Context, client: &Client, args: CreateArgs) -> Result<(), CliError> {
    if !args.salt && args.node.is_none() && args.on.is_none() {
        return Err(CliError::Usage("say for which node: --node NAME or --on HOSTS".to_owned()));
    }
    if let Some(hosts) = &args.on {
        HostList::parse(hosts).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let request = GenerateTokenRequest {
        node: args.node,
        hosts: args.on,
        ttl_seconds: args.ttl.map(|ms| u32::try_from(ms / 1000).unwrap_or(u32::MAX)),
        source_cidr: args.cidr,
        public_key_sha256: args.public_key_sha256.map(|digest| digest.to_string()),
        replace: args.replace,
    };
    let kind = if args.salt { "salt" } else { "agent" };
    let answer =
        client.change(Method::POST, Route::keyvault([kind, "generate-token"]), Some(&request)).await?;
    if context.output.is_data() && args.join_file.is_none() {
        return context.output.data(&answer);
    }
    let (tokens, many) = if request.hosts.is_some() {
        (typed::<GeneratedTokens>(answer)?.tokens, true)
    } else {
        (vec![typed::<GeneratedToken>(answer)?], false)
    };
    match args.join_file {
        Some(path) => write_join_files(context, client, &tokens, &path, many),
        None if args.salt => show_salt_tokens(context, client, &tokens),
        None => print_joins(client, &tokens, many),
    }
}

fn node_of(token: &GeneratedToken) -> &str {
    token.node.as_ref().map_or("-", NodeName::as_str)
}

fn join_of(token: &GeneratedToken) -> Result<&str, CliError> {
    token.join.as_deref().ok_or_else(|| CliError::BadAnswer {
        tried: format!("creating a token for {}", node_of(token)),
        detail: "the answer holds no join string".to_owned(),
    })
}

fn print_joins(client: &Client, tokens: &[GeneratedToken], many: bool) -> Result<(), CliError> {
    let mut lines = String::new();
    for token in tokens {
        if many {
            lines.push_str(node_of(token));
            lines.push(' ');
        }
        lines.push_str(&text::escape(join_of(token)?));
        lines.push('\n');
    }
    output::print(&lines)?;
    if let Some(first) = tokens.first() {
        let left = text::until(first.expires_at, client.now());
        output::note(&format!(
            "good for {left}, once; on the node: aim-agent enroll --join-file FILE, or - for standard input"
        ));
    }
    Ok(())
}

fn show_salt_tokens(context: &Context, client: &Client, tokens: &[GeneratedToken]) -> Result<(), CliError> {
    let mut grid = Grid::new([("NODE", 0), ("TOKEN", 0), ("NONCE", 0), ("LEFT", 1), ("SIGNATURE", 0)]);
    for token in tokens {
        grid.row(vec![
            Cell::new(node_of(token)),
            Cell::new(&token.token),
            Cell::new(&token.nonce),
            Cell::new(text::until(token.expires_at, client.now())),
            Cell::new(&token.signature),
        ]);
    }
    let table = context.output.grid(&grid);
    output::print(&table)
}

fn write_join_files(
    context: &Context,
    client: &Client,
    tokens: &[GeneratedToken],
    path: &Path,
    many: bool,
) -> Result<(), CliError> {
    let mut grid = Grid::new([("NODE", 0), ("LEFT", 0), ("FILE", 0)]);
    for token in tokens {
        // A node name has no slash and does not begin with a dot, so it stays in the folder.
        let file = if many { path.join(format!("{}.join", node_of(token))) } else { path.to_owned() };
        replace_file(&file, format!("{}\n", join_of(token)?).as_bytes())?;
        grid.row(vec![
            Cell::new(node_of(token)),
            Cell::new(text::until(token.expires_at, client.now())),
            Cell::new(file.to_string_lossy()),
        ]);
    }
    let table = context.output.grid(&grid);
    output::print(&table)
}
