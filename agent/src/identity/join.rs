//! Where the join string comes from: a private file, standard input or a systemd credential. Never an argument (ENR-19).

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aim_common::enrolment::{JoinError, JoinString};
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// Name of the systemd credential.
const CREDENTIAL: &str = "aim.join";
/// Longest join string with its line feed.
const MAX_LEN: u64 = 17 * 1024;

/// Why there is no join string.
#[derive(Debug, thiserror::Error)]
pub enum JoinSourceError {
    /// The file cannot be used.
    #[error("the join string: {0}")]
    File(#[from] FileError),
    /// Standard input cannot be read.
    #[error("cannot read the join string from standard input: {0}")]
    Stdin(std::io::Error),
    /// The text is not one.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Nothing was given.
    #[error(
        "no join string: give --join-file PATH, --join-file - for standard input, or the systemd credential aim.join"
    )]
    None,
}

/// A place to read the join string from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinSource {
    /// A 0600 file, removed after success.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// `$CREDENTIALS_DIRECTORY/aim.join`.
    Credential(PathBuf),
}

impl JoinSource {
    /// The place that the command line and the environment name.
    pub fn find(argument: Option<&Path>, credentials: Option<&Path>) -> Result<Self, JoinSourceError> {
        match (argument, credentials) {
            (Some(path), _) if path == Path::new("-") => Ok(Self::Stdin),
            (Some(path), _) => Ok(Self::File(path.to_owned())),
            (None, Some(directory)) => Ok(Self::Credential(directory.join(CREDENTIAL))),
            (None, None) => Err(JoinSourceError::None),
        }
    }

    /// Reads it.
    pub fn read(&self) -> Result<JoinString, JoinSourceError> {
        let bytes = match self {
            Self::File(path) => files::read_private(path, MAX_LEN)?,
            Self::Credential(path) => files::read_credential(path, MAX_LEN)?,
            Self::Stdin => {
                let mut bytes = Zeroizing::new(Vec::new());
                std::io::stdin().take(MAX_LEN).read_to_end(&mut bytes).map_err(JoinSourceError::Stdin)?;
                bytes
            }
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| JoinError::Damaged("not text"))?;
        Ok(JoinString::from_str(text)?)
    }

    /// The node is enrolled: the file is of no more use to anybody.
    pub fn consumed(&self) -> Result<(), FileError> {
        match self {
            Self::File(path) => files::remove_durably(path),
            Self::Stdin | Self::Credential(_) => Ok(()),
        }
    }
}
