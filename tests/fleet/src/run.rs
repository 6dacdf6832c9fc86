//! A run: agents begin, the scenario's steps are done at their time, everything settles, all leave, the outcome is told.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::acklog::AckLog;
use crate::agent::{Agent, Start};
use crate::args::Args;
use crate::fleet::{Fleet, State, Wish};
use crate::gate::Lane;
use crate::node::Node;
use crate::prepare::{self, Member};
use crate::random::Random;
use crate::recoveries::Recoveries;
use crate::report::{self, Misbehaviour, Process, Records, Reports, Sessions, Summary, say};
use crate::scenario::{self, Action, Plan, Shape, socket_of};
use crate::verdict::{self, Ending};

/// How often the fleet is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a line is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// First connections a second, unless told otherwise.
const PER_SECOND: u32 = 500;
/// Beyond the time over which they are spread, first connections may take so long.
const CONNECT_WITHIN: Duration = Duration::from_mins(3);
/// After the last step: until all are back and everything is acknowledged.
const SETTLE_WITHIN: Duration = Duration::from_mins(2);
/// All agents have ended within this time after they were told.
const STOP_WITHIN: Duration = Duration::from_mins(1);
/// The duration of a plan without an end: long enough for every step, short enough to count with.
const ENDLESS: Duration = Duration::from_hours(24 * 30);

/// Runs; the summary says whether all went well.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Summary> {
    let scenario = scenario::named(&args.scenario).context("no such scenario")?;
    let shape = Shape {
        nodes: usize::try_from(args.nodes)?,
        seed: args.seed,
        duration: args.duration.map_or(ENDLESS, |seconds| Duration::from_secs(seconds.into())),
        share: args.share.unwrap_or(scenario.share),
    };
    let plan = (scenario.plan)(&shape);
    let _state = prepare::hold(&args.state)?;
    prepare::raise_descriptors(socket_of(shape.nodes, plan.own_sockets, shape.nodes) + 1)?;
    let began = Instant::now();
    let (members, enrolled) = prepare::members(args).await?;
    let enrolment_s = began.elapsed().as_secs_f64();
    let mut run = Run::begin(args, shape, plan, members).await?;
    run.connect().await;
    run.perform().await;
    let ending = run.end().await;
    Ok(run.summary(args, enrolled, enrolment_s, ending))
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    tell: Signal,
}

/// A run under way.
struct Run {
    fleet: Arc<Fleet>,
    shape: Shape,
    plan: Plan,
    ramp: Duration,
    lanes: Vec<Arc<Lane>>,
    wishes: Vec<watch::Sender<Wish>>,
    agents: JoinSet<()>,
    signals: Signals,
    began: Instant,
    tell_at: Instant,
    recoveries: Recoveries,
    all_connected: Option<Duration>,
    interrupted: bool,
    panicked: u64,
}

impl Run {
    async fn begin(args: &Args, shape: Shape, plan: Plan, members: Vec<Member>) -> anyhow::Result<Self> {
        let acks = AckLog::open(args.ack_log.as_deref()).context("cannot write the file of --ack-log")?;
        let fleet = Arc::new(Fleet::new(acks, args.faults_per_hour, args.link.clone()));
        let first = members.first().context("a fleet has at least one node")?;
        let address =
            fleet.addresses_of(&first.identity).first().context("no address of the link is known")?;
        let found = aim_agent::link::resolve(address)
            .await
            .with_context(|| format!("the link's address {address}"))?;
        let coordinator = *found.first().context("no address")?;
        let sockets = socket_of(shape.nodes.saturating_sub(1), plan.own_sockets, shape.nodes) + 1;
        let lanes = (0..sockets)
            .map(|_| Lane::open(coordinator).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .context("cannot open a UDP socket")?;
        let ramp = args.ramp.map_or(Duration::from_secs(1) * args.nodes / PER_SECOND, |seconds| {
            Duration::from_secs(seconds.into())
        });
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            tell: signal(SignalKind::user_defined1())?,
        };
        let began = Instant::now();
        let mut run = Self {
            fleet,
            shape,
            plan,
            ramp,
            lanes,
            wishes: Vec::new(),
            agents: JoinSet::new(),
            signals,
            began,
            tell_at: began + TELL_EVERY,
            recoveries: Recoveries::default(),
            all_connected: None,
            interrupted: false,
            panicked: 0,
        };
        run.spawn(members)?;
        Ok(run)
    }

    fn spawn(&mut self, members: Vec<Member>) -> anyhow::Result<()> {
        let mut random = Random::new(self.shape.seed);
        let ramp = u64::try_from(self.ramp.as_millis())?;
        for (number, member) in members.into_iter().enumerate() {
            let socket = socket_of(number, self.plan.own_sockets, self.shape.nodes);
            let lane = self.lanes.get(socket).context("fewer sockets than agents need")?;
            let (wish, wished) = watch::channel(Wish::CONNECTED);
            let start = Start {
                node: Node::new(member.name, self.shape.seed),
                store: member.store,
                identity: member.identity,
                next: member.next,
                lane: Arc::clone(lane),
                wish: wished,
                role: self.plan.role(number),
                delay: Duration::from_millis(random.below(ramp)),
            };
            let agent = Agent::new(Arc::clone(&self.fleet), start)?;
            self.agents.spawn(agent.run());
            self.wishes.push(wish);
        }
        Ok(())
    }

    /// Agents that should be connected and whose absence would matter.
    fn expected(&self) -> u64 {
        let counts = |(number, wish): &(usize, &watch::Sender<Wish>)| {
            self.plan.role(*number).is_honest() && wish.borrow().state == State::Connected
        };
        self.wishes.iter().enumerate().filter(counts).count() as u64
    }

    /// Waits a moment, telling what is to be told; false when it shall end.
    async fn look(&mut self, look: &mut tokio::time::Interval) -> bool {
        tokio::select! {
            _ = look.tick() => {}
            _ = self.signals.tell.recv() => self.tell_at = Instant::now(),
            _ = self.signals.interrupt.recv() => self.interrupted = true,
            _ = self.signals.terminate.recv() => self.interrupted = true,
            Some(ended) = self.agents.join_next(), if !self.agents.is_empty() => {
                self.panicked += u64::from(ended.is_err());
            }
        }
        let (expected, present) = (self.expected(), self.fleet.tally.present.get());
        if self.all_connected.is_some() {
            self.recoveries.observe(self.began.elapsed(), expected.saturating_sub(present));
        }
        if Instant::now() >= self.tell_at {
            say(&report::progress(self.began.elapsed(), &self.fleet.tally, expected));
            self.tell_at = Instant::now() + TELL_EVERY;
        }
        !self.interrupted
    }

    /// Until all are connected, or the time for it is over.
    async fn connect(&mut self) {
        let deadline = self.began + self.ramp + CONNECT_WITHIN;
        let mut look = interval(LOOK_EVERY);
        while Instant::now() < deadline && self.look(&mut look).await {
            if self.fleet.tally.present.get() >= self.expected() {
                self.all_connected = Some(self.began.elapsed());
                say(&format!("all are connected after {:.1?}", self.began.elapsed()));
                return;
            }
        }
    }

    /// The plan's steps, each at its time.
    async fn perform(&mut self) {
        let began = Instant::now();
        let mut steps = std::mem::take(&mut self.plan.steps).into_iter().peekable();
        let mut look = interval(LOOK_EVERY);
        while began.elapsed() < self.shape.duration && self.look(&mut look).await {
            while let Some(step) = steps.next_if(|step| step.at <= began.elapsed()) {
                self.act(step.action);
            }
        }
        // Whoever is away comes back, also after an interruption.
        for step in steps.filter(|step| matches!(step.action, Action::Return(_) | Action::Heal)) {
            self.act(step.action);
        }
    }

    fn wish(&self, agent: usize, state: State) {
        if let Some(wish) = self.wishes.get(agent) {
            wish.send_modify(|wish| wish.state = state);
        }
    }

    fn act(&self, action: Action) {
        let lane_of = |agent| self.lanes.get(socket_of(agent, self.plan.own_sockets, self.shape.nodes));
        match action {
            Action::Leave(agent, leaving) => {
                if leaving == scenario::Leaving::Silent
                    && let Some(lane) = lane_of(agent)
                {
                    lane.set_deaf(true);
                }
                self.wish(agent, State::Away(leaving));
            }
            Action::Return(agent) => {
                if let Some(lane) = lane_of(agent) {
                    lane.set_deaf(false);
                }
                self.wish(agent, State::Connected);
            }
            Action::CutAll => {
                say("cutting every session");
                self.wishes.iter().for_each(|wish| wish.send_modify(|wish| wish.cuts += 1));
            }
            Action::Deafen(agents) => {
                say(&format!("{agents} agents lose every packet"));
                (0..agents).filter_map(lane_of).for_each(|lane| lane.set_deaf(true));
            }
            Action::Heal => {
                say("the network heals");
                self.lanes.iter().for_each(|lane| lane.set_deaf(false));
            }
        }
    }

    /// Everything is acknowledged and everybody there; then all leave.
    async fn end(&mut self) -> Ending {
        self.fleet.quieten();
        self.interrupted = false;
        let deadline = Instant::now() + SETTLE_WITHIN;
        let mut look = interval(LOOK_EVERY);
        let mut ending = self.ending();
        while !ending.is_settled() && Instant::now() < deadline && self.look(&mut look).await {
            ending = self.ending();
        }
        (0..self.wishes.len()).for_each(|agent| self.wish(agent, State::Stopped));
        let fleet = Arc::clone(&self.fleet);
        let agents = &mut self.agents;
        let mut panicked = 0;
        let ended = tokio::time::timeout(STOP_WITHIN, async {
            while let Some(ended) = agents.join_next().await {
                panicked += u64::from(ended.is_err());
            }
            // What was said last must leave before the sockets go.
            for lane in &self.lanes {
                drop(tokio::time::timeout(Duration::from_millis(500), lane.endpoint().wait_idle()).await);
            }
        });
        ending.stopped = ended.await.is_ok();
        ending.panicked = self.panicked + panicked;
        ending.ack_log_incomplete = fleet.acks.is_incomplete();
        ending
    }

    fn ending(&self) -> Ending {
        let tally = &self.fleet.tally;
        let done = tally.records_acknowledged.get() + tally.records_lost.get();
        Ending {
            connected: self.all_connected.is_some(),
            expected: self.expected(),
            present: tally.present.get(),
            unacknowledged: tally.records.get().saturating_sub(done),
            stopped: true,
            panicked: self.panicked,
            ack_log_incomplete: false,
        }
    }

    fn summary(&self, args: &Args, enrolled: usize, enrolment_s: f64, ending: Ending) -> Summary {
        let tally = &self.fleet.tally;
        let broken = verdict::broken(&self.plan, tally, ending);
        Summary {
            ok: broken.is_empty(),
            broken,
            scenario: args.scenario.clone(),
            nodes: args.nodes,
            seed: args.seed,
            enrolled,
            enrolment_s,
            all_connected_s: self.all_connected.map(|time| time.as_secs_f64()),
            seconds: self.began.elapsed().as_secs_f64(),
            recoveries: self.recoveries.summary(),
            sessions: Sessions::of(tally),
            reports: Reports::of(tally),
            records: Records::of(tally),
            misbehaviour: Misbehaviour::of(tally),
            reasons: tally.reasons(),
            process: Process::now(),
        }
    }
}
