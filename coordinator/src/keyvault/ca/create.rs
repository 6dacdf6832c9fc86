//! Making a CA: once in the life of an installation.

use std::path::Path;

use aim_common::identity::TrustDomain;
use aim_common::units::EpochMs;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::issue::{new_params, san_text};
use super::{CaError, DAY_MS, files};
use crate::private_file;

const ROOT_DAYS: i64 = 3_653;
const ISSUING_DAYS: i64 = 365;

/// Makes root and issuing key in a folder beside, then renames it: after a crash the CA is there whole or not at all.
pub(super) fn create(folder: &Path, trust_domain: &TrustDomain, now: EpochMs) -> Result<(), CaError> {
    let building = folder.with_extension("new");
    // What an interrupted start left was never used by anybody.
    let _ = std::fs::remove_dir_all(&building);
    private_file::ensure_directory(&building)?;

    let root_key = KeyPair::generate()?;
    let root_params = ca_params(trust_domain, "root", now, ROOT_DAYS * DAY_MS)?;
    let root = root_params.self_signed(&root_key)?;

    let issuing_key = KeyPair::generate()?;
    let issuing = issuing_params(trust_domain, now, EpochMs::MAX)?
        .signed_by(&issuing_key, &Issuer::from_params(&root_params, &root_key))?;

    for (name, pem) in [
        (files::ROOT_KEY, root_key.serialize_pem()),
        (files::ROOTS, root.pem()),
        (files::ISSUING_KEY, issuing_key.serialize_pem()),
        (files::ISSUING, issuing.pem()),
    ] {
        private_file::write(&building.join(name), pem.as_bytes())?;
    }
    std::fs::rename(&building, folder).map_err(|source| private_file::PrivateFileError::Io {
        action: "rename the new CA to",
        path: folder.to_owned(),
        source,
    })?;
    private_file::sync_parent(folder)?;
    tracing::info!(folder = %folder.display(), trust_domain = %trust_domain, "made a new CA; back up its folder and move {} to a safe place", files::ROOT_KEY);
    Ok(())
}

/// What root and issuing certificate share. The trust domain stands in them, so that it cannot be changed later.
fn ca_params(
    trust_domain: &TrustDomain,
    what: &str,
    now: EpochMs,
    lifetime_ms: i64,
) -> Result<CertificateParams, CaError> {
    let mut params = new_params(now, lifetime_ms)?;
    params.distinguished_name.push(DnType::CommonName, format!("AIM {what} {trust_domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(san_text(&format!("spiffe://{trust_domain}"))?)];
    Ok(params)
}

/// Not longer than the root. No name constraints: rustls-webpki refuses even a matching SPIFFE leaf under them (tried).
pub(super) fn issuing_params(
    trust_domain: &TrustDomain,
    now: EpochMs,
    root_ends: EpochMs,
) -> Result<CertificateParams, CaError> {
    let lifetime_ms = (ISSUING_DAYS * DAY_MS).min(root_ends.since_ms(now));
    let mut params = ca_params(trust_domain, "issuing", now, lifetime_ms)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
