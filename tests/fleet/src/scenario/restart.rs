//! The coordinator is restarted by whoever runs this: all sessions end, and everybody must come back.

use super::{Plan, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "restart",
    about: "restart the coordinator meanwhile; tells the time until all agents are back",
    share: 100,
    plan: |_| Plan { losses: true, ..Plan::quiet() },
};
