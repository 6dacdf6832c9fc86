//! What a node *is*: typed sections, each with a fixed tag. A released section never changes; growth is a new tag.
//!
//! A section travels as tag and bytes ([`EncodedSection`]), so that an older coordinator keeps what it does not know.

mod fact;
mod gpu;
mod host;
mod infiniband;
mod network;
mod section;
mod storage;

pub use fact::{Fact, UnknownReason};
pub use gpu::{Gpu, GpuLibraryState, GpuState, Gpus, MigInstance, NvLink, PcieLink, SwitchDevice};
pub use host::{
    AgentFacts, CollectorState, CollectorStatus, Cpu, Dimm, Dmi, HugepagePool, Memory, NumaNode, System,
};
pub use infiniband::{Infiniband, InfinibandDevice, InfinibandPort, LinkLayer};
pub use network::{Network, NetworkInterface};
pub use section::{EncodedSection, Section, SectionError, SectionTag};
pub use storage::{Disk, Disks, Filesystem, FilesystemState, Filesystems, Partition};

/// A text from the node: bounded, and never trusted.
pub type Text = crate::wire::BoundedString<256>;
/// A list of things on a node.
pub type List<T> = crate::wire::BoundedVec<T, 1024>;
