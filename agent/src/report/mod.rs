//! From samples to reports.
//!
//! Enters: the samples of each round ([`Aggregator::add`]). Leaves: an [`Interval`] of readings ([`Aggregator::close`]),
//! and, within a session, the messages that carry it ([`SessionReports::encode`]). Never: reads a clock, touches a
//! socket, or keeps a report: what waits for a connection is the link's ring of [`PackedInterval`]s.

mod aggregate;
mod interval;
pub mod render;
mod session;

pub use aggregate::Aggregator;
pub use interval::{Interval, PackedInterval};
pub use session::SessionReports;
