//! The check of the chain: each record's hash covers its fields and the former hash, without gaps; where it begins is
//! signed, and how far it had come is told by the signed checkpoints.

use std::collections::BTreeMap;

use aim_common::api::audit::AuditVerification;
use serde::Deserialize;

use super::keeper::PRUNE;
use super::witness::{Witness, WitnessError};
use crate::store::audit::{AuditRow, GENESIS};
use crate::store::{Store, StoreError};

/// Records read at once.
const PAGE: u32 = 1_000;

/// Why the trail could not be checked, which says nothing about it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checkpoint file cannot be read.
    #[error(transparent)]
    Witness(WitnessError),
}

/// What is found wrong, at which record.
struct Fault(i64, String);

/// What the record of a deletion says.
#[derive(Deserialize)]
struct Beginning {
    through: i64,
    hash: String,
    signature: String,
}

/// Walks the whole trail.
pub async fn verify(store: &Store, witness: &Witness) -> Result<AuditVerification, VerifyError> {
    let first = store.audit_chain(0, 1).await?.into_iter().next();
    let mut walk = match Walk::begin(witness, first) {
        Ok(walk) => walk,
        Err(error @ WitnessError::NotSigned { .. }) => {
            let detail = error.to_string();
            return Ok(AuditVerification { intact: false, checked: 0, broken_at: None, detail });
        }
        Err(error) => return Err(VerifyError::Witness(error)),
    };
    let fault = loop {
        let page = store.audit_chain(walk.last, PAGE).await?;
        if page.is_empty() {
            break walk.end().err();
        }
        if let Some(fault) = page.into_iter().find_map(|record| walk.step(record).err()) {
            break Some(fault);
        }
    };
    let checked = walk.last - walk.begins_behind;
    Ok(match fault {
        Some(Fault(at, detail)) => AuditVerification { intact: false, checked, broken_at: Some(at), detail },
        None => AuditVerification { intact: true, checked, broken_at: None, detail: walk.summary() },
    })
}

/// The walk from record to record.
struct Walk<'a> {
    witness: &'a Witness,
    checkpoints: BTreeMap<i64, String>,
    agreed: usize,
    /// The record before the first one, which was deleted in its time; 0 where the trail is whole.
    begins_behind: i64,
    begins_with: String,
    is_beginning_signed: bool,
    /// The last record that was good.
    last: i64,
    last_hash: String,
}

impl<'a> Walk<'a> {
    fn begin(witness: &'a Witness, first: Option<AuditRow>) -> Result<Self, WitnessError> {
        let (begins_behind, begins_with) = match first {
            Some(first) if first.sequence > 1 => (first.sequence - 1, first.previous_hash),
            _ => (0, GENESIS.to_owned()),
        };
        Ok(Self {
            witness,
            checkpoints: witness.checkpoints(begins_behind)?,
            agreed: 0,
            begins_behind,
            is_beginning_signed: begins_behind == 0,
            last: begins_behind,
            last_hash: begins_with.clone(),
            begins_with,
        })
    }

    fn step(&mut self, record: AuditRow) -> Result<(), Fault> {
        let expected = self.last + 1;
        let fault = |what: &str| Err(Fault(expected, format!("record {expected} {what}")));
        if record.sequence != expected {
            return fault("is missing");
        }
        if record.previous_hash != self.last_hash {
            return fault("does not follow the one before it");
        }
        if record.hash != record.expected_hash() {
            return fault("was changed");
        }
        if let Some(signed) = self.checkpoints.get(&expected) {
            if *signed != record.hash {
                return fault("is not the one that a signed checkpoint names: the trail was written anew");
            }
            self.agreed += 1;
        }
        self.is_beginning_signed |= record.action == PRUNE && self.signs_the_beginning(&record.detail);
        self.last = expected;
        self.last_hash = record.hash;
        Ok(())
    }

    fn signs_the_beginning(&self, detail: &str) -> bool {
        serde_json::from_str(detail).is_ok_and(|said: Beginning| {
            said.through == self.begins_behind
                && said.hash == self.begins_with
                && self.witness.signed_beginning(said.through, &said.hash, &said.signature)
        })
    }

    fn end(&self) -> Result<(), Fault> {
        if !self.is_beginning_signed {
            let told = format!(
                "records 1 to {} are missing, and no signed record tells of their deletion",
                self.begins_behind
            );
            return Err(Fault(self.begins_behind, told));
        }
        match self.checkpoints.last_key_value() {
            Some((signed, _)) if *signed > self.last => Err(Fault(
                self.last + 1,
                format!(
                    "records {} to {signed} are missing: a signed checkpoint names the last one",
                    self.last + 1
                ),
            )),
            _ => Ok(()),
        }
    }

    fn summary(&self) -> String {
        format!(
            "records {} to {}, the last one with hash {}; {} signed checkpoints agree (key {})",
            self.begins_behind + 1,
            self.last,
            self.last_hash,
            self.agreed,
            self.witness.public_key()
        )
    }
}
