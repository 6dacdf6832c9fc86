//! Frames: a 12-byte envelope by hand and a bincode payload behind [`encode`] and [`decode`].
//!
//! Enters: typed messages, or bytes of a peer. Leaves: bytes, or a message that is canonical and within every
//! declared bound. Never: allocation by a claimed length, a panic on any input.

mod bounded;
mod codec;
mod envelope;

pub use bounded::{BoundedBytes, BoundedString, BoundedVec, TooLong};
pub use codec::{DecodeError, EncodeError, Message, decode, decode_section, encode, encode_section};
pub use envelope::{Frame, FrameDecoder, FrameError, HEADER_LEN, Header, MAX_PAYLOAD, ProtocolVersion};
