//! What all agents of a run share, and what each is told to do.

use std::sync::atomic::{AtomicBool, Ordering};

use aim_agent::clock::{SharedClock, SystemClock};
use aim_agent::identity::Identity;

use crate::acklog::AckLog;
use crate::node::Layout;
use crate::scenario::Leaving;
use crate::tally::Tally;

/// What an agent shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Connected.
    Connected,
    /// Gone, and coming back some time.
    Away(Leaving),
    /// Ended.
    Stopped,
}

/// What an agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What it shall be.
    pub(crate) state: State,
    /// Rises with each cut of its session.
    pub(crate) cuts: u32,
}

impl Wish {
    /// Connected, and never cut.
    pub(crate) const CONNECTED: Self = Self { state: State::Connected, cuts: 0 };
}

/// What all share.
pub(crate) struct Fleet {
    /// The clock.
    pub(crate) clock: SharedClock,
    /// The counts.
    pub(crate) tally: Tally,
    /// What was acknowledged.
    pub(crate) acks: AckLog,
    /// The series of every node.
    pub(crate) layout: Layout,
    /// Faults of each node in an hour.
    pub(crate) faults_per_hour: u32,
    link_addresses: Vec<String>,
    quiet: AtomicBool,
}

impl Fleet {
    /// A fleet without agents. Without addresses each agent dials those of its identity.
    pub(crate) fn new(acks: AckLog, faults_per_hour: u32, link_addresses: Vec<String>) -> Self {
        Self {
            clock: std::sync::Arc::new(SystemClock::new()),
            tally: Tally::default(),
            acks,
            layout: Layout::new(),
            faults_per_hour,
            link_addresses,
            quiet: AtomicBool::new(false),
        }
    }

    /// Where this identity's agent dials.
    pub(crate) fn addresses_of<'a>(&'a self, identity: &'a Identity) -> &'a [String] {
        if self.link_addresses.is_empty() { &identity.link_addresses } else { &self.link_addresses }
    }

    /// No new faults from now on.
    pub(crate) fn quieten(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// No new faults.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }
}
