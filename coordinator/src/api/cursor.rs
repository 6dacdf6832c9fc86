//! Cursors of lists that are ordered by more than a number: opaque to clients, and checked by us.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// A cursor is never longer than this.
const MAX_CURSOR: usize = 1_024;

/// Writes a cursor.
pub fn write<T: Serialize>(place: &T) -> Option<String> {
    serde_json::to_vec(place).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
}

/// Reads a cursor; anything but one of ours is refused.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let refuse = || ApiError::invalid("cursor", "give the next_cursor of the former page as it was");
    if text.len() > MAX_CURSOR {
        return Err(refuse());
    }
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse())?;
    serde_json::from_slice(&json).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inj_05_a_cursor_comes_back_and_anything_else_is_refused() {
        let text = write(&("gpu1", 7_i64)).unwrap();
        assert_eq!(read::<(String, i64)>(&text).unwrap(), ("gpu1".to_owned(), 7));
        for bad in ["", "x", "' OR 1=1 --", "bnVsbA", &"a".repeat(5_000)] {
            assert!(read::<(String, i64)>(bad).is_err(), "{bad}");
        }
    }
}
