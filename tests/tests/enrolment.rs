//! Enrolment through the real path, and what stops it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aim_common::enrolment::JoinString;
use aim_common::identity::Sha256Digest;
use aim_tests::agent::{SEEN, join_string};
use aim_tests::api::SERVER_NAME;
use aim_tests::{Agent, Coordinator, until};
use serde_json::json;
use tempfile::TempDir;

/// Exit codes of `aim-agent` as its help lists them.
const PIN_MISMATCH: i32 = 10;
const REFUSED: i32 = 11;
const UNREACHABLE: i32 = 12;
const ALREADY_ENROLLED: i32 = 15;

#[test]
fn a_token_by_aimctl_makes_a_node_that_is_seen_with_values() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let aimctl = coordinator.aimctl();
    let mut agent = Agent::prepare(dir.path(), "gpu001", |_| ());
    let join = agent.join_file().display().to_string();
    aimctl.run(&["token", "create", "--node", "gpu001", "--join-file", &join]).success();
    assert_eq!(fs::metadata(&join).unwrap().permissions().mode() & 0o777, 0o600);
    agent.run(&["enroll", "--join-file", &join]).success();
    assert!(!agent.join_file().exists(), "the used join string is still there");

    agent.serve();
    until("aimctl node list shows the node with values", SEEN, || {
        let nodes = aimctl.json(&["node", "list"]);
        let node = nodes.as_array()?.iter().find(|node| node["name"] == "gpu001")?.clone();
        (node["presence"]["state"] == "present"
            && node["cpu_utilization"].is_f64()
            && node["memory_bytes"].is_u64())
        .then_some(())
    });
    let node = aimctl.json(&["node", "show", "gpu001"]);
    for value in node["values"].as_array().unwrap() {
        assert!(
            value["age_ms"].as_u64().is_some_and(|age| age < 60_000),
            "a value without a plausible age: {value}"
        );
    }
}

#[test]
fn a_join_string_for_each_name_of_a_host_list_comes_in_one_call() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let joins = dir.path().join("joins");
    fs::create_dir(&joins).unwrap();
    let folder = joins.display().to_string();
    coordinator
        .aimctl()
        .run(&["token", "create", "--on", "gpu[001-003],login1", "--join-file", &folder])
        .success();
    for name in ["gpu001", "gpu002", "gpu003", "login1"] {
        let join: JoinString =
            fs::read_to_string(joins.join(format!("{name}.join"))).unwrap().parse().unwrap();
        assert_eq!(join.node.as_str(), name);
    }
}

#[test]
fn enr_17_under_another_pin_no_token_is_sent() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let good = join_string(&admin, "node1");
    let mut wrong: JoinString = good.parse().unwrap();
    wrong.root_sha256 = Sha256Digest::of(b"another root");
    let agent = Agent::prepare(dir.path(), "node1", |_| ());

    let ended = agent.enrol(wrong.to_secret().expose());
    assert_eq!(ended.code, PIN_MISMATCH, "{ended:?}");
    let audit = admin.get("/api/v1/audit?limit=1000").success().to_string();
    assert!(!audit.contains("refused"), "the coordinator saw a redemption: {audit}");
    // Nothing was used up: the same token is still good.
    agent.enrol(&good).success();
}

#[test]
fn enr_03_a_token_enrols_one_node_and_the_second_use_is_refused() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let join = join_string(&admin, "node1");
    let first = Agent::prepare(dir.path(), "node1", |_| ());
    let second = Agent::prepare(&dir.path().join("copy"), "node1", |_| ());
    first.enrol(&join).success();
    let ended = second.enrol(&join);
    assert_eq!(ended.code, REFUSED, "{ended:?}");
    assert_eq!(first.enrol(&join_string(&admin, "other")).code, ALREADY_ENROLLED);
    // A refused join string stays where it is, for a person to look at.
    assert!(second.join_file().exists());
}

#[test]
fn enr_06_an_expired_token_is_refused() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let request = json!({ "node": "node1", "ttl_seconds": 1 });
    let token = admin.post("/api/keyvault/agent/generate-token", &request).success();
    until("the token is expired", Duration::from_secs(20), || {
        let tokens = admin.get("/api/v1/tokens").success();
        (tokens["items"][0]["state"] == "expired").then_some(())
    });
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let ended = agent.enrol(token["join"].as_str().unwrap());
    assert_eq!(ended.code, REFUSED, "{ended:?}");
}

#[test]
fn enrolment_without_a_coordinator_says_so_and_can_be_tried_again() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let join = join_string(&coordinator.admin(), "node1");
    coordinator.stop();
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let ended = agent.enrol(&join);
    assert_eq!(ended.code, UNREACHABLE, "{ended:?}");
    coordinator.serve();
    agent.enrol(&join).success();
}

#[test]
fn enr_19_a_join_string_is_no_argument_and_its_file_is_private() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let join = join_string(&coordinator.admin(), "node1");
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    assert_eq!(agent.run(&["enroll", &join]).code, 2, "a join string was taken from the command line");
    fs::write(agent.join_file(), &join).unwrap();
    fs::set_permissions(agent.join_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = agent.run(&["enroll", "--join-file", &agent.join_file().display().to_string()]);
    assert!(ended.code != 0 && ended.stderr.contains("600"), "{ended:?}");
    // Of the right mode it is taken, and gone after its use.
    fs::remove_file(agent.join_file()).unwrap();
    agent.enrol(&join).success();
    assert!(!agent.join_file().exists(), "the used join string is still there");
}

#[test]
fn enr_19_a_join_string_comes_by_standard_input_and_stands_in_no_process() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let join = join_string(&coordinator.admin(), "node1");
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let mut command = agent.command(&["enroll", "--join-file", "-"]);
    let mut enrolling = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let process = Path::new("/proc").join(enrolling.id().to_string());
    until("the agent runs", SEEN, || {
        let line = fs::read(process.join("cmdline")).ok()?;
        line.split(|byte| *byte == 0).next()?.ends_with(b"aim-agent").then_some(())
    });
    // It waits for the end of its input, and can be looked at as long as that does not come.
    let mut input = enrolling.stdin.take().unwrap();
    input.write_all(join.as_bytes()).unwrap();
    for file in ["cmdline", "environ"] {
        let seen = fs::read(process.join(file)).unwrap();
        assert!(!String::from_utf8_lossy(&seen).contains(&join), "the join string is in {file}");
    }
    drop(input);
    assert!(enrolling.wait().unwrap().success());
    agent.run(&["check"]).success();
}

/// A server that is somebody else's coordinator: the right name, another root. It counts what it is sent after TLS.
fn impostor() -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let root = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = rcgen::CertifiedIssuer::self_signed(params, root).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf =
        rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap().signed_by(&key, &root).unwrap();
    let chain = vec![leaf.der().clone(), root.der().clone()];
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(aim_common::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = std::sync::Arc::new(config);
    let served = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(SEEN)).unwrap();
        let mut tls = rustls::ServerConnection::new(config).unwrap();
        let mut heard = Vec::new();
        // Ends with the client's alert, or with its whole request.
        let _ = rustls::Stream::new(&mut tls, &mut tcp).read_to_end(&mut heard);
        heard
    });
    (port, served)
}

#[test]
fn enr_17_an_impostor_hears_no_byte_of_the_token() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let good = join_string(&admin, "node1");
    let mut to_impostor: JoinString = good.parse().unwrap();
    let (port, served) = impostor();
    to_impostor.addresses = vec![format!("127.0.0.1:{port}")];
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let ended = agent.enrol(to_impostor.to_secret().expose());
    assert_eq!(ended.code, PIN_MISMATCH, "{ended:?}");
    assert!(ended.stderr.contains("nothing was sent to it"), "{ended:?}");
    let heard = served.join().unwrap();
    assert!(heard.is_empty(), "the impostor was told {} bytes", heard.len());
    let tokens = admin.get("/api/v1/tokens").success();
    assert_eq!(tokens["items"][0]["state"], "outstanding", "{tokens}");
}

#[test]
fn enr_17_no_program_has_a_switch_that_skips_the_check() {
    for (program, commands) in [
        (
            "aim-agent",
            &[&["--help"][..], &["enroll", "--help"], &["run", "--help"], &["check", "--help"]][..],
        ),
        ("aimctl", &[&["--help"][..], &["login", "--help"]][..]),
    ] {
        for arguments in commands {
            let mut command = aim_tests::process::command(&aim_tests::process::program(program));
            let help = aim_tests::run(command.args(*arguments), SEEN).success().to_lowercase();
            let options = help.lines().filter(|line| line.trim_start().starts_with('-'));
            let options = options.collect::<Vec<_>>().join("\n");
            assert!(options.contains("--help"), "{help}");
            for switch in ["insecure", "skip", "no-verify", "no-check", "trust-any", "accept-any"] {
                assert!(!options.contains(switch), "{program} {arguments:?} offers {switch}: {options}");
            }
        }
    }
    // A verifier of one's own is only ever the one that knows the pin.
    let mut found = 0;
    for (file, text) in aim_tests::statements::sources() {
        if !["agent/src/", "cli/src/", "common/src/"].iter().any(|folder| file.starts_with(folder)) {
            continue;
        }
        for (at, _) in text.match_indices("with_custom_certificate_verifier(") {
            let verifier = text[at..].split_once('(').unwrap().1;
            assert!(verifier.starts_with("PinnedRootVerifier::new("), "{file}: {}", &verifier[..40]);
            found += 1;
        }
        let verifiers = text.matches("ServerCertVerifier for ").count();
        assert!(verifiers == 0 || file == "common/src/tls.rs", "{file} has a verifier of its own");
    }
    assert!(found >= 2, "only {found} places were looked at");
}

#[test]
fn pki_20_the_nodes_key_is_a_private_file_and_is_neither_logged_nor_sent() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut agent = Agent::prepare(dir.path(), "node1", |config| {
        let log = toml::Table::from_iter([("filter".to_owned(), "trace".into())]);
        config.insert("log".into(), log.into());
    });
    let enrolled = agent.enrol(&join_string(&admin, "node1"));
    assert_eq!(enrolled.code, 0, "{enrolled:?}");
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    agent.stop();
    let identity = fs::read_to_string(agent.state_dir().join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
    let key = identity["private_key"].as_str().unwrap().lines().nth(1).unwrap();
    let file = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    for (what, text) in [
        ("enrolment's output", enrolled.stdout + &enrolled.stderr),
        ("the agent's log", file(agent.log_path())),
        ("the coordinator's log", file(coordinator.log_path())),
        ("the coordinator's database", file(coordinator.database())),
    ] {
        assert!(!text.contains(key), "the node's key is in {what}");
    }
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(agent.state_dir()), 0o700);
    for entry in fs::read_dir(agent.state_dir()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(path.clone()) & 0o077, 0, "{} is open to others", path.display());
    }
}

#[test]
fn check_says_what_is_wrong_before_and_nothing_after() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let before = agent.run(&["check"]);
    assert!(before.code != 0, "{before:?}");
    agent.enrol(&join_string(&coordinator.admin(), "node1")).success();
    agent.run(&["check"]).success();
}

#[test]
fn report_once_shows_what_would_be_sent() {
    let dir = TempDir::new().unwrap();
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let json: serde_json::Value =
        serde_json::from_str(&agent.run(&["report", "--once", "-o", "json"]).success()).unwrap();
    let text = json.to_string();
    assert!(text.contains("cpu_utilization_ratio") && text.contains("hostname"), "{text}");
    let table = agent.run(&["report", "--once"]).success();
    let hostname = aim_tests::run(&mut Command::new("hostname"), SEEN).success();
    assert!(table.contains(hostname.trim()), "{table}");
}
