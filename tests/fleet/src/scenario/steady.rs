//! Nothing is done: the baseline, and what a coordinator's memory and CPU time are measured with.

use super::{Plan, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "steady",
    about: "all agents report; no session may be lost",
    share: 100,
    plan: |_| Plan::quiet(),
};
