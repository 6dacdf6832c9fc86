//! Disks that cannot be written, and files that were damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aim_tests::agent::{SEEN, join_string};
use aim_tests::{Agent, Api, Coordinator, run, until};
use tempfile::TempDir;

/// A folder that cannot be written until this is dropped: by a read-only mount for root, by its mode for others.
struct ReadOnly(PathBuf);

fn mount(arguments: &[&str], folder: &Path) {
    run(Command::new("mount").args(arguments).arg(folder), Duration::from_secs(20)).success();
}

impl ReadOnly {
    fn make(folder: &Path) -> Self {
        let text = folder.display().to_string();
        if rustix::process::geteuid().is_root() {
            mount(&["--bind", &text], folder);
            mount(&["-o", "remount,bind,ro"], folder);
        } else {
            set_mode(folder, 0o500);
        }
        assert!(fs::write(folder.join("probe"), "").is_err(), "{text} can still be written");
        Self(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.0), Duration::from_secs(20));
        } else {
            set_mode(&self.0, 0o700);
        }
    }
}

fn set_mode(folder: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn await_condition(agent: &Agent, api: &Api, name: &str) {
    until(&format!("{} has the condition {name}", agent.name), Duration::from_secs(30), || {
        agent.node(api)["conditions"].as_array()?.iter().any(|condition| condition == name).then_some(())
    });
}

#[test]
fn flt_09_a_read_only_spool_is_a_condition_and_the_node_goes_on() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    agent.stop();
    let read_only = ReadOnly::make(&agent.state_dir().join("spool"));
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    await_condition(&agent, &admin, "spool_unavailable");
    until("gauges go on", SEEN, || agent.node(&admin)["cpu_utilization"].is_f64().then_some(()));
    agent.stop();
    drop(read_only);
    agent.serve();
    until("the condition is over", Duration::from_secs(30), || {
        let node = agent.node(&admin);
        let over = !node["conditions"].to_string().contains("spool_unavailable");
        (node["presence"]["state"] == "present" && over).then_some(())
    });
}

#[test]
fn flt_41_a_damaged_spool_is_set_aside_and_told() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    agent.kill();
    coordinator.stop();
    // Without a coordinator the start of the agent is a record that stays in the spool.
    agent.serve();
    let segments = || -> Vec<PathBuf> {
        let entries = fs::read_dir(agent.state_dir().join("spool")).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
            .collect()
    };
    let damaged = until("a record is in the spool", Duration::from_secs(30), || {
        segments().into_iter().find(|path| fs::metadata(path).is_ok_and(|file| file.len() > 100))
    });
    agent.kill();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[8..16].fill(0xff);
    fs::write(&damaged, bytes).unwrap();

    agent.serve();
    coordinator.serve();
    let admin = coordinator.admin();
    agent.await_presence(&admin, "present", Duration::from_mins(1));
    agent.await_event(&admin, "agent.spool_quarantined", Duration::from_secs(30));
    let kept = fs::read_dir(agent.state_dir().join("spool")).unwrap().flatten();
    assert!(
        kept.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("quarantined")),
        "nothing was set aside"
    );
}

#[test]
fn flt_09_a_coordinator_without_a_writable_disk_does_not_start_and_says_why() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    coordinator.stop();
    let read_only = ReadOnly::make(&coordinator.state_dir());
    let ended = coordinator.serve_refused();
    assert!(ended.code == 78 && ended.stderr.contains("state"), "{ended:?}");
    drop(read_only);
    coordinator.serve();
}

#[test]
fn a_damaged_identity_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let agent = Agent::prepare(dir.path(), "node1", |_| ());
    agent.enrol(&join_string(&coordinator.admin(), "node1")).success();
    let file = agent.state_dir().join("identity.json");
    let good = fs::read(&file).unwrap();
    for damaged in [&good[..good.len() / 2], b"", b"{}"] {
        fs::write(&file, damaged).unwrap();
        let ended = agent.run(&["run"]);
        assert!(ended.code != 0 && ended.stderr.contains("identity.json"), "{ended:?}");
        assert_eq!(fs::read(&file).unwrap(), damaged, "the damaged file was changed");
    }
    fs::write(&file, &good).unwrap();
    let mut agent = agent;
    agent.serve();
    agent.await_presence(&coordinator.admin(), "present", SEEN);
}
