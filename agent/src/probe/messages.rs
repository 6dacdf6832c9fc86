//! What agent and helper say to each other: one question round down the helper's stdin, one reply up its stdout.
//!
//! A reply always comes at once: what is not answered yet is named in it, with the call it is stuck in.

use serde::{Deserialize, Serialize};

/// Something with the name of what it is about (`gpu 3`, `/mnt/home`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keyed<T> {
    /// What it is about; a question is not asked again while one with the same key is in flight.
    pub key: String,
    /// The question or answer.
    pub body: T,
}

/// One round of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask<Q> {
    /// Counts up with each round; the reply repeats it.
    pub round: u64,
    /// The questions, asked in this order.
    pub questions: Vec<Keyed<Q>>,
}

/// The reply to one round: what is known now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply<A> {
    /// The round replied to.
    pub round: u64,
    /// Answers of this round, and of former rounds whose call returned only now.
    pub answers: Vec<Keyed<A>>,
    /// Questions that wait in a call.
    pub in_flight: Vec<InFlight>,
    /// Questions of this round that were not asked for want of time or of a free worker.
    pub not_asked: Vec<String>,
}

/// A question that waits in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The question's key.
    pub key: String,
    /// The call (`nvmlDeviceGetTemperature on GPU 3`).
    pub call: String,
    /// For how long the call has not returned.
    pub for_ms: u64,
}
