//! What can be wrong with a host list, where, and what to do.

use super::{MAX_NAMES, MAX_TEXT};
use crate::identity::IdentityError;

/// Why a text is not a host list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostListError {
    /// There is no name in it.
    #[error("the host list is empty; give names such as gpu[001-128],login1")]
    Empty,
    /// The text is over the limit.
    #[error("the host list has {len} bytes, over the limit of {MAX_TEXT}; fold it or split it")]
    TextTooLong {
        /// Its bytes.
        len: usize,
    },
    /// It stands for more names than are allowed; none was written out.
    #[error("the host list stands for more than {MAX_NAMES} names; split it")]
    TooManyNames,
    /// Something at one place of the text.
    #[error("host list, character {character}: {problem}")]
    At {
        /// The place, counted from 1.
        character: usize,
        /// What is wrong there.
        problem: Problem,
    },
}

/// What is wrong at one place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Problem {
    /// A comma without a name before it, or at the end.
    #[error("a name is missing next to this comma; remove the comma")]
    MissingName,
    /// `[` without `]`.
    #[error("this [ is never closed; add ]")]
    Unclosed,
    /// `]` without `[`.
    #[error("this ] closes nothing; remove it or add [ before it")]
    Unopened,
    /// `[` within brackets.
    #[error("brackets do not nest; write the numbers in one pair, such as [1-4,8]")]
    Nested,
    /// Brackets hold something else than numbers and ranges.
    #[error("expected a number or a range such as 001-128 of at most 18 digits")]
    NotANumber,
    /// A range whose end lies before its start.
    #[error("the range ends before it starts; write the smaller number first")]
    Backwards,
    /// A range whose end is padded otherwise than its start.
    #[error("the range's end would be written {expected}; pad both ends alike")]
    Padding {
        /// The end as its start asks for.
        expected: String,
    },
    /// What comes out is not a node name.
    #[error("{0}")]
    Name(IdentityError),
}
