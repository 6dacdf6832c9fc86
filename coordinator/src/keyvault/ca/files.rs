//! The CA's folder: what is read from it, and when it is refused.

use std::path::Path;

use aim_common::identity::{Sha256Digest, TrustDomain};
use aim_common::units::EpochMs;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use super::{Ca, CaCertificate, CaError};
use crate::private_file;

/// Read when a new issuing key is made, and at no other time.
pub(super) const ROOT_KEY: &str = "root.key";
/// One root certificate; two while the CA rotates.
pub(super) const ROOTS: &str = "roots.pem";
/// The key that signs.
pub(super) const ISSUING_KEY: &str = "issuing.key";
/// Its certificate.
pub(super) const ISSUING: &str = "issuing.pem";

/// Largest file of the folder: a few certificates.
const MAX_BYTES: u64 = 64 * 1024;
/// The bundle holds the current root and, while the CA rotates, the other one.
const MAX_ROOTS: usize = 2;

/// Opens and checks everything that serving needs; the root key is only checked, and may be away.
pub(super) fn open(folder: &Path, trust_domain: &TrustDomain, now: EpochMs) -> Result<Ca, CaError> {
    private_file::check_directory(folder)?;
    let root_key = folder.join(ROOT_KEY);
    if root_key.exists() {
        private_file::read(&root_key, MAX_BYTES)?;
    }
    let content =
        |name: &str, reason: &str| CaError::Content { path: folder.join(name), reason: reason.to_owned() };

    let roots = certificates(folder, ROOTS)?;
    if roots.len() > MAX_ROOTS {
        return Err(content(ROOTS, "it holds more than two roots"));
    }
    let issuing =
        certificates(folder, ISSUING)?.pop().ok_or_else(|| content(ISSUING, "it holds no certificate"))?;
    let key_pem = private_file::read(&folder.join(ISSUING_KEY), MAX_BYTES)?;
    let key = std::str::from_utf8(&key_pem)
        .ok()
        .and_then(|pem| KeyPair::from_pem(pem).ok())
        .ok_or_else(|| content(ISSUING_KEY, "it holds no private key in PEM"))?;

    let (_, parsed) = x509_parser::parse_x509_certificate(&issuing.der)
        .map_err(|_| content(ISSUING, "the certificate is damaged"))?;
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(content(ISSUING_KEY, "the key does not belong to issuing.pem"));
    }
    let made_for = trust_domain_of(&parsed).ok_or_else(|| content(ISSUING, "it names no trust domain"))?;
    if made_for != trust_domain.as_str() {
        return Err(CaError::TrustDomain {
            folder: folder.to_owned(),
            made_for,
            configured: trust_domain.to_string(),
        });
    }
    if issuing.not_after <= now {
        return Err(CaError::IssuingExpired { folder: folder.to_owned(), not_after: issuing.not_after });
    }
    // The root that signed the issuing certificate comes first: it is what servers send and agents pin.
    let signer = authority_key(&parsed);
    let mut roots = roots;
    roots.sort_by_key(|root| signer.is_none() || subject_key(&root.der) != signer);
    let issuer = Issuer::from_ca_cert_der(&issuing.der, key)?;
    Ok(Ca { trust_domain: trust_domain.clone(), roots, issuing, issuer })
}

fn certificates(folder: &Path, name: &str) -> Result<Vec<CaCertificate>, CaError> {
    let path = folder.join(name);
    let damaged = |reason: &str| CaError::Content { path: path.clone(), reason: reason.to_owned() };
    let pem = private_file::read(&path, MAX_BYTES)?;
    let mut found = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem) {
        let der = der.map_err(|_| damaged("it is not PEM"))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| damaged("a certificate is damaged"))?;
        let (subject, not_after) = (parsed.subject().to_string(), parsed.validity().not_after.timestamp());
        let sha256 = Sha256Digest::of(&der);
        found.push(CaCertificate {
            der,
            sha256,
            subject,
            not_after: EpochMs(not_after.saturating_mul(1000)),
        });
    }
    if found.is_empty() { Err(damaged("it holds no certificate")) } else { Ok(found) }
}

fn authority_key(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => {
            authority.key_identifier.as_ref().map(|id| id.0.to_vec())
        }
        _ => None,
    })
}

fn subject_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(ToOwned::to_owned),
        _ => None,
    })
}
