//! The KeyVault: tokens, the CA, nodes' identities and their end, the Salt master's public key.
//!
//! Enters: requests of the API and of sessions, the time. Leaves: tokens, certificates, decisions, audit records.
//! Never: a private key of a node, a secret in the database or a log, a success before it is durable.

mod addresses;
mod approval;
pub mod ca;
mod certificates;
mod client_verifier;
mod clone_alarms;
pub mod csr;
mod enrol;
pub mod error;
mod fence;
pub mod identities;
pub mod journal;
mod limiter;
mod maintenance;
mod news;
mod pending;
mod proof;
pub mod public_key;
mod quarantine;
mod renewal;
mod revocation;
pub mod salt;
mod server_certificate;
pub mod tokens;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use aim_common::api::certificates::FenceView;
use aim_common::enrolment::TokenKey;
use aim_common::identity::Sha256Digest;
use aim_common::units::EpochMs;
use tokio::sync::{broadcast, mpsc};

pub use addresses::PublicAddresses;
pub use client_verifier::NodeVerifier;
pub use error::{Requester, VaultError};
pub use news::NodeNews;
pub use server_certificate::ServerCertificate;

use self::ca::{Ca, CaError};
use self::clone_alarms::{CloneAlarm, CloneAlarms};
use self::identities::{Identities, PeerIdentity, PeerRefusal};
use self::journal::{AuditMark, Journal, JournalError, JournalState};
use self::limiter::FailureLimiter;
use self::pending::Pending;
use self::proof::Challenges;
use self::tokens::Deadlines;
use crate::clock::SharedClock;
use crate::conditions::Conditions;
use crate::config::KeyVault as KeyVaultConfig;
use crate::fleet::control::SessionControl;
use crate::private_file::{self, PrivateFileError};
use crate::store::{Store, StoreError};

/// News that a slow listener may be behind; beyond that it must look at the database again.
const NEWS: usize = 4_096;
/// Below the state directory.
const CA_FOLDER: &str = "ca";
const TOKEN_KEY: &str = "token.key";
const JOURNAL: &str = "keyvault.journal";
/// Bytes of the token key.
const TOKEN_KEY_LEN: usize = 32;

/// Why the KeyVault could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyVaultError {
    /// The CA cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The token key is not one.
    #[error(
        "{path} does not hold the 32 bytes of the token key; restore it, or remove it to void all outstanding tokens"
    )]
    TokenKey {
        /// The file.
        path: String,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] VaultError),
}

impl KeyVaultError {
    /// An operator must mend a file or the configuration: exit code 78.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::Other(_))
    }
}

/// What the KeyVault is made of.
pub struct KeyVaultParts<'a> {
    /// Folder of the coordinator's state, 0700.
    pub state_dir: &'a Path,
    /// The `[keyvault]` section.
    pub config: KeyVaultConfig,
    /// Addresses and names.
    pub addresses: PublicAddresses,
    /// The database.
    pub store: Store,
    /// The clock.
    pub clock: SharedClock,
    /// Degraded modes.
    pub conditions: Arc<Conditions>,
    /// The live sessions.
    pub sessions: Arc<dyn SessionControl>,
}

/// The KeyVault.
pub struct KeyVault {
    config: KeyVaultConfig,
    addresses: PublicAddresses,
    store: Store,
    clock: SharedClock,
    conditions: Arc<Conditions>,
    sessions: Arc<dyn SessionControl>,
    ca: Ca,
    server_certificate: Arc<ServerCertificate>,
    identities: Arc<Identities>,
    token_key: TokenKey,
    journal: Journal,
    fence: RwLock<FenceView>,
    last_mark: Mutex<Option<AuditMark>>,
    /// Redeemed tokens that have not ended long ago, from the journal.
    redeemed: Mutex<HashMap<Sha256Digest, EpochMs>>,
    deadlines: Deadlines,
    failures: FailureLimiter,
    challenges: Challenges,
    pending: Mutex<Vec<Pending>>,
    news: broadcast::Sender<NodeNews>,
    clone_alarms: CloneAlarms,
    /// Taken by the one task that writes alarms down.
    raised_alarms: tokio::sync::Mutex<mpsc::Receiver<CloneAlarm>>,
}

impl KeyVault {
    /// Opens CA, keys and journal, and loads the known identities.
    pub async fn open(parts: KeyVaultParts<'_>) -> Result<Self, KeyVaultError> {
        let KeyVaultParts { state_dir, config, addresses, store, clock, conditions, sessions } = parts;
        private_file::check_directory(state_dir)?;
        let now = clock.now();
        let ca_folder = state_dir.join(CA_FOLDER);
        if !ca_folder.exists() && store.has_certificates().await? {
            return Err(CaError::Lost { folder: ca_folder }.into());
        }
        let ca = Ca::open_or_create(&ca_folder, &config.trust_domain, now)?;
        let server_certificate = Arc::new(ServerCertificate::new(&ca, addresses.names.clone(), now)?);
        let identities = Arc::new(Identities::new(config.trust_domain.clone()));
        let journal_path = state_dir.join(JOURNAL);
        let journal_was_there = journal_path.exists();
        let (journal, journal_state) = Journal::open(&journal_path)?;
        let (clone_alarms, raised_alarms) = CloneAlarms::new();
        let vault = Self {
            config,
            addresses,
            store,
            clock,
            conditions,
            sessions,
            ca,
            server_certificate,
            identities,
            token_key: open_token_key(&state_dir.join(TOKEN_KEY))?,
            journal,
            fence: RwLock::default(),
            last_mark: Mutex::default(),
            redeemed: Mutex::default(),
            deadlines: Deadlines::default(),
            failures: FailureLimiter::default(),
            challenges: Challenges::default(),
            pending: Mutex::default(),
            news: broadcast::Sender::new(NEWS),
            clone_alarms,
            raised_alarms: tokio::sync::Mutex::new(raised_alarms),
        };
        vault.begin(&journal_state, journal_was_there).await?;
        Ok(vault)
    }

    /// Compares database and journal, then loads who is known. Revoked nodes are not loaded, whatever the database says.
    async fn begin(&self, journal: &JournalState, journal_was_there: bool) -> Result<(), KeyVaultError> {
        self.compare(journal, journal_was_there).await?;
        self.load_identities(self.clock.now()).await?;
        for node in journal.revoked.keys() {
            self.identities.write().remove_node(*node);
        }
        if !self.fence().fenced {
            self.mark_audit().await?;
        }
        Ok(())
    }

    async fn load_identities(&self, now: EpochMs) -> Result<(), StoreError> {
        let nodes = self.store.known_nodes().await?;
        let certificates = self.store.known_certificates(now).await?;
        let mut registry = self.identities.write();
        for node in nodes {
            registry.add_node(node);
        }
        for (certificate, issued) in certificates {
            registry.add_certificate(certificate, issued);
        }
        Ok(())
    }

    /// The CA.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The server's certificate for QUIC and HTTPS; it changes by itself.
    pub fn server_certificate(&self) -> Arc<ServerCertificate> {
        Arc::clone(&self.server_certificate)
    }

    /// The verifier of nodes' certificates for the link's TLS.
    pub fn node_verifier(&self) -> Result<Arc<NodeVerifier>, CaError> {
        Ok(NodeVerifier::new(
            self.ca.root_store()?,
            Arc::clone(&self.identities),
            Arc::clone(&self.clock),
            self.clone_alarms.clone(),
        )?)
    }

    /// Who the peer with this verified certificate is; asked again after the handshake and before each renewal.
    pub fn check(&self, leaf_der: &[u8], now: EpochMs) -> Result<PeerIdentity, PeerRefusal> {
        self.identities.check(leaf_der, now)
    }

    /// Follows what happens to nodes' identities; whoever lags looks at the database again.
    pub fn subscribe(&self) -> broadcast::Receiver<NodeNews> {
        self.news.subscribe()
    }

    fn tell(&self, news: NodeNews) {
        // Nobody listens in tools and tests.
        let _ = self.news.send(news);
    }

    /// The configuration in force.
    pub fn config(&self) -> &KeyVaultConfig {
        &self.config
    }

    /// The registry of identities.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }
}

/// Reads the HMAC key of the tokens, or makes it.
fn open_token_key(path: &Path) -> Result<TokenKey, KeyVaultError> {
    if !path.exists() {
        let key = crate::entropy::random_bytes::<TOKEN_KEY_LEN>().map_err(VaultError::from)?;
        private_file::write(path, &key)?;
    }
    let bytes = private_file::read(path, TOKEN_KEY_LEN as u64)?;
    let damaged = |_| KeyVaultError::TokenKey { path: path.display().to_string() };
    Ok(TokenKey::new(bytes.try_into().map_err(damaged)?))
}

#[cfg(test)]
mod tests;
