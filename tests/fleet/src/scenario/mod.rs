//! What a run does to its fleet. Pure: a shape and a seed in, a plan of steps out; one file for each scenario.

mod churn;
mod hostile;
mod partition;
mod restart;
mod slow;
mod steady;
mod storm;

use std::time::Duration;

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    steady::SCENARIO,
    churn::SCENARIO,
    restart::SCENARIO,
    partition::SCENARIO,
    storm::SCENARIO,
    slow::SCENARIO,
    hostile::SCENARIO,
];

/// Agents that share one socket at most: few descriptors, and no socket that must carry all.
const PER_SOCKET: usize = 500;
/// A share of a fleet is rounded to whole sockets: there are at least so many.
const MIN_SOCKETS: usize = 20;

/// A scenario.
pub(crate) struct Scenario {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// Its share in percent unless told otherwise.
    pub(crate) share: u8,
    /// Its plan.
    pub(crate) plan: fn(&Shape) -> Plan,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Agents.
    pub(crate) nodes: usize,
    /// The fleet's seed.
    pub(crate) seed: u64,
    /// From the moment at which all are connected to the end.
    pub(crate) duration: Duration,
    /// Percent of the fleet that the scenario touches.
    pub(crate) share: u8,
}

impl Shape {
    /// The agents that the share stands for; at least one.
    pub(crate) fn touched(&self) -> usize {
        (self.nodes * usize::from(self.share)).div_ceil(100).clamp(1, self.nodes.max(1))
    }

    /// So much of the duration.
    fn part(&self, percent: u32) -> Duration {
        self.duration * percent / 100
    }
}

/// What an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// As a real one.
    Honest,
    /// Sends one byte a second.
    SlowSender,
    /// Reads one byte a second.
    SlowReader,
    /// Attacks, again and again.
    Hostile,
}

impl Role {
    /// It must stay connected, and whatever it keeps must be acknowledged.
    pub(crate) const fn is_honest(self) -> bool {
        matches!(self, Self::Honest | Self::SlowReader)
    }
}

/// How an agent leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// With a Goodbye.
    Clean,
    /// Without a packet, as when the power fails.
    Silent,
}

/// One thing to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// This agent goes.
    Leave(usize, Leaving),
    /// This agent comes back.
    Return(usize),
    /// Every session is cut at once; the agents come back by their backoff.
    CutAll,
    /// The sockets of the first so many agents lose every packet, both ways.
    Deafen(usize),
    /// All sockets work again.
    Heal,
}

/// A thing with its moment, counted from when all are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// When.
    pub(crate) at: Duration,
    /// What.
    pub(crate) action: Action,
}

/// A run's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Who is not honest: the first agents.
    pub(crate) roles: Vec<Role>,
    /// The first so many agents have a socket of their own.
    pub(crate) own_sockets: usize,
    /// In the order of time.
    pub(crate) steps: Vec<Step>,
    /// Honest agents may lose sessions.
    pub(crate) losses: bool,
}

impl Plan {
    /// Nothing happens.
    fn quiet() -> Self {
        Self { roles: Vec::new(), own_sockets: 0, steps: Vec::new(), losses: false }
    }

    /// What an agent is.
    pub(crate) fn role(&self, agent: usize) -> Role {
        self.roles.get(agent).copied().unwrap_or(Role::Honest)
    }
}

/// Which socket an agent uses.
pub(crate) fn socket_of(agent: usize, own_sockets: usize, nodes: usize) -> usize {
    match agent.checked_sub(own_sockets) {
        None => agent,
        Some(rest) => own_sockets + rest / per_socket(nodes),
    }
}

fn per_socket(nodes: usize) -> usize {
    (nodes / MIN_SOCKETS).clamp(1, PER_SOCKET)
}

/// The scenario of this name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_few_sockets() {
        let names: BTreeSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        let sockets: BTreeSet<_> = (0..20_000).map(|agent| socket_of(agent, 0, 20_000)).collect();
        assert_eq!(sockets.len(), 40);
        let sockets: BTreeSet<_> = (0..200).map(|agent| socket_of(agent, 10, 200)).collect();
        assert_eq!(sockets.len(), 10 + 19);
    }

    proptest! {
        #[test]
        fn plans_repeat_by_seed_name_agents_that_exist_and_leave_nobody_away(
            nodes in 1_usize..2_000, seed: u64, seconds in 1_u64..1_000, share in 1_u8..=100,
        ) {
            let shape = Shape { nodes, seed, duration: Duration::from_secs(seconds), share };
            for scenario in ALL {
                let plan = (scenario.plan)(&shape);
                prop_assert_eq!(&plan, &(scenario.plan)(&shape));
                prop_assert!(plan.own_sockets <= nodes && plan.roles.len() <= nodes, "{}", scenario.name);
                prop_assert!(plan.steps.is_sorted_by_key(|step| step.at), "{}", scenario.name);
                let mut away = BTreeSet::new();
                let mut deaf = false;
                for step in &plan.steps {
                    prop_assert!(step.at <= shape.duration, "{} at {:?}", scenario.name, step.at);
                    match step.action {
                        Action::Leave(agent, leaving) => {
                            prop_assert!(agent < nodes && away.insert(agent), "{agent} leaves twice");
                            prop_assert!(leaving == Leaving::Clean || agent < plan.own_sockets);
                        }
                        Action::Return(agent) => prop_assert!(away.remove(&agent), "{agent} was there"),
                        Action::Deafen(agents) => {
                            prop_assert!(agents <= nodes);
                            deaf = true;
                        }
                        Action::Heal => deaf = false,
                        Action::CutAll => {}
                    }
                }
                prop_assert!(away.is_empty() && !deaf, "{} ends with agents away", scenario.name);
            }
        }
    }
}
