//! One line of the journal.

use aim_common::identity::{CertificateSerial, NodeId, Sha256Digest};
use aim_common::units::EpochMs;
use serde::{Deserialize, Serialize};

/// Hexadecimal digits of a line's checksum.
const CHECKSUM_DIGITS: usize = 16;

/// How far the audit trail had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditMark {
    /// Sequence of the last audit record.
    pub sequence: i64,
    /// Its hash.
    pub hash: String,
}

/// A certificate that a revocation ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedCertificate {
    /// Its serial.
    pub serial: CertificateSerial,
    /// SHA-256 of its public key.
    pub public_key_sha256: Sha256Digest,
}

/// A revocation, with all that its audit record needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationRecord {
    /// Whose identity ends.
    pub node: NodeId,
    /// Its name then.
    pub name: String,
    /// From when on.
    pub at: EpochMs,
    /// Who revoked it.
    pub actor: String,
    /// From which address.
    pub source: String,
    /// Why.
    pub reason: String,
    /// The request.
    pub request_id: String,
    /// The newest of its certificates that had not ended.
    pub certificates: Vec<RevokedCertificate>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The audit trail had come this far.
    Mark(AuditMark),
    /// A token was redeemed; known by its keyed hash.
    Redeemed {
        /// The keyed hash.
        token: Sha256Digest,
        /// It would have ended then anyway.
        expires_at: EpochMs,
    },
    /// A node's identity was revoked.
    Revoked(RevocationRecord),
    /// The database holds this revocation as well.
    RevocationStored {
        /// The node.
        node: NodeId,
    },
    /// The database was found older than the journal.
    FenceRaised {
        /// When.
        at: EpochMs,
        /// What did not fit.
        reason: String,
    },
    /// An operator accepted the database as it is; the mark follows.
    FenceLifted {
        /// When.
        at: EpochMs,
        /// Who.
        actor: String,
    },
}

impl Record {
    /// Checksum, blank, JSON, line feed.
    pub(super) fn to_line(&self) -> String {
        // A record is plain data, so that this cannot fail.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{} {json}\n", checksum(&json))
    }

    /// Reads a line; `None` where it is not exactly what was written.
    pub(super) fn from_line(line: &str) -> Option<Self> {
        if line.len() > super::MAX_LINE {
            return None;
        }
        let (sum, json) = line.strip_suffix('\n')?.split_once(' ')?;
        if sum == checksum(json) { serde_json::from_str(json).ok() } else { None }
    }
}

fn checksum(json: &str) -> String {
    let mut digits = Sha256Digest::of(json.as_bytes()).to_string();
    digits.truncate(CHECKSUM_DIGITS);
    digits
}
