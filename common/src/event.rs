//! Events: something happened at a time. A closed table of kinds with fixed numbers; unknown numbers are kept.

use serde::{Deserialize, Serialize};

use crate::identity::BootId;
use crate::units::EpochMs;
use crate::wire::{BoundedString, BoundedVec};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth a look in working hours.
    Warning,
    /// Someone's work is affected now.
    Critical,
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A kind of event by its number; numbers are never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct EventKind(pub u16);

        impl EventKind {
            $($(#[$doc])* #[allow(non_upper_case_globals, reason = "reads as the variant of an enum")]
            pub const $name: Self = Self($number);)*

            /// Every kind this build knows.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Only the coordinator makes events of this kind: a node that sends one speaks for somebody else (IDN-01).
            pub const fn is_of_the_coordinator(self) -> bool {
                matches!(self.0, 64..128)
            }

            /// Its name, `subject.what_happened`; `unknown.N` for a number of a newer peer.
            pub fn name(self) -> std::borrow::Cow<'static, str> {
                match self.0 {
                    $($number => $text.into(),)*
                    other => format!("unknown.{other}").into(),
                }
            }
        }
    };
}

event_kinds! {
    /// The agent's process began.
    AgentStarted = 1, "agent.started";
    /// The spool was unreadable and set aside.
    SpoolQuarantined = 2, "agent.spool_quarantined";
    /// A collector fails.
    CollectorFailed = 3, "agent.collector_failed";
    /// A collector works again.
    CollectorRecovered = 4, "agent.collector_recovered";
    /// Lines of the kernel's log were overwritten before they were read.
    KernelLogGap = 5, "agent.kernel_log_gap";
    /// NVIDIA's driver reported an XID.
    GpuXid = 16, "gpu.xid";
    /// An NVSwitch reported an SXID.
    GpuSxid = 17, "gpu.sxid";
    /// A GPU fell off the bus or stopped answering.
    GpuLost = 18, "gpu.lost";
    /// A lost GPU is back.
    GpuRecovered = 19, "gpu.recovered";
    /// A call into the GPU library hangs.
    GpuProbeUnresponsive = 20, "gpu.probe_unresponsive";
    /// The GPU library answers again.
    GpuProbeRecovered = 21, "gpu.probe_recovered";
    /// Uncorrectable ECC errors rose.
    GpuEccUncorrectable = 22, "gpu.ecc_uncorrectable";
    /// Rows were remapped, or a remapping is pending or failed.
    GpuRowRemap = 23, "gpu.row_remap";
    /// A file system does not answer.
    FilesystemUnresponsive = 32, "filesystem.unresponsive";
    /// A file system answers again.
    FilesystemRecovered = 33, "filesystem.recovered";
    /// A node was enrolled. Made by the coordinator.
    NodeEnrolled = 64, "node.enrolled";
    /// A node became present. Made by the coordinator.
    NodePresent = 65, "node.present";
    /// A node became absent. Made by the coordinator.
    NodeAbsent = 66, "node.absent";
    /// A node's identity was revoked. Made by the coordinator.
    NodeRevoked = 67, "node.revoked";
    /// One identity is used by two machines or two boots. Made by the coordinator.
    NodeCloneSuspected = 68, "node.clone_suspected";
    /// Two nodes have the same machine-id. Made by the coordinator.
    NodeDuplicateMachineId = 69, "node.duplicate_machine_id";
    /// A part of the inventory changed. Made by the coordinator.
    InventoryChanged = 70, "node.inventory_changed";
    /// A node broke a limit of the protocol. Made by the coordinator.
    NodeLimitExceeded = 71, "node.limit_exceeded";
    /// A node's spool dropped records before they were acknowledged. Made by the coordinator.
    NodeRecordsLost = 72, "node.records_lost";
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// How bad it is.
    pub severity: Severity,
    /// When, by the node's clock.
    pub occurred: EpochMs,
    /// The boot it happened in.
    pub boot_id: BootId,
    /// What it happened to (`GPU-…`, `0000:17:00.0`, `/mnt/home`), or empty.
    pub subject: BoundedString<256>,
    /// One line for a person.
    pub message: BoundedString<1024>,
    /// Details by name (`xid` = `79`, `pid` = `4242`).
    pub attributes: BoundedVec<(BoundedString<64>, BoundedString<512>), 32>,
}
