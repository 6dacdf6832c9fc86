//! What stands outside the database and tells of the audit trail: a key, and an append-only file of signed checkpoints
//! (LOG-03). Who can write the database cannot make either.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aim_common::units::EpochMs;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::entropy::{EntropyError, random_bytes};
use crate::private_file::{self, PrivateFileError};

/// In the state directory.
const KEY_FILE: &str = "audit.key";
/// In the state directory, unless configured elsewhere.
const CHECKPOINT_FILE: &str = "audit-checkpoints.jsonl";
const KEY_BYTES: usize = 32;
/// Longest line of the checkpoint file.
const LINE_BYTES: u64 = 1_024;

/// Why the key or the checkpoint file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// A file cannot be read or written, or others could.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The checkpoint file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The key file does not hold a key.
    #[error(
        "{} does not hold the {KEY_BYTES} random bytes of the audit key; restore it, or move it and the checkpoint file \
         away to begin anew",
        path.display()
    )]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// A line of the checkpoint file is not one that this key signed.
    #[error(
        "{}:{line}: {problem}; if the audit key was replaced on purpose, move the file away and keep it",
        path.display()
    )]
    NotSigned {
        /// The checkpoint file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// One line of the checkpoint file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    sequence: i64,
    hash: String,
    at: EpochMs,
    public_key: String,
    signature: String,
}

/// The key and the checkpoint file.
pub struct Witness {
    key: Ed25519KeyPair,
    file: PathBuf,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Witness({})", self.public_key())
    }
}

impl Witness {
    /// Reads the key; makes it at the first start.
    pub fn load_or_create(config: &Config) -> Result<Self, WitnessError> {
        let path = config.state_dir.join(KEY_FILE);
        if !path.exists() {
            private_file::write(&path, &*Zeroizing::new(random_bytes::<KEY_BYTES>()?))?;
        }
        Self::load(config)
    }

    /// Reads the key.
    pub fn load(config: &Config) -> Result<Self, WitnessError> {
        let path = config.state_dir.join(KEY_FILE);
        let seed = Zeroizing::new(private_file::read(&path, KEY_BYTES as u64)?);
        let key = Ed25519KeyPair::from_seed_unchecked(&seed).ok();
        let file = config.audit.checkpoint_file.clone();
        let file = file.unwrap_or_else(|| config.state_dir.join(CHECKPOINT_FILE));
        key.map(|key| Self { key, file }).ok_or(WitnessError::NotAKey { path })
    }

    /// The public half, in hexadecimal: what a verifier elsewhere needs.
    pub fn public_key(&self) -> String {
        hex::encode(self.key.public_key())
    }

    /// Signs where the kept part of the trail begins after a deletion.
    pub fn sign_beginning(&self, through: i64, hash: &str) -> String {
        self.sign("beginning", &[&through.to_string(), hash])
    }

    /// This key signed that the kept part begins behind this record.
    pub fn signed_beginning(&self, through: i64, hash: &str, signature: &str) -> bool {
        self.verifies("beginning", &[&through.to_string(), hash], signature)
    }

    /// Adds a checkpoint to the file; it is on disk when this returns.
    pub fn append(&self, sequence: i64, hash: &str, at: EpochMs) -> Result<(), WitnessError> {
        let io = |source| WitnessError::Io { path: self.file.clone(), source };
        let checkpoint = Checkpoint {
            sequence,
            hash: hash.to_owned(),
            at,
            public_key: self.public_key(),
            signature: self.sign("checkpoint", &[&sequence.to_string(), hash, &at.0.to_string()]),
        };
        let mut line = serde_json::to_vec(&checkpoint).map_err(|error| io(error.into()))?;
        line.push(b'\n');
        let mut file = private_file::open_append(&self.file)?;
        let whole = cut_half_line(&mut file).map_err(io)?;
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_all()) {
            // A line of which only a part is on disk would stand in the way of the next one.
            file.set_len(whole).map_err(io)?;
            return Err(io(error));
        }
        Ok(private_file::sync_parent(&self.file)?)
    }

    /// The hashes that the file's checkpoints give, by sequence, from this one on; none where there is no file.
    pub fn checkpoints(&self, from: i64) -> Result<BTreeMap<i64, String>, WitnessError> {
        let io = |source| WitnessError::Io { path: self.file.clone(), source };
        let mut found = BTreeMap::new();
        if !self.file.exists() {
            return Ok(found);
        }
        let mut reader = BufReader::new(private_file::open_append(&self.file)?);
        reader.rewind().map_err(io)?;
        for number in 1.. {
            let mut line = String::new();
            let count = reader.by_ref().take(LINE_BYTES).read_line(&mut line).map_err(io)?;
            // The last line may be half written: by a crash, or at this very moment.
            if count == 0 || !line.ends_with('\n') && (count as u64) < LINE_BYTES {
                break;
            }
            let refuse = |problem| WitnessError::NotSigned { path: self.file.clone(), line: number, problem };
            let checkpoint: Checkpoint =
                serde_json::from_str(&line).map_err(|_| refuse("this line is no checkpoint"))?;
            // Those of deleted records were good in their time, and cost a signature each.
            if checkpoint.sequence < from {
                continue;
            }
            let fields = [&checkpoint.sequence.to_string(), &checkpoint.hash, &checkpoint.at.0.to_string()];
            if checkpoint.public_key != self.public_key()
                || !self.verifies("checkpoint", &fields.map(String::as_str), &checkpoint.signature)
            {
                return Err(refuse("the checkpoint was not signed by this coordinator's audit key"));
            }
            if found
                .insert(checkpoint.sequence, checkpoint.hash.clone())
                .is_some_and(|former| former != checkpoint.hash)
            {
                return Err(refuse("the checkpoint contradicts an earlier one of the same record"));
            }
        }
        Ok(found)
    }

    /// The file of the checkpoints.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn sign(&self, what: &str, fields: &[&str]) -> String {
        hex::encode(self.key.sign(&signed_text(what, fields)))
    }

    fn verifies(&self, what: &str, fields: &[&str], signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.key.public_key());
        hex::decode(signature).is_ok_and(|bytes| key.verify(&signed_text(what, fields), &bytes).is_ok())
    }
}

/// What is signed, and what for: each part with its length, so that no two writings are the same.
fn signed_text(what: &str, fields: &[&str]) -> Vec<u8> {
    let parts = ["aim-audit", what].into_iter().chain(fields.iter().copied());
    parts.flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part.as_bytes()].concat()).collect()
}

/// Cuts off a line that a crash left half; gives the length without it.
fn cut_half_line(file: &mut std::fs::File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LINE_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    Read::take(&mut *file, LINE_BYTES).read_to_end(&mut end)?;
    let half = end.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
    let whole = length - half;
    if half > 0 {
        file.set_len(whole)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(folder: &Path) -> Witness {
        let config = Config { state_dir: folder.to_owned(), ..Config::default() };
        Witness::load_or_create(&config).unwrap()
    }

    #[test]
    fn log_03_a_changed_or_foreign_checkpoint_is_refused_and_a_torn_one_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let ours = witness(folder.path());
        assert_eq!(ours.checkpoints(0).unwrap().len(), 0, "no file yet");
        ours.append(5, "aa", EpochMs(1)).unwrap();
        ours.append(9, "bb", EpochMs(2)).unwrap();
        let whole = std::fs::read_to_string(ours.file()).unwrap();
        let read = |text: &str, from| {
            std::fs::write(ours.file(), text).unwrap();
            ours.checkpoints(from)
        };
        let both = BTreeMap::from([(5, "aa".to_owned()), (9, "bb".to_owned())]);
        assert_eq!(read(&whole, 0).unwrap(), both);
        assert_eq!(read(&whole, 6).unwrap().len(), 1);
        for (from, to) in [
            ("\"bb\"", "\"cc\""),
            ("\"sequence\":9", "\"sequence\":8"),
            (".002Z", ".003Z"),
            (&*ours.public_key(), &"0".repeat(64)),
        ] {
            let error = read(&whole.replace(from, to), 0).unwrap_err();
            assert!(matches!(error, WitnessError::NotSigned { line: 1 | 2, .. }), "{from}: {error}");
        }
        assert!(matches!(read(&format!("x{whole}"), 0), Err(WitnessError::NotSigned { line: 1, .. })));
        let foreign = tempfile::tempdir().unwrap();
        witness(foreign.path()).append(9, "bb", EpochMs(2)).unwrap();
        let foreign = std::fs::read_to_string(foreign.path().join(CHECKPOINT_FILE)).unwrap();
        assert!(matches!(read(&foreign, 0), Err(WitnessError::NotSigned { line: 1, .. })));

        // A crash in the middle of a line costs this line.
        assert_eq!(read(&whole[..whole.len() - 10], 0).unwrap().len(), 1);
        ours.append(12, "dd", EpochMs(3)).unwrap();
        assert_eq!(ours.checkpoints(0).unwrap().into_keys().collect::<Vec<_>>(), [5, 12]);
        ours.append(12, "ee", EpochMs(4)).unwrap();
        assert!(ours.checkpoints(0).unwrap_err().to_string().contains("contradicts"));
    }

    #[test]
    fn log_03_a_beginning_is_good_for_its_record_and_key_only() {
        let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, other) = (witness(ours.path()), witness(other.path()));
        let signature = ours.sign_beginning(7, "aa");
        assert!(ours.signed_beginning(7, "aa", &signature));
        assert!(!ours.signed_beginning(8, "aa", &signature));
        assert!(!ours.signed_beginning(7, "ab", &signature));
        assert!(!other.signed_beginning(7, "aa", &signature));
        // A checkpoint of the same numbers is no leave to begin there.
        assert!(!ours.signed_beginning(7, "aa", &ours.sign("checkpoint", &["7", "aa"])));
    }
}
