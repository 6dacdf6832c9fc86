//! The specification's flow with curl: a token, then the Salt master's key once.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aim_tests::{Coordinator, run};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

const SALT_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo
4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0/IzW7yWR7QkrmBL7jTKEn5u
+qKhbwKfBstIs+bMY2Zkp18gnTxKLxoS2tFczGkPLPgizskuemMghRniWaoLcyeh
kd3qqGElvW/VDL5AaWTg0nLVkjRo9z+40RQzuVaE8AkAFmxZzow3x+VJYKdjykkJ
0iT9wCS0DRTXu269V264Vf/3jvredZiKRkgwlL9xNAwxXFg0x/XFw005UWVRIkdg
cKWTjpBP2dPwVZ4WWC+9aGVd+Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbjXfbc
mwIDAQAB
-----END PUBLIC KEY-----
";

/// curl with headers in a file, so that no secret stands in its arguments.
struct Curl {
    dir: PathBuf,
    port: u16,
}

impl Curl {
    fn new(dir: &Path, coordinator: &Coordinator) -> Self {
        fs::copy(coordinator.state_dir().join("ca/roots.pem"), dir.join("roots.pem")).unwrap();
        Self { dir: dir.to_owned(), port: coordinator.https_port }
    }

    /// Status and body.
    fn call(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        fs::write(self.dir.join("headers"), lines.join("\n")).unwrap();
        let mut curl = Command::new("curl");
        curl.current_dir(&self.dir).args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--cacert",
            "roots.pem",
        ]);
        curl.arg("--resolve").arg(format!("coordinator.aim.internal:{}:127.0.0.1", self.port));
        curl.args(["--request", method, "--header", "@headers", "--write-out", "\n%{http_code}"]);
        curl.arg(format!("https://coordinator.aim.internal:{}{path}", self.port));
        let output = run(&mut curl, Duration::from_secs(30)).success();
        let (body, status) = output.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    fn master_pub(&self, token: &Value) -> (u16, Value) {
        let text = |key: &str| token[key].as_str().unwrap();
        self.call(
            "GET",
            "/api/keyvault/salt/master-pub",
            &[
                ("X-AIM-Token", text("token")),
                ("X-AIM-Signature", text("signature")),
                ("X-AIM-Nonce", text("nonce")),
            ],
        )
    }
}

fn import(coordinator: &Coordinator, dir: &Path) {
    let file = dir.join("master.pub");
    fs::write(&file, SALT_KEY).unwrap();
    coordinator.aimctl().run(&["salt-key", "import", &file.display().to_string()]).success();
}

/// A refusal without the parts that differ from request to request.
fn uniform(mut answer: (u16, Value)) -> (u16, Value) {
    for key in ["request_id", "instance"] {
        if let Some(body) = answer.1.as_object_mut() {
            body.remove(key);
        }
    }
    answer
}

#[test]
fn enr_18_the_master_key_comes_once_for_a_token_byte_for_byte() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let curl = Curl::new(dir.path(), &coordinator);
    let admin = coordinator.admin();
    let bearer = format!("Bearer {}", admin.token().unwrap());
    let authorised = [("Authorization", bearer.as_str())];

    let (status, token) = curl.call("POST", "/api/keyvault/salt/generate-token", &authorised);
    assert!((200..300).contains(&status), "{status} {token}");
    assert!(
        token["expires_at"].is_string() && uuid::Uuid::parse_str(token["token"].as_str().unwrap()).is_ok()
    );
    assert_eq!(token["nonce"].as_str().unwrap().len(), 32);
    assert_eq!(token["signature"].as_str().unwrap().len(), 64);

    // Without an imported key the answer says so, and the token is not used up.
    assert_eq!(curl.master_pub(&token).0, 503);
    import(&coordinator, dir.path());
    let (status, answer) = curl.master_pub(&token);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(STANDARD.decode(answer["pub_key"].as_str().unwrap()).unwrap(), SALT_KEY.as_bytes());
    assert_ne!(curl.master_pub(&token).0, 200, "the token was good twice");
}

#[test]
fn enr_01_no_token_without_a_login() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let curl = Curl::new(dir.path(), &coordinator);
    for path in ["/api/keyvault/salt/generate-token", "/api/keyvault/agent/generate-token"] {
        for headers in
            [&[][..], &[("Authorization", "Bearer x.y.z")], &[("Authorization", "Basic YWRtaW46YWRtaW4=")]]
        {
            assert_eq!(curl.call("POST", path, headers).0, 401, "{path} {headers:?}");
        }
    }
}

#[test]
fn enr_02_every_bad_token_gets_the_same_refusal() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    import(&coordinator, dir.path());
    let curl = Curl::new(dir.path(), &coordinator);
    let admin = coordinator.admin();
    let issue = |kind: &str, body: &Value| {
        admin.post(&format!("/api/keyvault/{kind}/generate-token"), body).success()
    };
    let token = issue("salt", &json!({}));
    let changed = |key: &str, value: &str| {
        let mut changed = token.clone();
        changed[key] = value.into();
        changed
    };
    let used = issue("salt", &json!({}));
    assert_eq!(curl.master_pub(&used).0, 200);
    let refusals = [
        used,
        changed("token", "00000000-0000-4000-8000-000000000000"),
        changed("token", "not-a-uuid"),
        changed("signature", &"0".repeat(64)),
        changed("nonce", &"0".repeat(32)),
        issue("agent", &json!({ "node": "node1" })),
    ];
    let expected = uniform(curl.call("GET", "/api/keyvault/salt/master-pub", &[]));
    assert!((400..500).contains(&expected.0), "{expected:?}");
    for refusal in &refusals {
        assert_eq!(uniform(curl.master_pub(refusal)), expected, "{refusal}");
    }
    assert_eq!(curl.master_pub(&token).0, 200, "wrong tries used the good token up");
}

#[test]
fn enr_13_the_query_form_is_off_by_default() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    import(&coordinator, dir.path());
    let curl = Curl::new(dir.path(), &coordinator);
    let token = coordinator.admin().post("/api/keyvault/salt/generate-token", &json!({})).success();
    let text = |key: &str| token[key].as_str().unwrap();
    let query = format!("?token={}&signature={}&nonce={}", text("token"), text("signature"), text("nonce"));
    let (status, _) = curl.call("GET", &format!("/api/keyvault/salt/master-pub{query}"), &[]);
    assert!((400..500).contains(&status), "{status}");
    assert_eq!(curl.master_pub(&token).0, 200);
}

#[test]
fn enr_13_switched_on_the_query_form_is_served_and_stands_in_no_log_and_no_error() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::prepare(dir.path(), |config| {
        let on = toml::Table::from_iter([("master_pub_query".to_owned(), true.into())]);
        config.insert("keyvault".into(), on.into());
        config.insert("log".into(), toml::Table::from_iter([("filter".to_owned(), "trace".into())]).into());
    });
    coordinator.serve();
    import(&coordinator, dir.path());
    let curl = Curl::new(dir.path(), &coordinator);
    let token = coordinator.admin().post("/api/keyvault/salt/generate-token", &json!({})).success();
    let text = |key: &str| token[key].as_str().unwrap();
    let query = format!("?token={}&signature={}&nonce={}", text("token"), text("signature"), text("nonce"));
    let path = format!("/api/keyvault/salt/master-pub{query}");
    assert_eq!(curl.call("GET", &path, &[]).0, 200);
    let mut said = Vec::new();
    // Used up, of another method, of another route, and with a query that is too long.
    let long = format!("{path}&x={}", "y".repeat(9_000));
    for (method, path) in [("GET", &path), ("POST", &path), ("GET", &format!("{path}/x")), ("GET", &long)] {
        let (status, problem) = curl.call(method, path, &[]);
        assert!((400..500).contains(&status), "{method}: {status}");
        said.push(problem.to_string());
    }
    coordinator.stop();
    said.push(fs::read_to_string(coordinator.log_path()).unwrap());
    assert!(said.last().unwrap().contains("/api/keyvault/salt/master-pub"), "the requests were not logged");
    for text in &said {
        for secret in ["token", "signature", "nonce"] {
            assert!(!text.contains(token[secret].as_str().unwrap()), "the {secret} is in {text}");
        }
    }
}
