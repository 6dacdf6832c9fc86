//! A share of the fleet is slow: half of it sends one byte a second, half reads one.

use super::{Plan, Role, Scenario, Shape};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow",
    about: "a share of the agents sends or reads one byte a second; the senders must be cut, nobody else",
    share: 10,
    plan,
};

fn plan(shape: &Shape) -> Plan {
    let role = |agent| if agent % 2 == 0 { Role::SlowSender } else { Role::SlowReader };
    Plan { roles: (0..shape.touched()).map(role).collect(), ..Plan::quiet() }
}
