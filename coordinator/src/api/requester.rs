//! Who asks the KeyVault, for its audit records.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::layers::exchange::RequestId;
use super::peer::PeerAddress;
use super::problem::ApiError;
use crate::auth::Caller;
use crate::keyvault::{Requester, VaultError};

/// A requester without a session, whose credential the handler checks.
#[derive(Debug, Clone)]
pub struct Anonymous {
    /// The client's address.
    pub source: IpAddr,
    /// The same, for the audit trail.
    pub requester: Requester,
}

impl<S: Sync> FromRequestParts<S> for Anonymous {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let PeerAddress(source) = *parts
            .extensions
            .get()
            .ok_or_else(|| ApiError::internal(anyhow::anyhow!("the request has no peer address")))?;
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        let requester = Requester { actor: "anonymous".to_owned(), source: source.to_string(), request_id };
        Ok(Self { source, requester })
    }
}

impl From<&Caller> for Requester {
    fn from(caller: &Caller) -> Self {
        Self { actor: caller.actor(), source: caller.source.clone(), request_id: caller.request_id.clone() }
    }
}

/// The objects here have no owner, so that only a grant for all of them counts.
pub fn everywhere(caller: &Caller, resource: &str, verb: &str) -> Result<(), ApiError> {
    if caller.may_everywhere(resource, verb) {
        Ok(())
    } else {
        Err(ApiError::Forbidden(format!("{resource}:{verb}:*")))
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Refused => Self::TokenRefused,
            VaultError::TooMany { retry_after_seconds } => Self::TooMany { retry_after_seconds },
            VaultError::Invalid { field, detail } => Self::invalid(field, detail),
            VaultError::Csr(refusal) => Self::invalid("/csr", refusal.to_string()),
            VaultError::Conflict(detail) => Self::Conflict(detail),
            VaultError::NotFound(what) => Self::NotFound(what),
            VaultError::Unavailable(detail) => Self::Unavailable(detail.to_owned()),
            fenced @ VaultError::Fenced => Self::Unavailable(fenced.to_string()),
            VaultError::Store(error) => error.into(),
            VaultError::Journal(error) => {
                tracing::error!(%error, "the journal does not take records");
                Self::Unavailable(
                    "the coordinator cannot write its journal; try again in a moment".to_owned(),
                )
            }
            other @ (VaultError::Ca(_) | VaultError::Entropy(_)) => Self::internal(other),
        }
    }
}
