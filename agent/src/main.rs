//! The AIM agent's program.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A helper process is no command of a user's, and needs neither configuration nor runtime.
    if let Some(code) = aim_agent::probe::run_if_helper(std::env::args_os().skip(1)) {
        return code;
    }
    cli::main().into()
}
