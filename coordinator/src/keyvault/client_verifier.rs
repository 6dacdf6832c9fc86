//! Which client certificates a TLS handshake of the link accepts: chain, identity, and the clone alarm.

use std::sync::Arc;

use aim_common::units::EpochMs;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::clone_alarms::CloneAlarms;
use super::identities::{Identities, PeerRefusal};
use crate::clock::SharedClock;

/// Verifies chain and identity of each node that connects.
///
/// A superseded generation is refused only after its key was proven: whoever merely holds a copy of an old certificate
/// must not be able to put its node into quarantine.
pub struct NodeVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    identities: Arc<Identities>,
    clock: SharedClock,
    clones: CloneAlarms,
}

impl std::fmt::Debug for NodeVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeVerifier")
    }
}

impl NodeVerifier {
    pub(super) fn new(
        roots: RootCertStore,
        identities: Arc<Identities>,
        clock: SharedClock,
        clones: CloneAlarms,
    ) -> Result<Arc<Self>, Error> {
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), aim_common::tls::provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Arc::new(Self { chain, identities, clock, clones }))
    }

    fn refuse(refusal: PeerRefusal) -> Error {
        tracing::info!(reason = %refusal, "refused a client certificate");
        Error::InvalidCertificate(match refusal {
            PeerRefusal::Malformed => CertificateError::BadEncoding,
            PeerRefusal::Usage => CertificateError::InvalidPurpose,
            PeerRefusal::Expired => CertificateError::Expired,
            PeerRefusal::Unknown | PeerRefusal::Superseded(_) => CertificateError::Revoked,
            PeerRefusal::Name | PeerRefusal::Stale => CertificateError::ApplicationVerificationFailure,
        })
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let now = EpochMs(i64::try_from(now.as_secs().saturating_mul(1000)).unwrap_or(i64::MAX));
        match self.identities.check(end_entity, now) {
            Ok(_) | Err(PeerRefusal::Superseded(_)) => Ok(verified),
            Err(refusal) => Err(Self::refuse(refusal)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the link speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.chain.verify_tls13_signature(message, certificate, signature)?;
        match self.identities.check(certificate, self.clock.now()) {
            Ok(_) => Ok(valid),
            Err(refusal) => {
                if let PeerRefusal::Superseded(node) = refusal {
                    self.clones.raise(
                        &self.identities,
                        node,
                        "a certificate was used that a newer one had superseded",
                    );
                }
                Err(Self::refuse(refusal))
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
