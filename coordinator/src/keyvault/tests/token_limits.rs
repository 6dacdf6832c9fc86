//! How many tokens, how many wrong tries, and what is bound to what (ENR-10, ENR-12, ENR-16).

use super::*;
use crate::store::tokens::TokenFilter;

/// From an address of its own each, so that the limit of one address is another matter.
async fn enrol_from(
    vault: &KeyVault,
    token: &GeneratedToken,
    pair: &KeyPair,
    host: u8,
) -> Result<EnrolResponse, VaultError> {
    vault.enrol(&enrol_request(token, "gpu1", pair), [10, 9, 0, host].into(), &anonymous()).await
}

#[tokio::test]
async fn enr_10_a_token_for_one_key_takes_no_other_and_survives_the_try() {
    let place = Place::new();
    let vault = place.open().await;
    let (wanted, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let fingerprint = Sha256Digest::of(&wanted.subject_public_key_info()).to_string();
    let request = GenerateTokenRequest { public_key_sha256: Some(fingerprint), ..wish("gpu1") };
    let token = vault.agent_token(request).await;
    assert!(matches!(vault.try_enrol(&token, "gpu1", &other).await, Err(VaultError::Refused)));
    let refused = vault.audit_of("token.redeem").await;
    assert!(refused[0].decision == "denied" && refused[0].detail.contains("wrong_public_key"), "{refused:?}");
    vault.try_enrol(&token, "gpu1", &wanted).await.unwrap();
}

#[tokio::test]
async fn enr_12_four_wrong_signatures_leave_a_token_and_the_fifth_ends_it() {
    let place = Place::new();
    let vault = place.open().await;
    let pair = KeyPair::generate().unwrap();
    for wrong in [4, 5] {
        let token = vault.agent_token(wish("gpu1")).await;
        let forged = GeneratedToken { signature: "0".repeat(64), ..token.clone() };
        for host in 0..wrong {
            assert!(matches!(enrol_from(&vault, &forged, &pair, host).await, Err(VaultError::Refused)));
        }
        let filter = TokenFilter { limit: 1, ..TokenFilter::default() };
        let state = vault.store.tokens_page(&filter).await.unwrap().0[0].state.clone();
        let good = enrol_from(&vault, &token, &pair, 100).await;
        if wrong == 4 {
            assert_eq!((state.as_str(), good.is_ok()), ("outstanding", true));
        } else {
            assert_eq!(state, "revoked");
            assert!(matches!(good, Err(VaultError::Refused)));
        }
    }
}

#[tokio::test]
async fn enr_12_a_closed_door_is_answered_without_the_database() {
    let place = Place::new();
    let vault = place.open().await;
    let token = vault.agent_token(wish("gpu1")).await;
    let forged = GeneratedToken { signature: "0".repeat(64), ..token.clone() };
    let (pair, salt) = (KeyPair::generate().unwrap(), vault.salt_token().await);
    for _ in 0..10 {
        assert!(matches!(vault.try_enrol(&forged, "gpu1", &pair).await, Err(VaultError::Refused)));
    }
    vault.store.close().await;
    // Every way in, a good token as well: nothing is computed or looked up for this address.
    let closed = [
        vault.try_enrol(&token, "gpu1", &pair).await.err(),
        vault.redeem_salt(&salt).await.err(),
        vault.prove_key(ProofPurpose::Recover, &pair, None).await.err(),
        vault.prove_key(ProofPurpose::Renew, &pair, Some(&pair)).await.err(),
    ];
    for error in closed {
        assert!(matches!(error, Some(VaultError::TooMany { retry_after_seconds: 60 })), "{error:?}");
    }
    // Another address gets as far as the database that is gone.
    assert!(matches!(enrol_from(&vault, &token, &pair, 1).await, Err(VaultError::Store(_))));
}

#[tokio::test]
async fn enr_16_the_memory_of_tokens_ends_with_them_and_a_list_is_one_issue() {
    assert_eq!(KeyVaultConfig::default().outstanding_tokens_max, 100_000);
    let mut place = Place::new();
    place.config.outstanding_tokens_max = 10;
    let vault = place.open().await;
    let request =
        GenerateTokenRequest { hosts: Some("gpu[1-10]".to_owned()), ..GenerateTokenRequest::default() };
    let order = TokenOrder::new(TokenPurpose::AgentEnrol, request).unwrap();
    let filter = TokenFilter { state: Some("outstanding".to_owned()), limit: 100, ..TokenFilter::default() };
    for round in 1..=3 {
        vault.issue_tokens(&order, &admin()).await.unwrap();
        assert_eq!(vault.audit_of("token.create").await.len(), round, "one record for the whole list");
        assert_eq!(vault.deadlines.len(), 10);
        for token in vault.store.tokens_page(&filter).await.unwrap().0 {
            vault.revoke_token(token.id, &admin()).await.unwrap();
        }
        assert_eq!(vault.deadlines.len(), 0, "issuing and revoking in turn keeps no memory");
    }
    // Wrong signatures, expiry and redemption end the memory as well.
    let forged = GeneratedToken { signature: "0".repeat(64), ..vault.agent_token(wish("gpu1")).await };
    let pair = KeyPair::generate().unwrap();
    for host in 0..5 {
        assert!(enrol_from(&vault, &forged, &pair, host).await.is_err());
    }
    assert_eq!(vault.deadlines.len(), 0);
    vault.new_node("gpu1").await;
    assert_eq!(vault.deadlines.len(), 0);
    vault.issue_tokens(&order, &admin()).await.unwrap();
    place.clock.pass(HOUR_MS);
    vault.sweep_tokens().await.unwrap();
    assert_eq!(vault.deadlines.len(), 0);
    assert!(vault.store.tokens_page(&filter).await.unwrap().0.is_empty(), "swept");
}
