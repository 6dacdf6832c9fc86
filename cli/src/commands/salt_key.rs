//! `aimctl salt-key`: the Salt master's public key that the KeyVault hands out.

use std::path::PathBuf;

use aim_common::api::salt::{MasterKeyView, PutMasterKeyRequest};
use reqwest::Method;
use serde_json::Value;

use crate::client::Route;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, Cell, View, text};

/// Longest key file; an RSA key of 16 Kibit is far below it.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// What can be done with the key.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SaltKeyCommand {
    /// Show the key's fingerprint
    Show {
        /// Write the key itself, byte for byte
        #[arg(long)]
        pem: bool,
    },
    /// Import the key, as the Salt master has it in /etc/salt/pki/master/master.pub
    #[command(
        after_help = "Compare the fingerprint shown with: salt-call --local key.finger_master (on a minion)"
    )]
    Import {
        /// The key's file
        file: PathBuf,
        /// Another key is there and is to be replaced
        #[arg(long)]
        replace: bool,
    },
}

/// Runs it.
pub(crate) async fn run(context: &Context, command: SaltKeyCommand) -> Result<(), CliError> {
    let client = context.client().await?;
    let route = Route::v1(["salt", "master-key"]);
    let key = match command {
        SaltKeyCommand::Show { pem: true } => {
            let key: MasterKeyView = output::typed(client.get(route).await?)?;
            return output::print(&key.pem);
        }
        SaltKeyCommand::Show { pem: false } => client.get(route).await?,
        SaltKeyCommand::Import { file, replace } => {
            let length = std::fs::metadata(&file).map_err(CliError::file("reading", &file))?.len();
            if length > MAX_KEY_BYTES {
                return Err(CliError::Usage(format!("{} is too long for a public key", file.display())));
            }
            let pem = std::fs::read_to_string(&file).map_err(CliError::file("reading", &file))?;
            let request = PutMasterKeyRequest { pem, replace };
            client.change(Method::PUT, route, Some(&request)).await?
        }
    };
    show(context, key, Context::view(&client))
}

fn show(context: &Context, key: Value, view: View) -> Result<(), CliError> {
    context.output.one::<MasterKeyView>(
        key,
        |key| key.fingerprint.clone(),
        |key| {
            context.output.pairs(vec![
                ("fingerprint", Cell::new(&key.fingerprint)),
                ("imported", Cell::new(format!("{} ago", text::ago(key.imported_at, view.now)))),
                ("by", Cell::new(&key.imported_by)),
            ])
        },
    )
}
