//! The node's key: made here, ECDSA P-256, never sent.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SigningKey};
use zeroize::Zeroizing;

/// The key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the node's key: {source}")]
pub struct KeyError {
    action: &'static str,
    source: rcgen::Error,
}

/// A private key. Its text leaves only for the 0600 file and the TLS library.
pub struct NodeKey(KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeKey")
    }
}

/// A request for a certificate, without names and extensions: the coordinator writes its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// PKCS#10 in PEM.
    pub pem: String,
    /// PKCS#10 in DER.
    pub der: Vec<u8>,
}

impl NodeKey {
    /// A new key from the kernel's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate().map(Self).map_err(|source| KeyError { action: "make", source })
    }

    /// Reads a key that [`Self::to_pem`] wrote.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        KeyPair::from_pem(pem).map(Self).map_err(|source| KeyError { action: "read", source })
    }

    /// The private key in PKCS#8 PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The private key for the TLS library.
    pub fn to_pkcs8(&self) -> rustls_pki_types::PrivateKeyDer<'static> {
        rustls_pki_types::PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    /// The public key: SPKI in DER.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// A certificate request, self-signed as proof of possession.
    pub fn csr(&self) -> Result<Csr, KeyError> {
        let failed = |source| KeyError { action: "write a request for", source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(failed)?;
        Ok(Csr { pem: request.pem().map_err(failed)?, der: request.der().to_vec() })
    }

    /// ECDSA with SHA-256, ASN.1.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0.sign(message).map_err(|source| KeyError { action: "sign with", source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn request_carries_no_name_and_no_extension() {
        let key = NodeKey::generate().unwrap();
        let csr = key.csr().unwrap();
        let (rest, parsed) = X509CertificationRequest::from_der(&csr.der).unwrap();
        assert!(rest.is_empty());
        assert!(parsed.requested_extensions().is_none());
        assert_eq!(parsed.certification_request_info.subject.iter().count(), 0);
        assert_eq!(parsed.certification_request_info.subject_pki.raw, key.public_key());
    }

    #[test]
    fn key_survives_its_file_and_is_not_shown() {
        let key = NodeKey::generate().unwrap();
        let again = NodeKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert_eq!(format!("{key:?}"), "NodeKey");
    }
}
