//! The certificate authority: a root that makes issuing keys, an issuing key that signs everything else.
//!
//! Enters: public keys, ids, names, the time. Leaves: certificates. Never: a private key (except that of the server
//! certificate, which lives in memory), a wish of whoever asks, a need of the root key at run time (PKI-14).

mod create;
mod files;
mod issue;
mod issuing;
mod renew;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub use aim_common::identity::BACK_DATE_MS;
use aim_common::identity::{Sha256Digest, TrustDomain};
use aim_common::units::EpochMs;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

pub use issue::{IssuedCertificate, ServerKeyPair};
pub use renew::IssuingRenewal;

use self::issuing::Issuing;
use crate::entropy::EntropyError;
use crate::private_file::PrivateFileError;

/// Milliseconds of one day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file is missing, unreadable or open to others.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A file does not hold what it should.
    #[error("{}: {reason}; restore it from the backup of the CA folder", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The configuration names another trust domain than the CA was made for.
    #[error(
        "the CA in {} was made for trust domain {made_for}, the configuration says {configured}; nodes know the \
         coordinator by it, so set keyvault.trust_domain back to {made_for}",
        folder.display()
    )]
    TrustDomain {
        /// The CA's folder.
        folder: PathBuf,
        /// What the CA was made for.
        made_for: String,
        /// What the configuration says.
        configured: String,
    },
    /// The database knows certificates, but the CA that issued them is gone.
    #[error(
        "the CA folder {} is missing, but the database holds certificates that it issued; restore it from its \
         backup (a new CA would lock out every node)",
        folder.display()
    )]
    Lost {
        /// The CA's folder.
        folder: PathBuf,
    },
    /// The issuing certificate ran out.
    #[error(
        "the issuing certificate of the CA in {} ran out at {not_after}; put root.key back into the folder, and a \
         start renews it",
        folder.display()
    )]
    IssuingExpired {
        /// The CA's folder.
        folder: PathBuf,
        /// Its end.
        not_after: EpochMs,
    },
    /// A server name is neither a DNS name nor an address.
    #[error("public name {0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// TLS does not take the key or certificate.
    #[error("cannot use a certificate for TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// One certificate of the CA, with what is shown of it.
#[derive(Debug, Clone)]
pub struct CaCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// SHA-256 of the DER: the pin.
    pub sha256: Sha256Digest,
    /// Its subject.
    pub subject: String,
    /// Valid until.
    pub not_after: EpochMs,
}

/// The CA, opened.
pub struct Ca {
    folder: PathBuf,
    trust_domain: TrustDomain,
    /// One root; two while the CA rotates. The first is the one that the issuing certificate comes from.
    roots: Vec<CaCertificate>,
    /// Changes while the coordinator runs, once in nine months.
    issuing: RwLock<Arc<Issuing>>,
}

impl Ca {
    /// Opens the CA in the folder, or makes it where the folder is missing; renews the issuing certificate where that
    /// is due and the root key is there.
    pub fn open_or_create(folder: &Path, trust_domain: &TrustDomain, now: EpochMs) -> Result<Self, CaError> {
        if !folder.exists() {
            create::create(folder, trust_domain, now)?;
        }
        let ca = files::open(folder, trust_domain)?;
        if let Err(error) = ca.renew_issuing_if_due(now) {
            tracing::warn!(%error, "the issuing certificate could not be renewed at the start");
        }
        ca.current(now)?;
        Ok(ca)
    }

    /// The trust domain that the CA was made for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots to trust, the current one first.
    pub fn roots(&self) -> &[CaCertificate] {
        &self.roots
    }

    /// The issuing certificate.
    pub fn issuing(&self) -> CaCertificate {
        self.held().certificate.clone()
    }

    /// SHA-256 of the root that servers send: what the join string pins.
    pub fn pin(&self) -> Sha256Digest {
        self.roots.first().map_or_else(|| self.issuing().sha256, |root| root.sha256)
    }

    /// The roots in PEM, one after the other.
    pub fn bundle_pem(&self) -> String {
        self.roots.iter().map(|root| to_pem(&root.der)).collect()
    }

    /// The roots as trust anchors, for verifying nodes.
    pub fn root_store(&self) -> Result<RootCertStore, CaError> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store.add(root.der.clone())?;
        }
        Ok(store)
    }

    fn held(&self) -> Arc<Issuing> {
        Arc::clone(&self.issuing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The issuing key, while its certificate is good: nothing is signed that nobody would accept.
    fn current(&self, now: EpochMs) -> Result<Arc<Issuing>, CaError> {
        let issuing = self.held();
        let not_after = issuing.certificate.not_after;
        if not_after <= now {
            return Err(CaError::IssuingExpired { folder: self.folder.clone(), not_after });
        }
        Ok(issuing)
    }

    /// The issuing certificate that signed this leaf and the root, in the order in which they follow it.
    fn chain_of(&self, leaf: &CertificateDer<'_>) -> impl Iterator<Item = CertificateDer<'static>> {
        let issuing = self.held().that_signed(leaf).der.clone();
        std::iter::once(issuing).chain(self.roots.first().map(|root| root.der.clone()))
    }
}

/// A certificate in PEM.
pub fn to_pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (position, character) in text.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod issuing_tests;
#[cfg(test)]
pub(crate) mod tests;
