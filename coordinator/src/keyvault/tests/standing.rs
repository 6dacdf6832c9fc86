//! A node in quarantine or revoked cannot talk itself out of it (IDN-05).

use super::*;

/// The outcomes of all that a node can do by itself for a new certificate; none may succeed.
async fn nothing_helps(vault: &KeyVault, held: &CertificateDer<'static>, pair: &KeyPair) {
    let fresh = || KeyPair::generate().unwrap();
    if let Ok(peer) = vault.peer(held) {
        let answer = vault.renew(&peer, &csr_der(&fresh()), "10.0.0.1").await;
        assert_eq!(answer, RenewResponse::Refused(RenewRefusal::NotAllowed), "over its session");
    }
    let renewed = vault.prove_key(ProofPurpose::Renew, pair, Some(&fresh())).await;
    assert!(matches!(renewed, Err(VaultError::Refused)), "by proof of its key");
}

#[tokio::test]
async fn idn_05_a_node_in_quarantine_gets_neither_a_new_certificate_nor_a_second_life() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, pair) = vault.new_node("gpu1").await;
    let held = leaf(&identity);
    vault.quarantine(identity.node_id, "a test").await;
    nothing_helps(&vault, &held, &pair).await;
    let recovered = vault.prove_key(ProofPurpose::Recover, &pair, None).await;
    assert!(matches!(recovered, Err(VaultError::Refused)), "not even the certificate that it has");
    // Its name is taken, by itself: a token that does not say replace makes no second node of it.
    let token = vault.agent_token(wish("gpu1")).await;
    let second = vault.try_enrol(&token, "GPU1", &KeyPair::generate().unwrap()).await;
    assert!(matches!(second, Err(VaultError::Conflict(_))));
    assert!(vault.peer(&held).unwrap().quarantined);
    vault.store.close().await;
    let vault = place.open().await;
    assert!(vault.peer(&held).unwrap().quarantined, "after a restart");
    nothing_helps(&vault, &held, &pair).await;
}

#[tokio::test]
async fn idn_05_a_revoked_node_comes_back_only_as_another_one_and_by_an_operators_token() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, pair) = vault.new_node("gpu1").await;
    let held = leaf(&identity);
    vault.revoke(identity.node_id, "stolen", &admin()).await.unwrap();
    assert_eq!(vault.peer(&held), Err(PeerRefusal::Unknown));
    nothing_helps(&vault, &held, &pair).await;
    let recovered = vault.prove_key(ProofPurpose::Recover, &pair, None).await;
    assert!(matches!(recovered, Err(VaultError::Refused)));
    // Even a token does not take the key that was revoked.
    let token = vault.agent_token(wish("gpu1")).await;
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Conflict(_))));
    let next = vault.try_enrol(&token, "gpu1", &KeyPair::generate().unwrap()).await.unwrap();
    assert_ne!(next.node_id, identity.node_id);
    assert_eq!(vault.peer(&held), Err(PeerRefusal::Unknown), "the former identity stays dead");
    assert!(!vault.store.is_node_living(identity.node_id).await.unwrap());
}
