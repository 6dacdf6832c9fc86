//! aimctl: the command line client of AIM's public API, and of nothing else.

mod args;
mod client;
mod clock;
mod commands;
mod context;
mod error;
mod output;
mod profile;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::error::{CliError, Exit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(CliError::Failed(format!("starting the runtime: {error}")))),
    };
    finish(runtime.block_on(commands::run(cli)))
}

fn finish(outcome: Result<(), CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "aimctl: {}", output::text::escape_lines(&error.to_string()));
            code(error.exit())
        }
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}
