//! The key policy: ECDSA P-256, ECDSA P-384 and Ed25519, each in its one canonical form.
//!
//! A key is compared with the fixed bytes in front of its point, so that explicit curve parameters, compressed or
//! infinite points, RSA and every second spelling of the same key are refused without any parser (PKI-04).

use aim_common::identity::Sha256Digest;
use ring::signature::{self, UnparsedPublicKey};
use x509_parser::oid_registry::{OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ED25519, Oid};

/// SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING of 65 bytes }
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// SEQUENCE { SEQUENCE { ecPublicKey, secp384r1 }, BIT STRING of 97 bytes }
const P384_PREFIX: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// SEQUENCE { SEQUENCE { Ed25519 }, BIT STRING of 32 bytes }
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// In front of an uncompressed point.
const UNCOMPRESSED: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    P256,
    P384,
    Ed25519,
}

/// The key is not of a kind that nodes may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the public key is not ECDSA P-256, ECDSA P-384 or Ed25519 in its usual form; make a new P-256 key")]
pub struct KeyPolicyError;

/// A node's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePublicKey {
    algorithm: Algorithm,
    /// The point, without the ASN.1 around it.
    point: Vec<u8>,
    fingerprint: Sha256Digest,
}

impl NodePublicKey {
    /// From a SubjectPublicKeyInfo in DER.
    pub fn from_spki(spki_der: &[u8]) -> Result<Self, KeyPolicyError> {
        let parts = [
            (Algorithm::P256, P256_PREFIX.as_slice(), 65),
            (Algorithm::P384, P384_PREFIX.as_slice(), 97),
            (Algorithm::Ed25519, ED25519_PREFIX.as_slice(), 32),
        ];
        for (algorithm, prefix, length) in parts {
            let Some(point) = spki_der.strip_prefix(prefix) else { continue };
            let uncompressed = algorithm == Algorithm::Ed25519 || point.first() == Some(&UNCOMPRESSED);
            if point.len() == length && uncompressed {
                let fingerprint = Sha256Digest::of(spki_der);
                return Ok(Self { algorithm, point: point.to_vec(), fingerprint });
            }
        }
        Err(KeyPolicyError)
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> Sha256Digest {
        self.fingerprint
    }

    /// The signature over the message is this key's, made with the key's usual hash.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            Algorithm::Ed25519 => &signature::ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.point).verify(message, signature).is_ok()
    }

    /// Likewise, with the algorithm that a CSR names; false where it does not fit the key.
    #[must_use]
    pub fn verify_as(&self, signature_algorithm: &Oid<'_>, message: &[u8], signature: &[u8]) -> bool {
        let fitting = match self.algorithm {
            Algorithm::P256 => OID_SIG_ECDSA_WITH_SHA256,
            Algorithm::P384 => OID_SIG_ECDSA_WITH_SHA384,
            Algorithm::Ed25519 => OID_SIG_ED25519,
        };
        *signature_algorithm == fitting && self.verify(message, signature)
    }
}

impl rcgen::PublicKeyData for NodePublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.algorithm {
            Algorithm::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Algorithm::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData};

    use super::*;

    fn spki(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        KeyPair::generate_for(algorithm).unwrap().subject_public_key_info()
    }

    #[test]
    fn pki_04_the_three_kinds_of_key_are_taken_and_written_back_unchanged() {
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let der = spki(kind);
            let key = NodePublicKey::from_spki(&der).unwrap();
            assert_eq!(key.subject_public_key_info(), der);
            assert_eq!(key.fingerprint(), Sha256Digest::of(&der));
        }
    }

    #[test]
    fn pki_04_every_other_form_of_key_is_refused() {
        let p256 = spki(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut compressed = P256_PREFIX.to_vec();
        compressed[1] = 0x39;
        compressed[24] = 0x22;
        compressed.push(2);
        compressed.extend_from_slice(&p256[27..59]);
        let mut infinity = P256_PREFIX.to_vec();
        infinity[1] = 0x1a;
        infinity[24] = 0x02;
        infinity.push(0);
        // prime192v1 differs from prime256v1 in the last byte of its OID.
        let mut p192 = p256.clone();
        p192[22] = 0x01;
        // rsaEncryption with an absurdly small modulus; enough to be an RSA key.
        let rsa = hex::decode("301b300d06092a864886f70d0101010500030a003007020200b30201 03".replace(' ', ""))
            .unwrap();
        // Explicit parameters: SEQUENCE in place of the curve's OID.
        let mut explicit = p256.clone();
        explicit[13] = 0x30;
        let mut trailing = p256.clone();
        trailing.push(0);
        // The same key with a length written in two bytes: valid BER, not DER.
        let mut long_form = vec![0x30, 0x81, 0x59];
        long_form.extend_from_slice(&p256[2..]);
        for (name, der) in [
            ("compressed", compressed),
            ("point at infinity", infinity),
            ("P-192", p192),
            ("RSA", rsa),
            ("explicit parameters", explicit),
            ("trailing byte", trailing),
            ("long form", long_form),
            ("cut", p256[..p256.len() - 1].to_vec()),
            ("empty", vec![]),
        ] {
            assert_eq!(NodePublicKey::from_spki(&der), Err(KeyPolicyError), "{name}");
        }
    }

    #[test]
    fn a_signature_of_another_key_or_message_is_refused() {
        use rcgen::SigningKey;
        let pair = KeyPair::generate().unwrap();
        let key = NodePublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
        let signature = pair.sign(b"message").unwrap();
        assert!(key.verify(b"message", &signature));
        assert!(!key.verify(b"messagf", &signature));
        let other = NodePublicKey::from_spki(&spki(&rcgen::PKCS_ECDSA_P256_SHA256)).unwrap();
        assert!(!other.verify(b"message", &signature));
    }
}
