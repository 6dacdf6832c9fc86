//! The issuing key in use, and the certificates of those before it that have not ended.

use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::X509Certificate;

use super::CaCertificate;

/// The key that signs, with its certificate.
pub(super) struct Issuing {
    pub(super) certificate: CaCertificate,
    /// What was signed before the last renewal still needs these in its chain.
    pub(super) former: Vec<CaCertificate>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Issuing {
    /// The certificate whose key signed this leaf.
    pub(super) fn that_signed(&self, leaf: &CertificateDer<'_>) -> &CaCertificate {
        let signer =
            x509_parser::parse_x509_certificate(leaf).ok().and_then(|(_, leaf)| authority_key(&leaf));
        let signed = |issuing: &&CaCertificate| signer.is_some() && subject_key(&issuing.der) == signer;
        self.former.iter().find(signed).unwrap_or(&self.certificate)
    }
}

/// The key identifier of whoever signed the certificate.
pub(super) fn authority_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => {
            authority.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    })
}

/// The identifier of the certificate's own key.
pub(super) fn subject_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}
