//! The registry of message kinds: numbers are never reused.

use crate::wire::MAX_PAYLOAD;

/// A kind's number as it stands in the envelope; it may be unknown to this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KindNumber(pub u16);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, max $max:expr, skippable $skippable:literal;)*) => {
        /// A kind of message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every kind, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its number in the envelope.
            pub const fn number(self) -> KindNumber {
                KindNumber(match self { $(Self::$name => $number,)* })
            }

            /// The kind with this number, if this build knows it.
            pub const fn from_number(number: KindNumber) -> Option<Self> {
                match number.0 { $($number => Some(Self::$name),)* _ => None }
            }

            /// Longest payload in bytes.
            pub const fn max_payload(self) -> u32 {
                match self { $(Self::$name => $max,)* }
            }

            /// A peer that does not know the kind may skip it.
            pub const fn is_skippable(self) -> bool {
                match self { $(Self::$name => $skippable,)* }
            }
        }
    };
}

kinds! {
    /// Agent to coordinator, the first frame of the control stream.
    Hello = 1, max 4096, skippable false;
    /// Coordinator to agent, the answer to Hello.
    Welcome = 2, max 4096, skippable false;
    /// Either way on the control stream: the sender is about to leave, and why.
    Goodbye = 3, max 1024, skippable false;
    /// Coordinator to agent: records up to here are durable.
    Ack = 4, max 64, skippable false;
    /// Coordinator to agent: report faster for a while.
    LiveMode = 5, max 64, skippable true;
    /// Agent to coordinator, samples stream: what the numbers of a report mean.
    SeriesTable = 16, max MAX_PAYLOAD, skippable false;
    /// Agent to coordinator, samples stream: the values of one interval.
    GaugeReport = 17, max 256 * 1024, skippable false;
    /// Agent to coordinator, samples stream: the degraded modes the agent is in.
    NodeConditions = 18, max 64 * 1024, skippable true;
    /// Agent to coordinator, samples stream: the processes with a context on a GPU.
    GpuProcesses = 19, max 256 * 1024, skippable true;
    /// Agent to coordinator, samples stream: how much of what it sends gets lost.
    PathLoss = 20, max 16, skippable true;
    /// Agent to coordinator, durable stream: events and inventory, acknowledged when durable.
    SpoolBatch = 32, max MAX_PAYLOAD, skippable false;
    /// Agent to coordinator on a stream of its own: a certificate for a new key.
    RenewRequest = 48, max 16 * 1024, skippable false;
    /// Coordinator to agent, the answer to RenewRequest.
    RenewResponse = 49, max 64 * 1024, skippable false;
}
