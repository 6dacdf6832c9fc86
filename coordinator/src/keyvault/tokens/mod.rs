//! One-time tokens: issued to people, redeemed by nodes and installers, swept when they ended.
//!
//! Enters: orders of people, presented tokens, the time. Leaves: tokens (once), decisions. Never: a token's secret in
//! the database, a second redemption, a reason for a refusal.

mod deadlines;
mod decision;
mod issue;

use std::net::IpAddr;

use aim_common::enrolment::{Nonce, TokenId, TokenPurpose, TokenSignature};
use aim_common::identity::{NodeName, Sha256Digest};

pub(super) use deadlines::Deadlines;
pub use decision::{Moment, Presented, StoredToken, TokenRefusal, decide};
pub use issue::TokenOrder;

use super::KeyVault;
use super::error::{Requester, VaultError};
use crate::store::StoreError;
use crate::store::audit::{Decision, NewAuditRecord};

/// A token as somebody sent it.
pub struct PresentedToken {
    /// The token.
    pub token: TokenId,
    /// Its nonce.
    pub nonce: Nonce,
    /// Its signature.
    pub signature: TokenSignature,
}

impl PresentedToken {
    /// From the three texts; `None` where one of them is malformed.
    pub fn parse(token: &str, nonce: &str, signature: &str) -> Option<Self> {
        Some(Self {
            token: token.parse().ok()?,
            nonce: nonce.parse().ok()?,
            signature: signature.parse().ok()?,
        })
    }
}

/// What a token is presented for.
pub(super) struct Use<'a> {
    pub(super) purpose: TokenPurpose,
    pub(super) node: Option<&'a NodeName>,
    pub(super) public_key: Option<Sha256Digest>,
    pub(super) source: IpAddr,
}

/// A token that may be redeemed: its row, and the hash that claims it.
pub(super) struct GoodToken {
    pub(super) stored: StoredToken,
    pub(super) hash: Sha256Digest,
}

impl KeyVault {
    /// Now, by both clocks.
    pub(super) fn moment(&self) -> Moment {
        Moment { wall: self.clock.now(), monotonic: self.clock.monotonic() }
    }

    /// Refuses an address that failed too often, before anything is computed (ENR-12).
    pub(super) fn admit(&self, source: IpAddr) -> Result<(), VaultError> {
        match self.failures.refused_for(source, self.clock.monotonic()) {
            Some(retry_after_seconds) => Err(VaultError::TooMany { retry_after_seconds }),
            None => Ok(()),
        }
    }

    /// Decides over a presented token without consuming it. Malformed ones are `None` and refused like all others.
    pub(super) async fn examine(
        &self,
        presented: Option<&PresentedToken>,
        wanted: &Use<'_>,
        requester: &Requester,
    ) -> Result<GoodToken, VaultError> {
        let Some(presented) = presented else {
            return Err(self.refuse_token(None, TokenRefusal::Unknown, wanted, requester).await?);
        };
        let hash = Sha256Digest::from_bytes(self.token_key.storage_hash(&presented.token));
        let stored = self.store.token_outstanding(&hash).await?;
        // What the journal knows is dead, whatever an older database says (ENR-15).
        let stored = stored.filter(|_| !self.journal_has_redeemed(&hash));
        let now = self.moment();
        let deadline = match &stored {
            Some(stored) => self.deadlines.of(&hash, stored.expires_at, now),
            None => now.monotonic,
        };
        let presented = Presented {
            purpose: wanted.purpose,
            token: &presented.token,
            nonce: &presented.nonce,
            signature: &presented.signature,
            node: wanted.node,
            source: wanted.source,
            public_key: wanted.public_key,
        };
        match decide(&self.token_key, stored.as_ref(), &presented, now, deadline) {
            Ok(()) => stored.map(|stored| GoodToken { stored, hash }).ok_or(VaultError::Refused),
            Err(refusal) => {
                let stored = stored.as_ref().map(|stored| (stored, &hash));
                Err(self.refuse_token(stored, refusal, wanted, requester).await?)
            }
        }
    }

    /// Counts and records a refusal, and gives the one error that all of them share.
    async fn refuse_token(
        &self,
        stored: Option<(&StoredToken, &Sha256Digest)>,
        refusal: TokenRefusal,
        wanted: &Use<'_>,
        requester: &Requester,
    ) -> Result<VaultError, StoreError> {
        let now = self.moment();
        self.failures.failed(wanted.source, now.monotonic);
        if let (Some((stored, hash)), TokenRefusal::Signature) = (stored, refusal)
            && self.store.token_failed(stored.id, now.wall).await?
        {
            self.deadlines.forget(hash);
        }
        // Once seen to be over it is over, whatever the wall clock does next (ENR-06).
        if let (Some((stored, hash)), TokenRefusal::Expired) = (stored, refusal)
            && stored.expires_at <= now.wall
        {
            self.store.token_expire(hash, now.wall).await?;
            self.deadlines.forget(hash);
        }
        let target = stored.map_or_else(|| "token".to_owned(), |(stored, _)| format!("token:{}", stored.id));
        let detail = serde_json::json!({
            "purpose": wanted.purpose.as_str(),
            "reason": refusal.as_str(),
            "node": wanted.node.map(NodeName::as_str),
        });
        self.store
            .audit_append(&self.audit(requester, "token.redeem", target, Decision::Denied, detail))
            .await?;
        Ok(VaultError::Refused)
    }

    /// Counts and records that somebody else redeemed the token between its examination and its claim.
    pub(super) async fn refuse_late(
        &self,
        good: &GoodToken,
        wanted: &Use<'_>,
        requester: &Requester,
    ) -> Result<VaultError, StoreError> {
        self.refuse_token(Some((&good.stored, &good.hash)), TokenRefusal::Unknown, wanted, requester).await
    }

    /// A record for the audit trail.
    pub(super) fn audit(
        &self,
        requester: &Requester,
        action: &'static str,
        target: String,
        decision: Decision,
        detail: serde_json::Value,
    ) -> NewAuditRecord {
        NewAuditRecord {
            at: self.clock.now(),
            actor: requester.actor.clone(),
            source: requester.source.clone(),
            action,
            target,
            decision,
            detail,
            request_id: requester.request_id.clone(),
        }
    }

    /// Revokes an outstanding token by the number of its row.
    pub async fn revoke_token(&self, id: i64, requester: &Requester) -> Result<(), VaultError> {
        let detail = serde_json::json!({});
        let record = self.audit(requester, "token.revoke", format!("token:{id}"), Decision::Allowed, detail);
        let Some(hash) = self.store.token_revoke(id, &record).await? else {
            return Err(VaultError::NotFound("the token"));
        };
        // Otherwise issuing and revoking in turn would fill the memory beyond the cap (ENR-16).
        self.deadlines.forget(&hash);
        Ok(())
    }

    /// Ends expired tokens, and forgets the secrets of all that ended (ENR-14).
    pub(super) async fn sweep_tokens(&self) -> Result<(), StoreError> {
        let now = self.moment();
        self.store.tokens_expire(now.wall).await?;
        for hash in self.deadlines.take_expired(now.monotonic) {
            self.store.token_expire(&hash, now.wall).await?;
        }
        Ok(())
    }
}
