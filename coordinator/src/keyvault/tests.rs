//! The whole KeyVault on SQLite, with clocks that the test sets.

mod proofs;
mod standing;
mod token_limits;

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aim_common::api::keyvault::{
    EnrolRequest, EnrolResponse, GenerateTokenRequest, GeneratedToken, ProofRequest, ProofResponse,
};
use aim_common::enrolment::{CHALLENGE_LEN, ProofPurpose, TokenPurpose, proof_input};
use aim_common::identity::NodeId;
use aim_common::protocol::{CloseCode, RenewRefusal, RenewResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::tokens::{PresentedToken, TokenOrder};
use super::*;
use crate::clock::Clock;
use crate::store::audit::AuditRow;

const START: i64 = 1_767_225_600_000;
const HOUR_MS: i64 = 60 * 60 * 1000;
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const SALT_KEY: &str = include_str!("testdata/salt-master.pub");

/// Both clocks, moved by the test.
#[derive(Debug, Default)]
struct TestClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl TestClock {
    fn pass(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.monotonic.fetch_add(u64::try_from(ms).unwrap(), Ordering::SeqCst);
    }

    fn step_wall(&self, ms: i64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> EpochMs {
        EpochMs(START + self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::SeqCst))
    }
}

/// Sessions that only count how often they were cut.
#[derive(Debug, Default)]
struct CountedSessions(AtomicU32);

impl SessionControl for CountedSessions {
    fn close_node(&self, _node: NodeId, _code: CloseCode) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst);
        1
    }
}

struct Place {
    folder: tempfile::TempDir,
    clock: Arc<TestClock>,
    sessions: Arc<CountedSessions>,
    config: KeyVaultConfig,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let (clock, sessions) = (Arc::default(), Arc::default());
        Self { folder, clock, sessions, config: KeyVaultConfig::default() }
    }

    fn state_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("state")
    }

    fn database(&self) -> std::path::PathBuf {
        self.folder.path().join("aim.db")
    }

    async fn open(&self) -> Arc<KeyVault> {
        let store = Store::open_sqlite(&self.database()).await.unwrap();
        self.open_on(store).await.unwrap()
    }

    async fn open_on(&self, store: Store) -> Result<Arc<KeyVault>, KeyVaultError> {
        let addresses = PublicAddresses {
            names: vec!["localhost".to_owned()],
            https: vec!["localhost:8443".to_owned()],
            link: vec!["localhost:7443".to_owned()],
        };
        KeyVault::open(KeyVaultParts {
            state_dir: &self.state_dir(),
            config: self.config.clone(),
            addresses,
            store,
            clock: Arc::<TestClock>::clone(&self.clock),
            conditions: Arc::default(),
            sessions: Arc::<CountedSessions>::clone(&self.sessions),
        })
        .await
        .map(Arc::new)
    }

    /// A copy of the database as it is now: a backup.
    async fn backup(&self, vault: &KeyVault) -> Vec<u8> {
        vault.store.close().await;
        std::fs::read(self.database()).unwrap()
    }

    fn restore(&self, backup: &[u8]) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.database().display()));
        }
        std::fs::write(self.database(), backup).unwrap();
    }
}

fn admin() -> Requester {
    Requester { actor: "user:admin".to_owned(), source: "10.9.9.9".to_owned(), request_id: "r1".to_owned() }
}

fn anonymous() -> Requester {
    Requester { actor: "anonymous".to_owned(), source: SOURCE.to_string(), request_id: "r2".to_owned() }
}

fn wish(node: &str) -> GenerateTokenRequest {
    GenerateTokenRequest { node: Some(node.parse().unwrap()), ..GenerateTokenRequest::default() }
}

fn csr(pair: &KeyPair) -> String {
    CertificateParams::default().serialize_request(pair).unwrap().pem().unwrap()
}

fn csr_der(pair: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(pair).unwrap().der().to_vec()
}

fn leaf(identity: &EnrolResponse) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(identity.certificate_chain.as_bytes()).unwrap()
}

fn enrol_request(token: &GeneratedToken, node: &str, pair: &KeyPair) -> EnrolRequest {
    EnrolRequest {
        token: token.token.clone(),
        signature: token.signature.clone(),
        nonce: token.nonce.clone(),
        node: node.parse().unwrap(),
        csr: csr(pair),
    }
}

impl KeyVault {
    async fn agent_token(&self, request: GenerateTokenRequest) -> GeneratedToken {
        let order = TokenOrder::new(TokenPurpose::AgentEnrol, request).unwrap();
        self.issue_tokens(&order, &admin()).await.unwrap().pop().unwrap()
    }

    async fn salt_token(&self) -> GeneratedToken {
        let order = TokenOrder::new(TokenPurpose::SaltMasterPub, GenerateTokenRequest::default()).unwrap();
        self.issue_tokens(&order, &admin()).await.unwrap().pop().unwrap()
    }

    async fn try_enrol(
        &self,
        token: &GeneratedToken,
        node: &str,
        pair: &KeyPair,
    ) -> Result<EnrolResponse, VaultError> {
        self.enrol(&enrol_request(token, node, pair), SOURCE, &anonymous()).await
    }

    async fn new_node(&self, name: &str) -> (EnrolResponse, KeyPair) {
        let pair = KeyPair::generate().unwrap();
        let token = self.agent_token(wish(name)).await;
        (self.try_enrol(&token, name, &pair).await.unwrap(), pair)
    }

    async fn redeem_salt(&self, token: &GeneratedToken) -> Result<String, VaultError> {
        let presented = PresentedToken::parse(&token.token, &token.nonce, &token.signature);
        self.redeem_salt_token(presented.as_ref(), SOURCE, &anonymous()).await
    }

    fn peer(&self, leaf: &CertificateDer<'_>) -> Result<PeerIdentity, PeerRefusal> {
        self.check(leaf, self.clock.now())
    }

    async fn audit_of(&self, action: &str) -> Vec<AuditRow> {
        let rows = self.store.audit_chain(0, 10_000).await.unwrap();
        rows.into_iter().filter(|row| row.action == action).collect()
    }

    /// Both steps of recover or renew.
    async fn prove_key(
        &self,
        purpose: ProofPurpose,
        old: &KeyPair,
        csr: Option<&KeyPair>,
    ) -> Result<EnrolResponse, VaultError> {
        let public_key = STANDARD.encode(old.subject_public_key_info());
        let ask = ProofRequest::Challenge { public_key: public_key.clone() };
        let run = async |request: &ProofRequest| match purpose {
            ProofPurpose::Recover => self.recover(request, SOURCE, &anonymous()).await,
            ProofPurpose::Renew => self.renew_by_proof(request, SOURCE, &anonymous()).await,
        };
        let ProofResponse::Challenge(given) = run(&ask).await? else { panic!("no challenge") };
        let challenge: [u8; CHALLENGE_LEN] = STANDARD.decode(&given.challenge).unwrap().try_into().unwrap();
        let new_csr = csr.map(csr_der).unwrap_or_default();
        let signature = old.sign(&proof_input(purpose, &challenge, &new_csr)).unwrap();
        let proof = ProofRequest::Proof {
            public_key,
            challenge: given.challenge,
            signature: STANDARD.encode(signature),
            csr: csr.map(self::csr),
        };
        // The request is made twice, so that ECDSA's random part makes two texts: only the first is signed.
        let proof = match (proof, csr) {
            (ProofRequest::Proof { public_key, challenge, signature, .. }, Some(_)) => {
                let pem = rustls_pki_types::CertificateSigningRequestDer::from(new_csr);
                ProofRequest::Proof { public_key, challenge, signature, csr: Some(pem_of(&pem)) }
            }
            (proof, _) => proof,
        };
        match run(&proof).await? {
            ProofResponse::Identity(identity) => Ok(*identity),
            ProofResponse::Challenge(_) => panic!("a second challenge"),
        }
    }
}

fn pem_of(der: &[u8]) -> String {
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(der)
    )
}

mod pki;

#[tokio::test]
async fn a_token_makes_a_node_with_an_identity() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let peer = vault.peer(&leaf(&identity)).unwrap();
    assert_eq!((peer.node_id, peer.node_name.as_str(), peer.generation), (identity.node_id, "gpu1", 1));
    assert_eq!(identity.link_addresses, ["localhost:7443"]);
    assert_eq!(identity.certificate_chain.matches("BEGIN CERTIFICATE").count(), 3);
    // The same after a restart.
    vault.store.close().await;
    let vault = place.open().await;
    assert_eq!(vault.peer(&leaf(&identity)).unwrap(), peer);
    assert!(!vault.fence().fenced);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn enr_03_concurrent_redeem_100() {
    let place = Place::new();
    let first = place.open().await;
    // Two coordinators on one database.
    let second_place = Place { folder: tempfile::tempdir().unwrap(), ..Place::new() };
    std::fs::create_dir(second_place.state_dir()).unwrap();
    for name in ["ca", "token.key", "keyvault.journal"] {
        let copied = std::process::Command::new("cp")
            .args(["-a", "--"])
            .arg(place.state_dir().join(name))
            .arg(second_place.state_dir())
            .status()
            .unwrap();
        assert!(copied.success());
    }
    let second = second_place.open_on(Store::open_sqlite(&place.database()).await.unwrap()).await.unwrap();
    for round in 0..3 {
        let name = format!("gpu{round}");
        let token = first.agent_token(wish(&name)).await;
        let mut attempts = tokio::task::JoinSet::new();
        for attempt in 0..100_u8 {
            let vault = Arc::clone(if attempt % 2 == 0 { &first } else { &second });
            let (token, name) = (token.clone(), name.clone());
            attempts.spawn(async move {
                let pair = KeyPair::generate().unwrap();
                // Each from an address of its own: the limit of failures is another test.
                let source: IpAddr = [10, 1, 0, attempt].into();
                vault.enrol(&enrol_request(&token, &name, &pair), source, &anonymous()).await
            });
        }
        let results = attempts.join_all().await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "round {round}");
        for refused in results.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(refused, VaultError::Refused), "{refused}");
        }
        let enrolled = first.audit_of("node.enrol").await;
        assert_eq!(enrolled.len(), round + 1, "one record each");
        // Whoever lost the race for the claim is recorded like whoever came later.
        assert_eq!(first.audit_of("token.redeem").await.len(), 99 * (round + 1));
    }
    let filter = crate::store::certificates::CertificateFilter { node: None, state: None, now: EpochMs(0) };
    assert_eq!(first.store.certificates_page(&filter, 0, 1000).await.unwrap().1, Some(3), "one serial each");
}

#[tokio::test]
async fn enr_04_a_failed_enrolment_consumes_nothing() {
    let place = Place::new();
    let vault = place.open().await;
    let (_, used) = vault.new_node("gpu1").await;
    let token = vault.agent_token(wish("gpu2")).await;
    // The claim stands in the same transaction as what fails here: the key is another node's (PKI-04).
    let refused = vault.try_enrol(&token, "gpu2", &used).await;
    assert!(matches!(refused, Err(VaultError::Conflict(_))));
    vault.try_enrol(&token, "gpu2", &KeyPair::generate().unwrap()).await.unwrap();
}

#[tokio::test]
async fn pki_04_a_key_of_another_node_is_refused() {
    let place = Place::new();
    let vault = place.open().await;
    let (_, used) = vault.new_node("gpu1").await;
    let token = vault.agent_token(wish("gpu2")).await;
    assert!(matches!(vault.try_enrol(&token, "gpu2", &used).await, Err(VaultError::Conflict(_))));
}

#[tokio::test]
async fn enr_05_a_lost_answer_is_recovered_by_proof_for_five_minutes() {
    let place = Place::new();
    let vault = place.open().await;
    let token = vault.agent_token(wish("gpu1")).await;
    let pair = KeyPair::generate().unwrap();
    let lost = vault.try_enrol(&token, "gpu1", &pair).await.unwrap();
    assert!(
        matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)),
        "the token is dead"
    );
    place.clock.pass(5 * 60 * 1000);
    let found = vault.prove_key(ProofPurpose::Recover, &pair, None).await.unwrap();
    assert_eq!(leaf(&found), leaf(&lost));
    let stranger = KeyPair::generate().unwrap();
    assert!(matches!(
        vault.prove_key(ProofPurpose::Recover, &stranger, None).await,
        Err(VaultError::Refused)
    ));
    place.clock.pass(1);
    assert!(matches!(vault.prove_key(ProofPurpose::Recover, &pair, None).await, Err(VaultError::Refused)));
}

#[tokio::test]
async fn enr_06_expiry_stands_against_steps_of_the_wall_clock() {
    let place = Place::new();
    let vault = place.open().await;
    let token = vault.agent_token(wish("gpu1")).await;
    let pair = KeyPair::generate().unwrap();
    place.clock.pass(5 * 60 * 1000);
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)));
    place.clock.step_wall(-4 * 60 * 1000);
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)), "stepped back");
    // And where the wall clock never reaches the end: its time is over by the other clock.
    let token = vault.agent_token(wish("gpu1")).await;
    place.clock.pass(60 * 1000);
    place.clock.step_wall(-60 * 1000);
    place.clock.pass(4 * 60 * 1000);
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)), "kept back");
}

#[tokio::test]
async fn enr_06_once_seen_to_be_over_a_token_is_over() {
    let place = Place::new();
    let vault = place.open().await;
    let token = vault.agent_token(wish("gpu1")).await;
    let pair = KeyPair::generate().unwrap();
    place.clock.step_wall(-10 * 60 * 1000);
    let early = vault.try_enrol(&token, "gpu1", &pair).await;
    assert!(matches!(early, Err(VaultError::Refused)), "before its issue");
    place.clock.step_wall(20 * 60 * 1000);
    assert!(
        matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)),
        "ten minutes on"
    );
    place.clock.step_wall(-10 * 60 * 1000);
    let back = vault.try_enrol(&token, "gpu1", &pair).await;
    assert!(matches!(back, Err(VaultError::Refused)), "the clock is right again, and the token stays dead");
}

#[tokio::test]
async fn enr_06_a_try_before_its_issue_does_not_end_a_token() {
    let place = Place::new();
    let vault = place.open().await;
    let token = vault.agent_token(wish("gpu1")).await;
    let pair = KeyPair::generate().unwrap();
    place.clock.step_wall(-10 * 60 * 1000);
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)));
    place.clock.step_wall(10 * 60 * 1000);
    vault.try_enrol(&token, "gpu1", &pair).await.unwrap();
}

#[tokio::test]
async fn enr_10_a_refused_binding_does_not_consume_and_is_audited() {
    let place = Place::new();
    let vault = place.open().await;
    let pair = KeyPair::generate().unwrap();
    let token = vault
        .agent_token(GenerateTokenRequest { source_cidr: Some("10.0.0.0/8".to_owned()), ..wish("gpu1") })
        .await;
    assert!(matches!(vault.try_enrol(&token, "gpu2", &pair).await, Err(VaultError::Refused)));
    let outside =
        vault.enrol(&enrol_request(&token, "gpu1", &pair), [192, 0, 2, 1].into(), &anonymous()).await;
    assert!(matches!(outside, Err(VaultError::Refused)));
    let reasons: Vec<String> = vault
        .audit_of("token.redeem")
        .await
        .into_iter()
        .map(|row| format!("{} {}", row.decision, row.detail))
        .collect();
    assert!(reasons[0].contains("denied") && reasons[0].contains("wrong_node"), "{reasons:?}");
    assert!(reasons[1].contains("denied") && reasons[1].contains("wrong_address"), "{reasons:?}");
    vault.try_enrol(&token, "gpu1", &pair).await.unwrap();
}

#[tokio::test]
async fn enr_12_five_wrong_signatures_revoke_the_token_and_ten_failures_close_the_door() {
    let place = Place::new();
    let vault = place.open().await;
    let (token, pair) = (vault.agent_token(wish("gpu1")).await, KeyPair::generate().unwrap());
    let forged = GeneratedToken { signature: "0".repeat(64), ..token.clone() };
    for _ in 0..5 {
        assert!(matches!(vault.try_enrol(&forged, "gpu1", &pair).await, Err(VaultError::Refused)));
    }
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)), "revoked");
    for _ in 6..10 {
        assert!(matches!(vault.try_enrol(&forged, "gpu1", &pair).await, Err(VaultError::Refused)));
    }
    let recorded = vault.audit_of("token.redeem").await.len();
    assert!(matches!(vault.try_enrol(&forged, "gpu1", &pair).await, Err(VaultError::TooMany { .. })));
    assert_eq!(vault.audit_of("token.redeem").await.len(), recorded, "refused before any database work");
    let other = vault.agent_token(wish("gpu2")).await;
    vault.enrol(&enrol_request(&other, "gpu2", &pair), [10, 0, 0, 2].into(), &anonymous()).await.unwrap();
}

#[tokio::test]
async fn enr_14_a_dump_redeems_nothing_and_ended_tokens_leave_no_secret() {
    let place = Place::new();
    let vault = place.open().await;
    let (token, salt) = (vault.agent_token(wish("gpu1")).await, vault.salt_token().await);
    vault.try_enrol(&token, "gpu1", &KeyPair::generate().unwrap()).await.unwrap();
    place.clock.pass(6 * 60 * 1000);
    vault.sweep_tokens().await.unwrap();
    let dump = place.backup(&vault).await;
    let find = |secret: &[u8]| dump.windows(secret.len()).any(|window| window == secret);
    for token in [&token, &salt] {
        for secret in [&token.token, &token.signature, &token.nonce] {
            assert!(!find(secret.as_bytes()), "in clear");
            assert!(!find(&hex::decode(secret.replace('-', "")).unwrap()), "as bytes");
        }
        let id = token.token.parse().unwrap();
        assert!(
            !find(hex::encode(vault.token_key.storage_hash(&id)).as_bytes()),
            "the hash of an ended token"
        );
    }
    assert!(find(b"expired") && find(b"redeemed"));
}

#[tokio::test]
async fn enr_15_a_restored_backup_revives_no_token_and_raises_the_fence() {
    let place = Place::new();
    let vault = place.open().await;
    let (token, pair) = (vault.agent_token(wish("gpu1")).await, KeyPair::generate().unwrap());
    let backup = place.backup(&vault).await;
    let vault = place.open().await;
    assert!(!vault.fence().fenced, "a normal restart changes nothing");
    vault.try_enrol(&token, "gpu1", &pair).await.unwrap();
    vault.store.close().await;
    place.restore(&backup);

    let vault = place.open().await;
    assert!(vault.fence().fenced);
    assert!(vault.conditions.is_active("fenced"));
    assert!(matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Fenced)));
    let order = TokenOrder::new(TokenPurpose::AgentEnrol, wish("gpu2")).unwrap();
    assert!(matches!(vault.issue_tokens(&order, &admin()).await, Err(VaultError::Fenced)));
    vault.store.close().await;
    let vault = place.open().await;
    assert!(vault.fence().fenced, "another restart does not hide it");
    assert!(!vault.lift_fence(&admin()).await.unwrap().fenced);
    assert!(
        matches!(vault.try_enrol(&token, "gpu1", &pair).await, Err(VaultError::Refused)),
        "dead all the same"
    );
    vault.store.close().await;
    assert!(!place.open().await.fence().fenced, "the decision lasts");
}

#[tokio::test]
async fn dat_02_a_revocation_taken_back_in_the_database_stays_in_force() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let backup = place.backup(&vault).await;
    let vault = place.open().await;
    let revoked = vault.revoke(identity.node_id, "stolen", &admin()).await.unwrap();
    assert_eq!((revoked.sessions_closed, revoked.database_pending), (1, false));
    assert_eq!(vault.peer(&leaf(&identity)), Err(PeerRefusal::Unknown));
    vault.store.close().await;
    assert_eq!(place.open().await.peer(&leaf(&identity)), Err(PeerRefusal::Unknown), "after a restart");
    place.restore(&backup);
    let vault = place.open().await;
    assert!(vault.fence().fenced);
    assert_eq!(vault.peer(&leaf(&identity)), Err(PeerRefusal::Unknown), "after a restored backup");
}

#[tokio::test]
async fn dat_03_a_lost_journal_raises_the_fence() {
    let place = Place::new();
    let vault = place.open().await;
    vault.new_node("gpu1").await;
    vault.store.close().await;
    std::fs::remove_file(place.state_dir().join(JOURNAL)).unwrap();
    assert!(place.open().await.fence().fenced);
}

#[tokio::test]
async fn enr_16_no_more_tokens_than_the_cap() {
    let mut place = Place::new();
    place.config.outstanding_tokens_max = 10;
    let vault = place.open().await;
    let list = |hosts: &str| {
        let request =
            GenerateTokenRequest { hosts: Some(hosts.to_owned()), ..GenerateTokenRequest::default() };
        TokenOrder::new(TokenPurpose::AgentEnrol, request).unwrap()
    };
    assert_eq!(vault.issue_tokens(&list("gpu[1-8]"), &admin()).await.unwrap().len(), 8);
    let beyond = vault.issue_tokens(&list("gpu[11-13]"), &admin()).await;
    assert!(matches!(beyond, Err(VaultError::TooMany { .. })));
    assert_eq!(
        vault.issue_tokens(&list("gpu[11-12]"), &admin()).await.unwrap().len(),
        2,
        "none of the former three"
    );
    place.clock.pass(2 * HOUR_MS);
    vault.sweep_tokens().await.unwrap();
    assert_eq!(vault.issue_tokens(&list("gpu[21-30]"), &admin()).await.unwrap().len(), 10);
}

#[tokio::test]
async fn enr_18_a_salt_token_gives_the_exact_bytes_once_and_waits_for_a_key() {
    let place = Place::new();
    let vault = place.open().await;
    let token = vault.salt_token().await;
    assert!(matches!(vault.redeem_salt(&token).await, Err(VaultError::Unavailable(_))));
    let view = vault.put_salt_key(SALT_KEY, false, &admin()).await.unwrap();
    assert_eq!(view.fingerprint, include_str!("testdata/salt-master.fingerprint").trim());
    let given = vault.redeem_salt(&token).await.unwrap();
    assert_eq!(STANDARD.decode(given).unwrap(), SALT_KEY.as_bytes());
    assert!(matches!(vault.redeem_salt(&token).await, Err(VaultError::Refused)));
    let other = SALT_KEY.trim_end();
    assert!(matches!(vault.put_salt_key(other, false, &admin()).await, Err(VaultError::Conflict(_))));
    vault.put_salt_key(other, true, &admin()).await.unwrap();
}

#[tokio::test]
async fn enr_09_tokens_of_one_purpose_are_refused_for_the_other() {
    let place = Place::new();
    let vault = place.open().await;
    vault.put_salt_key(SALT_KEY, false, &admin()).await.unwrap();
    let (salt, agent) = (vault.salt_token().await, vault.agent_token(wish("gpu1")).await);
    let pair = KeyPair::generate().unwrap();
    assert!(matches!(vault.try_enrol(&salt, "gpu1", &pair).await, Err(VaultError::Refused)));
    assert!(matches!(vault.redeem_salt(&agent).await, Err(VaultError::Refused)));
    vault.redeem_salt(&salt).await.unwrap();
    vault.try_enrol(&agent, "gpu1", &pair).await.unwrap();
}

#[tokio::test]
async fn pki_11_a_name_again_needs_a_token_that_says_replace() {
    let place = Place::new();
    let vault = place.open().await;
    let (former, _) = vault.new_node("gpu1").await;
    let token = vault.agent_token(wish("GPU1")).await;
    let taken = vault.try_enrol(&token, "GPU1", &KeyPair::generate().unwrap()).await;
    assert!(matches!(taken, Err(VaultError::Conflict(_))));
    let token = vault.agent_token(GenerateTokenRequest { replace: true, ..wish("GPU1") }).await;
    let next = vault.try_enrol(&token, "GPU1", &KeyPair::generate().unwrap()).await.unwrap();
    assert_ne!(former.node_id, next.node_id);
    assert_eq!(vault.peer(&leaf(&former)), Err(PeerRefusal::Unknown), "the former one is dead");
    assert!(vault.peer(&leaf(&next)).is_ok());
    assert_eq!(place.sessions.0.load(Ordering::SeqCst), 1, "its sessions were cut");
}

fn issued(response: RenewResponse) -> CertificateDer<'static> {
    match response {
        RenewResponse::Issued { chain_der, .. } => CertificateDer::from(chain_der[0].to_vec()),
        RenewResponse::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[tokio::test]
async fn pki_08_renewal_is_in_two_phases_also_across_a_restart() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let old = leaf(&identity);
    vault.mark_first_used(&vault.peer(&old).unwrap()).await;
    place.clock.pass(12 * HOUR_MS);
    let new = issued(
        vault.renew(&vault.peer(&old).unwrap(), &csr_der(&KeyPair::generate().unwrap()), "10.0.0.1").await,
    );
    assert!(vault.peer(&old).is_ok() && vault.peer(&new).is_ok());
    vault.store.close().await;
    let vault = place.open().await;
    assert!(vault.peer(&old).is_ok() && vault.peer(&new).is_ok(), "after a restart in between");
    let peer = vault.peer(&new).unwrap();
    assert_eq!((peer.node_id, peer.generation), (identity.node_id, 2));
    vault.mark_first_used(&peer).await;
    assert_eq!(vault.peer(&old), Err(PeerRefusal::Superseded(identity.node_id)));
    vault.store.close().await;
    let vault = place.open().await;
    assert_eq!(vault.peer(&old), Err(PeerRefusal::Superseded(identity.node_id)), "after another restart");
    assert!(vault.peer(&new).is_ok());
}

#[tokio::test]
async fn pki_09_an_older_generation_quarantines_the_node() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, old_key) = vault.new_node("gpu1").await;
    let old = vault.peer(&leaf(&identity)).unwrap();
    vault.mark_first_used(&old).await;
    let new = issued(vault.renew(&old, &csr_der(&KeyPair::generate().unwrap()), "10.0.0.1").await);
    vault.mark_first_used(&vault.peer(&new).unwrap()).await;
    let mut news = vault.subscribe();
    let clone = vault.prove_key(ProofPurpose::Renew, &old_key, Some(&KeyPair::generate().unwrap())).await;
    assert!(matches!(clone, Err(VaultError::Refused)));
    assert!(matches!(news.try_recv(), Ok(NodeNews::Quarantined { node, .. }) if node == identity.node_id));
    let peer = vault.peer(&new).unwrap();
    assert!(peer.quarantined, "it may still report");
    let refused = vault.renew(&peer, &csr_der(&KeyPair::generate().unwrap()), "10.0.0.1").await;
    assert_eq!(refused, RenewResponse::Refused(RenewRefusal::NotAllowed));
    vault.store.close().await;
    assert!(place.open().await.peer(&new).unwrap().quarantined, "after a restart");
}

#[tokio::test]
async fn pki_12_revocation_and_admission_while_the_database_is_away() {
    let place = Place::new();
    let vault = place.open().await;
    let (first, _) = vault.new_node("gpu1").await;
    let (second, _) = vault.new_node("gpu2").await;
    vault.store.close().await;
    let revoked = vault.revoke(first.node_id, "stolen", &admin()).await.unwrap();
    assert!(revoked.database_pending);
    assert_eq!(vault.peer(&leaf(&first)), Err(PeerRefusal::Unknown), "in force at once");
    assert!(vault.peer(&leaf(&second)).is_ok(), "known ones are still admitted");
    let lost = vault.watch_database(None).await;
    assert!(lost.is_some() && vault.conditions.is_active("database_unavailable"));
    place.clock.pass(10 * 60 * 1000);
    vault.watch_database(lost).await;
    assert_eq!(vault.peer(&leaf(&second)), Err(PeerRefusal::Stale), "but not for ever");

    let vault = place.open().await;
    assert_eq!(vault.peer(&leaf(&first)), Err(PeerRefusal::Unknown), "the journal tells the next start");
    assert_eq!(vault.audit_of("node.revoke").await.len(), 1, "and the database has caught up");
    assert!(!vault.fence().fenced);
}

#[tokio::test]
async fn pki_18_an_expired_certificate_is_renewed_by_proof_within_the_window() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, old) = vault.new_node("gpu1").await;
    vault.mark_first_used(&vault.peer(&leaf(&identity)).unwrap()).await;
    place.clock.pass(3 * 24 * HOUR_MS);
    assert_eq!(vault.peer(&leaf(&identity)), Err(PeerRefusal::Expired));
    let next = KeyPair::generate().unwrap();
    let renewed = vault.prove_key(ProofPurpose::Renew, &old, Some(&next)).await.unwrap();
    assert_eq!(renewed.node_id, identity.node_id);
    assert!(vault.peer(&leaf(&renewed)).is_ok());
    // It is not used yet, so that a loop would ask again at once.
    let again = vault.prove_key(ProofPurpose::Renew, &old, Some(&KeyPair::generate().unwrap())).await;
    assert!(matches!(again, Err(VaultError::TooMany { .. })));
    place.clock.pass(15 * 24 * HOUR_MS);
    let late = vault.prove_key(ProofPurpose::Renew, &next, Some(&KeyPair::generate().unwrap())).await;
    assert!(matches!(late, Err(VaultError::Refused)), "the window is over");
}

#[tokio::test]
async fn pki_18_the_late_window_can_be_switched_off_and_ends_with_a_revocation() {
    let mut place = Place::new();
    let vault = place.open().await;
    let (identity, old) = vault.new_node("gpu1").await;
    vault.revoke(identity.node_id, "stolen", &admin()).await.unwrap();
    let revoked = vault.prove_key(ProofPurpose::Renew, &old, Some(&KeyPair::generate().unwrap())).await;
    assert!(matches!(revoked, Err(VaultError::Refused)));
    let (_, other) = vault.new_node("gpu2").await;
    vault.store.close().await;
    place.config.late_renewal_days = 0;
    let vault = place.open().await;
    place.clock.pass(24 * HOUR_MS + 1000);
    let late = vault.prove_key(ProofPurpose::Renew, &other, Some(&KeyPair::generate().unwrap())).await;
    assert!(matches!(late, Err(VaultError::Refused)));
}

#[tokio::test]
async fn pki_19_issue_renewal_refusal_and_revocation_are_recorded() {
    let place = Place::new();
    let vault = place.open().await;
    let (identity, _) = vault.new_node("gpu1").await;
    let peer = vault.peer(&leaf(&identity)).unwrap();
    vault.mark_first_used(&peer).await;
    issued(vault.renew(&peer, &csr_der(&KeyPair::generate().unwrap()), "10.0.0.7").await);
    let refused = vault.renew(&peer, b"nonsense", "10.0.0.7").await;
    assert_eq!(refused, RenewResponse::Refused(RenewRefusal::BadRequest));
    vault.revoke(identity.node_id, "stolen", &admin()).await.unwrap();
    let target = format!("node:{}", identity.node_id);
    for (action, decisions, source) in [
        ("node.enrol", vec!["allowed"], "10.0.0.1"),
        ("certificate.renew", vec!["allowed", "denied"], "10.0.0.7"),
        ("node.revoke", vec!["allowed"], "10.9.9.9"),
    ] {
        let rows = vault.audit_of(action).await;
        let found: Vec<&str> = rows.iter().map(|row| row.decision.as_str()).collect();
        assert_eq!(found, decisions, "{action}");
        for row in &rows {
            assert_eq!((row.target.as_str(), row.source.as_str()), (target.as_str(), source), "{action}");
        }
        if action != "node.revoke" {
            assert!(rows[0].detail.contains("serial") && rows[0].detail.contains("public_key_sha256"));
        }
    }
}

#[tokio::test]
async fn pki_16_a_server_certificate_is_no_node_and_a_stranger_neither() {
    let place = Place::new();
    let vault = place.open().await;
    let server = vault.server_certificate().current();
    assert_eq!(vault.peer(&server.cert[0]), Err(PeerRefusal::Usage));
    assert_eq!(vault.peer(&vault.ca.issuing().der), Err(PeerRefusal::Usage));
    let key = public_key::NodePublicKey::from_spki(&KeyPair::generate().unwrap().subject_public_key_info())
        .unwrap();
    let unregistered =
        vault.ca.issue_node(NodeId::from_random([9; 16]), &key, HOUR_MS, EpochMs(START)).unwrap();
    assert_eq!(
        vault.peer(&unregistered.der),
        Err(PeerRefusal::Unknown),
        "signed by our CA, and not registered"
    );
}

#[tokio::test]
async fn a_lost_ca_folder_does_not_make_a_new_ca() {
    let place = Place::new();
    let vault = place.open().await;
    vault.new_node("gpu1").await;
    vault.store.close().await;
    std::fs::rename(place.state_dir().join(CA_FOLDER), place.folder.path().join("away")).unwrap();
    let store = Store::open_sqlite(&place.database()).await.unwrap();
    let error = place.open_on(store).await.err().unwrap();
    assert!(error.is_configuration() && error.to_string().contains("restore it"), "{error}");
}
