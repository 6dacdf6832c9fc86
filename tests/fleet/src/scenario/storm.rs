//! Every session is cut at once, without a Goodbye, and all agents come back by their backoff.

use super::{Action, Plan, Scenario, Shape, Step};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "all sessions are cut at once, at a third of the time",
    share: 100,
    plan,
};

fn plan(shape: &Shape) -> Plan {
    Plan { steps: vec![Step { at: shape.part(33), action: Action::CutAll }], losses: true, ..Plan::quiet() }
}
