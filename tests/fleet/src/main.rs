//! `aim-fleet`: thousands of agents in one process, on the real link, for scale tests and for sizing a coordinator.
//!
//! `run` leads; `prepare` enrols; `agent` is one agent over the link's code; `node` is what it reports; `scenario` says
//! what happens to the fleet. docs/sizing.md says how to use it.

mod acklog;
mod agent;
mod args;
mod fleet;
mod gate;
mod node;
mod prepare;
mod random;
mod recoveries;
mod report;
mod run;
mod scenario;
mod spool;
mod tally;
mod verdict;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::report::say;

/// Something that must hold did not.
const BROKEN: u8 = 1;
/// Bad usage or environment.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let summary = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run::run(&args)));
    let told = summary.and_then(|summary| {
        summary.write(args.summary.as_deref())?;
        Ok(summary)
    });
    match told {
        Ok(summary) if summary.ok => ExitCode::SUCCESS,
        Ok(summary) => {
            summary.broken.iter().for_each(|broken| say(&format!("broken: {broken}")));
            ExitCode::from(BROKEN)
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(UNUSABLE)
        }
    }
}
