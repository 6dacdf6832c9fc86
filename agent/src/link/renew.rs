//! A new certificate over the session: a new key each time; the answer is checked before anything relies on it.

use std::pin::Pin;
use std::time::Duration;

use aim_common::protocol::{RenewRefusal, RenewResponse};
use aim_common::units::EpochMs;
use rustls_pki_types::CertificateDer;

use super::connection::{Opened, RenewalError};
use crate::identity::{Identity, IdentityParts, KeyError, NodeKey, UnfitIdentity};

/// Why there is no new certificate; the old one is as good as before.
#[derive(Debug, thiserror::Error)]
pub enum RenewalFailure {
    /// No key or no request could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No answer came.
    #[error(transparent)]
    Answer(#[from] RenewalError),
    /// The coordinator said no.
    #[error("the coordinator refused the renewal: {0:?}")]
    Refused(RenewRefusal),
    /// It is not a certificate for this node and key.
    #[error("the renewed certificate is not taken: {0}")]
    Unfit(#[from] UnfitIdentity),
    /// It cannot be written.
    #[error("the renewed certificate cannot be kept: {0}")]
    Store(String),
}

/// A new pair, not yet checked.
pub struct Issued {
    key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

impl Issued {
    /// The pair as an identity: for the same node, and its chain leads to roots that are known already.
    pub fn into_identity(self, former: &Identity) -> Result<Identity, RenewalFailure> {
        let parts = IdentityParts {
            node_id: former.node_id,
            node_name: former.node_name.clone(),
            trust_domain: former.trust_domain.clone(),
            link_addresses: former.link_addresses.clone(),
            https_addresses: former.https_addresses.clone(),
            key: self.key,
            chain: self.chain,
            roots: self.roots,
        };
        Ok(Identity::new(parts, &former.roots)?)
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<RenewResponse, RenewalError>> + Send>>;

/// When to renew, and the question under way.
pub struct Renewal {
    due: EpochMs,
    asked: Option<(NodeKey, Answer)>,
    /// The session has its renewed certificate; the next one will renew that.
    done: bool,
}

impl Renewal {
    /// Nothing is asked; to be renewed at this time.
    pub fn at(due: EpochMs) -> Self {
        Self { due, asked: None, done: false }
    }

    /// The session's certificate was renewed.
    pub(super) fn done(&mut self) {
        self.done = true;
    }

    /// When.
    pub fn due(&self) -> EpochMs {
        self.due
    }

    /// Sleeps until it may be due; for ever while an answer is awaited.
    pub fn wait(&self, now: EpochMs, longest: Duration) -> impl Future<Output = ()> + Send + use<> {
        let idle = self.asked.is_none() && !self.done;
        let left = Duration::from_millis(u64::try_from(self.due.since_ms(now)).unwrap_or_default());
        async move {
            if idle {
                tokio::time::sleep(left.min(longest)).await;
            } else {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Makes a key and asks for its certificate.
    pub fn ask(&mut self, opened: &Opened) -> Result<(), RenewalFailure> {
        let key = NodeKey::generate()?;
        let answer = Box::pin(opened.renewal(key.csr()?.der));
        self.asked = Some((key, answer));
        Ok(())
    }

    /// The answer; never, while nothing was asked. Cancel-safe.
    pub async fn answer(&mut self) -> Result<Box<Issued>, RenewalFailure> {
        let Some((_, answer)) = &mut self.asked else { return std::future::pending().await };
        let answered = answer.await;
        let Some((key, _)) = self.asked.take() else { return std::future::pending().await };
        match answered? {
            RenewResponse::Refused(refusal) => Err(RenewalFailure::Refused(refusal)),
            RenewResponse::Issued { chain_der, roots_der } => {
                let certificates = |list: aim_common::wire::BoundedVec<_, 4>| {
                    list.into_iter()
                        .map(|der: aim_common::wire::BoundedBytes<8192>| CertificateDer::from(der.into_vec()))
                        .collect()
                };
                Ok(Box::new(Issued { key, chain: certificates(chain_der), roots: certificates(roots_der) }))
            }
        }
    }
}
