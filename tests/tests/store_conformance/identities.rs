//! Tokens, enrolment, certificates, requests for approval.

use aim_common::enrolment::TokenPurpose;
use aim_coordinator::store::Store;
use aim_coordinator::store::audit::AuditFilter;
use aim_coordinator::store::certificates::CertificateFilter;
use aim_coordinator::store::enrolment::{Claim, Enrolled, FirstUse};
use aim_coordinator::store::enrolment_requests::{NewRequest, RequestState};
use aim_coordinator::store::nodes::NodeState;
use aim_coordinator::store::tokens::{NewToken, TokenFilter};

use crate::made::{HOUR, NOW, certificate, digest, enrol, is_total, name, node, record, serial, token};

async fn records(store: &Store) -> usize {
    crate::made::records(store, &AuditFilter::default()).await
}

async fn used(store: &Store, key: &str, generation: i64, at: i64) {
    let serial = serial(key);
    let first = FirstUse { node: node(1), serial: &serial, generation, at: NOW.plus_ms(at) };
    store.certificates_used(&[first]).await.unwrap();
}

async fn states(store: &Store) -> Vec<String> {
    let (tokens, _) = store.tokens_page(&TokenFilter { limit: 100, ..TokenFilter::default() }).await.unwrap();
    tokens.into_iter().rev().map(|token| token.state).collect()
}

pub(crate) async fn a_token_is_redeemed_once(store: Store) {
    let salt = NewToken { purpose: TokenPurpose::SaltMasterPub, node: None, source: None, ..token("secret") };
    assert!(store.tokens_insert(&[salt], 10, &record("token.create")).await.unwrap());
    let hash = digest("secret");
    let stored = store.token_outstanding(&hash).await.unwrap().unwrap();
    assert_eq!((stored.purpose, stored.node, stored.source), (TokenPurpose::SaltMasterPub, None, None));
    assert_eq!((stored.created_at, stored.expires_at), (NOW, NOW.plus_ms(HOUR)));
    assert!(store.is_token_outstanding(&hash).await.unwrap());
    let redemptions: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store.token_redeem(&digest("secret"), &record("token.redeem")).await.unwrap()
            })
        })
        .collect();
    let mut winners = 0;
    for redemption in redemptions {
        winners += u32::from(redemption.await.unwrap());
    }
    assert_eq!((winners, records(&store).await), (1, 2));
    assert!(!store.is_token_outstanding(&hash).await.unwrap());
    assert_eq!(states(&store).await, ["redeemed"]);
}

pub(crate) async fn tokens_end_by_time_failures_and_revocation(store: Store) {
    let bound = NewToken { public_key: Some(digest("key")), replace: true, ..token("bound") };
    let late = NewToken { expires_at: NOW.plus_ms(2 * HOUR), ..token("late") };
    let tokens = [bound, late, token("failing"), token("revoked"), token("single")];
    assert!(store.tokens_insert(&tokens, 10, &record("token.create")).await.unwrap());
    let stored = store.token_outstanding(&digest("bound")).await.unwrap().unwrap();
    assert_eq!((stored.public_key, stored.replace), (Some(digest("key")), true));
    assert_eq!(stored.node, Some(name("gpu001")));
    assert_eq!(stored.source.unwrap().to_string(), "10.0.0.0/8");

    let failing = store.token_outstanding(&digest("failing")).await.unwrap().unwrap().id;
    for _ in 0..4 {
        store.token_failed(failing, NOW).await.unwrap();
    }
    assert!(store.is_token_outstanding(&digest("failing")).await.unwrap());
    store.token_failed(failing, NOW).await.unwrap();
    let revoked = store.token_outstanding(&digest("revoked")).await.unwrap().unwrap().id;
    assert_eq!(store.token_revoke(revoked, &record("token.revoke")).await.unwrap(), Some(digest("revoked")));
    assert_eq!(store.token_revoke(revoked, &record("token.revoke")).await.unwrap(), None);
    assert!(store.token_expire(&digest("single"), NOW).await.unwrap());
    assert!(!store.token_expire(&digest("single"), NOW).await.unwrap());
    assert_eq!(store.tokens_expire(NOW.plus_ms(HOUR - 1)).await.unwrap(), 0);
    assert_eq!(store.tokens_expire(NOW.plus_ms(HOUR)).await.unwrap(), 1);
    assert_eq!(states(&store).await, ["expired", "outstanding", "revoked", "revoked", "expired"]);
    assert_eq!(records(&store).await, 2);

    let filter =
        |state: Option<&str>, before, limit| TokenFilter { state: state.map(str::to_owned), before, limit };
    let (page, total) = store.tokens_page(&filter(None, None, 2)).await.unwrap();
    assert!(page.len() == 2 && is_total(total, 5));
    let (rest, _) = store.tokens_page(&filter(None, Some(page[1].id), 9)).await.unwrap();
    assert_eq!(rest.len(), 3);
    let (outstanding, total) = store.tokens_page(&filter(Some("outstanding"), None, 9)).await.unwrap();
    assert!(outstanding.len() == 1 && is_total(total, 1));
}

pub(crate) async fn no_more_tokens_than_the_limit_or_none_of_them(store: Store) {
    let many: Vec<NewToken> = (0..1200).map(|number| token(&format!("secret {number}"))).collect();
    assert!(store.tokens_insert(&many, 1200, &record("token.create")).await.unwrap());
    assert!(!store.tokens_insert(&[token("more")], 1200, &record("token.create")).await.unwrap());
    assert!(!store.is_token_outstanding(&digest("more")).await.unwrap());
    assert!(store.is_token_outstanding(&digest("secret 1199")).await.unwrap());
    assert_eq!(records(&store).await, 1);
}

pub(crate) async fn enrolment_is_whole_or_nothing(store: Store) {
    assert!(!store.has_certificates().await.unwrap());
    enrol(&store, node(1), "gpu001").await;
    assert!(store.has_certificates().await.unwrap());
    assert_eq!(records(&store).await, 2);
    let tokens = [token("two"), token("three"), token("four")];
    assert!(store.tokens_insert(&tokens, 10, &record("token.create")).await.unwrap());
    let attempt = async |secret: &str, host: &str, key: &str| {
        let (claim, certificate) = (digest(secret), certificate(node(2), 1, key));
        store
            .enrol(Claim::Token(&claim), &name(host), false, &certificate, &record("node.enrol"))
            .await
            .unwrap()
    };
    assert_eq!(attempt("never issued", "gpu002", "key two").await, Enrolled::ClaimLost);
    assert_eq!(attempt("two", "GPU001", "key two").await, Enrolled::NameTaken);
    assert_eq!(attempt("two", "gpu002", "key of gpu001").await, Enrolled::KeyUsed);
    assert!(store.is_token_outstanding(&digest("two")).await.unwrap(), "a refusal consumes nothing");
    assert_eq!(records(&store).await, 3);
    assert_eq!(attempt("two", "gpu002", "key two").await, Enrolled::Done { superseded: None });
    assert_eq!(attempt("two", "gpu003", "key three").await, Enrolled::ClaimLost);
    let mut known = store.known_nodes().await.unwrap();
    known.sort_by_key(|known| known.id);
    let names: Vec<_> = known.iter().map(|known| known.name.to_string()).collect();
    assert_eq!(names, ["gpu001", "gpu002"]);
    assert_eq!((known[0].active_generation, known[0].newest_generation), (0, 1));
    assert_eq!(known[0].last_issued, NOW.plus_ms(1));
}

pub(crate) async fn of_many_enrolments_with_one_token_one_is_done(store: Store) {
    assert!(store.tokens_insert(&[token("secret")], 10, &record("token.create")).await.unwrap());
    let attempts: Vec<_> = (1..=20)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let certificate = certificate(node(number), 1, &format!("key {number}"));
                let claim = digest("secret");
                let host = name(&format!("gpu{number:03}"));
                store
                    .enrol(Claim::Token(&claim), &host, false, &certificate, &record("node.enrol"))
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut done = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Enrolled::Done { .. } => done += 1,
            other => assert_eq!(other, Enrolled::ClaimLost),
        }
    }
    assert_eq!((done, store.known_nodes().await.unwrap().len(), records(&store).await), (1, 1, 2));
}

pub(crate) async fn a_replaced_node_is_superseded(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    assert!(store.tokens_insert(&[token("again")], 10, &record("token.create")).await.unwrap());
    let (claim, successor) = (digest("again"), certificate(node(2), 1, "new key"));
    let enrolled =
        store.enrol(Claim::Token(&claim), &name("Gpu001"), true, &successor, &record("node.enrol")).await;
    assert_eq!(enrolled.unwrap(), Enrolled::Done { superseded: Some(node(1)) });
    assert_eq!(store.node_load(node(1)).await.unwrap().unwrap().state, NodeState::Superseded);
    assert!(!store.is_node_living(node(1)).await.unwrap() && store.is_node_living(node(2)).await.unwrap());
    let former = store.certificate_of_key(&digest("key of gpu001")).await.unwrap().unwrap();
    assert_eq!((former.living, former.state.as_str()), (false, "revoked"));
    assert_eq!(store.known_nodes().await.unwrap().len(), 1);
}

pub(crate) async fn certificates_follow_their_generations(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    used(&store, "key of gpu001", 1, 0).await;
    let renewed = certificate(node(1), 2, "second key");
    assert!(store.certificate_add(&renewed, &record("certificate.renew")).await.unwrap());
    let same_key = certificate(node(1), 3, "second key");
    assert!(!store.certificate_add(&same_key, &record("certificate.renew")).await.unwrap());
    let of_nobody = certificate(node(9), 1, "third key");
    assert!(!store.certificate_add(&of_nobody, &record("certificate.renew")).await.unwrap());
    let known = &store.known_nodes().await.unwrap()[0];
    assert_eq!((known.active_generation, known.newest_generation), (1, 2));
    assert_eq!(store.known_certificates(NOW).await.unwrap().len(), 2, "both work until the new one is used");
    for _ in 0..2 {
        used(&store, "second key", 2, 5).await;
    }
    assert_eq!(store.node_certificate(node(1)).await.unwrap().unwrap().0, serial("second key").as_str());
    assert_eq!(store.known_certificates(NOW.plus_ms(24 * HOUR)).await.unwrap().len(), 0, "all have ended");

    let listed = async |node: Option<&str>, state: Option<&str>, now| {
        let (node, state) = (node.map(str::to_owned), state.map(str::to_owned));
        let filter = CertificateFilter { node, state, now };
        let (page, total) = store.certificates_page(&filter, 0, 10).await.unwrap();
        assert!(is_total(total, page.len()));
        page.into_iter().map(|view| (view.generation, view.state)).collect::<Vec<_>>()
    };
    let both = vec![(2, "active".to_owned()), (1, "superseded".to_owned())];
    assert_eq!(listed(None, None, NOW).await, both);
    assert_eq!(listed(Some("gpu001"), None, NOW).await, both);
    assert_eq!(listed(Some(&node(1).to_string()), Some("active"), NOW).await, both[..1]);
    assert_eq!(listed(Some("gpu009"), None, NOW).await, []);
    assert_eq!(listed(None, Some("expired"), NOW.plus_ms(25 * HOUR)).await, [(2, "expired".to_owned())]);
    let all = CertificateFilter { node: None, state: None, now: NOW };
    assert_eq!(store.certificates_page(&all, 1, 10).await.unwrap().0.len(), 1);
}

pub(crate) async fn a_revoked_node_is_not_known_any_more(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    assert!(store.node_revoke(node(1), &record("node.revoke")).await.unwrap());
    assert!(!store.node_revoke(node(1), &record("node.revoke")).await.unwrap());
    assert_eq!(records(&store).await, 3, "repeating appends nothing");
    assert!(!store.is_node_living(node(1)).await.unwrap());
    assert!(store.known_nodes().await.unwrap().is_empty());
    assert!(store.known_certificates(NOW).await.unwrap().is_empty());
    let shown = store.nodes_load().await.unwrap();
    assert_eq!(shown[0].state, NodeState::Revoked, "shown until it is deleted");
    let renewed = certificate(node(1), 2, "second key");
    assert!(!store.certificate_add(&renewed, &record("certificate.renew")).await.unwrap());
}

pub(crate) async fn quarantine_begins_and_ends_once(store: Store) {
    enrol(&store, node(1), "gpu001").await;
    assert!(store.node_quarantine(node(1), "an older generation", &record("node.quarantine")).await.unwrap());
    assert!(!store.node_quarantine(node(1), "again", &record("node.quarantine")).await.unwrap());
    let quarantine = store.node_load(node(1)).await.unwrap().unwrap().quarantine.unwrap();
    assert_eq!((quarantine.since, quarantine.reason.as_str()), (NOW, "an older generation"));
    assert!(store.known_nodes().await.unwrap()[0].quarantined);
    assert!(store.certificate_of_key(&digest("key of gpu001")).await.unwrap().unwrap().quarantined);
    assert_eq!(store.certificate_of_key(&digest("no key")).await.unwrap(), None);
    assert!(store.node_release(node(1), &record("node.release")).await.unwrap());
    assert!(!store.node_release(node(1), &record("node.release")).await.unwrap());
    assert_eq!(store.node_load(node(1)).await.unwrap().unwrap().quarantine, None);
    assert!(!store.known_nodes().await.unwrap()[0].quarantined);
    assert_eq!(records(&store).await, 4, "one record for each change");
}

pub(crate) async fn requests_wait_and_are_decided_once(store: Store) {
    let request = |host: &str, at: i64| NewRequest {
        node_name: name(host),
        csr_pem: format!("csr of {host}"),
        public_key: digest(host),
        source: "192.0.2.7".to_owned(),
        requested_at: NOW.plus_ms(at),
        inventory: r#"{"cpus": 2}"#.to_owned(),
    };
    let asked = record("enrolment_request.add");
    for (host, at) in [("gpu001", 0), ("gpu002", 1), ("gpu003", 2), ("gpu003", 3)] {
        assert!(store.enrolment_request_add(&request(host, at), 3 + at / 3, &asked).await.unwrap(), "{host}");
    }
    assert_eq!(records(&store).await, 3, "the same key again is no new request");
    assert!(
        !store.enrolment_request_add(&request("gpu004", 4), 3, &asked).await.unwrap(),
        "the queue is full"
    );
    let (page, total) = store.enrolment_requests_page(Some("pending"), None, 2).await.unwrap();
    assert_eq!((page.len(), total, page[0].node.to_string().as_str()), (2, 3, "gpu003"));
    assert_eq!(page[0].inventory["cpus"], 2);
    let (rest, _) = store.enrolment_requests_page(None, Some(page[1].id), 9).await.unwrap();
    let (first, second, third) = (rest[0].id, page[1].id, page[0].id);
    assert_eq!(store.enrolment_request(first).await.unwrap().unwrap().csr_pem, "csr of gpu001");

    let certificate = certificate(node(1), 1, "gpu001");
    let claim = Claim::Request { id: first, decided_by: "user:admin" };
    let approved = store.enrol(claim, &name("gpu001"), false, &certificate, &record("node.enrol")).await;
    assert_eq!(approved.unwrap(), Enrolled::Done { superseded: None });
    let again = store.enrol(claim, &name("gpu001"), true, &certificate, &record("node.enrol")).await;
    assert_eq!(again.unwrap(), Enrolled::ClaimLost);
    assert!(store.enrolment_request_reject(second, &record("enrolment_request.reject")).await.unwrap());
    assert!(!store.enrolment_request_reject(second, &record("enrolment_request.reject")).await.unwrap());
    assert!(store.enrolment_request(second).await.unwrap().is_none(), "it is not pending any more");
    let state = async |host: &str| {
        store.enrolment_request_of_key(&digest(host)).await.unwrap().map(|request| request.state)
    };
    assert_eq!(state("gpu001").await, Some(RequestState::Approved));
    assert_eq!(state("gpu002").await, Some(RequestState::Rejected));
    assert_eq!(state("gpu003").await, Some(RequestState::Pending));
    assert_eq!(store.enrolment_requests_forget(NOW.plus_ms(2)).await.unwrap(), 0);
    assert_eq!(store.enrolment_requests_forget(NOW.plus_ms(3)).await.unwrap(), 1);
    assert_eq!(state("gpu003").await, None);
    assert!(store.enrolment_request(third).await.unwrap().is_none());
}
