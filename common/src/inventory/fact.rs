//! A value, or the reason why it is not known: never zero, never empty for "unknown".

use serde::{Deserialize, Serialize};

/// Why a value is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnknownReason {
    /// Only root may read it.
    NeedsRoot,
    /// The agent lacks a capability that its unit should grant.
    NeedsCapability,
    /// The hardware, firmware or driver does not offer it ("N/A").
    NotSupported,
    /// The source does not exist on this node.
    NotPresent,
    /// The source does not answer.
    Unresponsive,
    /// The source answered with an error.
    ReadFailed,
    /// The source answered with something that is not a value.
    Malformed,
    /// Not read yet.
    NotYet,
}

/// A value, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// The value.
    Known(T),
    /// Why there is none.
    Unknown(UnknownReason),
}

impl<T> Fact<T> {
    /// The value, if known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> From<Result<T, UnknownReason>> for Fact<T> {
    fn from(read: Result<T, UnknownReason>) -> Self {
        match read {
            Ok(value) => Self::Known(value),
            Err(reason) => Self::Unknown(reason),
        }
    }
}
