//! Session keys stay in memory, whatever the environment asks for.

use aim_tests::agent::{SEEN, join_string};
use aim_tests::{Agent, Coordinator};
use tempfile::TempDir;

#[test]
fn qui_04_no_program_writes_the_keys_of_its_sessions() {
    let dir = TempDir::new().unwrap();
    let keys = dir.path().join("keys.log");
    let mut coordinator = Coordinator::prepare(dir.path(), |_| ());
    coordinator.serve_with(|command| {
        command.env("SSLKEYLOGFILE", &keys);
    });
    let admin = coordinator.admin();
    let mut agent = Agent::prepare(dir.path(), "node1", |_| ());
    agent.put_join(&join_string(&admin, "node1"));
    let join = agent.join_file().display().to_string();
    let mut enrolling = agent.command(&["enroll", "--join-file", &join]);
    aim_tests::run(enrolling.env("SSLKEYLOGFILE", &keys), SEEN).success();
    agent.serve_with(|command| {
        command.env("SSLKEYLOGFILE", &keys);
    });
    agent.await_presence(&admin, "present", SEEN);
    assert!(!keys.exists(), "{}", keys.display());
}
