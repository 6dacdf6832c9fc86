//! Issuing: everything in a certificate but the public key is decided here.

use std::net::IpAddr;
use std::sync::Arc;

use aim_common::identity::{CertificateSerial, NodeId, SpiffeId};
use aim_common::units::EpochMs;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;

use super::{BACK_DATE_MS, Ca, CaError, DAY_MS, to_pem};
use crate::entropy;
use crate::keyvault::public_key::NodePublicKey;

/// Life of the server's certificate.
const SERVER_DAYS: i64 = 30;

/// A node's certificate, just made.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// Its serial.
    pub serial: CertificateSerial,
    /// Valid from.
    pub not_before: EpochMs,
    /// Valid until.
    pub not_after: EpochMs,
    /// The certificate in PEM.
    pub pem: String,
    /// The certificate.
    pub der: CertificateDer<'static>,
}

/// The server's key and certificate chain, ready for TLS.
pub struct ServerKeyPair {
    /// Leaf, issuing and root, with the key.
    pub certified: Arc<CertifiedKey>,
    /// When the next one is to be made: after two thirds of its life.
    pub renew_at: EpochMs,
}

impl Ca {
    /// Issues a node's certificate for this public key.
    pub fn issue_node(
        &self,
        node: NodeId,
        key: &NodePublicKey,
        lifetime_ms: i64,
        now: EpochMs,
    ) -> Result<IssuedCertificate, CaError> {
        let identity = SpiffeId { trust_domain: self.trust_domain.clone(), node };
        let issuing = self.current(now)?;
        let lifetime_ms = lifetime_ms.min(issuing.certificate.not_after.since_ms(now));
        let mut params = new_params(now, lifetime_ms)?;
        params.distinguished_name.push(DnType::CommonName, node.to_string());
        params.subject_alt_names = vec![SanType::URI(san_text(&identity.to_string())?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let der: CertificateDer<'static> = params.signed_by(key, &issuing.issuer)?.into();
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let validity = parsed.validity();
        Ok(IssuedCertificate {
            serial: CertificateSerial::from_bytes(parsed.raw_serial()),
            not_before: EpochMs(validity.not_before.timestamp().saturating_mul(1000)),
            not_after: EpochMs(validity.not_after.timestamp().saturating_mul(1000)),
            pem: to_pem(&der),
            der,
        })
    }

    /// Leaf, issuing and root in PEM, in this order.
    pub fn chain_pem(&self, leaf_pem: &str) -> String {
        let mut pem = leaf_pem.to_owned();
        // What cannot be read was signed by nobody; whoever gets it refuses it.
        let leaf = CertificateDer::from_pem_slice(leaf_pem.as_bytes()).unwrap_or_else(|_| Vec::new().into());
        pem.extend(self.chain_of(&leaf).map(|certificate| to_pem(&certificate)));
        pem
    }

    /// Leaf, issuing and root in DER, in this order.
    pub fn chain_der(&self, leaf: &CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(leaf.clone()).chain(self.chain_of(leaf)).collect()
    }

    /// Makes the server's certificate: the fixed name of the link and the public names of the configuration.
    pub fn issue_server(&self, public_names: &[String], now: EpochMs) -> Result<ServerKeyPair, CaError> {
        let issuing = self.current(now)?;
        let lifetime_ms = (SERVER_DAYS * DAY_MS).min(issuing.certificate.not_after.since_ms(now));
        let name = self.trust_domain.coordinator_server_name();
        let mut params = new_params(now, lifetime_ms)?;
        params.distinguished_name.push(DnType::CommonName, "AIM coordinator");
        params.subject_alt_names = vec![SanType::DnsName(san_text(&name)?)];
        for public_name in public_names {
            let san = server_san(public_name)?;
            if !params.subject_alt_names.contains(&san) {
                params.subject_alt_names.push(san);
            }
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let leaf: CertificateDer<'static> = params.signed_by(&key, &issuing.issuer)?.into();
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| rustls::Error::General(reason.to_owned()))?;
        let signing = aim_common::tls::provider().key_provider.load_private_key(private)?;
        let certified = CertifiedKey::new(self.chain_der(&leaf), signing);
        certified.keys_match()?;
        Ok(ServerKeyPair { certified: Arc::new(certified), renew_at: now.plus_ms(lifetime_ms / 3 * 2) })
    }
}

/// What every certificate has: a random serial, back-dated validity, no wish of anybody.
pub(super) fn new_params(now: EpochMs, lifetime_ms: i64) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(random_serial()?);
    params.not_before = date(now.plus_ms(-BACK_DATE_MS));
    params.not_after = date(now.plus_ms(lifetime_ms));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 16 random bytes behind one that is neither zero nor negative, so that DER writes all 17 (PKI-06).
pub(super) fn random_serial() -> Result<SerialNumber, CaError> {
    let mut serial = vec![0x01];
    serial.extend_from_slice(&entropy::random_bytes::<16>()?);
    Ok(SerialNumber::from(serial))
}

/// Whole seconds, as certificates have them; times outside what they can say are clamped.
fn date(at: EpochMs) -> OffsetDateTime {
    let seconds = at.0.clamp(0, EpochMs::MAX.0) / 1000;
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn san_text(text: &str) -> Result<Ia5String, CaError> {
    Ok(Ia5String::try_from(text)?)
}

fn server_san(name: &str) -> Result<SanType, CaError> {
    match ServerName::try_from(name) {
        Ok(ServerName::IpAddress(address)) => Ok(SanType::IpAddress(IpAddr::from(address))),
        Ok(ServerName::DnsName(dns)) => Ok(SanType::DnsName(san_text(dns.as_ref())?)),
        _ => Err(CaError::ServerName(name.to_owned())),
    }
}
