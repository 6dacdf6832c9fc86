//! Nodes: list, one, live values, inventory and its history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{BootId, NodeId, NodeName, UserId};
use crate::inventory::UnknownReason;
use crate::metric::{Metric, MetricKind};
use crate::units::EpochMs;

/// Whether a node is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Presence {
    /// Enrolled, but no session since.
    NeverSeen,
    /// A session is open and answers.
    Present {
        /// Since when.
        since: EpochMs,
    },
    /// A session is open, but nothing came within the bound.
    Silent {
        /// Since when.
        since: EpochMs,
    },
    /// No session.
    Absent {
        /// Since when.
        since: EpochMs,
        /// Why: `agent stopped`, `node shutdown`, `agent upgrade`, `revoked`, …, or `unknown`.
        cause: String,
    },
}

/// One degraded mode of a node or of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Condition {
    /// Its name (`gpu_probe_unresponsive`).
    pub name: String,
    /// What is affected, or empty.
    pub subject: String,
    /// Since when.
    pub since: EpochMs,
    /// One line: what is wrong and what to do.
    pub detail: String,
}

/// What lists and trees of nodes show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeSummary {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Whether it is there.
    pub presence: Presence,
    /// Last packet of any sort received from it.
    pub last_seen: Option<EpochMs>,
    /// Milliseconds since then, by the coordinator's clock.
    pub last_seen_age_ms: Option<u64>,
    /// Labels set by operators.
    pub labels: BTreeMap<String, String>,
    /// Groups for permissions with `group:` scopes.
    pub groups: Vec<String>,
    /// The user that owns it, for permissions with `own` scope.
    pub owner: Option<UserId>,
    /// Agent version of the newest session.
    pub agent_version: Option<String>,
    /// Kernel release.
    pub kernel_release: Option<String>,
    /// Operating system.
    pub os_name: Option<String>,
    /// Logical CPUs.
    pub cpu_threads: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Model of its GPUs; several are joined by ", ".
    pub gpu_model: Option<String>,
    /// GPUs that answer.
    pub gpus_working: Option<u32>,
    /// GPUs in all.
    pub gpus_total: Option<u32>,
    /// Names of its degraded modes.
    pub conditions: Vec<String>,
    /// CPU utilisation of the last interval, 0 to 1; absent where it is not known or old.
    pub cpu_utilization: Option<f64>,
    /// Memory in use in bytes; likewise.
    pub memory_used_bytes: Option<u64>,
    /// Mean GPU utilisation, 0 to 1; likewise.
    pub gpu_utilization: Option<f64>,
    /// When it was enrolled.
    pub enrolled_at: EpochMs,
}

/// `GET /api/v1/nodes/{node}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Node {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: NodeSummary,
    /// Its degraded modes.
    pub conditions_detail: Vec<Condition>,
    /// This boot.
    pub boot_id: Option<BootId>,
    /// Address of the session.
    pub address: Option<String>,
    /// Serial of the certificate in use.
    pub certificate_serial: Option<String>,
    /// When that certificate ends.
    pub certificate_expires_at: Option<EpochMs>,
    /// Node clock less coordinator clock at Hello, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// The sections of the inventory by name, each with the time it was received.
    pub inventory: BTreeMap<String, InventorySectionView>,
    /// The newest values.
    pub values: Vec<ValueView>,
}

/// One section of the inventory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InventorySectionView {
    /// When the coordinator received this state of it.
    pub received_at: EpochMs,
    /// Milliseconds since the node last confirmed it (session open and hash equal, or received).
    pub age_ms: u64,
    /// The section; its shape is that of the section's type.
    pub content: serde_json::Value,
}

/// A value of one series: known with its age, or unknown with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ValueView {
    /// The metric.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub metric: Metric,
    /// Of which instance; empty where there is only one.
    pub instance: String,
    /// Gauge or counter.
    pub kind: MetricKind,
    /// The value.
    #[serde(flatten)]
    pub reading: ReadingView,
    /// End of the interval, by the node's clock.
    pub at: EpochMs,
    /// Milliseconds since the coordinator received it.
    pub age_ms: u64,
}

/// The value itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadingView {
    /// A gauge over the interval.
    Gauge {
        /// Minimum.
        min: f64,
        /// Average.
        avg: f64,
        /// Maximum.
        max: f64,
    },
    /// A counter at the interval's end.
    Counter {
        /// Its value.
        value: f64,
    },
    /// Not known, and why.
    Unknown {
        /// Why.
        reason: UnknownReason,
    },
}

/// One SSE message of `GET /api/v1/nodes/{node}/live` (event name `values`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LiveValues {
    /// The node.
    pub node_id: NodeId,
    /// Whether it is there.
    pub presence: Presence,
    /// Length of the interval in milliseconds.
    pub interval_ms: u32,
    /// All newest values.
    pub values: Vec<ValueView>,
}

/// `PATCH /api/v1/nodes/{node}`: what is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateNodeRequest {
    /// Labels to set; a null value removes the label.
    #[serde(default)]
    pub labels: BTreeMap<String, Option<String>>,
    /// All groups from now on.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// The owner from now on; null removes it.
    #[serde(default, with = "double_option")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<UserId>))]
    pub owner: Option<Option<UserId>>,
}

/// Tells an absent field from a null one.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::option_option, reason = "absent and null differ in a PATCH")]
    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Option::deserialize(deserializer).map(Some)
    }

    #[expect(clippy::option_option, clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }
}

/// One change of the inventory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InventoryChange {
    /// Its number, rising.
    pub id: i64,
    /// The node.
    pub node_id: NodeId,
    /// When the coordinator stored it.
    pub at: EpochMs,
    /// The section (`gpus`).
    pub section: String,
    /// What changed, as a path that names list members by their identity
    /// (`gpus[pci_address=0000:17:00.0].serial`).
    pub path: String,
    /// Its former value; null where it is new.
    pub from: serde_json::Value,
    /// Its value now; null where it is gone.
    pub to: serde_json::Value,
}

/// `GET /api/v1/nodes/{node}/gpu-processes`: the processes as of the last report of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuProcessList {
    /// The processes, ordered by GPU and process id.
    pub items: Vec<GpuProcessView>,
    /// Processes that the node left out for want of room.
    pub left_out: u32,
    /// When the list was received; absent where the node never sent one.
    pub received_at: Option<EpochMs>,
    /// Milliseconds since the node last confirmed it: it sends the list again when it changes.
    pub age_ms: Option<u64>,
}

/// One process of `GET /api/v1/nodes/{node}/gpu-processes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GpuProcessView {
    /// The GPU's or MIG instance's UUID.
    pub gpu_uuid: String,
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: Option<u32>,
    /// Name.
    pub name: String,
    /// Frame buffer in bytes.
    pub memory_bytes: Option<u64>,
    /// Computes (true) or draws (false).
    pub compute: bool,
}
