//! What happens to a node: XIDs, lost GPUs, ECC errors, links that flap. Pure: times are the process's monotonic time.

use std::time::Duration;

use aim_common::event::{Event, EventKind, Severity};
use aim_common::identity::BootId;
use aim_common::units::EpochMs;
use aim_common::wire::{BoundedString, BoundedVec};

use super::{GPUS, Node};
use crate::random::Random;

/// A lost GPU is back after this time, as after a reset by an operator.
const LOST_FOR: Duration = Duration::from_mins(1);
/// A link that went down is up again after this time.
const DOWN_FOR: Duration = Duration::from_secs(5);
/// Most happenings given at once: a node that was away for long does not tell all that it missed.
const AT_ONCE: usize = 16;

/// What is wrong with the node now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Faults {
    lost: Option<(u32, Duration)>,
    down: Option<Duration>,
    ecc_errors: u32,
    carrier_changes: u32,
}

impl Faults {
    /// The GPU that does not answer.
    pub(crate) fn lost_gpu(&self) -> Option<u32> {
        self.lost.map(|(gpu, _)| gpu)
    }

    /// The InfiniBand link is down.
    pub(crate) fn link_is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Uncorrectable errors so far.
    pub(super) fn ecc_errors(&self) -> i64 {
        self.ecc_errors.into()
    }

    /// Times the link went up or down.
    pub(super) fn carrier_changes(&self) -> i64 {
        self.carrier_changes.into()
    }

    fn next_end(&self) -> Option<Duration> {
        [self.lost.map(|(_, until)| until), self.down].into_iter().flatten().min()
    }
}

/// Something that an agent would tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    kind: EventKind,
    severity: Severity,
    subject: String,
    message: String,
    attributes: Vec<(&'static str, String)>,
}

impl Happening {
    /// The agent began.
    pub(crate) fn started() -> Self {
        let message = format!("aim-agent {} started (simulated)", env!("CARGO_PKG_VERSION"));
        Self::new(EventKind::AgentStarted, Severity::Info, String::new(), message)
    }

    fn new(kind: EventKind, severity: Severity, subject: String, message: impl Into<String>) -> Self {
        Self { kind, severity, subject, message: message.into(), attributes: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// As it travels.
    pub(crate) fn event(self, boot_id: BootId, occurred: EpochMs) -> Event {
        let attribute = |(name, value): (&str, String)| (name.into(), BoundedString::truncated(&value));
        Event {
            kind: self.kind,
            severity: self.severity,
            occurred,
            boot_id,
            subject: BoundedString::truncated(&self.subject),
            message: BoundedString::truncated(&self.message),
            attributes: BoundedVec::truncated(self.attributes.into_iter().map(attribute).collect()).0,
        }
    }
}

/// When what happens to one node.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    random: Random,
    /// Mean time from one fault to the next; none where nothing happens.
    every: Option<Duration>,
    next: Duration,
    faults: Faults,
}

impl Script {
    /// With this many faults an hour, beginning now; 0 is a healthy node.
    pub(crate) fn new(node: &Node, per_hour: u32, now: Duration) -> Self {
        let every = Duration::from_hours(1).checked_div(per_hour);
        let mut script = Self {
            random: Random::new(node.number(0x700)),
            every,
            next: Duration::MAX,
            faults: Faults::default(),
        };
        script.draw(now);
        script
    }

    /// No new fault from now on; what is wrong still ends.
    pub(crate) fn stop(&mut self) {
        self.every = None;
        self.next = Duration::MAX;
    }

    /// What is wrong now.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The next moment at which something happens.
    pub(crate) fn next(&self) -> Duration {
        self.faults.next_end().map_or(self.next, |end| end.min(self.next))
    }

    fn draw(&mut self, from: Duration) {
        if let Some(every) = self.every {
            // Between half and one and a half of the mean.
            let spread = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
            self.next = from + every / 2 + Duration::from_millis(self.random.below(spread));
        }
    }

    /// What happened until now.
    pub(crate) fn due(&mut self, node: &Node, now: Duration) -> Vec<Happening> {
        let mut happened = Vec::new();
        self.end_faults(node, now, &mut happened);
        while self.next <= now && happened.len() < AT_ONCE {
            happened.push(self.fault(node, now));
            self.draw(self.next);
        }
        if self.next <= now {
            self.draw(now);
        }
        happened
    }

    fn end_faults(&mut self, node: &Node, now: Duration, happened: &mut Vec<Happening>) {
        if let Some((gpu, _)) = self.faults.lost.take_if(|(_, until)| *until <= now) {
            let message = format!("GPU {gpu} answers again");
            happened.push(Happening::new(
                EventKind::GpuRecovered,
                Severity::Info,
                node.gpu_uuid(gpu),
                message,
            ));
        }
        if self.faults.down.take_if(|until| *until <= now).is_some() {
            self.faults.carrier_changes = self.faults.carrier_changes.saturating_add(1);
        }
    }

    fn fault(&mut self, node: &Node, now: Duration) -> Happening {
        let gpu = u32::try_from(self.random.below(GPUS.into())).unwrap_or_default();
        let uuid = node.gpu_uuid(gpu);
        match self.random.below(4) {
            0 if self.faults.lost.is_none() => {
                self.faults.lost = Some((gpu, now + LOST_FOR));
                let message = format!("GPU {gpu} has fallen off the bus");
                Happening::new(EventKind::GpuLost, Severity::Critical, uuid, message)
            }
            1 if self.faults.down.is_none() => {
                self.faults.down = Some(now + DOWN_FOR);
                self.faults.carrier_changes = self.faults.carrier_changes.saturating_add(1);
                xid(uuid, gpu, 74, "NVLink: fatal error detected")
            }
            2 => {
                self.faults.ecc_errors = self.faults.ecc_errors.saturating_add(1);
                let message = "uncorrectable ECC errors rose";
                Happening::new(EventKind::GpuEccUncorrectable, Severity::Critical, uuid, message)
                    .with("count", self.faults.ecc_errors.to_string())
            }
            _ => xid(uuid, gpu, 31, "MMU Fault"),
        }
    }
}

fn xid(uuid: String, gpu: u32, code: u32, text: &str) -> Happening {
    Happening::new(EventKind::GpuXid, Severity::Warning, uuid, format!("XID {code}: {text}"))
        .with("xid", code.to_string())
        .with("pci_address", Node::gpu_pci_address(gpu))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node() -> Node {
        Node::new("n1".parse().unwrap(), 7)
    }

    /// Runs from wake-up to wake-up.
    fn run(per_hour: u32, hours: u64) -> Vec<(Duration, Happening)> {
        let mut script = Script::new(&node(), per_hour, Duration::ZERO);
        let mut happened = Vec::new();
        while script.next() < Duration::from_hours(hours) {
            let now = script.next();
            happened.extend(script.due(&node(), now).into_iter().map(|happening| (now, happening)));
        }
        happened
    }

    #[test]
    fn the_rate_is_kept_every_loss_ends_and_the_seed_repeats_it() {
        let happened = run(60, 10);
        assert_eq!(happened, run(60, 10));
        let count = |kind| happened.iter().filter(|(_, happening)| happening.kind == kind).count();
        let ends = count(EventKind::GpuRecovered);
        let faults = happened.len() - ends;
        assert!((500..700).contains(&faults), "{faults} faults in 10 h at 60 an hour");
        assert!(count(EventKind::GpuLost) - ends <= 1);
        assert!(count(EventKind::GpuXid) > 0 && count(EventKind::GpuEccUncorrectable) > 0 && ends > 0);
        assert!(run(0, 10).is_empty());
    }

    proptest! {
        #[test]
        fn after_a_long_absence_only_a_few_are_told(away in 1_u64..100_000) {
            let mut script = Script::new(&node(), 3600, Duration::ZERO);
            let now = Duration::from_secs(away);
            prop_assert!(script.due(&node(), now).len() <= AT_ONCE + 1);
            prop_assert!(script.next() > now || script.faults().next_end().is_some_and(|end| end <= script.next()));
            script.stop();
            script.due(&node(), now + LOST_FOR);
            prop_assert!(script.faults().lost_gpu().is_none() && !script.faults().link_is_down());
            prop_assert_eq!(script.next(), Duration::MAX);
        }
    }
}
