//! A coordinator of release binaries in a folder of its own, and agents enrolled through the real path.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aim_common::api::auth::{LoginMode, LoginRequest, LoginResponse};
use aim_common::api::keyvault::{GenerateTokenRequest, GeneratedToken, GeneratedTokens};
use aim_common::identity::TrustDomain;
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::netns::Namespace;
use crate::process::Measured;

/// How long a program may take until it serves.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// The coordinator with its folder.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    binaries: PathBuf,
    pub(crate) coordinator: Measured,
    pub(crate) https_port: u16,
    pub(crate) link_port: u16,
    access_token: String,
}

/// A port that was free a moment ago, below the ephemeral range.
pub(crate) fn free_port(udp: bool) -> anyhow::Result<u16> {
    let start = 20_000 + u16::try_from(std::process::id() % 5_000)?;
    (start..32_000)
        .find(|port| {
            if udp {
                std::net::UdpSocket::bind(("0.0.0.0", *port)).is_ok()
            } else {
                std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok()
            }
        })
        .context("no free port between 20000 and 32000")
}

fn log_to(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    Ok(())
}

impl Site {
    /// Starts the coordinator and logs in.
    pub(crate) async fn start(binaries: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("aim-bench-").tempdir()?;
        let (https_port, link_port) = (free_port(false)?, free_port(true)?);
        let password_file = folder.path().join("password");
        let config = format!(
            "state_dir = \"{}\"\n[link]\nlisten = \"[::]:{link_port}\"\nadvertise = [\"127.0.0.1:{link_port}\"]\n\
             [https]\nlisten = \"[::]:{https_port}\"\nadvertise = [\"127.0.0.1:{https_port}\"]\n\
             [https.rates]\nsession_per_second = 10000\naddress_per_second = 10000\nglobal_per_second = 10000\n",
            folder.path().join("coordinator").display()
        );
        let config_file = folder.path().join("coordinator.toml");
        std::fs::write(&config_file, config)?;
        let mut command = Command::new(binaries.join("aim-coordinator"));
        command
            .arg("--config")
            .arg(&config_file)
            .args(["serve", "--initial-password-file"])
            .arg(&password_file);
        log_to(&mut command, &folder.path().join("coordinator.log"))?;
        let coordinator = Measured::start("aim-coordinator", &mut command)?;
        let binaries = binaries.to_owned();
        let mut site =
            Self { folder, binaries, coordinator, https_port, link_port, access_token: String::new() };
        site.login(&password_file).await?;
        Ok(site)
    }

    /// A client that trusts this site's root and nothing else.
    pub(crate) fn client(&self) -> anyhow::Result<reqwest::Client> {
        let roots = self.folder.path().join("coordinator/ca/roots.pem");
        let pem = std::fs::read(&roots).with_context(|| format!("cannot read {}", roots.display()))?;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.https_port));
        Ok(reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?)
            .resolve(&TrustDomain::default().coordinator_server_name(), address)
            .timeout(Duration::from_secs(30))
            .build()?)
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", TrustDomain::default().coordinator_server_name(), self.https_port)
    }

    async fn login(&mut self, password_file: &Path) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + START_DEADLINE;
        let ready = loop {
            self.coordinator.ensure_alive().with_context(|| self.last_lines("coordinator.log"))?;
            if let Ok(client) = self.client()
                && let Ok(response) = client.get(self.url("/readyz")).send().await
                && response.status().is_success()
            {
                break client;
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "the coordinator is not ready after {START_DEADLINE:?}\n{}",
                    self.last_lines("coordinator.log")
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let password = std::fs::read_to_string(password_file)?;
        let request = LoginRequest {
            username: "admin".to_owned(),
            password: password.trim().to_owned(),
            mode: LoginMode::Bearer,
        };
        let response = ready.post(self.url("/api/v1/auth/login")).json(&request).send().await?;
        let login: LoginResponse = response.error_for_status()?.json().await?;
        self.access_token = login.access_token.context("the login gave no access token")?;
        Ok(())
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> anyhow::Result<T> {
        let request = self.client()?.post(self.url(path)).bearer_auth(&self.access_token).json(body);
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "POST {path} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.client()?.get(self.url(path)).bearer_auth(&self.access_token).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    /// Tokens for a host list, in one call.
    pub(crate) async fn tokens(&self, hosts: &str) -> anyhow::Result<Vec<GeneratedToken>> {
        let request =
            GenerateTokenRequest { hosts: Some(hosts.to_owned()), ..GenerateTokenRequest::default() };
        let answer: GeneratedTokens = self.post("/api/keyvault/agent/generate-token", &request).await?;
        Ok(answer.tokens)
    }

    /// Enrols an agent and starts it inside the namespace with these lines at the head of its configuration's `[report]`.
    pub(crate) async fn agent(
        &self,
        name: &str,
        namespace: &Namespace,
        report: &str,
    ) -> anyhow::Result<Measured> {
        use std::os::unix::fs::PermissionsExt;
        let token = self.tokens(name).await?.pop().context("no token came back")?;
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder)?;
        let join = folder.join("join");
        std::fs::write(&join, token.join.context("the token has no join string")?)?;
        std::fs::set_permissions(&join, std::fs::Permissions::from_mode(0o600))?;
        let config = folder.join("agent.toml");
        let text = format!(
            "state_dir = \"{}\"\nruntime_dir = \"{}\"\n[report]\n{report}\n[link]\naddresses = [\"{}:{}\"]\n",
            folder.join("state").display(),
            folder.join("run").display(),
            namespace.host_address,
            self.link_port,
        );
        std::fs::write(&config, text)?;
        let program = self.binaries.join("aim-agent");
        let mut enrol = Command::new(&program);
        enrol.arg("--config").arg(&config).arg("enroll").arg("--join-file").arg(&join);
        let output = enrol.output().context("cannot run aim-agent enroll")?;
        ensure!(
            output.status.success(),
            "aim-agent enroll failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut command = namespace.command(&program);
        command.arg("--config").arg(&config).arg("run");
        log_to(&mut command, &folder.join("agent.log"))?;
        let agent = Measured::start("aim-agent", &mut command)?;
        self.wait_present(name).await?;
        Ok(agent)
    }

    async fn wait_present(&self, name: &str) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + START_DEADLINE;
        loop {
            let node: serde_json::Value = self.get(&format!("/api/v1/nodes/{name}")).await?;
            if node["presence"]["state"] == "present" {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("agent {name} is not present after {START_DEADLINE:?}: {}", node["presence"]);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn last_lines(&self, log: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// A file for the log of a peer.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}
