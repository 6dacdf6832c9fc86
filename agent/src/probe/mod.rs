//! Whatever can hang is asked by helper processes: the agent's own binary, one process for each kind of probe.
//!
//! Enters: questions of the collectors. Leaves: their last answers, and which call hangs since when. Never: waits for
//! a helper, kills one inside a driver, starts a second one beside a stuck one, starts one for each interval.
//!
//! A helper keeps one thread for listening and some for calls, so that it always replies, and ends with its stdin
//! unless the kernel holds one of its calls. [`Supervision`](supervision::Supervision) decides, the rest carries.

mod frame;
mod hangs;
pub mod helper;
mod kinds;
mod messages;
mod pool;
mod probes;
pub mod supervision;
mod supervisor;

pub use hangs::{Hang, HangEdge, Hangs};
pub use kinds::run_if_helper;
pub use messages::{Ask, InFlight, Keyed, Reply};
pub use pool::{Calls, Pool, Probe};
pub use probes::{Probes, ProbesConfig};
pub use supervision::Next;
pub use supervisor::{Conversation, Launch, Supervisor};
