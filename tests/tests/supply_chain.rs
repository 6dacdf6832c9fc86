//! What the workspace is built from: the dependency guard refuses what it must (SUP-01), and the sources what they must.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::process::Command;
use std::time::Duration;

use aim_tests::statements::workspace;
use aim_tests::{Finished, run};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_mins(3);

/// Runs the guard under these rules.
fn guard(rules: &str) -> Finished {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("deny.toml");
    fs::write(&file, rules).unwrap();
    run(Command::new(workspace().join("tests/scripts/dependency-guard.sh")).arg(file), DEADLINE)
}

#[test]
fn sup_01_the_guard_refuses_unknown_licences_and_exceptions_without_owner_or_end() {
    let rules = fs::read_to_string(workspace().join("deny.toml")).unwrap();
    let good = guard(&rules);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.stdout.contains("licences"), "{good:?}");
    let until = rules.split("until ").nth(1).unwrap().get(..10).unwrap();
    let mut worse = rules.clone();
    for (from, to) in
        [("    \"ISC\",\n", ""), ("    \"Zlib\",\n", ""), ("owner: ", "who: "), (until, "2026-01-31")]
    {
        assert!(rules.contains(from), "{from}");
        worse = worse.replace(from, to);
    }
    let refused = guard(&worse);
    assert_ne!(refused.code, 0, "{refused:?}");
    for told in ["has the licence 'ISC'", "Zlib", "RUSTSEC-2025-0141\" names no owner", "is past it"] {
        assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    // Where another licence may be chosen it is no fault.
    assert!(!refused.stderr.contains("miniz_oxide"), "{}", refused.stderr);
}
