//! Compaction forgets nothing that matters: by property over histories, and by killing the process in its midst.
#![expect(clippy::disallowed_methods, reason = "the kill test waits with a real deadline")]

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use aim_common::identity::{NodeId, Sha256Digest};
use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn token(number: usize) -> Sha256Digest {
    Sha256Digest::of(&number.to_be_bytes())
}

fn node(number: usize) -> NodeId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    NodeId::from_random(bytes)
}

fn revocation(number: usize, at: EpochMs) -> Record {
    Record::Revoked(RevocationRecord {
        node: node(number),
        name: format!("gpu{number}"),
        at,
        actor: "user:admin".to_owned(),
        source: "10.0.0.1".to_owned(),
        reason: "stolen".to_owned(),
        request_id: String::new(),
        certificates: Vec::new(),
    })
}

/// What happens to a coordinator.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A token is issued.
    Issue,
    /// The oldest outstanding token is redeemed; a node lives from then on.
    Redeem,
    /// The oldest living node is revoked, and the database knows it.
    Revoke,
    /// The same while the database is away.
    RevokeInOutage,
    /// The journal is marked.
    Mark,
    /// The journal is marked with what was read just before the last step.
    LateMark,
    /// Days go by.
    Days(i64),
    /// The journal is compacted.
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Issue),
        3 => Just(Step::Redeem),
        1 => Just(Step::Revoke),
        1 => Just(Step::RevokeInOutage),
        3 => Just(Step::Mark),
        2 => Just(Step::LateMark),
        1 => (1_i64..500).prop_map(Step::Days),
        2 => Just(Step::Compact),
    ]
}

/// The parts of a database that the journal is compared with; a copy of it is a backup.
#[derive(Debug, Clone, Default)]
struct Database {
    audit: i64,
    outstanding: Vec<(usize, EpochMs)>,
    living: Vec<usize>,
}

impl Database {
    fn view(&self, journal: &JournalState) -> DatabaseView {
        let marked = journal.mark.as_ref().filter(|mark| mark.sequence <= self.audit);
        DatabaseView {
            mark_hash: marked.map(|mark| format!("hash of {}", mark.sequence)),
            outstanding: self.outstanding.iter().map(|(number, _)| token(*number)).collect(),
            living: self.living.iter().map(|number| node(*number)).collect(),
        }
    }
}

/// The journal in full, the compacted one, and everything that happened.
#[derive(Default)]
struct History {
    now: i64,
    tokens: usize,
    database: Database,
    /// The audit trail before the last step.
    audit_before: i64,
    backups: Vec<Database>,
    full: JournalState,
    compacted: JournalState,
    /// By token: its end. By node: when it was revoked.
    redeemed: HashMap<usize, i64>,
    revoked: HashMap<usize, i64>,
}

impl History {
    fn write(&mut self, record: Record) {
        self.full.apply(record.clone());
        self.compacted.apply(record);
    }

    fn revoke(&mut self, stored: bool) {
        if self.database.living.is_empty() {
            return;
        }
        let number = self.database.living.remove(0);
        self.revoked.insert(number, self.now);
        self.write(revocation(number, EpochMs(self.now)));
        if stored {
            self.database.audit += 1;
            self.write(Record::RevocationStored { node: node(number) });
        } else {
            // The database keeps it living: the journal alone knows.
            self.database.living.push(number);
        }
    }

    fn mark(&mut self, sequence: i64) {
        self.write(Record::Mark(AuditMark { sequence, hash: format!("hash of {sequence}") }));
    }

    fn run(&mut self, step: Step) {
        let audit = self.database.audit;
        match step {
            Step::Issue => {
                self.tokens += 1;
                self.database.audit += 1;
                self.database.outstanding.push((self.tokens, EpochMs(self.now + 300_000)));
            }
            Step::Redeem if !self.database.outstanding.is_empty() => {
                let (number, expires_at) = self.database.outstanding.remove(0);
                self.database.living.push(number);
                self.database.audit += 1;
                self.redeemed.insert(number, expires_at.0);
                self.write(Record::Redeemed { token: token(number), expires_at });
            }
            Step::Redeem => {}
            Step::Revoke => self.revoke(true),
            Step::RevokeInOutage => self.revoke(false),
            Step::Mark => self.mark(audit),
            Step::LateMark => self.mark(self.audit_before),
            Step::Days(days) => self.now += days * DAY_MS,
            Step::Compact => {
                let mut kept = JournalState::default();
                self.compacted.compacted(EpochMs(self.now)).into_iter().for_each(|record| kept.apply(record));
                self.compacted = kept;
            }
        }
        self.audit_before = audit;
        self.backups.push(self.database.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn enr_15_pki_12_compaction_changes_no_decision_and_forgets_nothing_that_matters(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut history = History::default();
        for step in steps {
            history.run(step);
            let (full, compacted) = (&history.full, &history.compacted);
            // Whichever backup is restored, the start decides the same.
            for backup in &history.backups {
                let decisions = (
                    full.contradiction(&backup.view(full)).is_some(),
                    compacted.contradiction(&backup.view(compacted)).is_some(),
                );
                prop_assert_eq!(decisions.0, decisions.1, "{:?}", backup);
            }
            for (number, expires_at) in &history.redeemed {
                let matters = history.now < expires_at + DAY_MS;
                prop_assert!(!matters || compacted.redeemed.contains_key(&token(*number)), "token {}", number);
            }
            for (number, at) in &history.revoked {
                let stored = full.revoked[&node(*number)].stored;
                let matters = !stored || history.now < at + 400 * DAY_MS;
                let kept = compacted.revoked.get(&node(*number));
                prop_assert!(!matters || kept.is_some_and(|kept| kept.stored == stored), "node {}", number);
            }
        }
    }
}

#[test]
fn a_fence_stays_up_over_a_compaction_and_a_lifted_one_down() {
    let mut state = JournalState::default();
    state.apply(Record::FenceRaised { at: EpochMs(1), reason: "older".to_owned() });
    let again = |state: &JournalState| {
        let mut kept = JournalState::default();
        state.compacted(EpochMs(2)).into_iter().for_each(|record| kept.apply(record));
        kept
    };
    assert_eq!(again(&state).fence.as_deref(), Some("older"));
    state.apply(Record::FenceLifted { at: EpochMs(3), actor: "user:admin".to_owned() });
    assert_eq!(again(&state), JournalState::default());
}

/// What ten thousand nodes' worth of old records leaves is small, and what is young stays.
#[tokio::test]
async fn a_journal_that_has_grown_is_rewritten_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    let (journal, _) = Journal::open_compacting_from(&path, 20_000).unwrap();
    let size = || std::fs::metadata(&path).unwrap().len();
    let mark = |sequence| Record::Mark(AuditMark { sequence, hash: "aa".repeat(32) });
    let (old, young) = (EpochMs(0), EpochMs(40 * DAY_MS));
    for number in 0..100 {
        journal.append(&Record::Redeemed { token: token(number), expires_at: old }).await.unwrap();
    }
    journal.append(&revocation(1, old)).await.unwrap();
    journal.append(&Record::Redeemed { token: token(1_000), expires_at: young }).await.unwrap();
    journal.compact_if_large(young).await.unwrap();
    assert_eq!(reopen(&path).redeemed.len(), 101, "it is not large yet");
    for sequence in 0..100 {
        journal.append(&mark(sequence)).await.unwrap();
    }
    let grown = size();
    assert!(grown > 20_000);
    journal.compact_if_large(young).await.unwrap();
    assert!(size() < 2_000, "{} bytes are left of {grown}", size());
    let state = reopen(&path);
    assert_eq!(state.redeemed.keys().collect::<Vec<_>>(), [&token(1_000)]);
    assert!(state.revoked.contains_key(&node(1)));
    assert_eq!(state.mark.as_ref().map(|mark| mark.sequence), Some(99));
    // What comes after the rewriting is in the file that has the name.
    journal.append(&Record::Redeemed { token: token(1_001), expires_at: young }).await.unwrap();
    assert_eq!(reopen(&path).redeemed.len(), 2);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

fn reopen(path: &Path) -> JournalState {
    Journal::open(path).unwrap().1
}

/// Names the folder in which [`child_that_is_killed`] works; elsewhere that test has nothing to do.
const CHILD: &str = "AIM_JOURNAL_KILL_TEST";

/// Appends and compacts for ever, and writes down what was acknowledged.
#[test]
fn child_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let folder = PathBuf::from(folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, state) = Journal::open_compacting_from(&folder.join("keyvault.journal"), 0).unwrap();
        let mut acknowledged =
            std::fs::OpenOptions::new().append(true).create(true).open(folder.join("acknowledged")).unwrap();
        let first = state.redeemed.len() + state.revoked.len();
        for number in first.. {
            let expires_at = EpochMs(i64::MAX / 2);
            journal.append(&Record::Redeemed { token: token(number), expires_at }).await.unwrap();
            journal.append(&revocation(number, EpochMs(0))).await.unwrap();
            writeln!(acknowledged, "{number}").unwrap();
            journal.compact_if_large(EpochMs(1)).await.unwrap();
        }
    });
}

/// Records that lie there before, so that a compaction takes a while.
const SEEDED: usize = 3_000;

#[test]
fn enr_15_pki_12_a_kill_within_a_compaction_loses_no_acknowledged_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyvault.journal");
    let seed =
        |number| Record::Redeemed { token: token(number), expires_at: EpochMs(i64::MAX / 2) }.to_line();
    private_file::write(&path, (0..SEEDED).map(seed).collect::<String>().as_bytes()).unwrap();
    let lines = || {
        let text = std::fs::read_to_string(folder.path().join("acknowledged")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect::<HashSet<usize>>()
    };
    let file = || std::fs::metadata(&path).map(|file| (file.ino(), file.len())).unwrap();
    for round in 0..12 {
        // What the last kill left beside.
        let _ = std::fs::remove_file(path.with_extension("new"));
        let (inode, length) = file();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keyvault::journal::compaction_tests::child_that_is_killed"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        // Killed the moment that the rewriting shows: a file beside, another file of the name, or a shorter one.
        let rewriting = || {
            let (now, long) = file();
            path.with_extension("new").exists() || now != inode || long < length
        };
        while !rewriting() {
            assert!(std::time::Instant::now() < deadline, "the child does not compact");
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let state = reopen(&path);
        for number in lines().into_iter().chain(0..SEEDED) {
            assert!(
                state.redeemed.contains_key(&token(number)),
                "round {round}: token {number} is forgotten"
            );
            let revoked = number < SEEDED || state.revoked.contains_key(&node(number));
            assert!(revoked, "round {round}: node {number} is forgotten");
        }
    }
    assert!(!lines().is_empty(), "nothing was acknowledged before any of the kills");
}
