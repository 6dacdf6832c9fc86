//! A node whose clock is off by an hour (libfaketime moves the wall clock of the agent alone).
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use aim_tests::agent::{SEEN, join_string};
use aim_tests::process::Program;
use aim_tests::{Agent, Coordinator, run, until};
use tempfile::TempDir;

/// Exit code of `aim-agent` for a clock that does not fit the certificates.
const CLOCK: i32 = 13;

fn off_by(command: &mut Command, offset: &str) {
    let library = glob_library().expect("libfaketime.so.1 is missing: apt-get install faketime");
    command.env("LD_PRELOAD", library).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.env("NO_FAKE_STAT", "1");
}

fn glob_library() -> Option<std::path::PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path().join("faketime"));
    folders.map(|folder| folder.join("libfaketime.so.1")).find(|file| file.exists())
}

#[test]
fn a_clock_an_hour_behind_is_named_and_uses_nothing_up() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let join = join_string(&coordinator.admin(), "node1");
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    agent.put_join(&join);
    let mut command = agent.command(&["enroll", "--join-file", &agent.join_file().display().to_string()]);
    off_by(&mut command, "-1h");
    let ended = run(&mut command, Duration::from_mins(1));
    assert_eq!(ended.code, CLOCK, "{ended:?}");
    // With the right clock the same token works.
    agent.enrol(&join).success();
}

#[test]
fn a_clock_an_hour_ahead_is_told_and_values_keep_the_coordinators_ages() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    agent.enrol(&join_string(&admin, "node1")).success();
    let mut command = agent.command(&["run"]);
    off_by(&mut command, "+1h");
    let _running = Program::start("aim-agent", command, &agent.log_path());
    agent.await_presence(&admin, "present", SEEN);
    let node = until("values are shown", SEEN, || {
        let node = agent.node(&admin);
        node["values"].as_array().is_some_and(|values| !values.is_empty()).then_some(node)
    });
    let offset = node["clock_offset_ms"].as_i64().unwrap();
    assert!((offset.abs() - 3_600_000).abs() < 60_000, "the offset is shown as {offset} ms");
    for value in node["values"].as_array().unwrap() {
        assert!(
            value["age_ms"].as_u64().is_some_and(|age| age < 60_000),
            "an age by the node's clock: {value}"
        );
    }
    let conditions = agent.node(&admin)["conditions"].to_string();
    assert!(conditions.contains("clock"), "no condition names the clock: {conditions}");
}

#[test]
fn pki_17_ten_minutes_either_way_break_nothing() {
    for offset in ["-10m", "+10m"] {
        let dir = TempDir::new().unwrap();
        let coordinator = Coordinator::start(dir.path());
        let admin = coordinator.admin();
        let agent = Agent::prepare(dir.path(), "node1", |_| ());
        agent.put_join(&join_string(&admin, "node1"));
        let mut command = agent.command(&["enroll", "--join-file", &agent.join_file().display().to_string()]);
        off_by(&mut command, offset);
        run(&mut command, Duration::from_mins(1)).success();
        let mut command = agent.command(&["run"]);
        off_by(&mut command, offset);
        let _running = Program::start("aim-agent", command, &agent.log_path());
        agent.await_presence(&admin, "present", SEEN);
    }
}
