//! The fleet simulator: hundreds of agents on the real link, and what the coordinator says of them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use aim_tests::{Api, Coordinator, Fleet, until};
use serde_json::Value;
use tempfile::TempDir;

const NODES: u32 = 200;
/// Enrolment and first connections of them all, on a loaded machine and without optimisation.
const PRESENT_WITHIN: Duration = Duration::from_mins(3);

/// Every node of the streamed list.
fn list(api: &Api) -> Vec<Value> {
    let text = api.get("/api/v1/nodes?all=true").text;
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(nodes: &[Value]) -> BTreeSet<String> {
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn await_all_present(api: &Api, fleet: &mut Fleet) -> Vec<Value> {
    until("all nodes are present with inventory and live values", PRESENT_WITHIN, || {
        assert!(fleet.program().is_running(), "the simulator ended");
        let nodes = list(api);
        let is_live = |node: &&Value| {
            let is_whole = node["gpus_total"] == 8 && node["cpu_utilization"].is_number();
            node["presence"]["state"] == "present" && is_whole
        };
        (nodes.iter().filter(is_live).count() == NODES as usize).then_some(nodes)
    })
}

#[test]
fn inv_1_200_nodes_survive_a_storm_and_what_was_acknowledged_is_stored() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let mut api = coordinator.admin();
    let arguments = ["--scenario", "storm", "--duration", "24", "--ramp", "2", "--faults-per-hour", "300"];
    let mut fleet = Fleet::start(dir.path(), &coordinator, NODES, &arguments);

    let nodes = await_all_present(&api, &mut fleet);
    assert_eq!(names(&nodes), Fleet::names(NODES), "the list is exact");
    for node in &nodes {
        assert!(node["memory_used_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{node}");
    }
    let (code, summary) = fleet.finish();
    assert_eq!((code, &summary["broken"]), (0, &Value::Array(Vec::new())), "{summary:#}");
    let number = |object: &str, name: &str| summary[object][name].as_u64().unwrap();
    // A starved machine may lose and open some more.
    assert!(number("sessions", "opened") >= u64::from(2 * NODES), "{summary:#}");
    let missing = summary["recoveries"]["longest"]["most_missing"].as_u64();
    assert!(missing.is_some_and(|missing| missing > u64::from(NODES / 2)), "{summary:#}");
    assert_eq!(number("records", "all"), number("records", "all_acknowledged"), "{summary:#}");
    assert!(number("records", "events") > u64::from(NODES), "{summary:#}");

    // The simulator's own account equals the store's rows: nothing lost, nothing doubled, nothing from nowhere.
    let (mut acknowledged, mut stored) =
        (fleet.acknowledged(), aim_tests::database::records(&coordinator.database()));
    acknowledged.sort_unstable();
    stored.sort_unstable();
    assert_eq!(acknowledged.len() as u64, number("records", "all_acknowledged"));
    assert_eq!(acknowledged, stored);

    // The run may have taken longer than an access token lives.
    api.login("admin", &coordinator.password());
    let nodes = list(&api);
    assert_eq!(names(&nodes), Fleet::names(NODES));
    for node in &nodes {
        let presence = &node["presence"];
        assert_eq!(
            (&presence["state"], &presence["cause"]),
            (&"absent".into(), &"agent stopped".into()),
            "{node}"
        );
    }
}

#[test]
fn dos_04_hostile_nodes_are_cut_or_held_back_and_the_others_lose_no_session() {
    let dir = TempDir::new().unwrap();
    let coordinator = Coordinator::start(dir.path());
    let arguments = ["--scenario", "hostile", "--share", "30", "--duration", "40", "--ramp", "1"];
    let mut fleet = Fleet::start(dir.path(), &coordinator, 20, &arguments);
    let (code, summary) = fleet.finish();
    assert_eq!((code, &summary["broken"]), (0, &Value::Array(Vec::new())), "{summary:#}");
    let number = |name: &str| summary["misbehaviour"][name].as_u64().unwrap();
    assert!(number("cut") >= 6 && number("held_back") >= 1, "{summary:#}");
    assert_eq!((number("unpunished"), &summary["sessions"]["lost"]), (0, &0.into()), "{summary:#}");
}
