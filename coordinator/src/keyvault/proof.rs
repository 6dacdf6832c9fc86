//! Proof of possession: a node that holds the key gets the certificate whose answer was lost, or renews one that ran
//! out while it was off (ENR-05, PKI-18).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aim_common::api::keyvault::{ChallengeResponse, EnrolResponse, ProofRequest, ProofResponse};
use aim_common::enrolment::{CHALLENGE_LEN, ProofPurpose, proof_input};
use aim_common::identity::Sha256Digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use super::KeyVault;
use super::csr::{self, MAX_CSR_BYTES};
use super::error::{Requester, VaultError};
use super::public_key::NodePublicKey;
use crate::entropy;
use crate::store::audit::Decision;
use crate::store::enrolment::StoredCertificate;

/// How long a challenge may be answered.
const CHALLENGE_LIFE: Duration = Duration::from_mins(1);
/// Challenges at once, 1 MiB; the oldest gives way.
const MAX_CHALLENGES: usize = 8_192;
/// Challenges of one address at once: a network behind one address, but not all of them.
const MAX_OF_ONE_ADDRESS: usize = 1_024;
/// How long after its issue a lost certificate can be fetched.
const RECOVERY_MS: i64 = 5 * 60 * 1000;
/// Longest key or signature in base64: a P-384 key has 160 characters.
const MAX_BASE64: usize = 512;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct Challenge {
    key: Sha256Digest,
    purpose: ProofPurpose,
    source: IpAddr,
    until: Duration,
}

/// Challenges that wait for their answer.
#[derive(Default)]
pub(super) struct Challenges {
    inner: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    by_bytes: HashMap<[u8; CHALLENGE_LEN], Challenge>,
    /// In the order of their making, which is that of their end.
    order: VecDeque<[u8; CHALLENGE_LEN]>,
}

impl Challenges {
    /// Remembers a challenge; false where the address has too many.
    fn put(&self, bytes: [u8; CHALLENGE_LEN], challenge: Challenge, now: Duration) -> bool {
        let mut waiting = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = waiting.order.front().copied() {
            let ended = waiting.by_bytes.get(&oldest).is_none_or(|oldest| oldest.until <= now);
            if !ended && waiting.order.len() < MAX_CHALLENGES {
                break;
            }
            waiting.order.pop_front();
            waiting.by_bytes.remove(&oldest);
        }
        let of_address = waiting.by_bytes.values().filter(|other| other.source == challenge.source).count();
        if of_address >= MAX_OF_ONE_ADDRESS {
            return false;
        }
        waiting.order.push_back(bytes);
        waiting.by_bytes.insert(bytes, challenge);
        true
    }

    /// Takes a challenge out, whether or not its answer is good: each is for one use.
    fn take(&self, bytes: &[u8; CHALLENGE_LEN]) -> Option<Challenge> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).by_bytes.remove(bytes)
    }
}

impl KeyVault {
    /// Fetches the certificate whose answer was lost.
    pub async fn recover(
        &self,
        request: &ProofRequest,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<ProofResponse, VaultError> {
        self.prove(ProofPurpose::Recover, request, source, requester).await
    }

    /// Renews over HTTPS, also some time after the old certificate's end.
    pub async fn renew_by_proof(
        &self,
        request: &ProofRequest,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<ProofResponse, VaultError> {
        self.prove(ProofPurpose::Renew, request, source, requester).await
    }

    async fn prove(
        &self,
        purpose: ProofPurpose,
        request: &ProofRequest,
        source: IpAddr,
        requester: &Requester,
    ) -> Result<ProofResponse, VaultError> {
        self.admit(source)?;
        match request {
            ProofRequest::Challenge { public_key } => {
                self.challenge(purpose, public_key, source).map(ProofResponse::Challenge)
            }
            ProofRequest::Proof { public_key, challenge, signature, csr } => {
                let proven = self.check_proof(purpose, [public_key, challenge, signature], csr.as_deref());
                let answer = match proven {
                    Some(key) => self.answer_proof(purpose, &key, csr.as_deref(), requester).await,
                    None => Err(VaultError::Refused),
                };
                if let Err(VaultError::Refused) = &answer {
                    self.failures.failed(source, self.clock.monotonic());
                    self.record_refused_proof(purpose, public_key, requester).await?;
                }
                answer.map(|identity| ProofResponse::Identity(Box::new(identity)))
            }
        }
    }

    /// Given for any key, known or not, so that the answer tells nothing.
    fn challenge(
        &self,
        purpose: ProofPurpose,
        public_key: &str,
        source: IpAddr,
    ) -> Result<ChallengeResponse, VaultError> {
        let spki = decode(public_key)
            .ok_or_else(|| VaultError::invalid("/public_key", "it is not a public key: DER in base64"))?;
        let bytes: [u8; CHALLENGE_LEN] = entropy::random_bytes()?;
        let now = self.clock.monotonic();
        let challenge =
            Challenge { key: Sha256Digest::of(&spki), purpose, source, until: now + CHALLENGE_LIFE };
        if self.challenges.put(bytes, challenge, now) {
            Ok(ChallengeResponse { challenge: STANDARD.encode(bytes) })
        } else {
            Err(VaultError::TooMany { retry_after_seconds: CHALLENGE_LIFE.as_secs() })
        }
    }

    /// The key whose possession is proven.
    fn check_proof(
        &self,
        purpose: ProofPurpose,
        [public_key, challenge, signature]: [&str; 3],
        csr_pem: Option<&str>,
    ) -> Option<NodePublicKey> {
        let bytes: [u8; CHALLENGE_LEN] = decode(challenge)?.try_into().ok()?;
        let given = self.challenges.take(&bytes)?;
        let spki = decode(public_key)?;
        let fits = given.purpose == purpose
            && given.key == Sha256Digest::of(&spki)
            && self.clock.monotonic() < given.until;
        if !fits {
            return None;
        }
        let csr_der = match (purpose, csr_pem) {
            (ProofPurpose::Recover, None) => Vec::new(),
            (ProofPurpose::Renew, Some(pem)) if pem.len() <= MAX_CSR_BYTES => {
                CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).ok()?.to_vec()
            }
            _ => return None,
        };
        let key = NodePublicKey::from_spki(&spki).ok()?;
        key.verify(&proof_input(purpose, &bytes, &csr_der), &decode(signature)?).then_some(key)
    }

    async fn answer_proof(
        &self,
        purpose: ProofPurpose,
        key: &NodePublicKey,
        csr_pem: Option<&str>,
        requester: &Requester,
    ) -> Result<EnrolResponse, VaultError> {
        let known = self.store.certificate_of_key(&key.fingerprint()).await?;
        let known = known.filter(|known| known.living && known.state != "revoked");
        // In memory the revocation is in force before the database knows.
        let known = known.filter(|known| self.identities.read().node(known.node).is_some());
        let known = known.ok_or(VaultError::Refused)?;
        match purpose {
            ProofPurpose::Recover => self.recovered(&known, requester).await,
            ProofPurpose::Renew => self.renewed_late(&known, csr_pem.unwrap_or_default(), requester).await,
        }
    }

    async fn recovered(
        &self,
        known: &StoredCertificate,
        requester: &Requester,
    ) -> Result<EnrolResponse, VaultError> {
        if known.quarantined || self.clock.now().since_ms(known.issued_at) > RECOVERY_MS {
            return Err(VaultError::Refused);
        }
        let detail = serde_json::json!({ "serial": known.serial, "generation": known.generation });
        let target = format!("node:{}", known.node);
        let record = self.audit(requester, "certificate.recover", target, Decision::Allowed, detail);
        self.store.audit_append(&record).await?;
        Ok(self.identity(known.node, &known.name, &known.pem))
    }

    async fn renewed_late(
        &self,
        known: &StoredCertificate,
        csr_pem: &str,
        requester: &Requester,
    ) -> Result<EnrolResponse, VaultError> {
        if known.state == "superseded" {
            self.quarantine(known.node, "renewal was asked for with a key that a newer one had superseded")
                .await;
            return Err(VaultError::Refused);
        }
        let window_ms = i64::from(self.config.late_renewal_days) * DAY_MS;
        let late_ms = self.clock.now().since_ms(known.not_after);
        if known.quarantined || late_ms >= window_ms.max(0) && late_ms >= 0 {
            return Err(VaultError::Refused);
        }
        let key = csr::public_key_of_pem(csr_pem)?;
        let requester = Requester { actor: format!("node:{}", known.node), ..requester.clone() };
        let issued = self.renew_for(known.node, &key, &requester).await?;
        Ok(self.identity(known.node, &known.name, &issued.pem))
    }

    async fn record_refused_proof(
        &self,
        purpose: ProofPurpose,
        public_key: &str,
        requester: &Requester,
    ) -> Result<(), VaultError> {
        let action = match purpose {
            ProofPurpose::Recover => "certificate.recover",
            ProofPurpose::Renew => "certificate.renew",
        };
        let key = decode(public_key).map(|spki| Sha256Digest::of(&spki).to_string());
        let detail = serde_json::json!({ "public_key_sha256": key });
        let record = self.audit(requester, action, "key".to_owned(), Decision::Denied, detail);
        self.store.audit_append(&record).await?;
        Ok(())
    }
}

fn decode(base64: &str) -> Option<Vec<u8>> {
    if base64.len() > MAX_BASE64 { None } else { STANDARD.decode(base64).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(source: u32, until: u64) -> Challenge {
        Challenge {
            key: Sha256Digest::of(b"key"),
            purpose: ProofPurpose::Recover,
            source: std::net::Ipv4Addr::from(source).into(),
            until: Duration::from_secs(until),
        }
    }

    fn bytes(number: u32) -> [u8; CHALLENGE_LEN] {
        let mut bytes = [0; CHALLENGE_LEN];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    #[test]
    fn a_challenge_is_for_one_use() {
        let challenges = Challenges::default();
        assert!(challenges.put(bytes(1), challenge(1, 60), Duration::ZERO));
        assert!(challenges.take(&bytes(1)).is_some());
        assert!(challenges.take(&bytes(1)).is_none());
    }

    #[test]
    fn challenges_are_bounded_in_all_and_by_address() {
        let challenges = Challenges::default();
        let many = u32::try_from(MAX_CHALLENGES).unwrap() + 10;
        for number in 0..many {
            assert!(challenges.put(bytes(number), challenge(number, 60), Duration::ZERO));
        }
        assert_eq!(challenges.inner.lock().unwrap().by_bytes.len(), MAX_CHALLENGES);
        assert!(challenges.take(&bytes(0)).is_none(), "the oldest gave way");
        assert!(challenges.take(&bytes(many - 1)).is_some());

        let challenges = Challenges::default();
        let limit = u32::try_from(MAX_OF_ONE_ADDRESS).unwrap();
        for number in 0..limit {
            assert!(challenges.put(bytes(number), challenge(7, 60), Duration::ZERO));
        }
        assert!(!challenges.put(bytes(limit), challenge(7, 60), Duration::ZERO));
        assert!(challenges.put(bytes(limit), challenge(8, 60), Duration::ZERO));
        assert!(
            challenges.put(bytes(limit + 1), challenge(7, 120), Duration::from_mins(1)),
            "old ones ended"
        );
    }
}
