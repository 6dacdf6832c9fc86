//! The two calls of the API that a run needs: a login, and tokens for all nodes at once.

use std::path::Path;
use std::time::Duration;

use aim_agent::files::read_private;
use aim_common::api::auth::{LoginMode, LoginRequest, LoginResponse};
use aim_common::api::keyvault::{GenerateTokenRequest, GeneratedToken, GeneratedTokens};
use aim_common::identity::{Sha256Digest, TrustDomain};
use aim_common::tls::{PinnedRootVerifier, provider};
use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Tokens for 20,000 nodes are 30 MB.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
/// Longest password file.
const MAX_PASSWORD: u64 = 1024;
/// Seconds that the tokens are good: enrolling 20,000 nodes on a slow machine takes long.
const TOKEN_SECONDS: u32 = 3 * 3600;

/// A client of one coordinator.
pub(super) struct Api {
    http: reqwest::Client,
    base: String,
    address: String,
    access_token: Option<String>,
}

impl Api {
    /// Trusts the root of this hash and the coordinator's fixed name, whatever address is dialled.
    pub(super) async fn new(address: &str, domain: &TrustDomain, pin: Sha256Digest) -> anyhow::Result<Self> {
        let found = aim_agent::link::resolve(address)
            .await
            .with_context(|| format!("--coordinator {address} must be HOST:PORT of the HTTPS API"))?;
        let port = found.first().context("no address")?.port();
        let name = domain.coordinator_server_name();
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(PinnedRootVerifier::new(pin))
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .resolve_to_addrs(&name, &found)
            .timeout(ANSWER_WITHIN)
            .build()?;
        let base = format!("https://{name}:{port}");
        Ok(Self { http, base, address: address.to_owned(), access_token: None })
    }

    async fn post<Q: Serialize, A: DeserializeOwned>(&self, path: &str, body: &Q) -> anyhow::Result<A> {
        let mut request = self.http.post(format!("{}{path}", self.base)).json(body);
        if let Some(token) = &self.access_token {
            request = request.bearer_auth(token);
        }
        let sent = request.send().await;
        let response = sent.with_context(|| {
            format!(
                "{} gave no answer to {path}: is this the HTTPS address, and --pin its root?",
                self.address
            )
        })?;
        let status = response.status();
        if !status.is_success() {
            let problem = response.text().await.unwrap_or_default();
            bail!("{path} answered {status}: {problem}");
        }
        response
            .json()
            .await
            .with_context(|| format!("the answer to {path} is not what this version expects"))
    }

    /// Logs in with the password of the file.
    pub(super) async fn login(&mut self, user: &str, password_file: &Path) -> anyhow::Result<()> {
        let bytes = read_private(password_file, MAX_PASSWORD)?;
        let password = std::str::from_utf8(&bytes).context("the password file is not text")?;
        let request = LoginRequest {
            username: user.to_owned(),
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
            mode: LoginMode::Bearer,
        };
        let login: LoginResponse = self.post("/api/v1/auth/login", &request).await?;
        self.access_token = Some(login.access_token.context("the login gave no access token")?);
        Ok(())
    }

    /// One token for each host, in one call.
    pub(super) async fn tokens(&self, hosts: String, replace: bool) -> anyhow::Result<Vec<GeneratedToken>> {
        let request = GenerateTokenRequest {
            hosts: Some(hosts),
            ttl_seconds: Some(TOKEN_SECONDS),
            replace,
            ..GenerateTokenRequest::default()
        };
        let answer: GeneratedTokens = self
            .post("/api/keyvault/agent/generate-token", &request)
            .await
            .context("tokens for the fleet (names that exist already: --replace, or another --prefix)")?;
        Ok(answer.tokens)
    }
}
