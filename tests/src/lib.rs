//! Real programs for end-to-end tests: a coordinator, agents and aimctl, each in a folder of its own.
//!
//! Enters: what a test wants to be different. Leaves: running programs, their answers, logs and exit codes. Never: a
//! mock, a shell, a program left running, a wait without a deadline.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "the harness of tests: it fails by panicking, waits with real deadlines, and shows logs on failure"
)]

pub mod agent;
pub mod aimctl;
pub mod api;
pub mod coordinator;
pub mod database;
pub mod fleet;
pub mod https;
pub mod link;
pub mod lossy;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod random;
pub mod redeem;
pub mod relay;
pub mod statements;
pub mod tampered;
pub mod wait;

pub use agent::Agent;
pub use aimctl::Aimctl;
pub use api::{Answer, Api};
pub use coordinator::Coordinator;
pub use fleet::Fleet;
pub use postgres::Postgres;
pub use process::{Finished, Program, run};
pub use wait::{until, within};
