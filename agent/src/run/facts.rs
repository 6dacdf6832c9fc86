//! What names this node's boot and machine, read once at the start.

use aim_common::identity::{BootId, Sha256Digest};
use aim_common::units::EpochMs;

use super::RunError;
use crate::collect::Roots;

/// The node as Hello and events name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) boot_id: BootId,
    pub(super) machine_id_sha256: Option<Sha256Digest>,
    pub(super) started: EpochMs,
}

impl Node {
    pub(super) fn read(roots: &Roots, started: EpochMs) -> Result<Self, RunError> {
        let path = roots.proc.join("sys/kernel/random/boot_id");
        let boot = |reason: String| RunError::Boot { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| boot(error.to_string()))?;
        let boot_id = text
            .trim()
            .parse()
            .map_err(|error: aim_common::identity::IdentityError| boot(error.to_string()))?;
        let machine_id = std::fs::read_to_string(roots.etc.join("machine-id")).ok();
        let machine_id_sha256 = machine_id
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .map(|id| Sha256Digest::of(id.as_bytes()));
        Ok(Self { boot_id, machine_id_sha256, started })
    }
}
