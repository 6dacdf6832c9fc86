//! `/etc/aim/coordinator.toml`, typed: unknown keys are refused with their line.
//!
//! Secrets never stand here: a key names the file that holds one. `AIM_COORDINATOR__SECTION__KEY` overrides a key.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use aim_common::config::ConfigError;
use aim_common::identity::TrustDomain;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where the file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/aim/coordinator.toml";
/// Beyond this a revocation may be forgotten by the journal (`keyvault::journal`), so that no certificate may come back later.
const MAX_LATE_RENEWAL_DAYS: u32 = 365;
/// What environment overrides begin with.
pub const ENVIRONMENT_PREFIX: &str = "AIM_COORDINATOR";

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything lasting lives; made with mode 0700 at the first start.
    pub state_dir: PathBuf,
    /// The database.
    pub database: Database,
    /// The QUIC link to agents.
    pub link: Link,
    /// The HTTPS API.
    pub https: Https,
    /// Users and sessions.
    pub auth: Auth,
    /// Enrolment and the CA.
    pub keyvault: KeyVault,
    /// The audit trail.
    pub audit: Audit,
    /// How long history is kept.
    pub retention: Retention,
    /// The coordinator's own log.
    pub log: Log,
}

/// The database: embedded SQLite unless a PostgreSQL URL is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// SQLite file; `<state_dir>/coordinator.db` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<PathBuf>,
    /// File that holds a PostgreSQL URL; used instead of SQLite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_url_file: Option<PathBuf>,
}

/// The QUIC link.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that agents dial; the public names with the listening port where empty.
    pub advertise: Vec<String>,
}

/// The HTTPS API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Https {
    /// TCP address to listen on.
    pub listen: SocketAddr,
    /// `host:port` that agents and installers use; the public names with the listening port where empty.
    pub advertise: Vec<String>,
    /// Names and addresses by which clients reach the coordinator: accepted as `Host`, and in its certificate.
    pub public_names: Vec<String>,
    /// Address ranges whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Plain HTTP for such a proxy: a loopback address or `unix:/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain_listen: Option<String>,
    /// The operator's own certificates, chosen by server name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<OperatorCertificate>,
    /// Requests per second of one session, one address and all together.
    pub rates: Rates,
}

/// Request rates; a burst of five seconds' worth is allowed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Of one session.
    pub session_per_second: u32,
    /// Of one address.
    pub address_per_second: u32,
    /// Of all clients.
    pub global_per_second: u32,
    /// Of one session's whole lists and walks through the audit trail, which cost much more than other requests.
    pub exports_per_second: u32,
}

/// A certificate of the operator's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorCertificate {
    /// Server names it is shown for.
    pub names: Vec<String>,
    /// PEM file: the certificate and its chain.
    pub certificate_file: PathBuf,
    /// PEM file: the key.
    pub key_file: PathBuf,
}

/// Users and sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Hours that a session lasts without a refresh.
    pub session_hours: u32,
    /// File (0600) that gets the first password of `admin`; printed once to the terminal where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_password_file: Option<PathBuf>,
}

/// Enrolment and the CA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyVault {
    /// The trust domain; frozen when the CA is made.
    pub trust_domain: TrustDomain,
    /// Minutes that a node's certificate lives; renewal is at about half of it, so that less than an hour is for trials.
    pub node_certificate_minutes: u32,
    /// Days after its end in which a node's certificate can still be renewed by proof of its key; 0 = never.
    pub late_renewal_days: u32,
    /// Seconds for which known nodes may still connect while the database is away; revocations of then are kept in the
    /// journal.
    pub admission_without_database_seconds: u32,
    /// Nodes may ask to be approved without a token.
    pub approval_queue: bool,
    /// `master-pub` accepts token, signature and nonce in its query, for old installers.
    pub master_pub_query: bool,
    /// Most tokens outstanding at once.
    pub outstanding_tokens_max: u32,
}

/// The audit trail.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// File of the signed checkpoints, best on another machine's disk; `<state_dir>/audit-checkpoints.jsonl` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_file: Option<PathBuf>,
}

/// How long history is kept.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Days that events are kept.
    pub events_days: u32,
    /// Days that audit records are kept; 0 = for ever. The trail tells of the deletion, signed.
    pub audit_days: u32,
}

/// The coordinator's own log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Level, or `target=level` directives separated by commas.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/aim-coordinator"),
            database: Database::default(),
            link: Link::default(),
            https: Https::default(),
            auth: Auth::default(),
            keyvault: KeyVault::default(),
            audit: Audit::default(),
            retention: Retention::default(),
            log: Log::default(),
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 7443)), advertise: Vec::new() }
    }
}

impl Default for Https {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8443)),
            advertise: Vec::new(),
            public_names: Vec::new(),
            trusted_proxies: Vec::new(),
            plain_listen: None,
            certificates: Vec::new(),
            rates: Rates::default(),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            session_per_second: 100,
            address_per_second: 500,
            global_per_second: 5_000,
            exports_per_second: 2,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self { session_hours: 12, initial_password_file: None }
    }
}

impl Default for KeyVault {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            node_certificate_minutes: 24 * 60,
            late_renewal_days: 14,
            admission_without_database_seconds: 600,
            approval_queue: false,
            master_pub_query: false,
            outstanding_tokens_max: 100_000,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 90, audit_days: 365 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned() }
    }
}

impl Config {
    /// Reads the file, then the environment's overrides; the defaults where the default file is absent.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let explicit = path.is_some();
        let path = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match aim_common::config::read(path) {
            Ok(text) => text,
            Err(ConfigError::Unreadable { source, .. })
                if !explicit && source.kind() == std::io::ErrorKind::NotFound =>
            {
                String::new()
            }
            Err(error) => return Err(error),
        };
        Self::parse(&path.display().to_string(), &text, std::env::vars())
    }

    /// Makes the configuration of a text and overrides.
    pub fn parse(
        file: &str,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config: Self = aim_common::config::parse(file, text, ENVIRONMENT_PREFIX, environment)?;
        config.check(file)?;
        Ok(config)
    }

    /// The defaults as a file.
    pub fn print_default() -> Result<String, ConfigError> {
        aim_common::config::to_toml(&Self::default())
    }

    /// What types cannot say.
    fn check(&self, file: &str) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| {
            Err(ConfigError::Invalid { place: format!("{file}: {key}"), problem: problem.to_owned() })
        };
        if let Some(plain) = &self.https.plain_listen
            && !plain.starts_with("unix:/")
            && !plain.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
        {
            return refuse(
                "https.plain_listen",
                "plain HTTP is only for a proxy on this host: give a loopback address or unix:/path",
            );
        }
        if self.database.sqlite.is_some() && self.database.postgres_url_file.is_some() {
            return refuse("database", "sqlite and postgres_url_file exclude each other: keep one");
        }
        if self.auth.session_hours == 0 || self.auth.session_hours > 24 * 7 {
            return refuse("auth.session_hours", "a session lasts 1 to 168 hours");
        }
        if !(1..=30 * 24 * 60).contains(&self.keyvault.node_certificate_minutes) {
            return refuse(
                "keyvault.node_certificate_minutes",
                "a node's certificate lives 1 to 43200 minutes",
            );
        }
        if self.keyvault.late_renewal_days > MAX_LATE_RENEWAL_DAYS {
            return refuse("keyvault.late_renewal_days", "a late renewal is possible for at most 365 days");
        }
        if self.keyvault.admission_without_database_seconds > 3600 {
            return refuse(
                "keyvault.admission_without_database_seconds",
                "nodes are admitted without the database for at most 3600 seconds",
            );
        }
        if self.audit.checkpoint_file.as_ref().is_some_and(|file| !file.is_absolute()) {
            return refuse("audit.checkpoint_file", "give an absolute path");
        }
        let rates = &self.https.rates;
        let all = [
            rates.session_per_second,
            rates.address_per_second,
            rates.global_per_second,
            rates.exports_per_second,
        ];
        if all.contains(&0) {
            return refuse("https.rates", "a rate of 0 would lock everybody out: give at least 1");
        }
        Ok(())
    }

    /// The SQLite file.
    pub fn sqlite_path(&self) -> PathBuf {
        self.database.sqlite.clone().unwrap_or_else(|| self.state_dir.join("coordinator.db"))
    }
}
