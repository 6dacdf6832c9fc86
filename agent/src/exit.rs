//! The exit codes of `aim-agent`, for scripts and the service manager.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// It failed for a reason without a code of its own.
    Failed = 1,
    /// Wrong command line.
    Usage = 2,
    /// `status`: the agent runs and is not connected.
    NotConnected = 3,
    /// `status`: the agent does not run, or stopped writing its status.
    NotRunning = 4,
    /// The coordinator is not the one that the join string names: nothing was sent to it.
    PinMismatch = 10,
    /// The coordinator refused the token, the name or the key.
    Refused = 11,
    /// No address of the coordinator answers.
    Unreachable = 12,
    /// This machine's clock does not fit the certificates.
    Clock = 13,
    /// This node has no identity yet.
    NotEnrolled = 14,
    /// This node has an identity already.
    AlreadyEnrolled = 15,
    /// Nobody approved the request in the time given.
    NotApproved = 16,
    /// The configuration cannot be used; the service manager shall not restart the agent.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table for `--help`.
pub const HELP: &str = "\
Exit codes:
  0   all is well
  1   failed; the message says why
  2   wrong command line
  3   status: running, not connected
  4   status: not running, or the status is stale
  10  the coordinator is not the one the join string names (nothing was sent)
  11  the coordinator refused the token, name or key
  12  no address of the coordinator answers
  13  this machine's clock does not fit the certificates
  14  this node is not enrolled
  15  this node is enrolled already
  16  not approved in the time given
  78  the configuration cannot be used";
