//! A driver that hangs and a card that is gone: reported as such, while everything else goes on.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use aim_tests::agent::{SEEN, join_string};
use aim_tests::{Agent, Api, Coordinator, until};
use nvidia_ml::Installed;
use serde_json::Value;
use tempfile::TempDir;

/// The issue's bound from a hang to its event.
const TOLD: Duration = Duration::from_secs(15);
const HEALTHY: &str = "{}";

struct Node {
    // The agent ends before the coordinator, and the folder goes last.
    agent: Agent,
    admin: Api,
    nvml: Installed,
    _coordinator: Coordinator,
    _dir: TempDir,
}

/// A node with eight cards that work.
fn node_with_gpus() -> Node {
    let node = node_with(HEALTHY);
    node.await_gpus("eight cards work", |gpus| working(gpus) == 8);
    node
}

/// A node whose library begins with this scenario.
fn node_with(scenario: &str) -> Node {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("nvml");
    std::fs::create_dir(&folder).unwrap();
    let nvml = Installed::into_folder(&folder).unwrap();
    nvml.scenario(scenario).unwrap();
    let coordinator = Coordinator::start(dir.path());
    let admin = coordinator.admin();
    let library = nvml.library.display().to_string();
    let mut agent = Agent::prepare(dir.path(), "gpu1", |config| {
        let gpu = toml::Table::from_iter([("nvml_library".to_owned(), library.into())]);
        config.insert("gpu".into(), gpu.into());
    });
    agent.enrol(&join_string(&admin, "gpu1")).success();
    agent.serve();
    agent.await_presence(&admin, "present", SEEN);
    Node { agent, admin, nvml, _coordinator: coordinator, _dir: dir }
}

fn working(gpus: &[Value]) -> usize {
    gpus.iter().filter(|gpu| gpu["state"] == "working").count()
}

impl Node {
    #[track_caller]
    fn await_gpus(&self, what: &str, holds: impl Fn(&[Value]) -> bool) {
        until(what, Duration::from_secs(30), || {
            let node = self.agent.node(&self.admin);
            let gpus = node["inventory"]["gpus"]["content"]["gpus"].as_array()?.clone();
            holds(&gpus).then_some(())
        });
    }

    /// Age of the newest value of the metric.
    fn age_ms(&self, metric: &str) -> Option<u64> {
        let node = self.agent.node(&self.admin);
        let values = node["values"].as_array()?.iter();
        values.filter(|value| value["metric"] == metric).filter_map(|value| value["age_ms"].as_u64()).min()
    }

    /// The metric is reported with the usual interval of 1 s.
    #[track_caller]
    fn assert_fresh(&self, metric: &str) {
        until(&format!("{metric} is fresh"), Duration::from_secs(10), || {
            self.age_ms(metric).filter(|age| *age < 3000)
        });
    }
}

#[test]
fn flt_32_a_call_that_never_returns_is_an_event_and_everything_else_goes_on() {
    let mut node = node_with_gpus();
    node.nvml.scenario(r#"{"faults":[{"function":"nvmlDeviceGetTemperature","effect":"hang"}]}"#).unwrap();
    let event = node.agent.await_event(&node.admin, "gpu.probe_unresponsive", TOLD);
    assert!(event["message"].as_str().unwrap().contains("nvmlDeviceGetTemperature"), "{event}");
    node.assert_fresh("cpu_utilization_ratio");
    node.assert_fresh("memory_available_bytes");
    let conditions = node.agent.node(&node.admin)["conditions"].to_string();
    assert!(conditions.contains("gpu_probe_unresponsive"), "{conditions}");
    assert_eq!(node.agent.presence(&node.admin)["state"], "present");

    node.nvml.scenario(HEALTHY).unwrap();
    node.agent.await_event(&node.admin, "gpu.probe_recovered", Duration::from_mins(1));
    node.await_gpus("the cards are back", |gpus| working(gpus) == 8);

    // A hang does not hold up the end of the agent either.
    node.nvml.scenario(r#"{"faults":[{"function":"nvmlDeviceGetPowerUsage","effect":"hang"}]}"#).unwrap();
    until("the second hang is noticed", TOLD, || {
        (node.agent.events(&node.admin, "gpu.probe_unresponsive").len() > 1).then_some(())
    });
    node.agent.stop();
}

#[test]
fn flt_33_a_lost_card_is_an_event_and_the_others_go_on() {
    let node = node_with_gpus();
    let lost = r#"{"gpus":[{},{},{"lost":true},{},{},{},{},{}]}"#;
    node.nvml.scenario(lost).unwrap();
    let event = node.agent.await_event(&node.admin, "gpu.lost", TOLD);
    assert_eq!(event["severity"], "critical", "{event}");
    node.await_gpus("one card is lost, seven work", |gpus| {
        gpus.len() == 8 && working(gpus) == 7 && gpus.iter().any(|gpu| gpu["state"] == "lost")
    });
    node.assert_fresh("gpu_temperature_celsius");
    node.nvml.scenario(HEALTHY).unwrap();
    node.agent.await_event(&node.admin, "gpu.recovered", Duration::from_mins(1));
    node.await_gpus("all cards work", |gpus| working(gpus) == 8);
}

#[test]
fn flt_33_a_driver_of_another_version_is_named() {
    let node = node_with(r#"{"init_error":18}"#);
    until("the library's state says mismatch", Duration::from_secs(30), || {
        let shown = node.agent.node(&node.admin);
        (shown["inventory"]["gpus"]["content"]["library"] == "driver_mismatch").then_some(())
    });
    assert_eq!(node.agent.presence(&node.admin)["state"], "present");
}
