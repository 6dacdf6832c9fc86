//! A segment's bytes. Pure: what is read was written by us, whole, for this spool and this sequence, or it is not given.
//!
//! Header: magic (8), spool id (16), first sequence (8), check (8). Record: length (4), sequence (8), check (8), payload.
//! A check is the first 8 bytes of SHA-256 over spool id, sequence and payload. Numbers are little endian.

use aim_common::identity::SpoolId;
use aim_common::protocol::{Kind, Record, SpoolRecord};
use aim_common::wire::{EncodeError, decode_section, encode_section};
use sha2::{Digest, Sha256};

const MAGIC: [u8; 8] = *b"AIMSPL1\n";
/// Bytes in front of the first record.
pub(super) const HEADER_LEN: usize = 40;
/// Bytes in front of a record's payload.
pub(super) const RECORD_HEAD: usize = 20;
/// Largest payload: an inventory section with its frame.
const MAX_PAYLOAD: usize = 1024 * 1024;

fn check(spool: SpoolId, sequence: u64, payload: &[u8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(spool.as_uuid().as_bytes());
    hash.update(sequence.to_le_bytes());
    hash.update(payload);
    let digest: [u8; 32] = hash.finalize().into();
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    short
}

/// The header of a segment.
pub(super) fn header(spool: SpoolId, first: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(spool.as_uuid().as_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&check(spool, first, &MAGIC));
    bytes
}

/// One record.
pub(super) fn record(spool: SpoolId, sequence: u64, record: &Record) -> Result<Vec<u8>, EncodeError> {
    let payload = encode_section(Kind::SpoolBatch, record)?;
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(RECORD_HEAD + payload.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&check(spool, sequence, &payload));
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole record.
    Clean,
    /// Within a record that was being written when the power went.
    Torn,
    /// With something that no interrupted writing leaves behind.
    Damaged,
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) spool: SpoolId,
    /// Sequence that its first record has or would have.
    pub(super) first: u64,
    /// Whole records in order, with the offset behind each.
    pub(super) records: Vec<(SpoolRecord, usize)>,
    pub(super) end: End,
}

impl Scan {
    /// One past the last whole record.
    pub(super) fn next(&self) -> u64 {
        self.records.last().map_or(self.first, |(record, _)| record.sequence.saturating_add(1))
    }

    /// Bytes up to the end of the last whole record.
    pub(super) fn good_len(&self) -> usize {
        self.records.last().map_or(HEADER_LEN, |(_, end)| *end)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Reads a segment as far as it is good; `None` where already the header is not ours.
pub(super) fn scan(bytes: &[u8]) -> Option<Scan> {
    let spool = SpoolId::from_uuid(uuid::Uuid::from_bytes(array(bytes, 8)?));
    let first = u64::from_le_bytes(array(bytes, 24)?);
    if array(bytes, 0)? != MAGIC || array(bytes, 32)? != check(spool, first, &MAGIC) {
        return None;
    }
    let mut scan = Scan { spool, first, records: Vec::new(), end: End::Clean };
    let mut at = HEADER_LEN;
    while at < bytes.len() {
        match record_at(bytes, at, spool, scan.next()) {
            Ok((record, end)) => {
                scan.records.push((record, end));
                at = end;
            }
            Err(end) => {
                scan.end = end;
                break;
            }
        }
    }
    Some(scan)
}

fn record_at(bytes: &[u8], at: usize, spool: SpoolId, least: u64) -> Result<(SpoolRecord, usize), End> {
    let rest = bytes.get(at..).unwrap_or_default();
    // A file that grew before its content was written ends in zeros.
    if rest.iter().all(|byte| *byte == 0) {
        return Err(End::Torn);
    }
    let (Some(length), Some(sequence), Some(expected)) =
        (array(rest, 0), array(rest, 4), array::<8>(rest, 12))
    else {
        return Err(End::Torn);
    };
    let (length, sequence) = (u32::from_le_bytes(length) as usize, u64::from_le_bytes(sequence));
    if length > MAX_PAYLOAD {
        return Err(End::Damaged);
    }
    let Some(payload) = rest.get(RECORD_HEAD..RECORD_HEAD + length) else { return Err(End::Torn) };
    if check(spool, sequence, payload) != expected || sequence < least {
        return Err(End::Damaged);
    }
    let record = decode_section(Kind::SpoolBatch, payload).map_err(|_| End::Damaged)?;
    Ok((SpoolRecord { sequence, record }, at + RECORD_HEAD + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spool() -> SpoolId {
        SpoolId::from_random([7; 16])
    }

    fn segment(first: u64, count: u64) -> Vec<u8> {
        let mut bytes = header(spool(), first);
        for sequence in first..first + count {
            bytes.extend(record(spool(), sequence, &Record::Gap { dropped: sequence * 3 }).unwrap());
        }
        bytes
    }

    fn is_written(found: &(SpoolRecord, usize)) -> bool {
        found.0.record == Record::Gap { dropped: found.0.sequence * 3 }
    }

    proptest! {
        #[test]
        fn flt_41_arbitrary_bytes_never_give_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(scan(&bytes).is_none());
            let mut headed = header(spool(), 1);
            headed.extend(&bytes);
            prop_assert!(scan(&headed).unwrap().records.is_empty());
        }

        #[test]
        fn flt_41_a_flipped_bit_costs_what_follows_and_invents_nothing(
            count in 1..20_u64, at: prop::sample::Index, bit in 0..8_u32,
        ) {
            let mut bytes = segment(5, count);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Some(scan) = scan(&bytes) {
                prop_assert!(scan.records.iter().all(is_written));
                prop_assert!((scan.records.len() as u64) < count);
                prop_assert!(scan.good_len() <= at);
            } else {
                prop_assert!(at < HEADER_LEN);
            }
        }

        #[test]
        fn flt_41_a_cut_file_keeps_every_whole_record(count in 1..20_u64, cut: prop::sample::Index) {
            let whole = segment(5, count);
            let scanned = scan(&whole).unwrap();
            prop_assert_eq!((scanned.records.len() as u64, scanned.end), (count, End::Clean));
            let cut = HEADER_LEN + cut.index(whole.len() - HEADER_LEN);
            let torn = scan(&whole[..cut]).unwrap();
            let kept = scanned.records.iter().filter(|(_, end)| *end <= cut).count();
            prop_assert_eq!(torn.records.len(), kept);
            prop_assert!(torn.end != End::Damaged);
        }
    }
}
