//! A node's identity as it is used: key, chain, roots and names, checked against each other.

use aim_common::api::keyvault::EnrolResponse;
use aim_common::identity::{
    BACK_DATE_MS, CertificateSerial, NodeId, NodeName, Sha256Digest, SpiffeId, TrustDomain,
};
use aim_common::units::EpochMs;
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::NodeKey;

/// Most certificates in a chain or a bundle of roots.
const MAX_CERTIFICATES: usize = 8;

/// Why an identity is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnfitIdentity {
    /// The PEM text does not hold certificates.
    #[error("the {0} is not a list of 1 to 8 certificates in PEM")]
    Pem(&'static str),
    /// The certificate cannot be read.
    #[error("the node's certificate cannot be read: {0}")]
    Malformed(String),
    /// The certificate is for another key.
    #[error("the certificate is for another key than this node's")]
    OtherKey,
    /// The certificate names another node.
    #[error("the certificate does not name {expected} alone; found {found:?}")]
    OtherNode {
        /// The identity expected.
        expected: String,
        /// What its URI names are.
        found: Vec<String>,
    },
    /// The chain does not lead to a known root, or does not allow client authentication.
    #[error("the certificate's chain is not good: {0}")]
    Chain(rustls::Error),
    /// The pinned root is not among the roots.
    #[error("the answer's roots do not hold the pinned root {0}")]
    PinnedRootMissing(Sha256Digest),
    /// The private key cannot be read.
    #[error(transparent)]
    Key(#[from] super::KeyError),
}

/// What an [`Identity`] is made of.
#[derive(Debug)]
pub struct IdentityParts {
    /// The node's id.
    pub node_id: NodeId,
    /// Its name.
    pub node_name: NodeName,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Addresses of the link, `host:port`.
    pub link_addresses: Vec<String>,
    /// HTTPS addresses of the coordinator, `host:port`.
    pub https_addresses: Vec<String>,
    /// Its key.
    pub key: NodeKey,
    /// Leaf first, then issuing certificates.
    pub chain: Vec<CertificateDer<'static>>,
    /// All roots to trust.
    pub roots: Vec<CertificateDer<'static>>,
}

/// A checked identity.
#[derive(Debug)]
pub struct Identity {
    parts: IdentityParts,
    not_before: EpochMs,
    not_after: EpochMs,
    serial: CertificateSerial,
}

impl std::ops::Deref for Identity {
    type Target = IdentityParts;

    fn deref(&self) -> &IdentityParts {
        &self.parts
    }
}

/// Reads 1 to [`MAX_CERTIFICATES`] certificates.
pub(super) fn certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, UnfitIdentity> {
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CERTIFICATES + 1).collect();
    match read {
        Ok(found) if (1..=MAX_CERTIFICATES).contains(&found.len()) => Ok(found),
        _ => Err(UnfitIdentity::Pem(what)),
    }
}

/// A bundle of roots for a verifier.
pub(crate) fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(store)
}

impl Identity {
    /// Checks that the certificate is for this key and this node alone, that its chain leads to `trusted` and allows
    /// client authentication. Its time is judged by [`super::view_clock`], not here: a wrong clock must not cost a key.
    pub fn new(parts: IdentityParts, trusted: &[CertificateDer<'static>]) -> Result<Self, UnfitIdentity> {
        let malformed = |reason: String| UnfitIdentity::Malformed(reason);
        let leaf = parts.chain.first().ok_or(UnfitIdentity::Pem("certificate chain"))?;
        let (_, certificate) =
            X509Certificate::from_der(leaf).map_err(|error| malformed(error.to_string()))?;
        if certificate.tbs_certificate.subject_pki.raw != parts.key.public_key() {
            return Err(UnfitIdentity::OtherKey);
        }
        check_names(
            &certificate,
            &SpiffeId { trust_domain: parts.trust_domain.clone(), node: parts.node_id },
        )?;
        let validity = certificate.validity();
        let not_before = EpochMs(validity.not_before.timestamp().saturating_mul(1000));
        let not_after = EpochMs(validity.not_after.timestamp().saturating_mul(1000));
        check_chain(&parts.chain, trusted, not_before)?;
        let serial = CertificateSerial::from_bytes(certificate.raw_serial());
        Ok(Self { parts, not_before, not_after, serial })
    }

    /// Makes an identity of the KeyVault's answer. With a pin, the pinned root must be among the answer's roots, and the
    /// chain must lead to it.
    pub fn from_answer(
        key: NodeKey,
        answer: &EnrolResponse,
        trusted: &[CertificateDer<'static>],
    ) -> Result<Self, UnfitIdentity> {
        let parts = IdentityParts {
            node_id: answer.node_id,
            node_name: answer.node_name.clone(),
            trust_domain: answer.trust_domain.clone(),
            link_addresses: answer.link_addresses.clone(),
            https_addresses: answer.https_addresses.clone(),
            key,
            chain: certificates("certificate chain", &answer.certificate_chain)?,
            roots: certificates("bundle of roots", &answer.roots)?,
        };
        Self::new(parts, trusted)
    }

    /// Its validity begins.
    pub fn not_before(&self) -> EpochMs {
        self.not_before
    }

    /// Its validity ends.
    pub fn not_after(&self) -> EpochMs {
        self.not_after
    }

    /// The certificate's serial number.
    pub fn serial(&self) -> &CertificateSerial {
        &self.serial
    }
}

/// The root with the pinned digest, from a bundle in PEM.
pub(super) fn pinned_root(
    roots: &str,
    pin: Sha256Digest,
) -> Result<Vec<CertificateDer<'static>>, UnfitIdentity> {
    let pinned: Vec<_> = certificates("bundle of roots", roots)?
        .into_iter()
        .filter(|root| Sha256Digest::of(root) == pin)
        .collect();
    if pinned.is_empty() { Err(UnfitIdentity::PinnedRootMissing(pin)) } else { Ok(pinned) }
}

fn check_names(certificate: &X509Certificate<'_>, expected: &SpiffeId) -> Result<(), UnfitIdentity> {
    let expected = expected.to_string();
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| UnfitIdentity::Malformed(error.to_string()))?
        .map(|extension| extension.value.general_names.clone())
        .unwrap_or_default();
    let found: Vec<String> = names
        .iter()
        .map(|name| match name {
            GeneralName::URI(uri) => (*uri).to_owned(),
            other => other.to_string(),
        })
        .collect();
    if found == [expected.clone()] { Ok(()) } else { Err(UnfitIdentity::OtherNode { expected, found }) }
}

/// Verifies as the coordinator will, at the moment the certificate begins to be good.
fn check_chain(
    chain: &[CertificateDer<'static>],
    trusted: &[CertificateDer<'static>],
    at: EpochMs,
) -> Result<(), UnfitIdentity> {
    let no_roots = || UnfitIdentity::Chain(CertificateError::UnknownIssuer.into());
    let (leaf, intermediates) = chain.split_first().ok_or_else(no_roots)?;
    let roots = root_store(trusted).map_err(UnfitIdentity::Chain)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), aim_common::tls::provider())
        .build()
        .map_err(|_| no_roots())?;
    let seconds = u64::try_from(at.plus_ms(BACK_DATE_MS).0 / 1000).unwrap_or_default();
    // The issuing certificate may be a few seconds younger than a back-dated leaf: judge a minute before the leaf's end
    // of the back-dating, where both are good.
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier.verify_client_cert(leaf, intermediates, at).map_err(UnfitIdentity::Chain)?;
    Ok(())
}
