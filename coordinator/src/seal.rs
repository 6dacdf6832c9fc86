//! Seals secrets that must lie in the database, with a key file that lies outside it.
//!
//! AES-256-GCM with a random nonce; the secret's name is authenticated with it, so that one cannot stand for another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::entropy::{EntropyError, random_bytes};
use crate::private_file::{self, PrivateFileError};

const KEY_BYTES: usize = 32;

/// Why a secret cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or written, or others could.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The key file does not hold a key.
    #[error("{} is not a key of {KEY_BYTES} random bytes; restore it, or move it away at a first start", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The sealed text is damaged, or was sealed by another key.
    #[error(
        "the sealed secret {0} cannot be opened: the key file is not the one that sealed it, or it is damaged"
    )]
    NotOurs(String),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The key that seals.
pub struct SealingKey(LessSafeKey);

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// Reads the key file; makes it at the first start.
    pub fn load_or_create(path: &Path) -> Result<Self, SealError> {
        if !path.exists() {
            let bytes = Zeroizing::new(random_bytes::<KEY_BYTES>()?);
            private_file::write(path, &*bytes)?;
        }
        let bytes = Zeroizing::new(private_file::read(path, KEY_BYTES as u64)?);
        Self::from_bytes(&bytes).ok_or_else(|| SealError::NotAKey { path: path.to_owned() })
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES || !looks_random(bytes) {
            return None;
        }
        UnboundKey::new(&AES_256_GCM, bytes).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Seals a secret under its name.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<String, SealError> {
        let nonce = random_bytes::<NONCE_LEN>()?;
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SealError::NotOurs(name.to_owned()))?;
        Ok(BASE64.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens what was sealed under this name.
    pub fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let refuse = || SealError::NotOurs(name.to_owned());
        let bytes = BASE64.decode(sealed).map_err(|_| refuse())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(refuse)?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let length = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(name.as_bytes()),
                secret.as_mut_slice(),
            )
            .map_err(|_| refuse())?
            .len();
        secret.truncate(length);
        Ok(secret)
    }
}

/// Not a sample (AUT-11): no text, no counting up or down, no repetition. One of 10^13 random keys looks so.
fn looks_random(bytes: &[u8]) -> bool {
    let text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let steps: BTreeSet<u8> =
        bytes.iter().zip(bytes.iter().skip(1)).map(|(one, next)| next.wrapping_sub(*one)).collect();
    let distinct: BTreeSet<&u8> = bytes.iter().collect();
    !text && steps.len() > KEY_BYTES / 4 && distinct.len() > KEY_BYTES / 2
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn aut_11_what_is_sealed_opens_only_under_its_name_and_key() {
        let directory = tempfile::tempdir().unwrap();
        let key = SealingKey::load_or_create(&directory.path().join("seal.key")).unwrap();
        let again = SealingKey::load_or_create(&directory.path().join("seal.key")).unwrap();
        let other = SealingKey::load_or_create(&directory.path().join("other.key")).unwrap();
        let sealed = key.seal("jwt", b"secret").unwrap();
        assert!(!BASE64.decode(&sealed).unwrap().windows(6).any(|part| part == b"secret"));
        assert_eq!(again.open("jwt", &sealed).unwrap().as_slice(), b"secret");
        assert!(key.open("other", &sealed).is_err());
        assert!(other.open("jwt", &sealed).is_err());
        assert!(key.open("jwt", &sealed[..20]).is_err());
        assert!(key.open("jwt", "").is_err());
    }

    #[test]
    fn aut_11_short_sample_or_readable_key_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seal.key");
        let load = |bytes: &[u8]| {
            let _ = std::fs::remove_file(&path);
            private_file::write(&path, bytes).unwrap();
            SealingKey::load_or_create(&path)
        };
        let counting =
            |step: u8| std::array::from_fn::<u8, 32, _>(|i| u8::try_from(i).unwrap().wrapping_mul(step));
        let random = random_bytes::<32>().unwrap();
        for sample in [
            b"short".to_vec(),
            Vec::new(),
            random[..31].to_vec(),
            [random.as_slice(), &[1]].concat(),
            vec![0; 32],
            vec![7; 32],
            vec![255; 32],
            counting(1).to_vec(),
            counting(255).to_vec(),
            counting(17).to_vec(),
            b"0123456789abcdef0123456789abcdef".to_vec(),
            b"changeme-changeme-changeme-32byt".to_vec(),
            b"Zk3+q9PvT1xW7yL0aRbN5cUeHdJ2mQs=".to_vec(),
            random[..8].repeat(4),
            random[..16].repeat(2),
        ] {
            assert!(load(&sample).is_err(), "{sample:02x?}");
        }
        for _ in 0..1_000 {
            assert!(looks_random(&random_bytes::<32>().unwrap()));
        }
        assert!(load(&random).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(SealingKey::load_or_create(&path).unwrap_err().to_string().contains("chmod 0600"));
    }
}
