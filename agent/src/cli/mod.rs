//! The command line of `aim-agent`: each command is one file, and ends in an [`Exit`].

mod check;
mod enroll;
mod report;
mod run;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use aim_agent::config::Config;
use aim_agent::exit::{self, Exit};
use clap::{Parser, Subcommand};

/// The AIM agent reports what this node is and does to the AIM coordinator.
#[derive(Debug, Parser)]
#[command(name = "aim-agent", version, about, after_help = exit::HELP, propagate_version = true)]
pub(crate) struct Cli {
    /// Configuration file.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        help = "Configuration file [default: /etc/aim/agent.toml]"
    )]
    config: Option<PathBuf>,
    /// Print the default configuration and end.
    #[arg(long)]
    print_default_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Form of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give this node its identity.
    Enroll(enroll::Args),
    /// Report to the coordinator until SIGTERM.
    Run,
    /// Show whether the agent runs and is connected.
    Status(status::Args),
    /// Show what would be sent.
    Report(report::Args),
    /// Test configuration, files, clock, connectivity and rights; say what to mend.
    Check,
}

/// Runs the command and says on standard error why it failed.
pub(crate) fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed terminal is no reason for another error.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    if cli.print_default_config {
        return match Config::default_text() {
            Ok(text) => say(&text),
            Err(error) => fail(Exit::Failed, &error),
        };
    }
    let Some(command) = cli.command else {
        return fail(Exit::Usage, &"no command given; see aim-agent --help");
    };
    let config = match Config::load(cli.config.as_deref(), std::env::vars()) {
        Ok(config) => config,
        Err(error) => return fail(Exit::Config, &error),
    };
    // Before anything secret is read; `run` and `enroll` say later what the system did not allow.
    let not_private = aim_agent::private_memory::keep();
    match command {
        Command::Enroll(args) => enroll::main(&args, &config, &not_private),
        Command::Run => run::main(config, &not_private),
        Command::Status(args) => status::main(&args, &config),
        Command::Report(args) => report::main(&args, &config),
        Command::Check => check::main(&config),
    }
}

/// Prints to standard output; a reader that went away ends the program quietly.
pub(crate) fn say(text: &str) -> Exit {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}

/// Says why on standard error.
pub(crate) fn fail(exit: Exit, reason: &dyn std::fmt::Display) -> Exit {
    use std::io::Write;
    let line = format!("aim-agent: {}\n", aim_agent::log::escape(&reason.to_string()));
    drop(std::io::stderr().write_all(line.as_bytes()));
    exit
}

/// A runtime on this thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Disk work and name look-ups are rare: their threads need not wait for the next.
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(|error| fail(Exit::Failed, &format!("cannot start the runtime: {error}")))
}
