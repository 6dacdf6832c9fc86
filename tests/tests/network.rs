//! A network that loses datagrams, stops for a while, and changes the node's address.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits with real deadlines"
)]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use aim_tests::agent::{SEEN, join_string};
use aim_tests::lossy::LossyPath;
use aim_tests::{Agent, Api, Coordinator, until, within};
use serde_json::Value;
use tempfile::TempDir;

struct Lab {
    agent: Agent,
    path: LossyPath,
    admin: Api,
    coordinator: Coordinator,
    _dir: TempDir,
}

/// A node that reaches its coordinator over a path of the test's own.
fn lab() -> Lab {
    lab_with(|_| ())
}

/// A node that reports seldom: its coordinator sends next to nothing, and knows of losses only what the agent tells.
fn calm_lab() -> Lab {
    lab_with(|config| {
        let report = toml::toml! {
            sample_interval_ms = 5000
            interval_ms = 5000
        };
        config.insert("report".into(), report.into());
    })
}

fn lab_with(change: impl FnOnce(&mut toml::Table)) -> Lab {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let path = LossyPath::to(coordinator.link_port);
    let address = path.address();
    let mut agent = Agent::prepare(dir.path(), "node1", |config| {
        let link = config["link"].as_table_mut().unwrap();
        link.insert("addresses".into(), vec![address].into());
        change(config);
    });
    agent.enrol(&join_string(&admin, "node1")).success();
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    Lab { agent, path, admin, coordinator, _dir: dir }
}

impl Lab {
    /// Since when the node is present; another time is another session.
    fn present_since(&self) -> Option<String> {
        let presence = self.agent.presence(&self.admin);
        (presence["state"] == "present").then(|| presence["since"].as_str().unwrap_or_default().to_owned())
    }
}

/// What the coordinator logs when a bound of silence changes.
const WIDE: &str = "bound=15s";
const NARROW: &str = "bound=4.5s";

/// From the signal to the API's word that the node is not present.
fn silence_is_noticed(lab: &mut Lab, deadline: Duration) -> Duration {
    lab.agent.program().signal(rustix::process::Signal::STOP);
    let began = Instant::now();
    let noticed = within(deadline, || lab.present_since().is_none().then_some(began.elapsed()));
    lab.agent.program().signal(rustix::process::Signal::CONT);
    assert!(noticed.is_some(), "a frozen agent was shown as present");
    noticed.unwrap()
}

#[test]
fn flt_16_thirty_per_cent_of_loss_disconnect_nobody_and_narrow_again_when_they_end() {
    let mut lab = calm_lab();
    let since = lab.present_since().unwrap();
    lab.path.lose(30);
    let end = Instant::now() + Duration::from_mins(1);
    let mut absences = 0;
    while Instant::now() < end {
        absences += u32::from(lab.agent.presence(&lab.admin)["state"] == "absent");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(absences, 0, "a node on a lossy path was shown as absent");
    assert_eq!(lab.present_since(), Some(since), "the session was lost");
    assert_eq!(lab.agent.events(&lab.admin, "node.absent").len(), 0);
    assert!(lab.coordinator.program().log().contains(WIDE), "the losses were not noticed");
    lab.path.lose(0);
    until("the bound is narrow again", Duration::from_mins(1), || {
        // Asked meanwhile, so that the API's connection is a living one.
        assert!(lab.present_since().is_some());
        let log = lab.coordinator.program().log();
        (log.rfind(NARROW) > log.rfind(WIDE)).then_some(())
    });
    let noticed = silence_is_noticed(&mut lab, Duration::from_secs(20));
    assert!(noticed < Duration::from_secs(6), "noticed after {noticed:?} on a path that loses nothing");
}

#[test]
fn flt_16_on_a_path_that_loses_much_silence_is_judged_after_15_s() {
    let mut lab = calm_lab();
    lab.path.lose(30);
    until("the losses are noticed", Duration::from_mins(1), || {
        lab.coordinator.program().log().contains(WIDE).then_some(())
    });
    let noticed = silence_is_noticed(&mut lab, Duration::from_secs(20));
    assert!(noticed > Duration::from_secs(10), "noticed after {noticed:?} already");
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
fn qui_11_another_address_keeps_the_session_and_is_logged() {
    let mut lab = lab();
    let since = lab.present_since().unwrap();
    let address = |lab: &Lab| lab.agent.node(&lab.admin)["address"].clone();
    let id = lab.agent.node_id(&lab.admin);
    for moves in 1..=3 {
        let former = address(&lab);
        lab.path.move_agent();
        // The next heartbeat comes from the new address.
        until("the new address is seen", SEEN, || (address(&lab) != former).then_some(()));
        let log = lab.coordinator.program().log();
        let logged = |line: &&str| line.contains("address changed") && line.contains(&id);
        assert_eq!(log.lines().filter(logged).count(), moves, "each move is logged");
        let lost =
            within(Duration::from_secs(5), || (lab.present_since().as_ref() != Some(&since)).then_some(()));
        assert!(lost.is_none(), "a new address ended the session");
    }
    assert_eq!(lab.agent.events(&lab.admin, "node.present").len(), 1);
}

#[test]
fn qui_12_both_ends_notice_a_dead_peer_within_30_s() {
    let lab = lab();
    lab.path.lose(100);
    let began = Instant::now();
    lab.agent.await_presence(&lab.admin, "absent", Duration::from_secs(30));
    let status = || serde_json::from_str::<Value>(&lab.agent.run(&["status", "-o", "json"]).stdout).ok();
    let left = Duration::from_secs(30).saturating_sub(began.elapsed());
    until("the agent notices as well", left, || (status()?["link"] == "disconnected").then_some(()));
}

/// Sends the agent's datagrams again, as they were, so many times.
fn replay(flight: &[Vec<u8>], port: u16, times: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    for _ in 0..times {
        for datagram in flight {
            // A full buffer is a loss like any other.
            let _ = socket.send(datagram);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn qui_02_a_recorded_first_flight_replayed_1000_times_opens_nothing() {
    let mut lab = lab();
    lab.agent.stop();
    lab.agent.await_presence(&lab.admin, "absent", SEEN);
    lab.path.record();
    lab.agent.serve();
    lab.agent.await_presence(&lab.admin, "present", SEEN);
    until("a report of the recorded session", SEEN, || {
        lab.agent.node(&lab.admin)["cpu_utilization"].as_f64()
    });
    let flight = lab.path.recorded();
    assert!(flight.len() > 4, "handshake, Hello and a report");
    lab.agent.stop();
    let absent = lab.agent.await_presence(&lab.admin, "absent", SEEN);
    let facts = |lab: &Lab| {
        let node = lab.agent.node(&lab.admin);
        let values = node["values"].as_array().into_iter().flatten();
        let at: Vec<Value> = values.map(|value| value["at"].clone()).collect();
        (node["last_seen"].clone(), lab.agent.events(&lab.admin, "node.present").len(), at)
    };
    let before = facts(&lab);
    let first = &flight[..1];
    replay(first, lab.coordinator.link_port, 1_000);
    replay(&flight, lab.coordinator.link_port, 1_000 / 10);
    assert!(lab.coordinator.program().is_running());
    let metrics = lab.admin.get("/metrics").text;
    assert!(metrics.contains("aim_link_sessions 0"), "{metrics}");
    assert_eq!(lab.agent.presence(&lab.admin), absent);
    assert_eq!(facts(&lab), before);
    lab.agent.serve();
    lab.agent.await_presence(&lab.admin, "present", SEEN);
}
