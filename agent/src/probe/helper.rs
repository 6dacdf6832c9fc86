//! The helper's process: reads questions from stdin, replies on stdout, ends when stdin ends.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, FrameError};
use super::messages::Ask;
use super::pool::{Pool, Probe};

/// What a helper does when its stdin ends while it is in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It ends: its calls may be cut off.
    AtOnce,
    /// It waits for the call: a process must not be killed inside a GPU driver (AGT-09).
    AfterTheCall,
}

/// Serves the agent at the other end of stdin and stdout until stdin ends.
pub fn serve<P>(probe: P, leave: Leave) -> ExitCode
where
    P: Probe<Question: DeserializeOwned, Answer: Serialize>,
{
    let mut pool = Pool::new(probe);
    let served = own_stdout().and_then(|mut replies| talk(&mut pool, &mut replies));
    if leave == Leave::AfterTheCall {
        pool.wait_until_idle();
    }
    match served {
        Ok(()) => ExitCode::SUCCESS,
        // The agent is gone, killed perhaps: nobody is left to be told.
        Err(FrameError::Pipe(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // The agent reads this helper's stderr into its log.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn talk<P>(pool: &mut Pool<P>, replies: &mut impl Write) -> Result<(), FrameError>
where
    P: Probe<Question: DeserializeOwned, Answer: Serialize>,
{
    let mut questions = io::stdin().lock();
    while let Some(content) = frame::read(&mut questions)? {
        let ask: Ask<P::Question> = frame::decode(&content)?;
        frame::write(replies, &pool.round(ask))?;
    }
    Ok(())
}

/// The pipe for replies, ours alone: whatever a driver's library prints to stdout goes to stderr from here on.
fn own_stdout() -> Result<std::fs::File, FrameError> {
    let pipe: OwnedFd =
        rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3).map_err(|error| FrameError::Pipe(error.into()))?;
    rustix::stdio::dup2_stdout(io::stderr()).map_err(|error| FrameError::Pipe(error.into()))?;
    Ok(pipe.into())
}
