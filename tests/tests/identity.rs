//! The life of an identity between the real agent and the real coordinator: a lost answer, approval, renewal in time and
//! after the end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aim_common::api::certificates::CertificateView;
use aim_common::enrolment::JoinString;
use aim_common::identity::{BACK_DATE_MS, BootId};
use aim_tests::agent::{SEEN, join_string};
use aim_tests::link::{BareLink, NodeIdentity};
use aim_tests::relay::Relay;
use aim_tests::{Agent, Api, Coordinator, Program, run, until, within};
use serde_json::Value;
use tempfile::TempDir;

/// Exit codes of `aim-agent` as its help lists them.
const REFUSED: i32 = 11;
const UNREACHABLE: i32 = 12;
const NOT_ENROLLED: i32 = 14;
const NOT_APPROVED: i32 = 16;
/// The shortest life that the configuration allows, in milliseconds.
const LIFE_MS: i64 = 60_000;
/// A certificate's life, and a slow machine.
const OUTLIVED: Duration = Duration::from_secs(100);
/// A late renewal refused once is tried again after a minute.
const BACK: Duration = Duration::from_secs(100);
/// A node whose late renewal was refused asks nothing for a minute; this much of it is waited for.
const QUIET: Duration = Duration::from_secs(15);
/// A waiting node asks every 10 s.
const DECIDED: Duration = Duration::from_secs(45);

/// A coordinator with changed values of its section `keyvault`.
fn coordinator(dir: &TempDir, values: &[(&str, toml::Value)]) -> Coordinator {
    let mut coordinator = Coordinator::prepare(dir.path(), |config| {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        config.insert("keyvault".into(), values.collect::<toml::Table>().into());
    });
    coordinator.serve();
    coordinator
}

/// The node's certificates, the newest generation first.
fn certificates(api: &Api, node: &str) -> Vec<CertificateView> {
    let page = api.get(&format!("/api/v1/certificates?node={node}")).success();
    let mut found: Vec<CertificateView> = serde_json::from_value(page["items"].clone()).unwrap();
    found.sort_by_key(|certificate| std::cmp::Reverse(certificate.generation));
    found
}

/// Audit records of an action that was allowed.
fn audited(api: &Api, action: &str) -> Vec<Value> {
    let page = api.get("/api/v1/audit?limit=1000").success();
    let of_action = |record: &&Value| record["action"] == action && record["decision"] == "allowed";
    page["items"].as_array().unwrap().iter().filter(of_action).cloned().collect()
}

fn identity_file(agent: &Agent) -> String {
    fs::read_to_string(agent.state_dir().join("identity.json")).unwrap()
}

#[test]
fn pki_07_pki_08_a_running_agent_renews_at_half_life_and_its_old_certificate_is_refused() {
    let dir = TempDir::new().unwrap();
    let coordinator = coordinator(&dir, &[("node_certificate_minutes", 1.into())]);
    let admin = coordinator.admin();
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    let (old_file, old_identity) = (identity_file(&agent), NodeIdentity::of(&agent));
    // The first use of a first certificate is written within a round of the KeyVault's maintenance.
    let old = until("the first certificate is in use", OUTLIVED, || {
        let old = certificates(&admin, "node1").remove(0);
        (old.state == "active").then_some(old)
    });
    assert_eq!(old.generation, 1);

    let (renewed, former) = until("a new generation is in use", OUTLIVED, || {
        assert_eq!(agent.presence(&admin)["state"], "present", "a renewal takes nobody away");
        let mut found = certificates(&admin, "node1");
        let in_use = found.len() == 2 && found[0].state == "active";
        in_use.then(|| (found.remove(0), found.remove(0)))
    });
    assert_eq!((renewed.generation, former.serial, former.state.as_str()), (2, old.serial, "superseded"));
    assert_ne!(renewed.public_key_sha256, former.public_key_sha256, "the key is the old one");
    // Between 3/8 and 5/8 of its life; dates are whole seconds, and a slow machine takes some to answer.
    let age_ms = renewed.not_before.since_ms(former.not_before);
    let due = LIFE_MS * 3 / 8 - 1_000..LIFE_MS * 5 / 8 + 10_000;
    assert!(due.contains(&age_ms), "renewed after {age_ms} ms");
    assert_eq!(former.not_after.since_ms(former.not_before), LIFE_MS + BACK_DATE_MS);
    // The new session took over from the old one: nothing in between was seen or told.
    until("the session has the new certificate", SEEN, || {
        let node = agent.node(&admin);
        assert_eq!(node["presence"]["state"], "present");
        (node["certificate_serial"] == renewed.serial.as_str()).then_some(())
    });
    assert_eq!(agent.events(&admin, "node.absent").len(), 0);
    assert_eq!(agent.events(&admin, "node.present").len(), 1);

    let records = audited(&admin, "certificate.renew");
    let record = records.iter().find(|record| record["detail"]["serial"] == renewed.serial.as_str());
    let record = record.unwrap_or_else(|| panic!("no audit record of {renewed:?}: {records:?}"));
    assert_eq!(record["actor"], format!("node:{}", agent.node_id(&admin)));
    assert_ne!(identity_file(&agent), old_file, "the agent's files are the old ones");
    let left = agent.state_dir().join("identity.next.json");
    until("the renewed pair is the first one on disk", SEEN, || (!left.exists()).then_some(()));

    let boot = BootId::from_uuid(uuid::Uuid::from_u128(0x01d));
    let refused = match BareLink::open(&old_identity, coordinator.link_port, boot) {
        Err(_) => true,
        Ok(link) => link.closed(SEEN).is_some(),
    };
    assert!(refused, "the superseded certificate was let in");
}

/// A running `aim-agent enroll` whose token is redeemed and whose answer does not come.
fn enrol_without_answer(agent: &Agent, admin: &Api, relay: &Relay) -> Program {
    let mut join: JoinString = join_string(admin, &agent.name).parse().unwrap();
    join.addresses = vec![relay.address()];
    agent.put_join(join.to_secret().expose());
    relay.lose_answers();
    let join_file = agent.join_file().display().to_string();
    let command = agent.command(&["enroll", "--join-file", &join_file]);
    let mut program = Program::start("aim-agent enroll", command, &agent.log_path());
    until("the token is redeemed", SEEN, || {
        let tokens = admin.get("/api/v1/tokens").success();
        (tokens["items"][0]["state"] == "redeemed").then_some(())
    });
    assert!(program.is_running(), "the answer was not lost: {}", program.log());
    assert!(!agent.state_dir().join("identity.json").exists());
    program
}

/// One certificate, fetched by proof, and the token as dead as before.
fn assert_recovered(dir: &TempDir, agent: &mut Agent, admin: &Api, join: &str) {
    assert_eq!(certificates(admin, "node1").len(), 1);
    assert_eq!(audited(admin, "node.enrol").len(), 1);
    assert_eq!(audited(admin, "certificate.recover").len(), 1);
    agent.serve();
    agent.await_presence(admin, "present", SEEN);
    let thief = Agent::prepare(&dir.path().join("thief"), "node1", |_| ());
    assert_eq!(thief.enrol(join).code, REFUSED, "the token was good a second time");
}

#[test]
fn enr_05_a_lost_answer_is_fetched_by_the_same_run() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let (admin, relay) = (coordinator.admin(), Relay::to(coordinator.https_port));
    let mut agent = Agent::prepare(dir.path(), "node1", |_| ());
    let mut enrolling = enrol_without_answer(&agent, &admin, &relay);
    let join = fs::read_to_string(agent.join_file()).unwrap();
    relay.mend();
    assert!(enrolling.wait(DECIDED).success(), "{}", enrolling.log());
    assert_recovered(&dir, &mut agent, &admin, &join);
}

#[test]
fn enr_05_a_lost_answer_is_fetched_by_the_next_run_without_the_token() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let (admin, relay) = (coordinator.admin(), Relay::to(coordinator.https_port));
    let mut agent = Agent::prepare(dir.path(), "node1", |_| ());
    enrol_without_answer(&agent, &admin, &relay).kill();
    let join = fs::read_to_string(agent.join_file()).unwrap();
    relay.mend();
    agent.enrol(join.trim()).success();
    assert_recovered(&dir, &mut agent, &admin, &join);
}

/// An agent that was stopped, and whose certificate has ended since.
fn outlived(dir: &TempDir, coordinator: &Coordinator, admin: &Api) -> Agent {
    let mut agent = Agent::start(dir.path(), "node1", coordinator);
    agent.stop();
    until("every certificate is past its end", OUTLIVED, || {
        let found = certificates(admin, "node1");
        found.iter().all(|found| ["expired", "superseded"].contains(&found.state.as_str())).then_some(())
    });
    agent
}

#[test]
fn pki_18_a_node_that_was_off_past_its_certificates_end_comes_back_by_proof_of_its_key() {
    let dir = TempDir::new().unwrap();
    let coordinator = coordinator(&dir, &[("node_certificate_minutes", 1.into())]);
    let admin = coordinator.admin();
    let mut agent = outlived(&dir, &coordinator, &admin);
    let (id, before) = (agent.node_id(&admin), certificates(&admin, "node1").remove(0));
    agent.serve();
    agent.await_presence(&admin, "present", BACK);
    let after = certificates(&admin, "node1").remove(0);
    assert_eq!((agent.node_id(&admin), after.generation), (id, before.generation + 1));
    assert!(after.not_before.plus_ms(BACK_DATE_MS) >= before.not_after, "it was renewed before its end");
    let records = audited(&admin, "certificate.renew");
    assert!(records.iter().any(|record| record["detail"]["serial"] == after.serial.as_str()), "{records:?}");
}

#[test]
fn pki_18_without_a_window_an_expired_node_stays_out_and_says_what_to_do() {
    let dir = TempDir::new().unwrap();
    let values = [("node_certificate_minutes", 1.into()), ("late_renewal_days", 0.into())];
    let coordinator = coordinator(&dir, &values);
    let admin = coordinator.admin();
    let mut agent = outlived(&dir, &coordinator, &admin);
    let issued = certificates(&admin, "node1").len();
    agent.serve();
    let reason = until("the agent says why it does not connect", SEEN, || {
        let status: Value = serde_json::from_str(&agent.run(&["status", "-o", "json"]).stdout).ok()?;
        status["reason"].as_str().filter(|reason| reason.contains("expired at")).map(str::to_owned)
    });
    assert!(reason.contains("refused") && reason.contains("--replace-identity"), "{reason}");
    // It asks once a minute at most, and not in a loop.
    let refusals = || {
        let page = admin.get("/api/v1/audit?action=certificate.renew&decision=denied").success();
        page["items"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(refusals(), 1);
    assert!(within(QUIET, || (refusals() > 1).then_some(())).is_none(), "it was asked again at once");
    assert_ne!(agent.presence(&admin)["state"], "present");
    assert_eq!(certificates(&admin, "node1").len(), issued);
}

/// `aim-agent enroll --request` by hand.
fn request(agent: &Agent, coordinator: &Coordinator, wait_seconds: u32) -> Vec<String> {
    let mut words = ["enroll", "--request", "--node-name"].map(str::to_owned).to_vec();
    words.extend([
        agent.name.clone(),
        "--coordinator".into(),
        format!("127.0.0.1:{}", coordinator.https_port),
    ]);
    words.extend(["--root-sha256".into(), coordinator.pin().to_string()]);
    words.extend(["--wait-seconds".into(), wait_seconds.to_string()]);
    words
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn without_the_approval_queue_a_request_is_refused_in_clear_words() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let ended = agent.run(&words(&request(&agent, &coordinator, 30)));
    assert!(ended.code == REFUSED && ended.stderr.contains("approval queue"), "{ended:?}");
}

#[test]
fn a_node_without_a_token_waits_for_a_person_and_gets_what_that_one_decides() {
    let dir = TempDir::new().unwrap();
    let coordinator = coordinator(&dir, &[("approval_queue", true.into())]);
    let (admin, aimctl) = (coordinator.admin(), coordinator.aimctl());
    let mut wanted = Agent::prepare(dir.path(), "node1", |_| ());
    let unwanted = Agent::prepare(dir.path(), "node2", |_| ());
    let asking = request(&unwanted, &coordinator, 1);
    let ended = unwanted.run(&words(&asking));
    assert_eq!(ended.code, NOT_APPROVED, "{ended:?}");

    let command = wanted.command(&words(&request(&wanted, &coordinator, 120)));
    let mut waiting = Program::start("aim-agent enroll --request", command, &wanted.log_path());
    let requests = until("both wait", SEEN, || {
        let requests = aimctl.json(&["approval", "list"]).as_array().cloned()?;
        (requests.len() == 2).then_some(requests)
    });
    let of = |name: &str| requests.iter().find(|request| request["node"] == name).unwrap().clone();
    let key = of("node1")["public_key_sha256"].as_str().unwrap().to_owned();
    until("the node shows the fingerprint to compare", SEEN, || waiting.log().contains(&key).then_some(()));
    assert!(admin.get("/api/v1/nodes/node1").status == 404, "a node before its approval");

    aimctl.run(&["approval", "approve", &of("node1")["id"].to_string()]).success();
    aimctl.run(&["approval", "reject", &of("node2")["id"].to_string()]).success();
    assert!(waiting.wait(DECIDED).success(), "{}", waiting.log());
    wanted.serve();
    wanted.await_presence(&admin, "present", SEEN);
    let ended = unwanted.run(&words(&asking));
    assert!(ended.code == REFUSED && ended.stderr.contains("operator"), "{ended:?}");
    assert!(admin.get("/api/v1/nodes/node2").status == 404);
}

#[test]
fn check_names_a_coordinator_that_does_not_answer() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let ended = agent.run(&["check"]);
    assert!(ended.code == NOT_ENROLLED && ended.stdout.contains("aim-agent enroll"), "{ended:?}");
    agent.enrol(&join_string(&coordinator.admin(), "node1")).success();
    coordinator.stop();
    let ended = agent.run(&["check"]);
    let address = format!("127.0.0.1:{}", coordinator.link_port);
    assert!(ended.code == UNREACHABLE && ended.stdout.contains(&address), "{ended:?}");
    coordinator.serve();
    agent.run(&["check"]).success();
}

/// systemd gives a credential to a service's user by an access list, which shows as mode 0440.
#[test]
fn enr_19_a_join_string_comes_as_a_systemd_credential() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let credential = dir.path().join("aim.join");
    fs::write(&credential, join_string(&coordinator.admin(), "node1")).unwrap();
    let enrol = |mode: u32| {
        fs::set_permissions(&credential, fs::Permissions::from_mode(mode)).unwrap();
        run(agent.command(&["enroll"]).env("CREDENTIALS_DIRECTORY", dir.path()), SEEN)
    };
    let ended = enrol(0o444);
    assert!(ended.code != 0 && ended.stderr.contains("0444"), "{ended:?}");
    enrol(0o440).success();
    assert!(credential.exists(), "the credential is systemd's to remove");
    agent.run(&["check"]).success();
}
