use aim_common::identity::{NodeId, Sha256Digest};
use aim_common::units::EpochMs;
use proptest::prelude::*;

use super::*;

fn redeemed(number: u8) -> Record {
    Record::Redeemed { token: Sha256Digest::of(&[number]), expires_at: EpochMs(i64::from(number)) }
}

fn revoked(number: u8) -> Record {
    Record::Revoked(RevocationRecord {
        node: NodeId::from_random([number; 16]),
        name: "gpu1".to_owned(),
        at: EpochMs(1),
        actor: "user:admin".to_owned(),
        source: "10.0.0.1".to_owned(),
        reason: "line\nfeed".to_owned(),
        request_id: String::new(),
        certificates: Vec::new(),
    })
}

fn reopened(path: &Path) -> JournalState {
    Journal::open(path).unwrap().1
}

#[tokio::test]
async fn enr_15_records_survive_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    let (journal, state) = Journal::open(&path).unwrap();
    assert_eq!(state, JournalState::default());
    for record in [redeemed(1), revoked(2), Record::Mark(AuditMark { sequence: 3, hash: "aa".to_owned() })] {
        journal.append(&record).await.unwrap();
    }
    let state = reopened(&path);
    assert_eq!(state.redeemed[&Sha256Digest::of(&[1])].expires_at, EpochMs(1));
    assert!(!state.revoked[&NodeId::from_random([2; 16])].stored);
    assert_eq!(state.mark.as_ref().map(|mark| mark.sequence), Some(3));
    journal.append(&Record::RevocationStored { node: NodeId::from_random([2; 16]) }).await.unwrap();
    assert!(reopened(&path).revoked[&NodeId::from_random([2; 16])].stored);
}

#[tokio::test]
async fn records_of_many_writers_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    let (journal, _) = Journal::open(&path).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let journal = journal.clone();
        writers.spawn(async move { journal.append(&redeemed(number)).await });
    }
    for written in writers.join_all().await {
        written.unwrap();
    }
    assert_eq!(reopened(&path).redeemed.len(), 100);
}

#[test]
fn a_record_that_a_crash_left_half_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    let (whole, half) = (redeemed(1).to_line(), redeemed(2).to_line());
    for cut in 1..half.len() {
        private_file::write(&path, format!("{whole}{}", &half[..cut]).as_bytes()).unwrap();
        assert_eq!(reopened(&path).redeemed.len(), 1, "cut after {cut} bytes");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }
}

#[test]
fn a_damaged_record_is_named_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    let text = format!("{}{}{}", redeemed(1).to_line(), revoked(2).to_line(), redeemed(3).to_line());
    let mut bytes = text.into_bytes();
    let second_line = redeemed(1).to_line().len();
    bytes[second_line + 30] ^= 1;
    private_file::write(&path, &bytes).unwrap();
    let error = Journal::open(&path).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing is thrown away");
}

#[test]
fn pki_13_a_journal_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    drop(Journal::open(&path).unwrap());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Journal::open(&path), Err(JournalError::File(_))));
}

proptest! {
    #[test]
    fn no_other_bytes_are_a_record(line in "[ -~]{0,200}\n") {
        prop_assert!(Record::from_line(&line).is_none());
    }

    #[test]
    fn a_flipped_bit_is_noticed(position in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut line = revoked(1).to_line().into_bytes();
        let position = position.index(line.len());
        line[position] ^= 1 << bit;
        let read = std::str::from_utf8(&line).ok().and_then(Record::from_line);
        prop_assert!(read.is_none());
    }
}
