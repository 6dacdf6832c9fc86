//! The spool on a real disk, against a model of what was appended and acknowledged.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

fn id(byte: u8) -> SpoolId {
    SpoolId::from_random([byte; 16])
}

fn marks(from: u64, count: u64) -> Vec<Record> {
    (from..from + count).map(|mark| Record::Gap { dropped: 1_000_000 + mark }).collect()
}

/// The marks of what is read, gaps that were made up apart.
fn read_all(spool: &DiskSpool, mut from: u64) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    loop {
        let batch = spool.read(from).unwrap();
        let Some(last) = batch.last() else { return all };
        from = last.sequence + 1;
        all.extend(batch.iter().filter_map(|record| match record.record {
            Record::Gap { dropped } if dropped >= 1_000_000 => Some((record.sequence, dropped - 1_000_000)),
            _ => None,
        }));
    }
}

fn open(directory: &Path, new: u8) -> (DiskSpool, Vec<Damage>) {
    DiskSpool::open(directory, 64 << 20, id(new)).unwrap()
}

fn private() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

#[test]
fn id_and_sequence_outlive_a_restart_even_when_all_is_acknowledged() {
    let dir = private();
    let (mut spool, _) = open(dir.path(), 1);
    let big = aim_common::inventory::EncodedSection {
        tag: aim_common::inventory::SectionTag(1),
        bytes: vec![5; 200 * 1024].try_into().unwrap(),
    };
    spool.append(&mut vec![Record::InventorySection(big); 3]).unwrap();
    spool.append(&mut marks(4, 2)).unwrap();
    spool.acknowledge(5);
    assert_eq!((spool.first(), spool.next()), (6, 6));
    assert!(
        fs::metadata(dir.path().join("00000000000000000006.seg")).unwrap().len() < 100,
        "old bytes are gone"
    );
    drop(spool);
    let (spool, damages) = open(dir.path(), 2);
    assert_eq!((spool.id(), spool.next(), damages), (id(1), 6, vec![]));
}

#[test]
fn over_the_limit_the_oldest_go_and_a_gap_says_how_many() {
    let dir = private();
    let (mut spool, _) = DiskSpool::open(dir.path(), 2 << 20, id(1)).unwrap();
    let section = |tag| aim_common::inventory::EncodedSection {
        tag: aim_common::inventory::SectionTag(tag),
        bytes: vec![1; 200 * 1024].try_into().unwrap(),
    };
    for tag in 0..40 {
        spool.append(&mut vec![Record::InventorySection(section(tag))]).unwrap();
    }
    let first = spool.first();
    assert!(first > 20, "{first}");
    let batch = spool.read(1).unwrap();
    assert_eq!(batch[0], SpoolRecord { sequence: first - 1, record: Record::Gap { dropped: first - 1 } });
    assert_eq!(batch[1].sequence, first);
    let kept: u64 =
        segment_paths(dir.path()).unwrap().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(kept <= 2 << 20, "{kept}");
}

#[test]
fn flt_41_a_damaged_end_is_set_aside_what_was_before_stays_and_no_sequence_repeats() {
    let dir = private();
    let (mut spool, _) = open(dir.path(), 1);
    spool.append(&mut marks(1, 10)).unwrap();
    drop(spool);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut spool, damages) = open(dir.path(), 2);
    assert_eq!((spool.id(), damages.len(), damages[0].saved), (id(1), 1, 8));
    assert!(damages[0].path.exists());
    spool.append(&mut marks(11, 1)).unwrap();
    let read = read_all(&spool, 1);
    assert_eq!(read[..8], (1..=8).map(|n| (n, n)).collect::<Vec<_>>()[..]);
    assert_eq!(read.len(), 9);
    assert!(read[8].0 > 10 && read[8].1 == 11, "{:?}", read[8]);
    drop(spool);
    assert_eq!(open(dir.path(), 3).1, vec![], "the damage is found once");
}

#[test]
fn flt_41_a_spool_of_another_node_or_of_zero_length_gets_a_new_id() {
    for content in [Vec::new(), vec![0; 500], format::header(id(9), 1)[..30].to_vec()] {
        let dir = private();
        fs::write(segment_path(dir.path(), 1), content).unwrap();
        let (spool, damages) = open(dir.path(), 2);
        assert_eq!((spool.id(), spool.next(), damages.len()), (id(2), 1, 1));
    }
}

#[test]
fn flt_08_a_disk_that_fails_leaves_the_list_of_what_was_not_kept() {
    let dir = private();
    let (mut spool, _) = open(dir.path(), 1);
    spool.append(&mut marks(1, 2)).unwrap();
    // A descriptor that cannot be written to fails as a full or read-only disk does.
    spool.active = File::open(segment_path(dir.path(), 1)).unwrap();
    let mut records = marks(3, 2);
    assert!(spool.append(&mut records).is_err());
    assert_eq!((records.len(), spool.next()), (2, 3));
    drop(spool);
    assert_eq!(read_all(&open(dir.path(), 2).0, 1), [(1, 1), (2, 2)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn inv_1_through_restarts_and_torn_ends_every_unacknowledged_record_is_read_once_in_order(
        steps in proptest::collection::vec((0..4_u8, 1..30_u64, 0..60_usize), 1..25)
    ) {
        let dir = private();
        let (mut spool, _) = open(dir.path(), 1);
        let (mut appended, mut acknowledged) = (0_u64, 0_u64);
        for (what, number, torn) in steps {
            match what {
                0 | 1 => {
                    spool.append(&mut marks(appended + 1, number)).unwrap();
                    appended += number;
                }
                2 => {
                    acknowledged = acknowledged.max(number.min(appended));
                    spool.acknowledge(acknowledged);
                }
                _ => {
                    drop(spool);
                    // The power went while a record was being written.
                    let torn_record = format::record(id(1), appended + 1, &marks(0, 1)[0]).unwrap();
                    let active = segment_paths(dir.path()).unwrap().pop().unwrap();
                    let torn = &torn_record[..torn.min(torn_record.len() - 1)];
                    append_to(&active).unwrap().write_all(torn).unwrap();
                    let (again, damages) = open(dir.path(), 2);
                    prop_assert!(damages.is_empty());
                    spool = again;
                }
            }
            prop_assert_eq!(spool.next(), appended + 1);
            let expected: Vec<_> = (acknowledged + 1..=appended).map(|n| (n, n)).collect();
            prop_assert_eq!(read_all(&spool, acknowledged + 1), expected);
        }
    }
}
