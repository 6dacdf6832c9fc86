//! What else than the holder of the key may try to fetch a lost certificate.

use super::*;

/// A challenge to recover the certificate of this key.
async fn challenge(vault: &KeyVault, pair: &KeyPair) -> String {
    let ask = ProofRequest::Challenge { public_key: STANDARD.encode(pair.subject_public_key_info()) };
    match vault.recover(&ask, SOURCE, &anonymous()).await.unwrap() {
        ProofResponse::Challenge(given) => given.challenge,
        ProofResponse::Identity(_) => panic!("an identity without a proof"),
    }
}

/// The answer to a challenge: which key it names, who signs, and for what.
async fn answer(
    vault: &KeyVault,
    challenge: &str,
    named: &KeyPair,
    signer: &KeyPair,
    purpose: ProofPurpose,
) -> Result<ProofResponse, VaultError> {
    let bytes: [u8; CHALLENGE_LEN] = STANDARD.decode(challenge).unwrap().try_into().unwrap();
    let signature = signer.sign(&proof_input(purpose, &bytes, &[])).unwrap();
    let proof = ProofRequest::Proof {
        public_key: STANDARD.encode(named.subject_public_key_info()),
        challenge: challenge.to_owned(),
        signature: STANDARD.encode(signature),
        csr: None,
    };
    vault.recover(&proof, SOURCE, &anonymous()).await
}

#[tokio::test]
async fn enr_05_only_the_holder_of_the_key_fetches_a_lost_certificate_and_a_proof_is_for_one_use() {
    let place = Place::new();
    let vault = place.open().await;
    let (_, pair) = vault.new_node("gpu1").await;
    let (_, thief) = vault.new_node("gpu2").await;
    let recover = ProofPurpose::Recover;

    // Another key signs for this one; the challenge is spent by it.
    let given = challenge(&vault, &pair).await;
    assert!(matches!(answer(&vault, &given, &pair, &thief, recover).await, Err(VaultError::Refused)));
    assert!(matches!(answer(&vault, &given, &pair, &pair, recover).await, Err(VaultError::Refused)), "spent");
    // A challenge of another key, a signature for another purpose, a challenge that nobody gave, and one too old.
    let given = challenge(&vault, &thief).await;
    assert!(matches!(answer(&vault, &given, &pair, &pair, recover).await, Err(VaultError::Refused)));
    let given = challenge(&vault, &pair).await;
    let other = answer(&vault, &given, &pair, &pair, ProofPurpose::Renew).await;
    assert!(matches!(other, Err(VaultError::Refused)));
    let invented = STANDARD.encode([7; CHALLENGE_LEN]);
    assert!(matches!(answer(&vault, &invented, &pair, &pair, recover).await, Err(VaultError::Refused)));
    let given = challenge(&vault, &pair).await;
    place.clock.pass(60 * 1000);
    assert!(
        matches!(answer(&vault, &given, &pair, &pair, recover).await, Err(VaultError::Refused)),
        "too old"
    );
    let refused = vault.audit_of("certificate.recover").await;
    assert_eq!(refused.len(), 6, "each is recorded");
    assert!(refused.iter().all(|row| row.decision == "denied"));

    // The holder gets it, and the same proof again gets nothing.
    let given = challenge(&vault, &pair).await;
    assert!(answer(&vault, &given, &pair, &pair, recover).await.is_ok());
    assert!(
        matches!(answer(&vault, &given, &pair, &pair, recover).await, Err(VaultError::Refused)),
        "replayed"
    );
}
