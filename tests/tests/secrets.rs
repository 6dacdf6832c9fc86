//! Known secrets are planted, everything runs at the most verbose level, and then they are looked for everywhere.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aim_common::enrolment::JoinString;
use aim_tests::agent::{SEEN, join_string};
use aim_tests::{Agent, Coordinator, until};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A secret, and every text under which it could lie about.
struct Secret {
    name: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(name: &'static str, secret: &str) -> Self {
        assert!(secret.len() >= 12, "{name} is too short to be looked for");
        let bytes = secret.as_bytes();
        let mut forms: Vec<Vec<u8>> =
            vec![bytes.to_vec(), hex(bytes).into_bytes(), hex(bytes).to_uppercase().into_bytes()];
        // Base64 of a text that holds the secret depends on where it begins: three alignments, without the edges.
        for shift in 0..3 {
            let shifted = [&b"\0\0"[..shift], bytes].concat();
            for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
            }
        }
        if let Ok(uuid) = uuid::Uuid::parse_str(secret) {
            forms.push(uuid.as_bytes().to_vec());
            forms.push(uuid.simple().to_string().into_bytes());
        }
        forms.push(hex(bytes).as_bytes().chunks(2).flat_map(|pair| [b"%", pair].concat()).collect());
        Self { name, forms }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        // Lossless one-to-one mapping, so that the fast search of `str` can be used on any bytes.
        let text = latin(text);
        self.forms.iter().any(|form| text.contains(&latin(form)))
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The parts of PEM that identify a private key: its middle lines.
fn private_key(name: &'static str, pem: &str) -> Secret {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    Secret::new(name, &body[20..60])
}

/// Arguments and environments of all other processes, seen again and again until it is stopped.
struct ProcessWatch {
    stopped: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeSet<Vec<u8>>>,
}

impl ProcessWatch {
    fn start() -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let seen_by = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !seen_by.load(Ordering::SeqCst) {
                for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let own = process.file_name().to_str() == Some(&std::process::id().to_string());
                    for file in ["cmdline", "environ"] {
                        seen.extend(
                            fs::read(process.path().join(file))
                                .ok()
                                .filter(|bytes| !own && !bytes.is_empty()),
                        );
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            seen
        });
        Self { stopped, thread }
    }

    fn stop(self) -> BTreeSet<Vec<u8>> {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// Files that may hold a secret, because that is their purpose; each must be private.
fn is_its_place(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    path.extension().is_some_and(|ending| ending == "key")
        || matches!(name, "admin.password" | "identity.json" | "identity.next.json" | "pending.json" | "join")
        || folder == "credentials"
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            // A socket holds nothing.
            if !kind.is_dir() && !kind.is_file() {
                continue;
            }
            let found = if kind.is_dir() { &mut folders } else { &mut files };
            found.push(entry.path());
        }
    }
    files
}

#[test]
fn log_01_enr_19_pki_13_pki_20_no_planted_secret_is_found_anywhere() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().unwrap();
    let watch = ProcessWatch::start();
    let trace = |config: &mut toml::Table| {
        config.insert("log".into(), toml::Table::from_iter([("filter".to_owned(), "trace".into())]).into());
    };
    let mut coordinator = Coordinator::prepare(dir.path(), trace);
    coordinator.serve();
    let secrets = flow(&dir, &coordinator, trace);
    coordinator.stop();

    let processes = watch.stop();
    assert!(processes.iter().any(|bytes| latin(bytes).contains("aim-agent")), "the watch saw nothing");
    for seen in &processes {
        for secret in &secrets {
            assert!(
                !secret.is_in(seen),
                "{} is in a process's arguments or environment: {}",
                secret.name,
                latin(seen)
            );
        }
    }
    for file in files_below(dir.path()) {
        if is_its_place(&file) {
            let mode = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} holds secrets and is open to others", file.display());
            continue;
        }
        let text = fs::read(&file).unwrap();
        for secret in &secrets {
            assert!(!secret.is_in(&text), "{} is in {}", secret.name, file.display());
        }
    }
    let log = fs::read_to_string(coordinator.log_path()).unwrap();
    assert!(log.contains("TRACE") || log.contains("trace"), "the log was not at its most verbose level");
}

/// Uses every sort of secret, rightly and wrongly; gives them.
fn flow(dir: &TempDir, coordinator: &Coordinator, trace: impl Fn(&mut toml::Table)) -> Vec<Secret> {
    let mut secrets = vec![Secret::new("admin's password", &coordinator.password())];
    let mut admin = coordinator.anonymous();
    let login = admin.login("admin", &coordinator.password());
    for (name, key) in [("an access token", "access_token"), ("a refresh token", "refresh_token")] {
        secrets.push(Secret::new(name, login[key].as_str().unwrap()));
    }

    // A user's password, right and wrong.
    let (password, mistyped) = ("canary-Password-5d1f", "canary-Mistyped-77ab");
    let user = json!({ "username": "canary", "password": password, "roles": ["engineer"] });
    admin.post("/api/v1/users", &user).success();
    let mut canary = coordinator.anonymous();
    canary.login("canary", password);
    let wrong = json!({ "username": "canary", "password": mistyped });
    assert_eq!(coordinator.anonymous().post("/api/v1/auth/login", &wrong).status, 401);
    secrets.extend([Secret::new("a password", password), Secret::new("a mistyped password", mistyped)]);

    // A refresh, which makes new tokens.
    let refresh = json!({ "refresh_token": login["refresh_token"] });
    let fresh = admin.post("/api/v1/auth/refresh", &refresh).success();
    secrets.push(Secret::new("the next refresh token", fresh["refresh_token"].as_str().unwrap()));
    admin.login("admin", &coordinator.password());

    // A Salt token in the query, where it must be refused and not be logged.
    let token: Value = admin.post("/api/keyvault/salt/generate-token", &json!({})).success();
    let part = |key: &'static str| token[key].as_str().unwrap();
    let query = format!("token={}&signature={}&nonce={}", part("token"), part("signature"), part("nonce"));
    let anonymous = coordinator.anonymous();
    assert_ne!(anonymous.get(&format!("/api/keyvault/salt/master-pub?{query}")).status, 200);
    secrets.push(Secret::new("a Salt token", part("token")));
    secrets.push(Secret::new("a Salt token's signature", part("signature")));
    secrets.push(Secret::new("a Salt token's nonce", part("nonce")));
    // JWTs do not belong into URLs either (AUT-10).
    let bearer = admin.token().unwrap().to_owned();
    assert_eq!(anonymous.get(&format!("/api/v1/nodes?access_token={bearer}")).status, 401);
    secrets.push(Secret::new("a token in a URL", &bearer));

    // Enrolment, and a second try with the same token.
    let join = join_string(&admin, "node1");
    let parts: JoinString = join.parse().unwrap();
    secrets.push(Secret::new("a join string", &join));
    secrets.push(Secret::new("an agent token", &parts.token.expose()));
    secrets.push(Secret::new("an agent token's signature", &parts.signature.expose()));
    secrets.push(Secret::new("an agent token's nonce", &parts.nonce.expose()));
    let mut agent = Agent::prepare(dir.path(), "node1", &trace);
    agent.enrol(&join).success();
    let second = Agent::prepare(&dir.path().join("second"), "node1", &trace);
    assert_ne!(second.enrol(&join).code, 0);
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    until("values are shown", SEEN, || agent.node(&admin)["cpu_utilization"].is_f64().then_some(()));

    let identity: Value =
        serde_json::from_str(&fs::read_to_string(agent.state_dir().join("identity.json")).unwrap()).unwrap();
    secrets.push(private_key("a node's key", identity["private_key"].as_str().unwrap()));
    for (name, file) in [("the root key", "ca/root.key"), ("the issuing key", "ca/issuing.key")] {
        secrets.push(private_key(name, &fs::read_to_string(coordinator.state_dir().join(file)).unwrap()));
    }
    // What is told to whoever asks is looked through as well.
    for (name, path) in
        [("metrics", "/metrics"), ("readiness", "/readyz"), ("audit", "/api/v1/audit?limit=1000")]
    {
        let answer = admin.get(path);
        assert_eq!(answer.status, 200, "{path}");
        fs::write(dir.path().join(name), answer.text).unwrap();
    }
    agent.stop();
    secrets
}
