//! A share of the fleet leaves and returns each minute: most with a Goodbye, some without a packet.

use std::time::Duration;

use super::{Action, Leaving, Plan, Scenario, Shape, Step};
use crate::random::Random;

/// One in so many leaves without a packet.
const SILENT_ONE_IN: usize = 4;
/// Each that may leave silently has a socket of its own, so that it can fall silent alone.
const MAX_OWN_SOCKETS: usize = 500;
/// Longest time away.
const LONGEST: Duration = Duration::from_secs(40);
/// Nobody leaves in the last part of the time, so that all are back at the end.
const LAST_LEAVE_PERCENT: u32 = 70;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "churn",
    about: "a share of the agents leaves and returns each minute, one in four without a Goodbye",
    share: 10,
    plan,
};

fn plan(shape: &Shape) -> Plan {
    let mut random = Random::new(shape.seed);
    let own_sockets = (shape.touched() / SILENT_ONE_IN).min(MAX_OWN_SOCKETS);
    let last = shape.part(LAST_LEAVE_PERCENT);
    let longest = LONGEST.min(shape.duration.saturating_sub(last));
    let per_minute = u64::try_from(shape.touched()).unwrap_or(u64::MAX).max(1);
    let every = Duration::from_mins(1) / u32::try_from(per_minute).unwrap_or(u32::MAX);
    let mut back_at = vec![Duration::ZERO; shape.nodes];
    let mut steps = Vec::new();
    let mut at = every;
    while at <= last {
        let (agent, leaving) = candidate(&mut random, shape.nodes, own_sockets);
        if let Some(back) = back_at.get_mut(agent).filter(|back| **back < at) {
            let away = random.below(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
            *back = at + Duration::from_millis(away);
            steps.push(Step { at, action: Action::Leave(agent, leaving) });
            steps.push(Step { at: *back, action: Action::Return(agent) });
        }
        at += every;
    }
    steps.sort_by_key(|step| step.at);
    Plan { own_sockets, steps, ..Plan::quiet() }
}

fn candidate(random: &mut Random, nodes: usize, own_sockets: usize) -> (usize, Leaving) {
    let mut below = |limit: usize| {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(random.below(limit)).unwrap_or_default()
    };
    if own_sockets > 0 && below(SILENT_ONE_IN) == 0 {
        (below(own_sockets), Leaving::Silent)
    } else {
        (own_sockets + below(nodes - own_sockets), Leaving::Clean)
    }
}
