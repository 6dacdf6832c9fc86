//! `aimctl version`: both ends, and the coordinator's degraded modes.

use aim_common::api::system::Version;

use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell};

/// Arguments of `version`.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Of aimctl only; asks nobody
    #[arg(long)]
    client: bool,
}

/// Runs it.
pub(crate) async fn run(context: &Context, args: VersionArgs) -> Result<(), CliError> {
    let own = env!("CARGO_PKG_VERSION");
    if args.client {
        return output::print(&format!("aimctl {own}\n"));
    }
    let client = context.client().await?;
    let answer = client.get(Route::v1(["version"])).await?;
    context.output.one::<Version>(
        answer,
        |version| version.version.clone(),
        |version| {
            let (oldest, newest) = version.protocol;
            context.output.pairs(vec![
                ("aimctl", Cell::new(own)),
                ("coordinator", Cell::new(&version.version)),
                ("link protocol", Cell::new(format!("{oldest} to {newest}"))),
                ("server", Cell::new(client.server())),
            ])
        },
    )
}
