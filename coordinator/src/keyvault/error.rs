//! Why the KeyVault did not do what was asked, and who asked.

use super::ca::CaError;
use super::csr::CsrError;
use super::journal::JournalError;
use crate::entropy::EntropyError;
use crate::store::StoreError;

/// Who asks, for the audit trail.
#[derive(Debug, Clone)]
pub struct Requester {
    /// `user:NAME`, `node:ID`, `anonymous`, `coordinator` or `host:UID`.
    pub actor: String,
    /// Address, or empty.
    pub source: String,
    /// The request's id, or empty.
    pub request_id: String,
}

impl Requester {
    /// The coordinator itself.
    pub fn coordinator() -> Self {
        Self { actor: "coordinator".to_owned(), source: String::new(), request_id: String::new() }
    }
}

/// A refusal, or a fault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The token or proof is not good; whoever presents it learns no more than that (ENR-02).
    #[error("the token is not valid")]
    Refused,
    /// Too many failures of this address, or too many tokens outstanding.
    #[error("too many requests; try again in {retry_after_seconds} s")]
    TooMany {
        /// Seconds to wait.
        retry_after_seconds: u64,
    },
    /// A value cannot be used.
    #[error("{detail}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong, and what is expected.
        detail: String,
    },
    /// The certificate request is refused.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// It collides with what is there.
    #[error("{0}")]
    Conflict(String),
    /// There is no such thing.
    #[error("{0} was not found")]
    NotFound(&'static str),
    /// It cannot be done now.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The database looks like a restored backup.
    #[error(
        "the coordinator is fenced: its database is older than its journal; look at GET /api/v1/fence and decide"
    )]
    Fenced,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal did not do it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The CA did not do it.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl VaultError {
    /// A refused field.
    pub(super) fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }
}
