//! `aim-agent run`: the agent itself, under a service manager or by hand.

use std::time::Duration;

use aim_agent::config::Config;
use aim_agent::exit::Exit;
use aim_agent::run::{RunError, run};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use super::{fail, runtime};

pub(super) fn main(config: Config) -> Exit {
    // The journal stamps the lines itself.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    if let Err(error) = aim_agent::log::start(&config.log.filter, !journal) {
        return fail(Exit::Config, &error);
    }
    keep_key_out_of_dumps();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let outcome = runtime.block_on(run(config));
    // A thread that hangs on a disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error @ RunError::NotEnrolled) => fail(Exit::NotEnrolled, &error),
        Err(error) => fail(Exit::Failed, &error),
    }
}

/// A core dump or a debugger of the same user would show the node's key.
fn keep_key_out_of_dumps() {
    let no_core = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let not_dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Err(error) = no_core.and(not_dumpable) {
        tracing::warn!(%error, "this process may be dumped");
    }
}
