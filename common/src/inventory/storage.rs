//! Block devices and mounted file systems.

use serde::{Deserialize, Serialize};

use super::{Fact, List, Text};

/// Block devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disks {
    /// Whole disks, in the order of their names.
    pub disks: List<Disk>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Kernel name (`nvme0n1`).
    pub name: Text,
    /// Size in bytes.
    pub size_bytes: Fact<u64>,
    /// Model.
    pub model: Fact<Text>,
    /// Serial number.
    pub serial: Fact<Text>,
    /// Firmware revision.
    pub firmware: Fact<Text>,
    /// World wide name.
    pub wwn: Fact<Text>,
    /// It has spinning platters.
    pub rotational: Fact<bool>,
    /// It may be taken out.
    pub removable: Fact<bool>,
    /// It cannot be written.
    pub read_only: Fact<bool>,
    /// Its partitions.
    pub partitions: List<Partition>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Kernel name (`nvme0n1p2`).
    pub name: Text,
    /// Size in bytes.
    pub size_bytes: Fact<u64>,
}

/// Mounted file systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystems {
    /// In the order of their mount points.
    pub filesystems: List<Filesystem>,
}

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount_point: Text,
    /// The device or remote source.
    pub source: Text,
    /// Type (`ext4`, `nfs4`, `fuse.sshfs`).
    pub fs_type: Text,
    /// Mounted read-only.
    pub read_only: bool,
    /// Size in bytes.
    pub size_bytes: Fact<u64>,
    /// Whether it answers.
    pub state: FilesystemState,
}

/// Whether a file system answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilesystemState {
    /// It answers.
    Responding,
    /// `statvfs` did not return within its deadline.
    Unresponsive,
    /// `statvfs` failed.
    Failed,
    /// Not asked yet.
    NotYet,
}
