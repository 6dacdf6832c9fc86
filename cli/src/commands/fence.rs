//! `aimctl fence`: whether the coordinator's database looks like a restored backup.

use aim_common::api::certificates::FenceView;
use reqwest::Method;

use crate::client::Route;
use crate::context::{Context, confirm};
use crate::error::CliError;
use crate::output::{Cell, Tone, text};

/// What can be done with the fence.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum FenceCommand {
    /// Show whether enrolment is stopped, since when, and why
    Show,
    /// Accept the database as it is; tokens and revocations of the journal stay in force
    Lift {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: FenceCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    let fence = match command {
        FenceCommand::Show => client.get(Route::v1(["fence"])).await?,
        FenceCommand::Lift { yes } => {
            confirm(yes, "the database will be accepted as it is, and enrolment go on")?;
            client.change(Method::POST, Route::v1(["fence", "lift"]), None::<&()>).await?
        }
    };
    let view = Context::view(&client);
    context.output.one::<FenceView>(
        fence,
        |fence| if fence.fenced { "fenced" } else { "open" }.to_owned(),
        |fence| {
            let state = if fence.fenced {
                Cell::new("fenced: nobody is enrolled").tone(Tone::Bad)
            } else {
                Cell::new("open").tone(Tone::Good)
            };
            context.output.pairs(vec![
                ("state", state),
                ("since", Cell::or_none(fence.since.map(|at| format!("{} ago", text::ago(at, view.now))))),
                ("reason", Cell::or_none(fence.reason.as_ref())),
            ])
        },
    )
}
