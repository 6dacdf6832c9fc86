//! The first start of a coordinator: no password and no key that anybody could know before (AUT-09, AUT-11).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aim_common::config::EXIT_CONFIG;
use aim_tests::{Coordinator, Program, until};
use serde_json::json;
use tempfile::TempDir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// As systemd starts it: no terminal, and nothing said about the password.
fn start_bare(coordinator: &Coordinator) -> Program {
    let program = Program::start("aim-coordinator", coordinator.command(&["serve"]), &coordinator.log_path());
    until("the coordinator is up", std::time::Duration::from_mins(1), || {
        program.log().contains("the coordinator is up").then_some(())
    });
    program
}

#[test]
fn aut_09_two_first_starts_make_two_passwords_each_in_a_0600_file_and_in_no_log() {
    let mut passwords = Vec::new();
    for _ in 0..2 {
        let dir = TempDir::new().unwrap();
        let coordinator = Coordinator::prepare(dir.path(), |_| ());
        let mut program = start_bare(&coordinator);
        let file = coordinator.state_dir().join("initial-admin-password");
        let password = fs::read_to_string(&file).unwrap().trim().to_owned();
        assert_eq!((mode(&file), password.len()), (0o600, 20), "120 bits, for its owner alone");
        assert!(!program.log().contains(&password));
        let mut api = coordinator.anonymous();
        for guess in ["admin", "password", "changeme"] {
            let body = json!({"username": "admin", "password": guess});
            assert_eq!(api.post("/api/v1/auth/login", &body).status, 401, "{guess}");
        }
        api.login("admin", &password);
        assert_eq!(api.conditions(), ["admin_password_unchanged"], "it is to be changed");
        assert_eq!(program.terminate(std::time::Duration::from_secs(20)), Some(0));
        drop(program);
        drop(start_bare(&coordinator));
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), password, "the second start makes none");
        passwords.push(password);
    }
    assert_ne!(passwords[0], passwords[1]);
}

#[test]
fn aut_11_the_coordinator_refuses_to_start_with_a_key_that_is_short_a_sample_or_anothers() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::prepare(dir.path(), |_| ());
    coordinator.serve();
    coordinator.stop();
    let key = coordinator.state_dir().join("seal.key");
    let made = fs::read(&key).unwrap();
    assert_eq!((mode(&key), made.len()), (0o600, 32), "256 bits, made at the first start");
    let counting: Vec<u8> = (0..32).collect();
    let another: Vec<u8> = made.iter().map(|byte| byte ^ 0x5a).collect();
    for (what, bytes, told) in [
        ("a short key", &made[..16], "is not a key of 32 random bytes"),
        ("zeros", &[0; 32][..], "is not a key of 32 random bytes"),
        ("an example", &counting, "is not a key of 32 random bytes"),
        ("a default", b"changeme-changeme-changeme-12345", "is not a key of 32 random bytes"),
        ("another's key", &another, "cannot be opened"),
    ] {
        write_private(&key, bytes);
        let ended = coordinator.serve_refused();
        assert_eq!(ended.code, i32::from(EXIT_CONFIG), "{what}: {ended:?}");
        assert!(ended.stderr.contains(told), "{what}: {}", ended.stderr);
    }
    write_private(&key, &made);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let ended = coordinator.serve_refused();
    assert!(ended.code == i32::from(EXIT_CONFIG) && ended.stderr.contains("chmod 0600"), "{ended:?}");
    write_private(&key, &made);
    coordinator.serve();
}
