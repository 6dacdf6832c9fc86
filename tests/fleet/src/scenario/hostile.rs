//! A share of the fleet attacks with good certificates: it must be cut or held back, and the others not disturbed.

use super::{Plan, Role, Scenario, Shape};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hostile",
    about: "a share of the agents floods, sends huge strings, unknown kinds, foreign spools, a million series",
    share: 5,
    plan,
};

fn plan(shape: &Shape) -> Plan {
    Plan { roles: vec![Role::Hostile; shape.touched()], ..Plan::quiet() }
}
