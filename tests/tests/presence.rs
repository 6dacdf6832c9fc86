//! Who is there, who is not, and why.
#![expect(clippy::disallowed_methods, reason = "a test fails by panicking, and waits with real deadlines")]

use std::time::{Duration, Instant};

use aim_tests::agent::SEEN;
use aim_tests::{Agent, Coordinator};
use serde_json::Value;
use tempfile::TempDir;

/// The 5 s, and one for the tests' own calls on a loaded machine.
const NOTICED: Duration = Duration::from_secs(6);

fn cause(presence: &Value) -> &str {
    presence["cause"].as_str().unwrap_or_default()
}

#[test]
fn qui_12_a_killed_agent_is_absent_with_cause_unknown_within_5_s() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    agent.kill();
    let presence = agent.await_presence(&admin, "absent", NOTICED);
    assert_eq!(cause(&presence), "unknown");
    let absent = agent.await_event(&admin, "node.absent", SEEN);
    assert!(absent["message"].as_str().unwrap().contains("unknown"), "{absent}");
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
}

#[test]
fn a_stopped_agent_says_so() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    agent.stop();
    let presence = agent.await_presence(&admin, "absent", NOTICED);
    assert_eq!(cause(&presence), "agent stopped");
}

#[test]
fn a_frozen_agent_is_silent_and_comes_back_by_itself() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    agent.program().signal(rustix::process::Signal::STOP);
    let gone = aim_tests::within(NOTICED, || (agent.presence(&admin)["state"] != "present").then_some(()));
    agent.program().signal(rustix::process::Signal::CONT);
    assert!(gone.is_some(), "a frozen agent was shown as present");
    agent.await_presence(&admin, "present", Duration::from_secs(45));
}

#[test]
fn after_a_restart_of_the_coordinator_nothing_old_is_shown_as_current() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let mut agent = Agent::start(dir.path(), "node1", &coordinator);
    agent.kill();
    coordinator.kill();
    coordinator.serve();
    let admin = coordinator.admin();
    let node = agent.node(&admin);
    assert_ne!(node["presence"]["state"], "present", "{node}");
    assert!(node["cpu_utilization"].is_null(), "a value of before the restart is shown as current: {node}");
}

#[test]
fn flt_01_a_killed_coordinator_serves_again_and_its_agents_come_back() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::start(dir.path());
    let agent = Agent::start(dir.path(), "node1", &coordinator);
    coordinator.kill();
    let began = Instant::now();
    coordinator.serve();
    println!("serving again after {:?}", began.elapsed());
    // The threat model's 30 s for everybody to be back; backoff alone may take that long.
    agent.await_presence(&coordinator.admin(), "present", Duration::from_secs(40));
}
