//! aimctl against a real coordinator, as a script uses it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aim_common::identity::Sha256Digest;
use aim_tests::{Aimctl, Coordinator};
use serde_json::Value;
use tempfile::TempDir;

/// The documented exit codes.
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const DENIED: i32 = 4;
const UNREACHABLE: i32 = 5;
const CONFLICT: i32 = 6;
const CONFIG: i32 = 78;

fn secret_file(dir: &Path, name: &str, secret: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, secret).unwrap();
    path
}

fn credentials(aimctl: &Aimctl, profile: &str) -> PathBuf {
    aimctl.config_dir().join(format!("credentials/{profile}.json"))
}

#[test]
fn exit_codes_are_those_of_the_manual() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let aimctl = coordinator.aimctl();
    let password = secret_file(dir.path(), "password", "correct horse battery\n");
    let password = password.to_str().unwrap();
    let create = ["user", "create", "zhang", "--password-file", password];
    let cases: [(&[&str], i32, &str); 8] = [
        (&create, 0, "created"),
        (&create, CONFLICT, "exists"),
        (&["user", "update", "nobody", "--disable"], NOT_FOUND, "not found"),
        (&["role", "show", "nothing"], NOT_FOUND, "request id"),
        (&["user", "update", "zhang"], USAGE, "nothing to change"),
        (&["user", "delete", "zhang"], USAGE, "--yes"),
        (&["node", "lst"], USAGE, "list"),
        (&["user", "list", "--profile", "unheard-of"], DENIED, "aimctl login"),
    ];
    for (arguments, code, told) in cases {
        let ended = aimctl.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(told), "{arguments:?}: {ended:?}");
    }

    coordinator.stop();
    let ended = aimctl.run(&["user", "list"]);
    assert_eq!(ended.code, UNREACHABLE, "{ended:?}");
    assert!(ended.stderr.contains("check that aim-coordinator runs there"), "{ended:?}");

    let config = aimctl.config_dir().join("config.toml");
    fs::write(&config, "current = \"default\"\ncurent = 1\n").unwrap();
    let ended = aimctl.run(&["user", "list"]);
    assert_eq!(ended.code, CONFIG, "{ended:?}");
    assert!(ended.stderr.contains(&format!("{}:2: ", config.display())), "{ended:?}");
}

#[test]
fn enr_17_a_wrong_pin_is_refused_before_the_password_is_sent() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let aimctl = Aimctl::new(&dir.path().join("aimctl"));
    let password = secret_file(dir.path(), "password", "never to be sent\n");
    let wrong = Sha256Digest::of(b"somebody else's root").to_string();
    let server = format!("https://127.0.0.1:{}", coordinator.https_port);
    let login = ["login", &server, "--root-sha256", &wrong, "--password-file", password.to_str().unwrap()];
    let ended = aimctl.run(&login);
    assert_eq!(ended.code, UNREACHABLE, "{ended:?}");
    assert!(ended.stderr.contains("certificate"), "{ended:?}");
    assert!(!credentials(&aimctl, "default").exists(), "a session was kept");
    // Nobody tried to log in: the trail holds admin's creation and the login that reads it now.
    let records = coordinator.aimctl().json(&["audit", "list", "--action", "login"]);
    assert_eq!(records.as_array().unwrap().len(), 1, "{records}");
}

#[test]
fn aut_05_programs_that_refresh_at_once_spend_the_refresh_token_once() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let aimctl = coordinator.aimctl();
    let file = credentials(&aimctl, "default");
    let read = || serde_json::from_slice::<Value>(&fs::read(&file).unwrap()).unwrap();
    let mut held = read();
    let first_refresh_token = held["refresh_token"].clone();
    // As if ten minutes had passed.
    held["access_expires_at"] = Value::from("2020-01-01T00:00:00.000Z");
    fs::write(&file, held.to_string()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| aimctl.run(&["whoami"]).success());
        }
    });
    assert_ne!(read()["refresh_token"], first_refresh_token, "nothing was refreshed");
    // A token spent twice would have ended the session.
    aimctl.run(&["whoami"]).success();
}

#[test]
fn log_01_sessions_are_kept_in_private_files_and_shown_nowhere() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let aimctl = coordinator.aimctl();
    let file = credentials(&aimctl, "default");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let held: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let config = fs::read_to_string(aimctl.config_dir().join("config.toml")).unwrap();
    let shown: Vec<String> =
        [&["whoami", "-o", "json"][..], &["session", "list", "-o", "wide"], &["version"]]
            .iter()
            .map(|arguments| aimctl.run(arguments))
            .map(|ended| ended.stdout + &ended.stderr)
            .chain([config])
            .collect();
    for secret in ["access_token", "refresh_token"] {
        let secret = held[secret].as_str().unwrap();
        assert!(!shown.iter().any(|text| text.contains(secret)), "a secret is shown");
    }
    aimctl.run(&["logout"]).success();
    assert!(!file.exists(), "the session was kept after logout");
    assert_eq!(aimctl.run(&["whoami"]).code, DENIED);
}

#[test]
fn a_user_comes_gets_roles_is_disabled_and_goes() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.aimctl();
    let password = secret_file(dir.path(), "password", "correct horse battery\n");
    let password = password.to_str().unwrap();
    admin.run(&["role", "put", "lab1", "hosts:read:*", "hosts:update:group:lab1"]).success();
    admin.run(&["user", "create", "zhang", "--role", "lab1", "--password-file", password]).success();

    let server = format!("https://127.0.0.1:{}", coordinator.https_port);
    let pin = coordinator.pin().to_string();
    let zhang = Aimctl::new(&dir.path().join("zhang"));
    zhang
        .run(&["login", &server, "-u", "Zhang", "--root-sha256", &pin, "--password-file", password])
        .success();
    let who = zhang.json(&["whoami"]);
    assert_eq!(who["permissions"], serde_json::json!(["hosts:read:*", "hosts:update:group:lab1"]));
    assert_eq!(zhang.run(&["user", "list"]).code, DENIED);

    let names = admin.run(&["user", "list", "-o", "name"]).success();
    assert_eq!(names.lines().collect::<Vec<_>>(), ["admin", "zhang"]);
    admin.run(&["user", "update", "zhang", "--disable"]).success();
    assert_eq!(zhang.run(&["whoami"]).code, DENIED, "a disabled user has no session");
    admin.run(&["user", "delete", "zhang", "--yes"]).success();
    admin.run(&["role", "delete", "lab1", "--yes"]).success();

    let actions = admin.json(&["audit", "list"]);
    let actions: Vec<&str> =
        actions.as_array().unwrap().iter().filter_map(|record| record["action"].as_str()).collect();
    for action in ["role.put", "user.create", "user.delete", "role.delete"] {
        assert!(actions.contains(&action), "{action} is not in {actions:?}");
    }
    admin.run(&["audit", "verify"]).success();
}

#[test]
fn a_pipe_gets_plain_text_and_the_formats_carry_the_same() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let aimctl = coordinator.aimctl();
    let table = aimctl.run(&["role", "list"]).success();
    assert!(table.starts_with("NAME") && !table.contains('\u{1b}'), "{table}");
    let json = aimctl.json(&["role", "list"]);
    let from_json: Vec<&str> =
        json.as_array().unwrap().iter().filter_map(|role| role["name"].as_str()).collect();
    let names = aimctl.run(&["role", "list", "-o", "name"]).success();
    assert_eq!(names.lines().collect::<Vec<_>>(), from_json);
    let yaml = aimctl.run(&["role", "list", "-o", "yaml"]).success();
    assert!(yaml.contains("name: sre"), "{yaml}");
    for role in from_json {
        assert!(table.lines().any(|line| line.starts_with(role)), "{role} is not in {table}");
    }
}
