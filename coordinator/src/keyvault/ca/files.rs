//! The CA's folder: what is read from it, and when it is refused.

use std::path::Path;
use std::sync::{Arc, RwLock};

use aim_common::identity::{Sha256Digest, TrustDomain};
use aim_common::units::EpochMs;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::issuing::{Issuing, authority_key, subject_key};
use super::{Ca, CaCertificate, CaError, to_pem};
use crate::private_file::{self, PrivateFileError};

/// Read when a new issuing key is made, and at no other time.
pub(super) const ROOT_KEY: &str = "root.key";
/// One root certificate; two while the CA rotates.
pub(super) const ROOTS: &str = "roots.pem";
/// The key that signs.
pub(super) const ISSUING_KEY: &str = "issuing.key";
/// Its certificate, then those before it that have not ended.
pub(super) const ISSUING: &str = "issuing.pem";
/// The next key, whole before the next certificate is there.
pub(super) const NEXT_KEY: &str = "issuing.next.key";
/// The next certificates: from the moment this is there the renewal is decided.
pub(super) const NEXT: &str = "issuing.next.pem";

/// Largest file of the folder: a few certificates.
pub(super) const MAX_BYTES: u64 = 64 * 1024;
/// The bundle holds the current root and, while the CA rotates, the other one.
const MAX_ROOTS: usize = 2;

/// Opens and checks everything that serving needs; the root key is only checked, and may be away.
pub(super) fn open(folder: &Path, trust_domain: &TrustDomain) -> Result<Ca, CaError> {
    private_file::check_directory(folder)?;
    settle(folder)?;
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
    let mut former = certificates(folder, ISSUING)?;
    let issuing = former.remove(0);
    let key = key_pair(folder, ISSUING_KEY)?;

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
    // The root that signed the issuing certificate comes first: it is what servers send and agents pin.
    let signer = authority_key(&parsed);
    let mut roots = roots;
    roots.sort_by_key(|root| signer.is_none() || subject_key(&root.der) != signer);
    let issuer = Issuer::from_ca_cert_der(&issuing.der, key)?;
    let issuing = RwLock::new(Arc::new(Issuing { certificate: issuing, former, issuer }));
    Ok(Ca { folder: folder.to_owned(), trust_domain: trust_domain.clone(), roots, issuing })
}

/// Reads a private key; refused where others could.
pub(super) fn key_pair(folder: &Path, name: &str) -> Result<KeyPair, CaError> {
    let path = folder.join(name);
    let pem = zeroize::Zeroizing::new(private_file::read(&path, MAX_BYTES)?);
    let key = std::str::from_utf8(&pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
    key.ok_or(CaError::Content { path, reason: "it holds no private key in PEM".to_owned() })
}

/// Replaces issuing key and certificates; after a crash at any point [`settle`] has one pair or the other.
pub(super) fn replace_issuing(folder: &Path, key: &KeyPair, issuing: &Issuing) -> Result<(), CaError> {
    let key = zeroize::Zeroizing::new(key.serialize_pem());
    private_file::write(&folder.join(NEXT_KEY), key.as_bytes())?;
    let certificates = std::iter::once(&issuing.certificate).chain(&issuing.former);
    let pem: String = certificates.map(|certificate| to_pem(&certificate.der)).collect();
    private_file::write(&folder.join(NEXT), pem.as_bytes())?;
    settle(folder)
}

/// Ends a replacement: forwards once the next certificates are there, backwards before.
fn settle(folder: &Path) -> Result<(), CaError> {
    let (key, certificates) = (folder.join(NEXT_KEY), folder.join(NEXT));
    if certificates.exists() {
        if key.exists() {
            private_file::rename(&key, &folder.join(ISSUING_KEY))?;
        }
        private_file::rename(&certificates, &folder.join(ISSUING))?;
    } else if key.exists() {
        std::fs::remove_file(&key).map_err(|source| PrivateFileError::Io {
            action: "remove",
            path: key,
            source,
        })?;
    }
    Ok(())
}

fn certificates(folder: &Path, name: &str) -> Result<Vec<CaCertificate>, CaError> {
    let path = folder.join(name);
    let damaged = |reason: &str| CaError::Content { path: path.clone(), reason: reason.to_owned() };
    let pem = private_file::read(&path, MAX_BYTES)?;
    let mut found = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem) {
        let der = der.map_err(|_| damaged("it is not PEM"))?;
        found.push(described(der).ok_or_else(|| damaged("a certificate is damaged"))?);
    }
    if found.is_empty() { Err(damaged("it holds no certificate")) } else { Ok(found) }
}

/// A certificate with what is shown of it.
pub(super) fn described(der: CertificateDer<'static>) -> Option<CaCertificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
    let (subject, not_after) = (parsed.subject().to_string(), parsed.validity().not_after.timestamp());
    let sha256 = Sha256Digest::of(&der);
    Some(CaCertificate { der, sha256, subject, not_after: EpochMs(not_after.saturating_mul(1000)) })
}

fn trust_domain_of(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(ToOwned::to_owned),
        _ => None,
    })
}
