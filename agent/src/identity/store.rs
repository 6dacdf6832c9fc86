//! The identity on disk. One file holds key and certificate together, so that the pair cannot be torn.
//!
//! `identity.json`: the pair in use. `identity.next.json`: the renewed pair, not yet proven by a Welcome; promoting it is
//! one rename (PKI-08). `pending.json`: a key whose certificate was asked for and not yet received.

use std::path::{Path, PathBuf};

use aim_common::identity::{NodeId, NodeName, Sha256Digest, TrustDomain};
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::certificate::certificates;
use super::{Identity, IdentityParts, NodeKey, UnfitIdentity};
use crate::files::{self, FileError, PRIVATE_FILE};

/// Version of the files' form.
const FORMAT: u32 = 1;
/// Largest identity file: eight roots, a chain, sixteen addresses, with much room.
const MAX_FILE: u64 = 256 * 1024;

/// Why the identity cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not one of our files.
    #[error("{} is damaged ({reason}); restore it from a backup or enrol anew with --replace-identity", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its parts do not belong together.
    #[error("{}: {source}; restore it from a backup or enrol anew with --replace-identity", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: UnfitIdentity,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    node_id: NodeId,
    node_name: NodeName,
    trust_domain: TrustDomain,
    link_addresses: Vec<String>,
    https_addresses: Vec<String>,
    private_key: Zeroizing<String>,
    certificate_chain: String,
    roots: String,
}

/// What a pending key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PendingPurpose {
    /// The first certificate.
    Enrol,
    /// A certificate to replace one that expired.
    Renew,
}

/// A key whose certificate is not here yet: enough to fetch it when the answer was lost.
#[derive(Debug)]
pub struct Pending {
    /// What for.
    pub purpose: PendingPurpose,
    /// The key.
    pub key: NodeKey,
    /// The name asked for.
    pub node_name: NodeName,
    /// The root that the request trusts.
    pub root_sha256: Option<Sha256Digest>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingFile {
    format: u32,
    purpose: PendingPurpose,
    private_key: Zeroizing<String>,
    node_name: NodeName,
    root_sha256: Option<Sha256Digest>,
}

/// The files of one node.
#[derive(Debug, Clone)]
pub struct IdentityStore {
    directory: PathBuf,
}

impl IdentityStore {
    /// Files in this directory, which must be private.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the pair in use is.
    pub fn current_path(&self) -> PathBuf {
        self.directory.join("identity.json")
    }

    /// Where the renewed pair waits.
    pub fn next_path(&self) -> PathBuf {
        self.directory.join("identity.next.json")
    }

    /// Where a key without a certificate waits.
    pub fn pending_path(&self) -> PathBuf {
        self.directory.join("pending.json")
    }

    /// The pair in use; `None` where the node is not enrolled.
    pub fn load(&self) -> Result<Option<Identity>, StoreError> {
        read_identity(&self.current_path())
    }

    /// The renewed pair, if one waits.
    pub fn load_next(&self) -> Result<Option<Identity>, StoreError> {
        read_identity(&self.next_path())
    }

    /// Makes this the pair in use. Anything older is gone.
    pub fn save(&self, identity: &Identity) -> Result<(), StoreError> {
        write_identity(&self.current_path(), identity)?;
        Ok(files::remove_durably(&self.next_path())?)
    }

    /// Writes the renewed pair beside the one in use.
    pub fn save_next(&self, identity: &Identity) -> Result<(), StoreError> {
        write_identity(&self.next_path(), identity)
    }

    /// The renewed pair was proven: it replaces the old one in one step.
    pub fn promote_next(&self) -> Result<(), StoreError> {
        let (next, current) = (self.next_path(), self.current_path());
        std::fs::rename(&next, &current).map_err(|source| FileError::Io {
            action: "rename",
            path: next,
            source,
        })?;
        Ok(files::sync_parent(&current)?)
    }

    /// The renewed pair is useless.
    pub fn discard_next(&self) -> Result<(), StoreError> {
        Ok(files::remove_durably(&self.next_path())?)
    }

    /// The key that waits for its certificate.
    pub fn load_pending(&self) -> Result<Option<Pending>, StoreError> {
        let path = self.pending_path();
        let Some(file) = read_json::<PendingFile>(&path)? else { return Ok(None) };
        let damaged = |reason: String| StoreError::Damaged { path: path.clone(), reason };
        let key = NodeKey::from_pem(&file.private_key).map_err(|error| damaged(error.to_string()))?;
        Ok(Some(Pending {
            purpose: file.purpose,
            key,
            node_name: file.node_name,
            root_sha256: file.root_sha256,
        }))
    }

    /// Keeps a key before its certificate is asked for, so that a lost answer can be fetched again.
    pub fn save_pending(&self, pending: &Pending) -> Result<(), StoreError> {
        let file = PendingFile {
            format: FORMAT,
            purpose: pending.purpose,
            private_key: pending.key.to_pem(),
            node_name: pending.node_name.clone(),
            root_sha256: pending.root_sha256,
        };
        write_json(&self.pending_path(), &file)
    }

    /// The certificate is here.
    pub fn clear_pending(&self) -> Result<(), StoreError> {
        Ok(files::remove_durably(&self.pending_path())?)
    }

    /// All files that this store may write, for `check` and for a change of owner.
    pub fn paths(&self) -> [PathBuf; 3] {
        [self.current_path(), self.next_path(), self.pending_path()]
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>, StoreError> {
    let Some(file) = read_json::<IdentityFile>(path)? else { return Ok(None) };
    let parts = || -> Result<Identity, UnfitIdentity> {
        let roots = certificates("bundle of roots", &file.roots)?;
        let parts = IdentityParts {
            node_id: file.node_id,
            node_name: file.node_name,
            trust_domain: file.trust_domain,
            link_addresses: file.link_addresses,
            https_addresses: file.https_addresses,
            key: NodeKey::from_pem(&file.private_key)?,
            chain: certificates("certificate chain", &file.certificate_chain)?,
            roots: roots.clone(),
        };
        Identity::new(parts, &roots)
    };
    parts().map(Some).map_err(|source| StoreError::Unfit { path: path.to_owned(), source })
}

fn write_identity(path: &Path, identity: &Identity) -> Result<(), StoreError> {
    let file = IdentityFile {
        format: FORMAT,
        node_id: identity.node_id,
        node_name: identity.node_name.clone(),
        trust_domain: identity.trust_domain.clone(),
        link_addresses: identity.link_addresses.clone(),
        https_addresses: identity.https_addresses.clone(),
        private_key: identity.key.to_pem(),
        certificate_chain: to_pem(&identity.chain),
        roots: to_pem(&identity.roots),
    };
    write_json(path, &file)
}

/// Certificates as PEM text (RFC 7468).
pub(super) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    use base64::Engine;
    let mut text = String::new();
    for certificate in certificates {
        let body = base64::engine::general_purpose::STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = tail;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match files::read_private(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let damaged = |reason: String| StoreError::Damaged { path: path.to_owned(), reason };
    let format: Format = serde_json::from_slice(&bytes).map_err(|error| damaged(place(&error)))?;
    if format.format != FORMAT {
        return Err(damaged(format!("it is of format {}, this program reads {FORMAT}", format.format)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(place(&error)))
}

/// Where the JSON is wrong, without quoting what stands there: it may be a key.
fn place(error: &serde_json::Error) -> String {
    format!("line {} column {}: not what this program writes", error.line(), error.column())
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| StoreError::Damaged { path: path.to_owned(), reason: error.to_string() })?;
    Ok(files::write_atomic(path, &Zeroizing::new(text), PRIVATE_FILE)?)
}
