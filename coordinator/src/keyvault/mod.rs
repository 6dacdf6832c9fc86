//! The KeyVault: tokens, the CA, nodes' identities and their end, the Salt master's public key.
//!
//! Enters: requests of the API and of sessions, the time. Leaves: tokens, certificates, decisions, audit records.
//! Never: a private key of a node, a secret in the database or a log, a success before it is durable.

mod addresses;
pub mod ca;
mod client_verifier;
pub mod csr;
pub mod identities;
pub mod public_key;
mod server_certificate;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aim_common::identity::NodeId;
use aim_common::units::EpochMs;
use tokio::sync::{Mutex, mpsc};

pub use addresses::PublicAddresses;
pub use client_verifier::NodeVerifier;
pub use server_certificate::ServerCertificate;

use self::ca::{Ca, CaError};
use self::identities::{Identities, PeerIdentity, PeerRefusal};
use crate::clock::SharedClock;
use crate::conditions::Conditions;
use crate::config::KeyVault as KeyVaultConfig;
use crate::fleet::control::SessionControl;
use crate::private_file::{self, PrivateFileError};
use crate::store::{Store, StoreError};

/// Clone alarms that wait to be written down; one for each node in quarantine, so that more means trouble elsewhere.
const CLONE_ALARMS: usize = 256;

/// Why the KeyVault could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeyVaultError {
    /// The CA cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyVaultError {
    /// An operator must mend a file or the configuration: exit code 78.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, Self::Store(_))
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
    clone_alarms: (mpsc::Sender<NodeId>, Mutex<mpsc::Receiver<NodeId>>),
}

impl KeyVault {
    /// Opens CA, keys and journal, and loads the known identities.
    pub async fn open(parts: KeyVaultParts<'_>) -> Result<Self, KeyVaultError> {
        let KeyVaultParts { state_dir, config, addresses, store, clock, conditions, sessions } = parts;
        private_file::check_directory(state_dir)?;
        let now = clock.now();
        let ca_folder = ca_folder(state_dir);
        if !ca_folder.exists() && store.has_certificates().await? {
            return Err(CaError::Lost { folder: ca_folder }.into());
        }
        let ca = Ca::open_or_create(&ca_folder, &config.trust_domain, now)?;
        let server_certificate = Arc::new(ServerCertificate::new(&ca, addresses.names.clone(), now)?);
        let identities = Arc::new(Identities::new(config.trust_domain.clone()));
        let (sender, receiver) = mpsc::channel(CLONE_ALARMS);
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
            clone_alarms: (sender, Mutex::new(receiver)),
        };
        vault.load_identities(now).await?;
        Ok(vault)
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
            self.clone_alarms.0.clone(),
        )?)
    }

    /// Who the peer with this verified certificate is; asked again after the handshake and before each renewal.
    pub fn check(&self, leaf_der: &[u8], now: EpochMs) -> Result<PeerIdentity, PeerRefusal> {
        self.identities.check(leaf_der, now)
    }

    /// The registry of identities.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }
}

/// The CA's folder.
fn ca_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("ca")
}
