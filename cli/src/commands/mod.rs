//! The commands, one file a noun: its arguments, its columns, its requests.

pub(crate) mod approval;
pub(crate) mod audit;
pub(crate) mod cert;
pub(crate) mod event;
pub(crate) mod fence;
pub(crate) mod login;
pub(crate) mod node;
pub(crate) mod role;
pub(crate) mod salt_key;
pub(crate) mod session;
pub(crate) mod shell;
pub(crate) mod token;
pub(crate) mod user;
pub(crate) mod version;
mod watch;

use crate::args::{Cli, Command};
use crate::context::Context;
use crate::error::CliError;

/// Runs the command that was given.
pub(crate) async fn run(cli: Cli) -> Result<(), CliError> {
    // These two need no configuration.
    match &cli.command {
        Command::Completions(args) => return shell::completions(args),
        Command::Man(args) => return shell::man(args),
        _ => {}
    }
    let context = Context::new(&cli.global)?;
    match cli.command {
        Command::Completions(_) | Command::Man(_) => Ok(()),
        Command::Login(args) => login::login(&context, args).await,
        Command::Logout => login::logout(&context).await,
        Command::Whoami => login::whoami(&context).await,
        Command::Node(command) => node::run(&context, command).await,
        Command::Token(command) => token::run(&context, command).await,
        Command::Approval(command) => approval::run(&context, command).await,
        Command::Cert(command) => cert::run(&context, command).await,
        Command::User(command) => user::run(&context, command).await,
        Command::Role(command) => role::run(&context, command).await,
        Command::Session(command) => session::run(&context, command).await,
        Command::Event(command) => event::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Fence(command) => fence::run(&context, command).await,
        Command::SaltKey(command) => salt_key::run(&context, command).await,
        Command::Version(args) => version::run(&context, args).await,
    }
}
