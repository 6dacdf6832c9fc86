//! What must hold at the end of a run. Pure.

use crate::scenario::{Plan, Role};
use crate::tally::Tally;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// All were connected once.
    pub(crate) connected: bool,
    /// Agents that should be connected.
    pub(crate) expected: u64,
    /// Agents that are.
    pub(crate) present: u64,
    /// Records without an acknowledgement.
    pub(crate) unacknowledged: u64,
    /// All agents ended in time.
    pub(crate) stopped: bool,
    /// Agents whose task died.
    pub(crate) panicked: u64,
    /// The log of acknowledgements could not be written.
    pub(crate) ack_log_incomplete: bool,
}

impl Ending {
    /// Everybody is there and everything acknowledged.
    pub(crate) const fn is_settled(&self) -> bool {
        self.present >= self.expected && self.unacknowledged == 0
    }
}

/// What did not hold, in words.
pub(crate) fn broken(plan: &Plan, tally: &Tally, ending: Ending) -> Vec<String> {
    let has = |role: Role| plan.roles.contains(&role);
    let (lost, refused) = (tally.lost.get(), tally.refused.get());
    let misbehaved = tally.cut.get() + tally.held_back.get();
    let checks = [
        (!ending.connected, "not all agents were connected in time at the beginning".to_owned()),
        (lost > 0 && !plan.losses, format!("{lost} sessions ended though nobody here wished it")),
        (refused > 0, format!("the coordinator refused identities {refused} times")),
        (
            ending.present < ending.expected,
            format!("{} of {} agents are connected at the end", ending.present, ending.expected),
        ),
        (
            ending.unacknowledged > 0,
            format!("{} records were not acknowledged by the end", ending.unacknowledged),
        ),
        (
            tally.records_lost.get() > 0,
            format!("{} records found no room in their spools", tally.records_lost.get()),
        ),
        (
            tally.unpunished.get() > 0,
            format!("{} attacks were neither cut nor held back", tally.unpunished.get()),
        ),
        (has(Role::SlowSender) && tally.cut.get() == 0, "no slow sender was cut".to_owned()),
        (has(Role::Hostile) && misbehaved == 0, "no attack was seen through".to_owned()),
        (!ending.stopped, "not all agents ended in time".to_owned()),
        (ending.panicked > 0, format!("the tasks of {} agents died", ending.panicked)),
        (ending.ack_log_incomplete, "the log of acknowledgements is incomplete".to_owned()),
    ];
    checks.into_iter().filter_map(|(is_broken, words)| is_broken.then_some(words)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::{Shape, named};

    fn plan(name: &str) -> Plan {
        let shape = Shape { nodes: 100, seed: 1, duration: Duration::from_mins(1), share: 10 };
        (named(name).unwrap().plan)(&shape)
    }

    const WELL: Ending = Ending {
        connected: true,
        expected: 100,
        present: 100,
        unacknowledged: 0,
        stopped: true,
        panicked: 0,
        ack_log_incomplete: false,
    };

    #[test]
    fn a_lost_session_is_forgiven_only_where_the_scenario_takes_them_away() {
        let tally = Tally::default();
        assert!(broken(&plan("steady"), &tally, WELL).is_empty());
        tally.lost.add(1);
        assert_eq!(broken(&plan("steady"), &tally, WELL).len(), 1);
        assert!(broken(&plan("storm"), &tally, WELL).is_empty());
    }

    #[test]
    fn everything_else_must_hold_everywhere() {
        let tally = Tally::default();
        let ending = Ending {
            connected: false,
            present: 99,
            unacknowledged: 1,
            stopped: false,
            panicked: 1,
            ack_log_incomplete: true,
            ..WELL
        };
        tally.refused.add(1);
        tally.unpunished.add(1);
        tally.records_lost.add(1);
        assert_eq!(broken(&plan("storm"), &tally, ending).len(), 9);
        assert_eq!(broken(&plan("slow"), &Tally::default(), WELL), ["no slow sender was cut"]);
        assert_eq!(broken(&plan("hostile"), &Tally::default(), WELL), ["no attack was seen through"]);
    }
}
