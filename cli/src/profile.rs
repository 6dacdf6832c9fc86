//! Which coordinator, how it is trusted, and the credentials: `~/.config/aim/`.
//!
//! `config.toml` holds profiles and no secret; `credentials/NAME.json` holds one profile's session, mode 0600, and is
//! replaced as a whole under a lock, so that two programs never spend the same refresh token.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aim_common::identity::{Sha256Digest, TrustDomain};
use aim_common::units::EpochMs;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigFile {
    /// The profile used where none is named.
    pub(crate) current: Option<String>,
    /// Profiles by name.
    #[serde(default)]
    pub(crate) profiles: BTreeMap<String, Profile>,
}

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenProfile", into = "WrittenProfile")]
pub(crate) struct Profile {
    /// `https://host:port`.
    pub(crate) server: String,
    /// How it proves who it is.
    pub(crate) trust: Trust,
}

/// How the coordinator proves who it is: never not at all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trust {
    /// By the SHA-256 of AIM's own root certificate, whatever address is dialled.
    Pin {
        /// The pin.
        root_sha256: Sha256Digest,
        /// The trust domain, from which the certificate's name follows.
        trust_domain: TrustDomain,
    },
    /// By a certificate for the address, from an authority in this PEM file.
    CaFile {
        /// The file.
        ca_file: PathBuf,
    },
}

/// A profile as the file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProfile {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_sha256: Option<Sha256Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_domain: Option<TrustDomain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

impl TryFrom<WrittenProfile> for Profile {
    type Error = &'static str;

    fn try_from(written: WrittenProfile) -> Result<Self, Self::Error> {
        let trust = match (written.root_sha256, written.ca_file) {
            (Some(root_sha256), None) => {
                Trust::Pin { root_sha256, trust_domain: written.trust_domain.unwrap_or_default() }
            }
            (None, Some(ca_file)) => Trust::CaFile { ca_file },
            _ => return Err("a profile has either root_sha256 or ca_file"),
        };
        Ok(Self { server: written.server, trust })
    }
}

impl From<Profile> for WrittenProfile {
    fn from(profile: Profile) -> Self {
        let Profile { server, trust } = profile;
        match trust {
            Trust::Pin { root_sha256, trust_domain } => Self {
                server,
                root_sha256: Some(root_sha256),
                trust_domain: Some(trust_domain),
                ca_file: None,
            },
            Trust::CaFile { ca_file } => {
                Self { server, root_sha256: None, trust_domain: None, ca_file: Some(ca_file) }
            }
        }
    }
}

/// One session's secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// Sent with each request.
    pub(crate) access_token: String,
    /// From then on it is refused.
    pub(crate) access_expires_at: EpochMs,
    /// Good for one use.
    pub(crate) refresh_token: String,
    /// From then on only a login helps.
    pub(crate) refresh_expires_at: EpochMs,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct ConfigDir(PathBuf);

impl ConfigDir {
    /// `$AIM_CONFIG_DIR`, `$XDG_CONFIG_HOME/aim` or `~/.config/aim`.
    pub(crate) fn from_environment() -> Result<Self, CliError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("AIM_CONFIG_DIR")
            .or_else(|| set("XDG_CONFIG_HOME").map(|dir| dir.join("aim")))
            .or_else(|| set("HOME").map(|home| home.join(".config/aim")))
            .map(Self)
            .ok_or_else(|| {
                CliError::Usage("neither AIM_CONFIG_DIR nor HOME is set; set one of them".to_owned())
            })
    }

    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn config_path(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// Reads `config.toml`; one that is not there is empty.
    pub(crate) fn load(&self) -> Result<ConfigFile, CliError> {
        let path = self.config_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ConfigFile::default()),
            Err(source) => return Err(CliError::File { what: "reading", path, source }),
        };
        toml::from_str(&text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1;
            let detail = format!("{}; mend it, or remove the file and log in again", error.message());
            CliError::Config { path, line, detail }
        })
    }

    /// Writes `config.toml`.
    pub(crate) fn save(&self, config: &ConfigFile) -> Result<(), CliError> {
        let text = toml::to_string_pretty(config)
            .map_err(|error| CliError::Failed(format!("writing the configuration as TOML: {error}")))?;
        replace_file(&self.config_path(), text.as_bytes())
    }

    /// The credentials of one profile.
    pub(crate) fn credentials(&self, profile: &str) -> Result<CredentialStore, CliError> {
        check_profile_name(profile)?;
        let folder = self.0.join("credentials");
        Ok(CredentialStore {
            path: folder.join(format!("{profile}.json")),
            lock_path: folder.join(format!("{profile}.lock")),
        })
    }
}

/// A profile's name becomes a file's name.
pub(crate) fn check_profile_name(name: &str) -> Result<(), CliError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(plain) {
        let detail = "use 1 to 64 of A-Z a-z 0-9 . _ - that do not begin with a dot";
        return Err(CliError::Usage(format!("profile name {name:?} is not usable: {detail}")));
    }
    Ok(())
}

/// Where one profile's session is kept.
#[derive(Debug, Clone)]
pub(crate) struct CredentialStore {
    path: PathBuf,
    lock_path: PathBuf,
}

impl CredentialStore {
    /// The session, if there is one.
    pub(crate) fn load(&self) -> Result<Option<Credentials>, CliError> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(mut file) => {
                file.read_to_string(&mut text).map_err(CliError::file("reading", &self.path))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CliError::File { what: "reading", path: self.path.clone(), source }),
        }
        // The parser's message could repeat a part of the secret, so it is not shown.
        serde_json::from_str(&text).map(Some).map_err(|error| CliError::Config {
            path: self.path.clone(),
            line: error.line(),
            detail: "the credentials are damaged; log in again".to_owned(),
        })
    }

    /// Keeps a session.
    pub(crate) fn save(&self, credentials: &Credentials) -> Result<(), CliError> {
        let text = serde_json::to_vec(credentials)
            .map_err(|error| CliError::Failed(format!("writing the credentials as JSON: {error}")))?;
        replace_file(&self.path, &text)
    }

    /// Forgets the session.
    pub(crate) fn remove(&self) -> Result<(), CliError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CliError::File { what: "removing", path: self.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }

    /// Waits until no other program changes this session; the lock ends with the value.
    pub(crate) fn lock(&self) -> Result<File, CliError> {
        make_folder(&self.lock_path)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.lock_path)
            .map_err(CliError::file("opening", &self.lock_path))?;
        file.lock().map_err(CliError::file("locking", &self.lock_path))?;
        Ok(file)
    }
}

fn make_folder(file: &Path) -> Result<(), CliError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(CliError::file("making the folder", folder))
}

/// Replaces a file as a whole, readable by its owner only from its first byte on.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), CliError> {
    make_folder(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(CliError::file("writing", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn profile() -> Profile {
        let trust =
            Trust::Pin { root_sha256: Sha256Digest::of(b"root"), trust_domain: TrustDomain::default() };
        Profile { server: "https://127.0.0.1:8443".into(), trust }
    }

    #[test]
    fn a_configuration_comes_back_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let dir = ConfigDir::at(&folder.path().join("aim"));
        assert_eq!(dir.load().unwrap(), ConfigFile::default());
        let by_file = Profile {
            server: "https://aim.example".into(),
            trust: Trust::CaFile { ca_file: "/etc/ca.pem".into() },
        };
        let config = ConfigFile {
            current: Some("lab".into()),
            profiles: BTreeMap::from([("lab".to_owned(), profile()), ("prod".to_owned(), by_file)]),
        };
        dir.save(&config).unwrap();
        assert_eq!(dir.load().unwrap(), config);
    }

    #[test]
    fn a_damaged_configuration_names_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.toml"), "current = \"x\"\n\ncolour = 3\n").unwrap();
        let error = ConfigDir::at(folder.path()).load().unwrap_err();
        assert!(error.to_string().contains("config.toml:3: "), "{error}");
        assert_eq!(error.exit(), crate::error::Exit::Config);
    }

    #[test]
    fn log_01_credentials_are_readable_by_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigDir::at(&folder.path().join("aim")).credentials("lab").unwrap();
        let credentials = Credentials {
            access_token: "a".into(),
            access_expires_at: EpochMs(1),
            refresh_token: "r".into(),
            refresh_expires_at: EpochMs(2),
        };
        store.save(&credentials).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path), 0o600);
        assert_eq!(mode(store.path.parent().unwrap()), 0o700);
        assert_eq!(store.load().unwrap().unwrap().refresh_token, "r");
        store.remove().unwrap();
        assert!(store.load().unwrap().is_none());
    }

    #[test]
    fn log_01_damaged_credentials_are_refused_without_repeating_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigDir::at(folder.path()).credentials("lab").unwrap();
        replace_file(&store.path, b"{\"access_token\": \"canary-secret\" 7}").unwrap();
        let error = store.load().err().unwrap().to_string();
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn inj_07_a_profile_name_cannot_leave_its_folder() {
        let dir = ConfigDir::at(Path::new("/nowhere"));
        let long = "a".repeat(65);
        let encoded = ["%2e%2e%2fx", "%252e%252e", "..%00", "a%2fb", "C:x", "a\\b", "\u{ff0e}\u{ff0e}", "é"];
        let plain = ["../x", "a/b", "/etc/passwd", "", ".", "..", ".hidden", "a b", "a\0", "a\n", &long];
        for name in plain.into_iter().chain(encoded) {
            assert!(dir.credentials(name).is_err(), "{name:?}");
        }
        assert!(dir.credentials("lab-1.example_a").is_ok());
    }
}
