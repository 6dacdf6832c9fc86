//! Enrolment, recovery of a lost answer, approval, and renewal of a certificate that expired while the node was off.

use std::time::Duration;

use aim_common::api::keyvault::{
    ApprovalRequest, ApprovalResponse, EnrolRequest, EnrolResponse, ProofRequest, ProofResponse,
};
use aim_common::backoff::Backoff;
use aim_common::enrolment::{CHALLENGE_LEN, JoinString, ProofPurpose, proof_input};
use aim_common::identity::{NodeName, Sha256Digest, TrustDomain};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::certificate::pinned_root;
use super::{
    Csr, Identity, IdentityStore, KeyError, NodeKey, Pending, PendingPurpose, StoreError, Trust,
    UnfitIdentity, VaultClient, VaultError,
};
use crate::entropy::{EntropyError, random_bytes};

const ENROLL: &str = "/api/keyvault/agent/enroll";
const RECOVER: &str = "/api/keyvault/agent/recover";
const RENEW: &str = "/api/keyvault/agent/renew";
const REQUEST: &str = "/api/keyvault/agent/request";

/// How often a lost answer is asked for before the operator is told.
const RECOVERY_ATTEMPTS: u32 = 8;

/// Why the node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The coordinator could not be asked, or refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key could not be made or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The coordinator's answer is not an identity for this key.
    #[error("the coordinator's answer is not taken: {0}")]
    Unfit(#[from] UnfitIdentity),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The node has an identity.
    #[error(
        "this node is enrolled already, as {name} ({id}); to give it a new identity say --replace-identity (the old key is then lost)"
    )]
    AlreadyEnrolled {
        /// Its name.
        name: NodeName,
        /// Its id.
        id: String,
    },
    /// Nobody approved in time.
    #[error(
        "nobody approved the request yet; run the same command again to go on waiting (key {public_key_sha256})"
    )]
    NotApproved {
        /// What whoever approves compares.
        public_key_sha256: String,
    },
    /// A person said no.
    #[error("the request was refused by an operator")]
    Rejected,
    /// The answer to a challenge was of the wrong sort.
    #[error("the coordinator's answer to the proof of possession is of the wrong sort")]
    Proof,
}

/// What an enrolment needs beside its token.
#[derive(Debug)]
pub struct Enrolment<'a> {
    /// Where the identity goes.
    pub store: &'a IdentityStore,
    /// An identity that is there already is given up.
    pub replace: bool,
}

impl Enrolment<'_> {
    fn refuse_second(&self) -> Result<(), EnrolError> {
        match self.store.load() {
            Ok(Some(identity)) if !self.replace => Err(EnrolError::AlreadyEnrolled {
                name: identity.node_name.clone(),
                id: identity.node_id.to_string(),
            }),
            // A damaged identity is exactly what --replace-identity is for.
            Err(error) if !self.replace => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The key of an earlier attempt at the same coordinator and name, or a new one; on disk before it is used.
    fn key(&self, name: &NodeName, root: Sha256Digest) -> Result<(NodeKey, bool), EnrolError> {
        let former = self.store.load_pending().unwrap_or_else(|error| {
            tracing::warn!(%error, "the key of an earlier attempt is unusable and replaced");
            None
        });
        if let Some(former) = former
            && former.purpose == PendingPurpose::Enrol
            && former.node_name == *name
            && former.root_sha256 == Some(root)
        {
            return Ok((former.key, true));
        }
        let pending = Pending {
            purpose: PendingPurpose::Enrol,
            key: NodeKey::generate()?,
            node_name: name.clone(),
            root_sha256: Some(root),
        };
        self.store.save_pending(&pending)?;
        Ok((pending.key, false))
    }

    fn finish(
        &self,
        key: NodeKey,
        answer: &EnrolResponse,
        pin: Sha256Digest,
    ) -> Result<Identity, EnrolError> {
        let identity = Identity::from_answer(key, answer, &pinned_root(&answer.roots, pin)?)?;
        self.store.save(&identity)?;
        self.store.clear_pending()?;
        Ok(identity)
    }
}

/// Redeems the token. When an answer is lost, here or in an earlier attempt, the certificate is fetched by proof of the
/// key, never by the token again.
pub async fn enrol(join: &JoinString, enrolment: &Enrolment<'_>) -> Result<Identity, EnrolError> {
    enrolment.refuse_second()?;
    let vault = VaultClient::new(join.addresses.clone(), &join.trust_domain, &Trust::Pin(join.root_sha256))?;
    let (key, repeated) = enrolment.key(&join.node, join.root_sha256)?;
    if repeated {
        match recover(&vault, &key).await {
            Ok(answer) => return enrolment.finish(key, &answer, join.root_sha256),
            Err(EnrolError::Vault(VaultError::Refused { .. })) => {
                tracing::info!("the earlier attempt left nothing to recover; the token is used now");
            }
            Err(error) => return Err(error),
        }
    }
    let request = EnrolRequest {
        token: join.token.expose(),
        signature: join.signature.expose(),
        nonce: join.nonce.expose(),
        node: join.node.clone(),
        csr: key.csr()?.pem,
    };
    let answer = match vault.post::<_, EnrolResponse>(ENROLL, &request).await {
        Ok(answer) => answer,
        Err(lost @ (VaultError::Unanswered { .. } | VaultError::Malformed { .. })) => {
            tracing::warn!(error = %lost, "the answer was lost; asking for it by proof of the key");
            recover_patiently(&vault, &key).await?
        }
        Err(error) => return Err(error.into()),
    };
    enrolment.finish(key, &answer, join.root_sha256)
}

/// The pace of repeated requests to the KeyVault: seconds, and jittered, because a rack is installed at once.
fn patience() -> Option<Backoff> {
    Backoff::new(Duration::from_secs(1), Duration::from_secs(15), Duration::MAX).ok()
}

async fn recover_patiently(vault: &VaultClient, key: &NodeKey) -> Result<EnrolResponse, EnrolError> {
    let mut backoff = patience();
    let mut attempt = 1;
    loop {
        match recover(vault, key).await {
            Err(EnrolError::Vault(
                error @ (VaultError::Unanswered { .. } | VaultError::Unreachable { .. }),
            )) if attempt < RECOVERY_ATTEMPTS => {
                tracing::warn!(%error, attempt, "no answer yet");
                let random = u64::from_le_bytes(random_bytes()?);
                let delay =
                    backoff.as_mut().map_or(Duration::from_secs(5), |backoff| backoff.next_delay(random));
                tokio::time::sleep(delay).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn recover(vault: &VaultClient, key: &NodeKey) -> Result<EnrolResponse, EnrolError> {
    prove(vault, RECOVER, ProofPurpose::Recover, key, None).await
}

/// The two steps of a proof of possession.
async fn prove(
    vault: &VaultClient,
    path: &str,
    purpose: ProofPurpose,
    key: &NodeKey,
    csr: Option<&Csr>,
) -> Result<EnrolResponse, EnrolError> {
    let public_key = STANDARD.encode(key.public_key());
    let first = vault.post(path, &ProofRequest::Challenge { public_key: public_key.clone() }).await?;
    let ProofResponse::Challenge(challenge) = first else { return Err(EnrolError::Proof) };
    let bytes: [u8; CHALLENGE_LEN] = STANDARD
        .decode(&challenge.challenge)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(EnrolError::Proof)?;
    let input = proof_input(purpose, &bytes, csr.map_or(&[][..], |csr| &csr.der));
    let proof = ProofRequest::Proof {
        public_key,
        challenge: challenge.challenge,
        signature: STANDARD.encode(key.sign(&input)?),
        csr: csr.map(|csr| csr.pem.clone()),
    };
    match vault.post(path, &proof).await? {
        ProofResponse::Identity(answer) => Ok(*answer),
        ProofResponse::Challenge(_) => Err(EnrolError::Proof),
    }
}

/// What a request for approval says.
#[derive(Debug)]
pub struct RequestOptions {
    /// HTTPS addresses of the coordinator.
    pub addresses: Vec<String>,
    /// SHA-256 of its root.
    pub root_sha256: Sha256Digest,
    /// Its trust domain.
    pub trust_domain: TrustDomain,
    /// The name wished for.
    pub node: NodeName,
    /// What the node says of itself.
    pub inventory: serde_json::Value,
    /// How long to wait for a person.
    pub patience: Duration,
}

/// Asks to be approved without a token, and waits for a person. `waiting` is told the key's fingerprint each time.
pub async fn request_approval(
    options: &RequestOptions,
    enrolment: &Enrolment<'_>,
    mut waiting: impl FnMut(&str),
) -> Result<Identity, EnrolError> {
    enrolment.refuse_second()?;
    let pin = options.root_sha256;
    let vault = VaultClient::new(options.addresses.clone(), &options.trust_domain, &Trust::Pin(pin))?;
    let (key, _) = enrolment.key(&options.node, pin)?;
    let request = ApprovalRequest {
        node: options.node.clone(),
        csr: key.csr()?.pem,
        inventory: options.inventory.clone(),
    };
    let deadline = tokio::time::Instant::now() + options.patience;
    loop {
        match vault.post(REQUEST, &request).await? {
            ApprovalResponse::Approved { identity } => return enrolment.finish(key, &identity, pin),
            ApprovalResponse::Rejected => return Err(EnrolError::Rejected),
            ApprovalResponse::Pending { public_key_sha256, retry_after_seconds } => {
                waiting(&public_key_sha256);
                // The coordinator's wish, within what is polite and what a person would wait for.
                let delay = Duration::from_secs(u64::from(retry_after_seconds.clamp(1, 300)));
                if tokio::time::Instant::now() + delay >= deadline {
                    return Err(EnrolError::NotApproved { public_key_sha256 });
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// Renews a certificate that expired while the node was off, by proof of its key (PKI-18). The caller limits how often.
/// Without `addresses` those that the coordinator told at enrolment are used.
pub async fn late_renewal(
    store: &IdentityStore,
    expired: &Identity,
    addresses: &[String],
) -> Result<Identity, EnrolError> {
    let trust = Trust::Roots(expired.roots.clone());
    let addresses = if addresses.is_empty() { &expired.https_addresses } else { addresses };
    let vault = VaultClient::new(addresses.to_vec(), &expired.trust_domain, &trust)?;
    let former =
        store.load_pending().ok().flatten().filter(|pending| pending.purpose == PendingPurpose::Renew);
    let answer_of_former = match &former {
        Some(former) => recover(&vault, &former.key).await.ok(),
        None => None,
    };
    let (key, answer) = match (former, answer_of_former) {
        (Some(former), Some(answer)) => (former.key, answer),
        (former, _) => {
            let key = match former {
                Some(former) => former.key,
                None => new_renewal_key(store, expired)?,
            };
            let csr = key.csr()?;
            let answer = prove(&vault, RENEW, ProofPurpose::Renew, &expired.key, Some(&csr)).await?;
            (key, answer)
        }
    };
    if answer.node_id != expired.node_id {
        let expected = expired.node_id.to_string();
        return Err(UnfitIdentity::OtherNode { expected, found: vec![answer.node_id.to_string()] }.into());
    }
    let renewed = Identity::from_answer(key, &answer, &expired.roots)?;
    store.save(&renewed)?;
    store.clear_pending()?;
    Ok(renewed)
}

fn new_renewal_key(store: &IdentityStore, expired: &Identity) -> Result<NodeKey, EnrolError> {
    let pending = Pending {
        purpose: PendingPurpose::Renew,
        key: NodeKey::generate()?,
        node_name: expired.node_name.clone(),
        root_sha256: None,
    };
    store.save_pending(&pending)?;
    Ok(pending.key)
}
