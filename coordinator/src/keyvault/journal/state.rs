//! What the journal's records add up to, and what of it still matters.

use std::collections::{HashMap, HashSet};

use aim_common::identity::{NodeId, Sha256Digest};
use aim_common::units::EpochMs;

use super::record::{AuditMark, Record, RevocationRecord};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Redeemed tokens are remembered this long after their end, whatever the wall clock does meanwhile.
pub const REDEEMED_MEMORY_MS: i64 = DAY_MS;
/// Revocations are remembered this long: the longest life of a certificate (30 days) and the longest time in which it can
/// be renewed late (365 days) are over, so that no restored database can revive one.
const REVOKED_MEMORY_MS: i64 = 400 * DAY_MS;
/// So many marks after a record cover it: the first may have been read just before the record was made.
const COVERING_MARKS: u64 = 2;

/// A redeemed token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemedToken {
    /// It would have ended then anyway.
    pub expires_at: EpochMs,
    /// Marks before it.
    marks: u64,
}

/// A revocation, and whether the database holds it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The record.
    pub record: RevocationRecord,
    /// The database was seen to hold it.
    pub stored: bool,
    /// Marks before it was stored.
    marks: u64,
}

/// What the journal's records add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalState {
    /// The last mark.
    pub mark: Option<AuditMark>,
    /// Redeemed tokens by keyed hash, with their end.
    pub redeemed: HashMap<Sha256Digest, RedeemedToken>,
    /// Revoked nodes.
    pub revoked: HashMap<NodeId, Revocation>,
    /// Why the fence is up, where no operator has lifted it since.
    pub fence: Option<String>,
    /// Marks so far.
    marks: u64,
}

/// What the database says about what the journal remembers.
#[derive(Debug, Clone, Default)]
pub struct DatabaseView {
    /// The hash of the audit record that the last mark names.
    pub mark_hash: Option<String>,
    /// Those of the redeemed tokens that could still be redeemed.
    pub outstanding: HashSet<Sha256Digest>,
    /// Those of the revoked nodes whose identity may be used.
    pub living: HashSet<NodeId>,
}

impl JournalState {
    /// Adds one record.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Mark(mark) => {
                self.mark = Some(mark);
                self.marks += 1;
            }
            Record::Redeemed { token, expires_at } => {
                self.redeemed.insert(token, RedeemedToken { expires_at, marks: self.marks });
            }
            Record::Revoked(record) => {
                let revocation = Revocation { stored: false, marks: self.marks, record };
                self.revoked.insert(revocation.record.node, revocation);
            }
            Record::RevocationStored { node } => {
                if let Some(revocation) = self.revoked.get_mut(&node) {
                    (revocation.stored, revocation.marks) = (true, self.marks);
                }
            }
            Record::FenceRaised { reason, .. } => self.fence = Some(reason),
            Record::FenceLifted { .. } => {
                // The marks before it belong to a database that is gone, and cover nothing in the one that is there.
                (self.mark, self.fence) = (None, None);
                self.redeemed.values_mut().for_each(|token| token.marks = self.marks);
                self.revoked.values_mut().for_each(|revocation| revocation.marks = self.marks);
            }
        }
    }

    /// Why this database is older than the journal; `None` where it is not.
    pub fn contradiction(&self, database: &DatabaseView) -> Option<String> {
        if let Some(mark) = &self.mark
            && database.mark_hash.as_ref() != Some(&mark.hash)
        {
            return Some(format!("audit record {} of the journal is not in the database", mark.sequence));
        }
        if self.redeemed.keys().any(|token| database.outstanding.contains(token)) {
            return Some("a redeemed token is outstanding in the database".to_owned());
        }
        let stored = self.revoked.iter().filter(|(_, revocation)| revocation.stored);
        let revived = stored.map(|(node, _)| node).find(|node| database.living.contains(node));
        revived.map(|node| format!("node {node} is revoked, and living in the database"))
    }

    /// The fewest records that add up to what still matters at `now`.
    ///
    /// A record is left out when its time is over and a mark covers it: a database without it lacks the marked audit
    /// record as well, so that the comparison at start ends the same.
    pub(super) fn compacted(&self, now: EpochMs) -> Vec<Record> {
        let covered = |marks: u64| self.marks >= marks + COVERING_MARKS;
        let mut records = Vec::new();
        if let Some(reason) = &self.fence {
            records.push(Record::FenceRaised { at: now, reason: reason.clone() });
        }
        for (token, redeemed) in &self.redeemed {
            if now.since_ms(redeemed.expires_at) < REDEEMED_MEMORY_MS || !covered(redeemed.marks) {
                records.push(Record::Redeemed { token: *token, expires_at: redeemed.expires_at });
            }
        }
        for (node, revocation) in &self.revoked {
            let over = now.since_ms(revocation.record.at) >= REVOKED_MEMORY_MS;
            if revocation.stored && over && covered(revocation.marks) {
                continue;
            }
            records.push(Record::Revoked(revocation.record.clone()));
            if revocation.stored {
                records.push(Record::RevocationStored { node: *node });
            }
        }
        records.extend(self.mark.clone().map(Record::Mark));
        records
    }
}
