//! The 12-byte envelope in front of every payload, and its sans-IO decoder.
//!
//! Little endian: magic u16, protocol u16, kind u16, flags u16, length u32.

use crate::protocol::{Kind, KindNumber};

/// Bytes of the envelope.
pub const HEADER_LEN: usize = 12;
/// Largest payload of any kind; each kind may set a smaller one.
pub const MAX_PAYLOAD: u32 = 1024 * 1024;
/// "AI" in little endian.
const MAGIC: u16 = u16::from_le_bytes(*b"AI");
/// The receiver may skip the frame when it does not know its kind.
const FLAG_SKIPPABLE: u16 = 1;

/// A version of the protocol; both sides speak the highest that both know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ProtocolVersion(pub u16);

impl ProtocolVersion {
    /// The oldest version this build speaks.
    pub const MIN: Self = Self(1);
    /// The newest version this build speaks.
    pub const MAX: Self = Self(1);
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The first two bytes are not ours.
    #[error("the frame does not begin with AIM's magic number")]
    Magic,
    /// A protocol version outside what this build speaks.
    #[error("the frame is of protocol {0:?}, outside what this build speaks")]
    Protocol(ProtocolVersion),
    /// An unknown kind without the flag that allows to skip it.
    #[error("unknown message kind {0:?} that may not be skipped")]
    UnknownKind(KindNumber),
    /// Flag bits that no version defines.
    #[error("undefined flag bits {0:#06x}")]
    Flags(u16),
    /// A payload longer than the kind allows; nothing was allocated.
    #[error("a payload of {claimed} bytes where at most {max} are allowed")]
    TooLong {
        /// The claimed length.
        claimed: u32,
        /// The length allowed.
        max: u32,
    },
}

/// A checked envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The protocol version that the payload is written in.
    pub protocol: ProtocolVersion,
    /// The kind's number; a known [`Kind`] unless the frame is skippable.
    pub kind: KindNumber,
    /// An older peer may skip the frame.
    pub skippable: bool,
    /// Payload bytes that follow, within the kind's bound.
    pub length: u32,
}

impl Header {
    /// Writes the envelope.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let flags = if self.skippable { FLAG_SKIPPABLE } else { 0 };
        let mut bytes = [0; HEADER_LEN];
        bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.protocol.0.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.kind.0.to_le_bytes());
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads and checks an envelope; every bound is tested before anything is allocated.
    pub fn from_bytes(bytes: [u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [m0, m1, p0, p1, k0, k1, f0, f1, l0, l1, l2, l3] = bytes;
        if u16::from_le_bytes([m0, m1]) != MAGIC {
            return Err(FrameError::Magic);
        }
        let protocol = ProtocolVersion(u16::from_le_bytes([p0, p1]));
        if protocol < ProtocolVersion::MIN || protocol > ProtocolVersion::MAX {
            return Err(FrameError::Protocol(protocol));
        }
        let kind = KindNumber(u16::from_le_bytes([k0, k1]));
        let flags = u16::from_le_bytes([f0, f1]);
        if flags & !FLAG_SKIPPABLE != 0 {
            return Err(FrameError::Flags(flags));
        }
        let skippable = flags & FLAG_SKIPPABLE != 0;
        let max = match Kind::from_number(kind) {
            Some(known) => known.max_payload(),
            None if skippable => MAX_PAYLOAD,
            None => return Err(FrameError::UnknownKind(kind)),
        };
        let claimed = u32::from_le_bytes([l0, l1, l2, l3]);
        if claimed > max {
            return Err(FrameError::TooLong { claimed, max });
        }
        Ok(Self { protocol, kind, skippable, length: claimed })
    }
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The checked envelope.
    pub header: Header,
    /// The payload, not yet decoded.
    pub payload: Vec<u8>,
}

/// Cuts a stream of bytes into frames; memory grows only with bytes that arrived.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    skipped: u64,
}

impl FrameDecoder {
    /// Takes bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame of a known kind; unknown skippable ones are passed over and counted.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(head) = self.buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
            let header = Header::from_bytes(*head)?;
            let end = HEADER_LEN + header.length as usize;
            if self.buffer.len() < end {
                return Ok(None);
            }
            let rest = self.buffer.split_off(end);
            let mut payload = std::mem::replace(&mut self.buffer, rest);
            if Kind::from_number(header.kind).is_none() {
                self.skipped += 1;
                continue;
            }
            payload.drain(..HEADER_LEN);
            return Ok(Some(Frame { header, payload }));
        }
    }

    /// A frame has begun and is not whole yet.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Frames of unknown kinds passed over since the start.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}
