//! Frames over a pipe: four bytes of length, little endian, then that much JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest frame: 1024 mount points of 4 KiB, and room to spare.
pub(super) const MAX_FRAME: u32 = 8 * 1024 * 1024;

/// Why a frame cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The pipe failed.
    #[error("the pipe between agent and probe failed: {0}")]
    Pipe(#[from] io::Error),
    /// The other side claims more than any frame has.
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(u64),
    /// The content is not the message that is due.
    #[error("a frame does not hold the message due: {0}")]
    Content(#[from] serde_json::Error),
}

/// The bytes of a frame.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() as u64 - 4;
    let header = u32::try_from(length).ok().filter(|length| *length <= MAX_FRAME);
    let header = header.ok_or(FrameError::TooLong(length))?;
    for (to, from) in frame.iter_mut().zip(header.to_le_bytes()) {
        *to = from;
    }
    Ok(frame)
}

/// The message in a frame's content.
pub(super) fn decode<T: DeserializeOwned>(content: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(content)?)
}

/// Writes a frame.
pub(super) fn write<T: Serialize>(pipe: &mut impl Write, message: &T) -> Result<(), FrameError> {
    pipe.write_all(&encode(message)?)?;
    Ok(pipe.flush()?)
}

/// Reads a frame's content; `None` at the orderly end of the pipe.
pub(super) fn read(pipe: &mut impl Read) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; 4];
    let mut filled = 0;
    while let Some(rest) = header.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match pipe.read(rest)? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            more => filled += more,
        }
    }
    let length = checked_length(header)?;
    let mut content = Vec::new();
    pipe.take(length).read_to_end(&mut content)?;
    complete(content, length).map(Some)
}

/// Reads a frame's content from an asynchronous pipe; `None` at its orderly end.
pub(super) async fn read_async(pipe: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; 4];
    let mut first = [0; 1];
    if pipe.read(&mut first).await? == 0 {
        return Ok(None);
    }
    let [start, rest @ ..] = &mut header;
    [*start] = first;
    pipe.read_exact(rest).await?;
    let length = checked_length(header)?;
    let mut content = Vec::new();
    pipe.take(length).read_to_end(&mut content).await?;
    complete(content, length).map(Some)
}

fn checked_length(header: [u8; 4]) -> Result<u64, FrameError> {
    let length = u32::from_le_bytes(header);
    if length > MAX_FRAME { Err(FrameError::TooLong(length.into())) } else { Ok(length.into()) }
}

fn complete(content: Vec<u8>, length: u64) -> Result<Vec<u8>, FrameError> {
    if content.len() as u64 == length {
        Ok(content)
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let mut hostile: &[u8] = &[0xff, 0xff, 0xff, 0xff, b'x'];
        assert!(matches!(read(&mut hostile), Err(FrameError::TooLong(_))));
        let mut short: &[u8] = &[0x00, 0x00, 0x40, 0x00, b'x'];
        assert!(matches!(read(&mut short), Err(FrameError::Pipe(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(texts in proptest::collection::vec(".{0,40}", 0..20)) {
            let mut pipe = Vec::new();
            for text in &texts {
                write(&mut pipe, text).unwrap();
            }
            let mut pipe = pipe.as_slice();
            for text in &texts {
                prop_assert_eq!(&decode::<String>(&read(&mut pipe).unwrap().unwrap()).unwrap(), text);
            }
            prop_assert!(read(&mut pipe).unwrap().is_none());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut pipe = bytes.as_slice();
            while let Ok(Some(content)) = read(&mut pipe) {
                let _ = decode::<crate::probe::Reply<u32>>(&content);
            }
        }
    }
}
