//! A share of the fleet goes deaf: every packet of it is lost, both ways, until the network heals.

use super::{Action, Plan, Scenario, Shape, Step, per_socket};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "partition",
    about: "a share of the agents loses every packet for a third of the time, then the network heals",
    share: 25,
    plan,
};

fn plan(shape: &Shape) -> Plan {
    // Whole sockets go deaf.
    let agents = shape.touched().next_multiple_of(per_socket(shape.nodes)).min(shape.nodes);
    let steps = vec![
        Step { at: shape.part(20), action: Action::Deafen(agents) },
        Step { at: shape.part(53), action: Action::Heal },
    ];
    Plan { steps, losses: true, ..Plan::quiet() }
}
