//! Certificates, the CA, revocation.

use serde::{Deserialize, Serialize};

use crate::identity::{CertificateSerial, NodeId, NodeName};
use crate::units::EpochMs;

/// One row of `GET /api/v1/certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CertificateView {
    /// Its serial.
    pub serial: CertificateSerial,
    /// The node.
    pub node_id: NodeId,
    /// The node's name.
    pub node_name: NodeName,
    /// SHA-256 of the public key.
    pub public_key_sha256: String,
    /// Counts the certificates of the node from 1.
    pub generation: i64,
    /// Valid from.
    pub not_before: EpochMs,
    /// Valid until.
    pub not_after: EpochMs,
    /// `issued`, `active`, `superseded`, `revoked`, `expired`.
    pub state: String,
}

/// `POST /api/v1/nodes/{node}/revoke`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Why; 1 to 500 characters.
    pub reason: String,
}

/// Answer to a revocation: given only after it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevokeResponse {
    /// The node.
    pub node_id: NodeId,
    /// From then on.
    pub revoked_at: EpochMs,
    /// Sessions that were cut.
    pub sessions_closed: u32,
    /// It is in the journal; the database follows when it is back.
    pub database_pending: bool,
}

/// `POST /api/v1/nodes/{node}/release`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Why the node is trusted again; 1 to 500 characters.
    pub reason: String,
}

/// Answer to a release from quarantine: given only after it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReleaseResponse {
    /// The node.
    pub node_id: NodeId,
    /// From then on.
    pub released_at: EpochMs,
}

/// `GET /api/v1/ca`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CaView {
    /// The trust domain.
    pub trust_domain: String,
    /// The roots in the bundle, newest first.
    pub roots: Vec<CaCertificateView>,
    /// The issuing certificate.
    pub issuing: CaCertificateView,
    /// The roots in PEM.
    pub bundle: String,
}

/// One certificate of the CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CaCertificateView {
    /// SHA-256 of the certificate.
    pub sha256: String,
    /// Subject.
    pub subject: String,
    /// Valid until.
    pub not_after: EpochMs,
}

/// `GET /api/v1/fence` and `POST /api/v1/fence/lift`: whether the database looks like a restored backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FenceView {
    /// No enrolment until an operator lifts the fence.
    pub fenced: bool,
    /// Since when.
    pub since: Option<EpochMs>,
    /// What does not fit.
    pub reason: Option<String>,
}
