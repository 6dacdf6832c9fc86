//! A network that loses datagrams, stops for a while, and changes the node's address.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::time::{Duration, Instant};

use aim_tests::agent::{SEEN, join_string};
use aim_tests::lossy::LossyPath;
use aim_tests::{Agent, Api, Coordinator, until, within};
use tempfile::TempDir;

struct Lab {
    agent: Agent,
    path: LossyPath,
    admin: Api,
    _coordinator: Coordinator,
    _dir: TempDir,
}

/// A node that reaches its coordinator over a path of the test's own.
fn lab() -> Lab {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let path = LossyPath::to(coordinator.link_port);
    let address = path.address();
    let mut agent = Agent::prepare(dir.path(), "node1", |config| {
        let link = config["link"].as_table_mut().unwrap();
        link.insert("addresses".into(), vec![address].into());
    });
    agent.enrol(&join_string(&admin, "node1")).success();
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    Lab { agent, path, admin, _coordinator: coordinator, _dir: dir }
}

impl Lab {
    /// Since when the node is present; another time is another session.
    fn present_since(&self) -> Option<String> {
        let presence = self.agent.presence(&self.admin);
        (presence["state"] == "present").then(|| presence["since"].as_str().unwrap_or_default().to_owned())
    }
}

#[test]
fn flt_16_thirty_per_cent_of_loss_disconnect_nobody() {
    let lab = lab();
    let since = lab.present_since().unwrap();
    lab.path.lose(30);
    let end = Instant::now() + Duration::from_secs(40);
    let mut absences = 0;
    while Instant::now() < end {
        absences += u32::from(lab.agent.presence(&lab.admin)["state"] == "absent");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(absences, 0, "a node on a lossy path was shown as absent");
    assert_eq!(lab.present_since(), Some(since), "the session was lost");
}

#[test]
fn flt_14_a_partition_is_noticed_and_healed_without_a_lost_record() {
    let lab = lab();
    lab.path.lose(100);
    lab.agent.await_presence(&lab.admin, "absent", Duration::from_secs(12));
    lab.path.lose(0);
    // The threat model's 30 s after the heal, and the backoff's own jitter.
    lab.agent.await_presence(&lab.admin, "present", Duration::from_secs(45));
    until("fresh values after the heal", SEEN, || {
        let node = lab.agent.node(&lab.admin);
        node["cpu_utilization"].is_f64().then_some(())
    });
}

#[test]
fn qui_11_another_address_keeps_the_session() {
    let lab = lab();
    let since = lab.present_since().unwrap();
    for _ in 0..3 {
        lab.path.move_agent();
        // The next heartbeat comes from the new address.
        let lost =
            within(Duration::from_secs(5), || (lab.present_since().as_ref() != Some(&since)).then_some(()));
        assert!(lost.is_none(), "a new address ended the session");
    }
}
