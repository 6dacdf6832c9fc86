//! `/etc/aim/agent.toml`: typed, every key known, every number within the bounds of its type.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aim_common::config::{self, ConfigError};
use serde::{Deserialize, Serialize};

use crate::collect::filesystems::FilesystemsConfig;
use crate::collect::gpu::GpuConfig;

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/aim/agent.toml";
/// Prefix of the environment's overrides, `AIM_AGENT__SECTION__KEY`.
pub const ENV_PREFIX: &str = "AIM_AGENT";

/// A whole number within bounds; anything else is refused with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    const fn new(value: u64) -> Self {
        assert!(MIN <= value && value <= MAX);
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number as milliseconds.
    pub const fn as_millis(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for Within<MIN, MAX> {
    type Error = String;

    fn try_from(value: u64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&value) {
            Ok(Self(value))
        } else {
            Err(format!("{value} is not between {MIN} and {MAX}"))
        }
    }
}

impl<const MIN: u64, const MAX: u64> From<Within<MIN, MAX>> for u64 {
    fn from(bounded: Within<MIN, MAX>) -> Self {
        bounded.0
    }
}

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Key, certificate and spool; private to the agent's user.
    pub state_dir: PathBuf,
    /// `status.json`.
    pub runtime_dir: PathBuf,
    /// What is sampled and how often.
    pub report: Report,
    /// The connection to the coordinator.
    pub link: Link,
    /// Events and inventory changes that wait for the coordinator.
    pub spool: Spool,
    /// Gauges that wait for the coordinator.
    pub ring: Ring,
    /// GPUs.
    pub gpu: GpuConfig,
    /// File systems.
    pub filesystems: FilesystemsConfig,
    /// Messages of the agent itself.
    pub log: Log,
}

/// `[report]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// Milliseconds between two samples.
    pub sample_interval_ms: Within<500, 600_000>,
    /// Milliseconds between two reports; without it the coordinator decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<Within<1_000, 3_600_000>>,
    /// Milliseconds between two looks at the inventory.
    pub inventory_interval_ms: Within<1_000, 86_400_000>,
}

/// `[link]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Addresses of the coordinator's link, `host:port`, tried in order; empty: those told at enrolment.
    pub addresses: Vec<String>,
    /// HTTPS addresses of the coordinator, likewise.
    pub https_addresses: Vec<String>,
    /// Appends each acknowledged (spool, sequence) to `acked.log`; only for tests of what is never lost.
    pub ack_log: bool,
}

/// `[spool]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Most MiB on disk; the oldest records are dropped beyond it, counted and said.
    pub max_mib: Within<2, 4096>,
}

/// `[ring]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ring {
    /// Most reports kept while there is no connection; the oldest are dropped beyond it, counted and said.
    pub max_reports: Within<1, 10_000>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, or `module=level` joined by commas.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/aim-agent".into(),
            runtime_dir: "/run/aim-agent".into(),
            report: Report::default(),
            link: Link::default(),
            spool: Spool::default(),
            ring: Ring::default(),
            gpu: GpuConfig::default(),
            filesystems: FilesystemsConfig::default(),
            log: Log::default(),
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        Self {
            sample_interval_ms: Within::new(5_000),
            interval_ms: None,
            inventory_interval_ms: Within::new(60_000),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self { max_mib: Within::new(64) }
    }
}

impl Default for Ring {
    fn default() -> Self {
        // One hour at the default interval; 300 series take about 2 MiB of it.
        Self { max_reports: Within::new(360) }
    }
}

impl Default for Log {
    fn default() -> Self {
        // quinn warns of each packet that an absent coordinator refuses.
        Self { filter: "info,quinn_udp=error".to_owned() }
    }
}

impl Config {
    /// Reads the file and the environment. The default file may be missing, a named one may not.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match config::read(file) {
            Ok(text) => text,
            Err(ConfigError::Unreadable { source, .. })
                if path.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                String::new()
            }
            Err(error) => return Err(error),
        };
        config::parse(&file.display().to_string(), &text, ENV_PREFIX, environment)
    }

    /// The defaults as a file.
    pub fn default_text() -> Result<String, ConfigError> {
        config::to_toml(&Self::default())
    }

    /// Where `aim-agent status` looks.
    pub fn status_path(&self) -> PathBuf {
        self.runtime_dir.join("status.json")
    }

    /// Where the spool's segments are.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        config::parse("agent.toml", text, ENV_PREFIX, environment)
    }

    #[test]
    fn flt_56_errors_name_the_line_and_the_key_meant() {
        let error = parse("[report]\nsample_intervall_ms = 5000\n", &[]).unwrap_err().to_string();
        assert!(error.starts_with("agent.toml:2:"), "{error}");
        assert!(error.contains("did you mean \"sample_interval_ms\"?"), "{error}");
        let error = parse("state_dir = \"/x\"\n[spool]\nmax_mib = 1\n", &[]).unwrap_err().to_string();
        assert!(error.starts_with("agent.toml:3:") && error.contains("not between 2 and 4096"), "{error}");
    }

    #[test]
    fn default_text_is_the_default_and_the_environment_overrides() {
        assert_eq!(parse(&Config::default_text().unwrap(), &[]).unwrap(), Config::default());
        let config = parse("", &[("AIM_AGENT__REPORT__SAMPLE_INTERVAL_MS", "1000")]).unwrap();
        assert_eq!(config.report.sample_interval_ms.get(), 1000);
        assert!(parse("", &[("AIM_AGENT__REPORT__SAMPLE", "1000")]).is_err());
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let missing = Path::new("/nonexistent/agent.toml");
        assert!(matches!(Config::load(Some(missing), []), Err(ConfigError::Unreadable { .. })));
    }
}
