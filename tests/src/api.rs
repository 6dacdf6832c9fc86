//! A plain client of the public API, for oracles and for calls that aimctl does not make.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aim_common::identity::Sha256Digest;
use aim_common::tls::{PinnedRootVerifier, provider};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A connection that is idle for longer may have been closed by the server, which this client, whose runtime stands still
/// between two calls, would learn by a failed call only.
const POOLED: Duration = Duration::from_secs(2);
/// The name under which an agent knows the coordinator, whatever address it dials.
pub const SERVER_NAME: &str = "coordinator.aim.internal";

/// The API of one coordinator, seen by one user or by nobody.
pub struct Api {
    runtime: Runtime,
    http: reqwest::Client,
    port: u16,
    token: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON; `null` where it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Fails the test unless the status is a success; gives the body.
    #[track_caller]
    pub fn success(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.text);
        self.json()
    }

    /// The problem's code.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// TLS that trusts nothing but the pinned root, as an agent has it before it is enrolled.
pub fn pinned_tls(pin: Sha256Digest) -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(PinnedRootVerifier::new(pin))
        .with_no_client_auth()
}

/// A client of the coordinator on this port, with connections of its own.
pub(crate) fn client(port: u16, pin: Sha256Digest) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(pinned_tls(pin))
        .no_proxy()
        .timeout(TIMEOUT)
        .pool_idle_timeout(POOLED)
        .resolve(SERVER_NAME, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .build()
        .unwrap()
}

impl Api {
    /// The API on this port of this machine, trusted by its pin; nobody is logged in.
    pub fn anonymous(port: u16, pin: Sha256Digest) -> Self {
        let http = client(port, pin);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, http, port, token: None }
    }

    /// Logs in; later calls are this user's.
    #[track_caller]
    pub fn login(&mut self, username: &str, password: &str) -> Value {
        self.token = None;
        let body = json!({ "username": username, "password": password });
        let answer = self.call(Method::POST, "/api/v1/auth/login", Some(&body)).success();
        self.token = Some(answer["access_token"].as_str().unwrap().to_owned());
        answer
    }

    /// The bearer token in use.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// One request; `None` where the coordinator did not answer.
    pub fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        let mut request = self.http.request(method, format!("https://{SERVER_NAME}:{}{path}", self.port));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let headers = response.headers().iter();
            let headers = headers
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect();
            Some(Answer { status, headers, text: response.text().await.ok()? })
        })
    }

    /// One request.
    #[track_caller]
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let described = format!("{method} {path}");
        self.try_call(method, path, body).unwrap_or_else(|| panic!("{described}: no answer"))
    }

    /// `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None)
    }

    /// `POST` with JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body))
    }

    /// `DELETE`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None)
    }

    /// Names of the degraded modes in force, as `/readyz` tells.
    pub fn conditions(&self) -> Vec<String> {
        let readiness =
            self.try_call(Method::GET, "/readyz", None).map(|answer| answer.json()).unwrap_or_default();
        let conditions = readiness["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().filter_map(|condition| condition["name"].as_str().map(str::to_owned)).collect()
    }
}
