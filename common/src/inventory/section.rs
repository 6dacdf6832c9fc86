//! The registry of sections.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AgentFacts, Cpu, Disks, Dmi, Filesystems, Gpus, Infiniband, Memory, Network, System};
use crate::identity::Sha256Digest;
use crate::protocol::Kind;
use crate::wire::{BoundedBytes, DecodeError, decode_section, encode_section};

/// A section's number; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SectionTag(pub u16);

/// Why a section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    /// The bytes are not the section that the tag names.
    #[error("inventory section {name}: {source}")]
    Decode {
        /// The section's name.
        name: &'static str,
        /// The codec's reason.
        source: DecodeError,
    },
    /// The section is too long to be sent.
    #[error("inventory section {name} has {len} bytes, over the limit of 262144")]
    TooLong {
        /// The section's name.
        name: &'static str,
        /// Its length.
        len: usize,
    },
}

/// A section as it travels and is hashed; the tag may be unknown to the receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedSection {
    /// Which section.
    pub tag: SectionTag,
    /// Its bytes.
    pub bytes: BoundedBytes<{ 256 * 1024 }>,
}

macro_rules! sections {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $tag:literal, $name:literal;)*) => {
        /// One section of the inventory.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Section {
            $($(#[$doc])* $variant($body),)*
        }

        impl Section {
            /// Every tag this build knows, with its name in the API.
            pub const ALL: &'static [(SectionTag, &'static str)] = &[$((SectionTag($tag), $name),)*];

            /// Its tag.
            pub const fn tag(&self) -> SectionTag {
                SectionTag(match self { $(Self::$variant(_) => $tag,)* })
            }

            /// Its name in the API.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Writes the section.
            pub fn encode(&self) -> Result<EncodedSection, SectionError> {
                let bytes = match self { $(Self::$variant(body) => write(body),)* };
                let len = bytes.len();
                let bytes = BoundedBytes::try_from(bytes)
                    .map_err(|_| SectionError::TooLong { name: self.name(), len })?;
                Ok(EncodedSection { tag: self.tag(), bytes })
            }

            /// Reads a section; `None` where this build does not know the tag.
            pub fn decode(encoded: &EncodedSection) -> Result<Option<Self>, SectionError> {
                match encoded.tag.0 {
                    $($tag => read(&encoded.bytes, $name).map(|body| Some(Self::$variant(body))),)*
                    _ => Ok(None),
                }
            }

            /// The section as JSON, as the API shows it.
            pub fn to_json(&self) -> serde_json::Value {
                match self { $(Self::$variant(body) => serde_json::to_value(body).unwrap_or_default(),)* }
            }
        }
    };
}

sections! {
    /// Host name, kernel, operating system, boot.
    System(System) = 1, "system";
    /// The mainboard's and chassis' identity.
    Dmi(Dmi) = 2, "dmi";
    /// Processors and NUMA nodes.
    Cpu(Cpu) = 3, "cpu";
    /// Memory, huge pages, DIMMs.
    Memory(Memory) = 4, "memory";
    /// Block devices.
    Disks(Disks) = 5, "disks";
    /// Mounted file systems.
    Filesystems(Filesystems) = 6, "filesystems";
    /// Network interfaces.
    Network(Network) = 7, "network";
    /// InfiniBand and RoCE devices.
    Infiniband(Infiniband) = 8, "infiniband";
    /// GPUs and their library.
    Gpus(Gpus) = 9, "gpus";
    /// The agent and its collectors.
    Agent(AgentFacts) = 10, "agent";
}

fn write<T: Serialize>(body: &T) -> Vec<u8> {
    // Every field is bounded, so that the codec's limit cannot be met here; an empty section never decodes.
    encode_section(Kind::SpoolBatch, body).unwrap_or_default()
}

fn read<T: Serialize + DeserializeOwned>(bytes: &[u8], name: &'static str) -> Result<T, SectionError> {
    decode_section(Kind::SpoolBatch, bytes).map_err(|source| SectionError::Decode { name, source })
}

impl EncodedSection {
    /// The hash of a whole inventory: over tag, length and bytes of each section, in the order of the tags.
    pub fn hash_all<'a>(sections: impl IntoIterator<Item = &'a Self>) -> Sha256Digest {
        let mut sorted: Vec<&Self> = sections.into_iter().collect();
        sorted.sort_by_key(|section| section.tag);
        let mut input = Vec::new();
        for section in sorted {
            input.extend_from_slice(&section.tag.0.to_le_bytes());
            input.extend_from_slice(&(section.bytes.len() as u64).to_le_bytes());
            input.extend_from_slice(&section.bytes);
        }
        Sha256Digest::of(&input)
    }
}
