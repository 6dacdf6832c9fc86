//! All collectors together: runs a round, remembers how each does, and says so in the inventory and by events.

use aim_common::event::{EventKind, Severity};
use aim_common::inventory::{AgentFacts, CollectorState, CollectorStatus, List, Section, Text};

use aim_common::protocol::{Condition, GpuProcesses};
use aim_common::units::EpochMs;

use super::standing::{Degraded, Standing};
use super::{CollectError, Collector, EventDraft, SampleSink};

/// The collectors of this agent.
pub struct CollectorSet {
    members: Vec<Member>,
    standing: Standing,
}

struct Member {
    collector: Box<dyn Collector>,
    /// How the last sample and the last inventory went.
    sampled: CollectorState,
    inventoried: CollectorState,
    /// What it last said the node is: kept while it fails, dropped when its source is gone.
    section: Option<Section>,
}

impl CollectorSet {
    /// Of these collectors, usually [`super::all`].
    pub fn new(collectors: Vec<Box<dyn Collector>>) -> Self {
        let member = |collector| Member {
            collector,
            sampled: CollectorState::Working,
            inventoried: CollectorState::Working,
            section: None,
        };
        Self { members: collectors.into_iter().map(member).collect(), standing: Standing::default() }
    }

    /// One round: the numbers of this moment, and an event for each collector that begins or ceases to fail.
    pub fn sample(&mut self, sink: &mut SampleSink) {
        for member in &mut self.members {
            let former = member.state();
            member.sampled = state(member.collector.sample(sink));
            member.tell(&former, sink);
        }
    }

    /// Every section as it is now, the agent's own last; events as in [`Self::sample`].
    pub fn inventory(&mut self, sink: &mut SampleSink) -> Vec<Section> {
        for member in &mut self.members {
            let former = member.state();
            match member.collector.inventory() {
                Ok(section) => {
                    member.section = section;
                    member.inventoried = CollectorState::Working;
                }
                Err(error) => {
                    if matches!(error, CollectError::NotPresent(_)) {
                        member.section = None;
                    }
                    member.inventoried = state(Err(error));
                }
            }
            member.tell(&former, sink);
        }
        let mut sections: Vec<Section> =
            self.members.iter().filter_map(|member| member.section.clone()).collect();
        sections.push(self.agent());
        sections
    }

    /// How each collector does, by its name.
    pub fn states(&self) -> impl Iterator<Item = (&'static str, CollectorState)> {
        self.members.iter().map(|member| (member.collector.name(), member.state()))
    }

    /// The degraded modes at this moment: those that the sources see, and a source that hangs or fails itself.
    pub fn conditions(&mut self, now: EpochMs) -> Vec<Condition> {
        let mut seen = Vec::new();
        let mut own = Vec::new();
        for member in &self.members {
            let of_source = member.collector.conditions();
            // A source that says what is wrong with it says it better.
            own.extend(of_source.is_empty().then(|| member.degraded()).flatten());
            seen.extend(of_source);
        }
        self.standing.replace(now, own);
        seen.extend(self.standing.list());
        seen
    }

    /// The processes on the GPUs, where they changed since the last call.
    pub fn gpu_processes(&mut self) -> Option<GpuProcesses> {
        self.members.iter_mut().find_map(|member| member.collector.gpu_processes())
    }

    /// All events given so far are durable. A source that cannot note this repeats them after a restart, and the
    /// coordinator drops what it has.
    pub fn committed(&mut self) {
        for member in &mut self.members {
            if let Err(error) = member.collector.committed() {
                tracing::warn!(collector = member.collector.name(), %error, "cannot note what is durable");
            }
        }
    }

    /// What each collector needs beyond any user's rights: its name, the right, what is lost without it.
    pub fn privileges(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        let of_member = |member: &Member| (member.collector.name(), member.collector.privileges());
        let named = self.members.iter().map(of_member);
        named.flat_map(|(name, needs)| needs.iter().map(move |(right, loss)| (name, *right, *loss)))
    }

    fn agent(&self) -> Section {
        let collectors = self.states().map(|(name, state)| CollectorStatus { name: name.into(), state });
        Section::Agent(AgentFacts {
            version: env!("CARGO_PKG_VERSION").into(),
            collectors: List::truncated(collectors.collect()).0,
        })
    }
}

impl Member {
    /// The worse of sampling and inventory.
    fn state(&self) -> CollectorState {
        let worse =
            if rank(&self.sampled) >= rank(&self.inventoried) { &self.sampled } else { &self.inventoried };
        worse.clone()
    }

    fn degraded(&self) -> Option<Degraded> {
        let (name, detail) = match self.state() {
            CollectorState::Working | CollectorState::NotPresent | CollectorState::NeedsPrivilege(_) => {
                return None;
            }
            CollectorState::Failing(why) => ("collector_failing", why.to_string()),
            CollectorState::Unresponsive => (
                "collector_unresponsive",
                "a read does not return: its driver or firmware may be stuck; see the kernel log".to_owned(),
            ),
        };
        Some(Degraded { name, subject: self.collector.name().to_owned(), detail, since: None })
    }

    fn tell(&self, former: &CollectorState, sink: &mut SampleSink) {
        let now = self.state();
        let (kind, severity, message) = match (former, &now) {
            (CollectorState::Failing(_), CollectorState::Failing(_)) => return,
            (_, CollectorState::Failing(why)) => {
                (EventKind::CollectorFailed, Severity::Warning, why.as_str())
            }
            (CollectorState::Failing(_), _) => {
                (EventKind::CollectorRecovered, Severity::Info, "it no longer fails")
            }
            // A source that is absent or not for this user is how the node is; one that hangs says so itself.
            _ => return,
        };
        let name = self.collector.name();
        sink.event(EventDraft {
            kind,
            severity,
            occurred: None,
            subject: name.to_owned(),
            message: format!("collector {name}: {message}"),
            attributes: Vec::new(),
        });
    }
}

fn state(result: Result<(), CollectError>) -> CollectorState {
    match result {
        Ok(()) => CollectorState::Working,
        Err(CollectError::NotPresent(_)) => CollectorState::NotPresent,
        Err(CollectError::Unresponsive { .. }) => CollectorState::Unresponsive,
        Err(CollectError::NeedsPrivilege { privilege, .. }) => {
            CollectorState::NeedsPrivilege(privilege.into())
        }
        Err(error) => CollectorState::Failing(Text::truncated(&error.to_string())),
    }
}

fn rank(state: &CollectorState) -> u8 {
    match state {
        CollectorState::Working => 0,
        CollectorState::NotPresent => 1,
        CollectorState::NeedsPrivilege(_) => 2,
        CollectorState::Failing(_) => 3,
        CollectorState::Unresponsive => 4,
    }
}

#[cfg(test)]
mod tests {
    use aim_common::inventory::{Network, SectionTag};

    use super::*;

    /// Answers with what it is told, in turn.
    struct Scripted(Vec<Result<(), CollectError>>);

    impl Collector for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn inventory(&mut self) -> Result<Option<Section>, CollectError> {
            self.0.remove(0).map(|()| Some(Section::Network(Network { interfaces: List::default() })))
        }

        fn sample(&mut self, _sink: &mut SampleSink) -> Result<(), CollectError> {
            self.0.remove(0)
        }
    }

    fn broken() -> Result<(), CollectError> {
        Err(CollectError::Malformed { what: "/proc/x".to_owned(), reason: "noise".to_owned() })
    }

    fn absent() -> Result<(), CollectError> {
        Err(CollectError::NotPresent("/proc/x".to_owned()))
    }

    #[test]
    fn a_collector_that_begins_to_fail_is_one_event_and_its_recovery_another() {
        let script = vec![Ok(()), broken(), broken(), Ok(()), absent()];
        let rounds = script.len();
        let mut set = CollectorSet::new(vec![Box::new(Scripted(script))]);
        let mut sink = SampleSink::default();
        for _ in 0..rounds {
            set.sample(&mut sink);
        }
        let kinds: Vec<_> = sink.events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::CollectorFailed, EventKind::CollectorRecovered]);
        assert_eq!(set.states().next(), Some(("scripted", CollectorState::NotPresent)));
    }

    #[test]
    fn a_collector_that_hangs_or_fails_is_a_condition_until_it_works_again() {
        let hangs =
            || Err(CollectError::Unresponsive { what: "scripted".to_owned(), call: "read".to_owned() });
        let script = vec![hangs(), hangs(), broken(), Ok(()), absent()];
        let rounds = script.len();
        let mut set = CollectorSet::new(vec![Box::new(Scripted(script))]);
        let mut sink = SampleSink::default();
        let seen: Vec<_> = (1..)
            .map(EpochMs)
            .take(rounds)
            .map(|now| {
                set.sample(&mut sink);
                let named = |condition: &Condition| (condition.name.to_string(), condition.since.0);
                set.conditions(now).iter().map(named).collect::<Vec<_>>()
            })
            .collect();
        let named = |name: &str, since| vec![(name.to_owned(), since)];
        let expected = [
            named("collector_unresponsive", 1),
            named("collector_unresponsive", 1),
            named("collector_failing", 3),
            vec![],
            vec![],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_section_outlives_a_failure_and_not_its_source() {
        let mut set = CollectorSet::new(vec![Box::new(Scripted(vec![Ok(()), broken(), absent()]))]);
        let mut sink = SampleSink::default();
        let mut tags = || set.inventory(&mut sink).iter().map(Section::tag).collect::<Vec<_>>();
        let (network, agent) = (SectionTag(7), SectionTag(10));
        assert_eq!(tags(), [network, agent]);
        assert_eq!(tags(), [network, agent]);
        assert_eq!(tags(), [agent]);
    }
}
