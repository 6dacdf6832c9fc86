//! A coordinator for one test, and a client that trusts its CA.

use std::time::Duration;

use aim_coordinator::config::Config;
use aim_coordinator::serve::{self, Running};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running coordinator with its client.
pub(crate) struct Fixture {
    pub(crate) running: Running,
    pub(crate) client: Client,
    pub(crate) base: String,
    pub(crate) admin_password: String,
    pub(crate) directory: TempDir,
}

/// Settings that bind nothing fixed and keep everything in `directory`.
pub(crate) fn config(directory: &TempDir) -> Config {
    let mut config = Config { state_dir: directory.path().join("state"), ..Config::default() };
    config.https.listen = "127.0.0.1:0".parse().unwrap();
    config.link.listen = "127.0.0.1:0".parse().unwrap();
    config.https.rates.session_per_second = 10_000;
    config.https.rates.address_per_second = 10_000;
    config.https.rates.global_per_second = 10_000;
    config.https.rates.exports_per_second = 10_000;
    config.auth.initial_password_file = Some(directory.path().join("password"));
    config
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    /// A coordinator on what another one left behind.
    pub(crate) async fn start_in(directory: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(&directory);
        change(&mut config);
        let running = serve::start(config).await.unwrap();
        let client = client(&running);
        let base = format!("https://localhost:{}", running.https_addr.port());
        let admin_password =
            std::fs::read_to_string(directory.path().join("password")).unwrap().trim().to_owned();
        Self { running, client, base, admin_password, directory }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse::<Method>().unwrap(), format!("{}{path}", self.base))
    }

    pub(crate) async fn login_as(&self, username: &str, password: &str) -> (StatusCode, Value) {
        let body = json!({"username": username, "password": password});
        answer(self.request("POST", "/api/v1/auth/login").json(&body)).await
    }

    /// A bearer token of `admin`.
    pub(crate) async fn admin(&self) -> String {
        let (status, body) = self.login_as("admin", &self.admin_password).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// Sends a request with a bearer token and, where given, a JSON body.
    pub(crate) async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = self.request(method, path).bearer_auth(token);
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }

    /// Creates a user and logs it in.
    pub(crate) async fn user(&self, admin: &str, username: &str, roles: &[&str]) -> String {
        let password = "a long enough password";
        let body = json!({"username": username, "password": password, "roles": roles});
        let (status, answer) = self.call(admin, "POST", "/api/v1/users", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        let (status, answer) = self.login_as(username, password).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Enrols a node through the real path, and waits until the API shows it.
    pub(crate) async fn enrol(&self, admin: &str, node: &str) {
        let asked = json!({"node": node});
        let (status, token) =
            self.call(admin, "POST", "/api/keyvault/agent/generate-token", Some(asked)).await;
        assert_eq!(status, StatusCode::OK, "{token}");
        let body = json!({"token": token["token"], "signature": token["signature"], "nonce": token["nonce"],
            "node": node, "csr": csr()});
        let enrolled = answer(self.request("POST", "/api/keyvault/agent/enroll").json(&body)).await;
        assert_eq!(enrolled.0, StatusCode::OK, "{}", enrolled.1);
        let clock = &self.running.app.clock;
        let deadline = clock.monotonic() + Duration::from_secs(30);
        while self.call(admin, "GET", &format!("/api/v1/nodes/{node}"), None).await.0 != StatusCode::OK {
            assert!(clock.monotonic() < deadline, "{node} was enrolled and never shown");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks for approval of a node, and gives the request's number.
    pub(crate) async fn ask_for_approval(&self, admin: &str, node: &str) -> i64 {
        let body = json!({"node": node, "csr": csr()});
        let asked = answer(self.request("POST", "/api/keyvault/agent/request").json(&body)).await;
        assert_eq!(asked.1["status"], "pending", "{asked:?}");
        let (_, list) = self.call(admin, "GET", "/api/v1/enrolment-requests", None).await;
        let items = list.get("items").unwrap_or(&list).as_array().unwrap().clone();
        let found = items.iter().find(|request| request.to_string().contains(&format!("\"{node}\"")));
        found.unwrap_or_else(|| panic!("{node} in {list}"))["id"].as_i64().unwrap()
    }

    /// The records of the audit trail, oldest first.
    pub(crate) async fn audit(&self) -> Vec<aim_coordinator::store::audit::AuditRow> {
        self.running.app.store.audit_chain(0, 10_000).await.unwrap()
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.running.shutdown().await;
        self.directory
    }
}

/// A request for a certificate with a key of its own.
pub(crate) fn csr() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

/// A client that trusts this coordinator's CA and nothing else.
pub(crate) fn client(running: &Running) -> Client {
    let bundle = running.app.keyvault.ca().bundle_pem();
    let roots = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only(roots)
        .resolve("localhost", running.https_addr)
        .timeout(Duration::from_mins(1))
        .build()
        .unwrap()
}

/// Status, and the body as JSON or text.
pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_tells_nothing_internal(&text);
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// API-04, on every answer that passes here: no SQL, no path of ours, no trace.
pub(crate) fn assert_tells_nothing_internal(text: &str) {
    const INTERNAL: [&str; 16] = [
        "sqlx",
        "SELECT ",
        "INSERT INTO",
        "UPDATE ",
        "no such table",
        "constraint failed",
        "error returned from",
        "panicked",
        "src/",
        ".rs:",
        "stack backtrace",
        "/root/",
        "/home/",
        "/tmp/",
        "coordinator.db",
        "os error",
    ];
    let told = INTERNAL.iter().find(|word| text.contains(**word));
    assert!(told.is_none(), "API-04: an answer tells {told:?}: {text}");
}

/// Welch's t of two samples of times: between -4.5 and 4.5 nobody can tell them apart.
pub(crate) fn welch(one: &[Duration], other: &[Duration]) -> f64 {
    let of = |sample: &[Duration]| {
        let count = f64::from(u32::try_from(sample.len()).unwrap());
        let mean = sample.iter().map(Duration::as_secs_f64).sum::<f64>() / count;
        let squares = sample.iter().map(|time| (time.as_secs_f64() - mean).powi(2)).sum::<f64>();
        (mean, squares / (count - 1.0) / count)
    };
    let ((one, one_variance), (other, other_variance)) = (of(one), of(other));
    (one - other) / (one_variance + other_variance).sqrt()
}
