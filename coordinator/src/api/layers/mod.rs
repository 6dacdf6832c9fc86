//! What every request passes, from the outside in: exchange (id, log, headers of the answer), limits, Host, rate,
//! and, once the route is known, guard (who, and may they) and the body.
//!
//! Enters: a request with its peer. Leaves: a request that its handler may serve, or a problem. Never: a handler
//! reached without a row of the access table.

pub mod exchange;
pub mod guard;
pub mod host;
pub mod limits;
pub mod rate;
