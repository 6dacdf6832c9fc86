//! What the programs do with wrong or unusable surroundings at their start.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use aim_common::config::EXIT_CONFIG;
use aim_tests::{Agent, Coordinator};
use tempfile::TempDir;

const CONFIG: i32 = EXIT_CONFIG as i32;

#[test]
fn flt_56_a_wrong_coordinator_configuration_ends_with_78_and_its_place() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::prepare(dir.path(), |_| ());
    let file = coordinator.config_path().display().to_string();
    for (text, place, told) in [
        ("[https]\nlisen = \"[::]:1\"\n", ":2:1:", "did you mean \"listen\"?"),
        ("[https]\nlisten = \"nowhere\"\n", ":2:10:", "socket address"),
        ("[keyvault]\nnode_certificate_minutes = -1\n", ":2:28:", "invalid value"),
        ("[https\n", ":1:7:", ""),
    ] {
        fs::write(&file, text).unwrap();
        for arguments in [&["serve"][..], &["config", "check"]] {
            let ended = coordinator.run(arguments);
            assert_eq!(ended.code, CONFIG, "{text}: {ended:?}");
            assert!(
                ended.stderr.contains(&format!("{file}{place}")) && ended.stderr.contains(told),
                "{ended:?}"
            );
        }
    }
    fs::remove_file(&file).unwrap();
    let ended = coordinator.run(&["serve"]);
    assert!(ended.code == CONFIG && ended.stderr.contains(&file), "{ended:?}");
}

#[test]
fn flt_56_a_wrong_agent_configuration_ends_with_78_and_its_place() {
    let dir = TempDir::new().unwrap();
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    let file = agent.config_path().display().to_string();
    for (text, place, told) in [
        ("[report]\ninterval_sm = 5\n", ":2:1:", "did you mean \"interval_ms\"?"),
        ("[report]\ninterval_ms = \"5\"\n", ":2:15:", "interval"),
        ("state_dir = 3\n", ":1:13:", ""),
    ] {
        fs::write(&file, text).unwrap();
        for arguments in [&["run"][..], &["check"], &["status"], &["enroll"]] {
            let ended = agent.run(arguments);
            assert_eq!(ended.code, CONFIG, "{arguments:?} {text}: {ended:?}");
            assert!(ended.stderr.contains(&format!("{file}{place}")), "{arguments:?} {told} {ended:?}");
        }
    }
}

#[test]
fn a_port_in_use_ends_with_78_and_names_the_port() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::prepare(dir.path(), |_| ());
    let told = |key: &str, port: u16| {
        let ended = coordinator.serve_refused();
        assert_eq!(ended.code, CONFIG, "{ended:?}");
        assert!(ended.stderr.contains(key) && ended.stderr.contains(&port.to_string()), "{ended:?}");
    };
    let taken = TcpListener::bind(("127.0.0.1", coordinator.https_port)).unwrap();
    told("https.listen", coordinator.https_port);
    drop(taken);
    let taken = UdpSocket::bind(("127.0.0.1", coordinator.link_port)).unwrap();
    told("link.listen", coordinator.link_port);
    drop(taken);
}

#[test]
fn pki_13_keys_that_others_can_read_stop_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    coordinator.stop();
    let key = coordinator.state_dir().join("ca/issuing.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let ended = coordinator.serve_refused();
    assert!(ended.code == CONFIG && ended.stderr.contains("issuing.key"), "{ended:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    coordinator.serve();
}

#[test]
fn flt_41_a_damaged_database_ends_with_78_and_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    coordinator.stop();
    let database = coordinator.database();
    let good = fs::read(&database).unwrap();
    for damaged in [
        b"not a database at all, and long enough to be looked at by sqlite".repeat(100),
        Vec::from(&good[..good.len() / 2]),
    ] {
        fs::write(&database, &damaged).unwrap();
        let ended = coordinator.serve_refused();
        assert!(ended.code == CONFIG && ended.stderr.contains("coordinator.db"), "{ended:?}");
        assert_eq!(fs::read(&database).unwrap(), damaged, "the damaged file was changed");
    }
    fs::write(&database, &good).unwrap();
    coordinator.serve();
}

#[test]
fn log_06_the_coordinator_leaves_no_core_file() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let limits = fs::read_to_string(format!("/proc/{}/limits", coordinator.program().pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
