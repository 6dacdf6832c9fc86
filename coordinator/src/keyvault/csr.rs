//! What is taken from a certificate request: the public key, and nothing else.

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::public_key::{KeyPolicyError, NodePublicKey};

/// Largest request, checked before anything is parsed (PKI-05).
pub const MAX_CSR_BYTES: usize = 8 * 1024;

/// Why a certificate request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// More than [`MAX_CSR_BYTES`].
    #[error("the certificate request is larger than 8 KiB; send one PKCS#10 request and nothing else")]
    TooLarge,
    /// It is not one PKCS#10 request.
    #[error("the certificate request is not one PKCS#10 request; make it with `aim-agent enroll`")]
    Malformed,
    /// It wishes for names, usages or anything else.
    #[error(
        "the certificate request asks for extensions or attributes; the coordinator decides them, ask for none"
    )]
    Wishes,
    /// It was not signed by its own key.
    #[error("the certificate request is not signed by its own key")]
    NotProven,
    /// The key breaks the policy.
    #[error(transparent)]
    Key(#[from] KeyPolicyError),
}

/// Reads a request in PEM, at most [`MAX_CSR_BYTES`] of it, and proves that the sender holds its key.
pub fn public_key_of_pem(pem: &str) -> Result<NodePublicKey, CsrError> {
    if pem.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge);
    }
    let mut requests = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes());
    let Some(Ok(request)) = requests.next() else { return Err(CsrError::Malformed) };
    if requests.next().is_some() {
        return Err(CsrError::Malformed);
    }
    public_key_of_der(&request)
}

/// Likewise, in DER.
pub fn public_key_of_der(der: &[u8]) -> Result<NodePublicKey, CsrError> {
    if der.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge);
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let info = &request.certification_request_info;
    // The agent asks for nothing, so that any attribute is somebody else's wish (PKI-02).
    if !info.attributes().is_empty() {
        return Err(CsrError::Wishes);
    }
    let key = NodePublicKey::from_spki(info.subject_pki.raw)?;
    let signature = &request.signature_value;
    let proven = signature.unused_bits == 0
        && key.verify_as(&request.signature_algorithm.algorithm, info.raw, &signature.data);
    if proven { Ok(key) } else { Err(CsrError::NotProven) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, PublicKeyData, SanType,
    };

    use super::*;

    fn csr(change: impl FnOnce(&mut CertificateParams)) -> (KeyPair, Vec<u8>) {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        change(&mut params);
        let der = params.serialize_request(&pair).unwrap().der().to_vec();
        (pair, der)
    }

    #[test]
    fn pki_03_the_key_of_a_plain_request_is_taken() {
        for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let request = CertificateParams::default().serialize_request(&pair).unwrap();
            let key = public_key_of_pem(&request.pem().unwrap()).unwrap();
            assert_eq!(key.subject_public_key_info(), pair.subject_public_key_info());
        }
    }

    #[test]
    fn pki_02_every_wish_is_refused() {
        type Wish = fn(&mut CertificateParams);
        let wishes: [(&str, Wish); 11] = [
            ("CA:TRUE", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            ("keyCertSign", |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
            ("digitalSignature", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            ("serverAuth", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            ("clientAuth", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            ("DNS name", |p| {
                p.subject_alt_names = vec![SanType::DnsName("coordinator.aim.internal".try_into().unwrap())];
            }),
            ("wildcard", |p| {
                p.subject_alt_names = vec![SanType::DnsName("*.aim.internal".try_into().unwrap())];
            }),
            ("URI", |p| {
                let id = "spiffe://aim.internal/node/00000000-0000-4000-8000-000000000000";
                p.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
            }),
            ("IP address", |p| p.subject_alt_names = vec![SanType::IpAddress([10, 0, 0, 1].into())]),
            ("e-mail", |p| {
                p.subject_alt_names = vec![SanType::Rfc822Name("root@aim.internal".try_into().unwrap())];
            }),
            ("unknown extension", |p| {
                p.custom_extensions =
                    vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999], vec![5, 0])];
            }),
        ];
        for (name, wish) in wishes {
            assert_eq!(public_key_of_der(&csr(wish).1), Err(CsrError::Wishes), "{name}");
        }
    }

    #[test]
    fn pki_03_a_request_for_somebody_elses_key_is_refused() {
        let (_, mut der) = csr(|_| {});
        let (other, _) = csr(|_| {});
        let mine = {
            let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
            request.certification_request_info.subject_pki.raw.to_vec()
        };
        let at = der.windows(mine.len()).position(|window| window == mine).unwrap();
        der[at..at + mine.len()].copy_from_slice(&other.subject_public_key_info());
        assert_eq!(public_key_of_der(&der), Err(CsrError::NotProven));
    }

    #[test]
    fn pki_05_size_is_checked_before_anything_is_parsed() {
        assert_eq!(public_key_of_der(&vec![0x30; MAX_CSR_BYTES + 1]), Err(CsrError::TooLarge));
        assert_eq!(public_key_of_pem(&"A".repeat(MAX_CSR_BYTES + 1)), Err(CsrError::TooLarge));
    }

    #[test]
    fn inj_02_the_deepest_nesting_that_fits_a_request_is_an_error_and_no_stack_overflow() {
        assert_eq!(public_key_of_der(&[0x30, 0x80].repeat(MAX_CSR_BYTES / 2)), Err(CsrError::Malformed));
        // Definite lengths, each around the next.
        let mut der = vec![0x05, 0x00];
        while der.len() + 5 <= MAX_CSR_BYTES {
            let length = u16::try_from(der.len()).unwrap().to_be_bytes();
            der.splice(0..0, [0x30, 0x82, length[0], length[1]]);
        }
        assert_eq!(public_key_of_der(&der), Err(CsrError::Malformed));
        assert_eq!(public_key_of_der(&[0x30, 0x80].repeat(100_000)), Err(CsrError::TooLarge));
    }

    #[test]
    fn two_requests_or_trailing_bytes_are_refused() {
        let (_, der) = csr(|_| {});
        assert_eq!(public_key_of_der(&[der.clone(), vec![0]].concat()), Err(CsrError::Malformed));
        let pair = KeyPair::generate().unwrap();
        let pem = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        assert_eq!(public_key_of_pem(&format!("{pem}{pem}")), Err(CsrError::Malformed));
    }

    proptest! {
        #[test]
        fn pki_05_hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(public_key_of_der(&bytes).is_err());
        }

        /// Parts of a good request cut out, doubled, overwritten and grown: what is taken is the proven key or nothing.
        #[test]
        fn pki_05_requests_with_their_parts_moved_never_panic_and_prove_no_other_key(
            edits in proptest::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..4, any::<u8>()),
                1..6,
            ),
        ) {
            let pem = include_str!("testdata/plain.csr.pem");
            let whole = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
            let mut bytes = whole.clone();
            for (from, to, edit, value) in edits {
                let (from, to) = (from.index(bytes.len().max(1)), to.index(bytes.len().max(1)));
                let part = from.min(to)..from.max(to).min(bytes.len());
                match edit {
                    0 => drop(bytes.drain(part)),
                    1 => {
                        let doubled = bytes[part.clone()].to_vec();
                        bytes.splice(part.end..part.end, doubled);
                    }
                    2 => bytes[part].fill(value),
                    _ => bytes.insert(part.start, value),
                }
            }
            if let Ok(key) = public_key_of_der(&bytes) {
                prop_assert_eq!(key, public_key_of_der(&whole).unwrap());
            }
        }

        #[test]
        fn pki_03_no_change_to_what_is_signed_is_accepted(position in any::<prop::sample::Index>(), bit in 0_u8..8) {
            // One fixed request: a new key for each case would make the test slow and no better.
            let pem = include_str!("testdata/plain.csr.pem");
            let whole = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec();
            let signed = {
                let (_, request) = X509CertificationRequest::from_der(&whole).unwrap();
                request.certification_request_info.raw.len()
            };
            let mut changed = whole.clone();
            // The outer sequence's tag and length come first.
            changed[3 + position.index(signed)] ^= 1 << bit;
            prop_assert!(public_key_of_der(&changed).is_err());
            let mut changed = whole.clone();
            changed[position.index(whole.len())] ^= 1 << bit;
            if let Ok(key) = public_key_of_der(&changed) {
                prop_assert_eq!(key, public_key_of_der(&whole).unwrap(), "no other key than the proven one");
            }
        }
    }
}
