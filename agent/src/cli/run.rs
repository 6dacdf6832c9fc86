//! `aim-agent run`: the agent itself, under a service manager or by hand.

use std::time::Duration;

use aim_agent::config::Config;
use aim_agent::exit::Exit;
use aim_agent::run::{RunError, run};

use super::{fail, runtime};

pub(super) fn main(config: Config, not_private: &[String]) -> Exit {
    // The journal stamps the lines itself.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = match aim_agent::log::start(&config.log.filter, !journal) {
        Ok(log) => log,
        Err(error) => return fail(Exit::Config, &error),
    };
    for reason in not_private {
        tracing::warn!("{reason}");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let outcome = runtime.block_on(run(config));
    // A thread that hangs on a disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(()) => Exit::Ok,
        // Not by `fail`: a journal that nobody reads must not keep a dead agent from ending.
        Err(error) => {
            log.last_words(&error);
            if matches!(error, RunError::NotEnrolled) { Exit::NotEnrolled } else { Exit::Failed }
        }
    }
}
