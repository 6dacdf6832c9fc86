//! What was acknowledged is in the store, once, whoever is killed when. The oracle is the agent's own log.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use aim_tests::{Agent, Coordinator, until};
use tempfile::TempDir;

const ROUNDS: u64 = 50;
/// Longest time from a kill to the next.
const LONGEST_ROUND_MS: u64 = 800;

/// A small generator, so that the printed seed repeats the rounds.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn seed() -> u64 {
    if let Ok(seed) = std::env::var("AIM_SEED") {
        return seed.parse().unwrap();
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// The stored records: how many rows each (spool, sequence) has.
fn stored(coordinator: &Coordinator) -> BTreeMap<(String, u64), u64> {
    let records = aim_tests::database::spool_records(&coordinator.database());
    records.into_iter().map(|(spool, sequence, rows)| ((spool, sequence), rows)).collect()
}

#[test]
fn inv_1_what_was_acknowledged_is_stored_once_through_50_rounds_of_kills() {
    let seed = seed();
    println!("AIM_SEED={seed}");
    let mut random = Random(seed);
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    for round in 0..ROUNDS {
        // Each start of the agent makes an event, so that every round has something to lose.
        if random.below(3) == 0 {
            coordinator.kill();
            coordinator.serve_without_waiting();
        } else {
            agent.kill();
            agent.serve();
        }
        let pause = Duration::from_millis(random.below(LONGEST_ROUND_MS));
        // A random moment is the point of the round, not a wait for anything.
        std::thread::sleep(pause);
        assert!(
            coordinator.program().is_running() && agent.program().is_running(),
            "round {round}: a program ended"
        );
    }
    coordinator.await_ready();
    let admin = coordinator.admin();
    agent.await_presence(&admin, "present", Duration::from_mins(1));
    until("everything is acknowledged that the last start recorded", Duration::from_secs(30), || {
        let newest = agent.acknowledged().into_iter().map(|(_, sequence)| sequence).max()?;
        let kept = stored(&coordinator);
        kept.keys().all(|(_, sequence)| *sequence <= newest).then_some(())
    });

    agent.stop();
    let acknowledged = agent.acknowledged();
    assert!(
        acknowledged.len() as u64 > ROUNDS / 4,
        "only {} acknowledgements: the rounds prove little",
        acknowledged.len()
    );
    let stored = stored(&coordinator);
    for (key, rows) in &stored {
        assert_eq!(*rows, 1, "{key:?} is stored {rows} times (seed {seed})");
    }
    // An acknowledgement covers everything up to its sequence.
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    for (spool, sequence) in acknowledged {
        let entry = highest.entry(spool).or_default();
        *entry = sequence.max(*entry);
    }
    for (spool, newest) in &highest {
        let first = stored.keys().filter(|(known, _)| known == spool).map(|(_, sequence)| *sequence).min();
        let first = first.unwrap_or_else(|| panic!("nothing is stored of spool {spool} (seed {seed})"));
        for sequence in first..=*newest {
            assert!(
                stored.contains_key(&(spool.clone(), sequence)),
                "{spool} {sequence} was acknowledged and is lost (seed {seed})"
            );
        }
    }
}
