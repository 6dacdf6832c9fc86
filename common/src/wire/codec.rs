//! bincode 2.0.1 behind two functions, so that the codec can be changed without changing a message.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{Frame, HEADER_LEN, Header, MAX_PAYLOAD, ProtocolVersion};
use crate::protocol::Kind;

const CONFIG: bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Varint,
    bincode::config::Limit<{ MAX_PAYLOAD as usize }>,
> = bincode::config::standard().with_limit::<{ MAX_PAYLOAD as usize }>();

/// A payload with a fixed number in the registry [`Kind`].
pub trait Message: Serialize + DeserializeOwned {
    /// Its number.
    const KIND: Kind;
}

/// Why a message could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The codec refused, usually a value over a limit.
    #[error("cannot encode a {kind:?} message: {source}")]
    Codec {
        /// The message's kind.
        kind: Kind,
        /// The codec's reason.
        source: bincode::error::EncodeError,
    },
    /// The payload is longer than its kind allows.
    #[error("a {kind:?} message of {len} bytes is over its limit of {max}")]
    TooLong {
        /// The message's kind.
        kind: Kind,
        /// Its length.
        len: usize,
        /// The kind's limit.
        max: u32,
    },
}

/// Why a payload is not the message that its envelope names.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The frame is of another kind than asked for.
    #[error("a frame of kind {found} where {expected:?} is due")]
    Kind {
        /// The kind due here.
        expected: Kind,
        /// The number found.
        found: u16,
    },
    /// The bytes do not form the message, or one of its bounds is broken.
    #[error("malformed {kind:?} message: {source}")]
    Codec {
        /// The message's kind.
        kind: Kind,
        /// The codec's reason.
        source: bincode::error::DecodeError,
    },
    /// Bytes are left over, or the same message has a shorter writing.
    #[error("non-canonical {kind:?} message")]
    NotCanonical {
        /// The message's kind.
        kind: Kind,
    },
}

/// Writes a whole frame: envelope and payload.
pub fn encode<M: Message>(protocol: ProtocolVersion, message: &M) -> Result<Vec<u8>, EncodeError> {
    let kind = M::KIND;
    let payload = bincode::serde::encode_to_vec(message, CONFIG)
        .map_err(|source| EncodeError::Codec { kind, source })?;
    let max = kind.max_payload();
    let length = u32::try_from(payload.len()).ok().filter(|length| *length <= max);
    let Some(length) = length else {
        return Err(EncodeError::TooLong { kind, len: payload.len(), max });
    };
    let header = Header { protocol, kind: kind.number(), skippable: kind.is_skippable(), length };
    let mut frame = Vec::with_capacity(HEADER_LEN + payload.len());
    frame.extend_from_slice(&header.to_bytes());
    frame.extend_from_slice(&payload);
    Ok(frame)
}

/// Reads the payload of a frame; refuses trailing bytes and any writing other than our own.
pub fn decode<M: Message>(frame: &Frame) -> Result<M, DecodeError> {
    let kind = M::KIND;
    if frame.header.kind != kind.number() {
        return Err(DecodeError::Kind { expected: kind, found: frame.header.kind.0 });
    }
    decode_as(kind, &frame.payload)
}

/// Writes an inventory section or spool record, which travel inside a frame.
pub fn encode_section<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, EncodeError> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(|source| EncodeError::Codec { kind, source })
}

/// Reads what [`encode_section`] wrote, as strictly as [`decode`].
pub fn decode_section<T: Serialize + DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    decode_as(kind, bytes)
}

fn decode_as<T: Serialize + DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, used): (T, usize) = bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
        .map_err(|source| DecodeError::Codec { kind, source })?;
    if used != bytes.len() {
        return Err(DecodeError::NotCanonical { kind });
    }
    // bincode accepts non-minimal varints: only our own writing of the value is accepted.
    let again =
        bincode::serde::encode_to_vec(&value, CONFIG).map_err(|_| DecodeError::NotCanonical { kind })?;
    if again != bytes {
        return Err(DecodeError::NotCanonical { kind });
    }
    Ok(value)
}
