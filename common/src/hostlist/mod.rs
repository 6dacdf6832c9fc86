//! Host lists: `gpu[001-128,130],login1` written out to node names, and node names folded back.
//!
//! Enters: a person's text, or names. Leaves: at most 100,000 distinct names in their order, or one short line.
//! Never: memory for more names than are allowed, whatever the text claims.

mod error;
mod fold;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use error::{HostListError, Problem};

use crate::identity::NodeName;

/// Longest text: a thousand lines of names as a person pastes them.
pub const MAX_TEXT: usize = 64 * 1024;
/// Most names of one list: twice the largest fleet.
pub const MAX_NAMES: usize = 100_000;

/// Distinct node names in the order in which they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostList(Vec<NodeName>);

impl HostList {
    /// Reads names separated by commas or white space; `[1-3,7]` stands for each of its numbers, padded as written.
    ///
    /// A name that comes again, in whatever case, counts once.
    pub fn parse(text: &str) -> Result<Self, HostListError> {
        parse::parse(text).map(Self)
    }

    /// The shortest usual writing of the names: sorted as a person counts, runs of numbers folded.
    pub fn fold<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> String {
        let names: Vec<N> = names.into_iter().collect();
        fold::fold(names.iter().map(AsRef::as_ref))
    }

    /// The names.
    pub fn iter(&self) -> std::slice::Iter<'_, NodeName> {
        self.0.iter()
    }

    /// How many names; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "an empty text is not a host list")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The names, owned.
    pub fn into_vec(self) -> Vec<NodeName> {
        self.0
    }
}

impl FromStr for HostList {
    type Err = HostListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::fold(&self.0))
    }
}

impl IntoIterator for HostList {
    type Item = NodeName;
    type IntoIter = std::vec::IntoIter<NodeName>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a HostList {
    type Item = &'a NodeName;
    type IntoIter = std::slice::Iter<'a, NodeName>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
