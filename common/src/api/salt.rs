//! The Salt master's public key as the KeyVault hands it out.

use serde::{Deserialize, Serialize};

use crate::units::EpochMs;

/// `PUT /api/v1/salt/master-key`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutMasterKeyRequest {
    /// The file's content: exactly one PEM public key.
    pub pem: String,
    /// A different key is there already and is to be replaced.
    #[serde(default)]
    pub replace: bool,
}

/// `GET /api/v1/salt/master-key`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MasterKeyView {
    /// SHA-256 of the key as Salt's `master_finger` wants it: of the PEM text between its first and last line.
    pub fingerprint: String,
    /// The PEM.
    pub pem: String,
    /// When it was imported.
    pub imported_at: EpochMs,
    /// Who imported it.
    pub imported_by: String,
}
