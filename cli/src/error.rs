//! What can go wrong, said for a person, and the exit code that scripts see.

use std::path::PathBuf;

use aim_common::api::problem::Problem;

/// The documented exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    /// The request failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was asked for does not exist, or is outside the caller's scope.
    NotFound = 3,
    /// Not logged in, or not allowed.
    Denied = 4,
    /// The coordinator could not be reached, or could not prove who it is.
    Unreachable = 5,
    /// It collides with what is there.
    Conflict = 6,
    /// Too many requests, or a part of the coordinator is not available now.
    TryLater = 7,
    /// The configuration on this machine is wrong.
    Config = 78,
}

/// The table in `--help` and in the man page.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done, as observed
   1  the request failed, or a verification found damage
   2  the command line is wrong
   3  not found, or outside your permissions' scope
   4  not logged in, or not allowed
   5  the coordinator was not reached, or could not prove who it is
   6  conflict with what is there
   7  too many requests, or not available now: try again later
  78  the configuration on this machine is wrong (file and line are named)
With several targets the code is that of the first target that failed.";

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line is wrong in a way that the parser cannot see.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{path}:{line}: {detail}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Line from 1.
        line: usize,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// No session, or a dead one.
    #[error("{0}")]
    NotLoggedIn(String),
    /// The coordinator refused.
    #[error("{tried}: {detail} ({code}, request id {id})", detail = problem.detail, code = problem.code, id = problem.request_id)]
    Refused {
        /// What was tried on what.
        tried: String,
        /// Its answer.
        problem: Box<Problem>,
    },
    /// The coordinator answered with something else than the API.
    #[error("{tried}: {detail}")]
    BadAnswer {
        /// What was tried on what.
        tried: String,
        /// What came instead.
        detail: String,
    },
    /// No connection.
    #[error("{tried}: {reason}\n  {advice}")]
    Unreachable {
        /// What was tried on what.
        tried: String,
        /// Why not.
        reason: String,
        /// What to do next.
        advice: String,
    },
    /// A local file could not be read or written.
    #[error("{what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something else, said whole.
    #[error("{0}")]
    Failed(String),
    /// Standard output could not be written.
    #[error("writing to standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// The exit code that scripts see.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Config { .. } => Exit::Config,
            Self::NotLoggedIn(_) => Exit::Denied,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused { problem, .. } => match problem.status {
                401 | 403 => Exit::Denied,
                404 | 410 => Exit::NotFound,
                409 | 412 => Exit::Conflict,
                429 | 503 => Exit::TryLater,
                _ => Exit::Failed,
            },
            Self::BadAnswer { .. } | Self::File { .. } | Self::Failed(_) | Self::Output(_) => Exit::Failed,
        }
    }

    /// The reader of standard output went away (`aimctl … | head`), which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> CliError {
        let problem = Problem {
            problem_type: "urn:aim:problem:x".into(),
            title: "x".into(),
            status,
            code: "x".into(),
            detail: "the node was not found".into(),
            request_id: "r-1".into(),
            field: None,
        };
        CliError::Refused { tried: "GET /api/v1/nodes/x".into(), problem: Box::new(problem) }
    }

    #[test]
    fn exit_codes_follow_the_status() {
        let codes = [
            (400, Exit::Failed),
            (401, Exit::Denied),
            (403, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (429, Exit::TryLater),
            (500, Exit::Failed),
            (503, Exit::TryLater),
        ];
        for (status, expected) in codes {
            assert_eq!(refused(status).exit(), expected, "{status}");
        }
    }

    #[test]
    fn every_exit_code_is_documented() {
        for code in [1, 2, 3, 4, 5, 6, 7, 78] {
            assert!(
                EXIT_CODES.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
                "{code}"
            );
        }
    }

    #[test]
    fn a_refusal_names_request_code_and_id() {
        let text = refused(404).to_string();
        for part in ["GET /api/v1/nodes/x", "the node was not found", "r-1"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
