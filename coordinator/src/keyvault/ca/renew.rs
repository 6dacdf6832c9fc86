//! The issuing certificate is renewed from the root key in good time, with a new key; what the former one signed stays
//! good until its own end.

use std::sync::{Arc, PoisonError};

use aim_common::units::EpochMs;
use rcgen::{Issuer, KeyPair, PublicKeyData};

use super::create::issuing_params;
use super::issuing::Issuing;
use super::{Ca, CaCertificate, CaError, DAY_MS, files};

/// Renewed this long before its end: a quarter of its life is left to bring a root key from its safe place.
const RENEW_BEFORE_MS: i64 = 90 * DAY_MS;

/// What came of a look at the issuing certificate.
#[derive(Debug)]
pub enum IssuingRenewal {
    /// It is good for long enough.
    NotDue,
    /// There is a new one.
    Renewed(Box<CaCertificate>),
    /// It is due, and the root key is not in the CA's folder.
    RootKeyAway {
        /// The end of the one in use.
        not_after: EpochMs,
    },
    /// It ends with its root: a new one would not live longer.
    RootEnds {
        /// The end of both.
        not_after: EpochMs,
    },
}

impl Ca {
    /// Renews the issuing certificate where that is due and the root key is there.
    pub fn renew_issuing_if_due(&self, now: EpochMs) -> Result<IssuingRenewal, CaError> {
        let not_after = self.held().certificate.not_after;
        if not_after.since_ms(now) > RENEW_BEFORE_MS {
            return Ok(IssuingRenewal::NotDue);
        }
        if self.roots.first().is_some_and(|root| root.not_after.since_ms(not_after) < DAY_MS) {
            return Ok(IssuingRenewal::RootEnds { not_after });
        }
        if !self.folder.join(files::ROOT_KEY).exists() {
            return Ok(IssuingRenewal::RootKeyAway { not_after });
        }
        self.renew_issuing(now).map(|renewed| IssuingRenewal::Renewed(Box::new(renewed)))
    }

    /// Makes the next issuing key and certificate; both are on disk before anything is signed with them.
    pub(crate) fn renew_issuing(&self, now: EpochMs) -> Result<CaCertificate, CaError> {
        let content = |name: &str, reason: &str| CaError::Content {
            path: self.folder.join(name),
            reason: reason.to_owned(),
        };
        let root = self.roots.first().ok_or_else(|| content(files::ROOTS, "it holds no certificate"))?;
        let root_key = files::key_pair(&self.folder, files::ROOT_KEY)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&root.der)
            .map_err(|_| content(files::ROOTS, "a certificate is damaged"))?;
        if parsed.public_key().raw != root_key.subject_public_key_info() {
            return Err(content(files::ROOT_KEY, "the key does not belong to the root in use"));
        }
        let signer = Issuer::from_ca_cert_der(&root.der, root_key)?;
        let key = KeyPair::generate()?;
        let der = issuing_params(&self.trust_domain, now, root.not_after)?.signed_by(&key, &signer)?.into();
        let certificate = files::described(der).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        let next = self.with_former(certificate, &key, now)?;
        files::replace_issuing(&self.folder, &key, &next)?;
        let certificate = next.certificate.clone();
        *self.issuing.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        tracing::info!(not_after = %certificate.not_after, "renewed the issuing certificate");
        Ok(certificate)
    }

    fn with_former(
        &self,
        certificate: CaCertificate,
        key: &KeyPair,
        now: EpochMs,
    ) -> Result<Issuing, CaError> {
        let held = self.held();
        let former = std::iter::once(&held.certificate).chain(&held.former);
        let former = former.filter(|former| former.not_after > now).cloned().collect();
        let issuer = Issuer::from_ca_cert_der(&certificate.der, KeyPair::from_pem(&key.serialize_pem())?)?;
        Ok(Issuing { certificate, former, issuer })
    }
}
