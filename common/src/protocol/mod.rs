//! The link's messages and their registry. A released message's bytes never change: a new field is a new kind,
//! a new section or a new `V2` struct.
//!
//! Streams: the agent opens one bidirectional *control* stream (Hello, Welcome, then Ack, LiveMode, Goodbye), one
//! unidirectional *samples* stream (SeriesTable, GaugeReport, NodeConditions, GpuProcesses, PathLoss), one unidirectional *durable* stream
//! (SpoolBatch), and one short bidirectional stream for each renewal (RenewRequest, RenewResponse).

mod close;
mod kind;
mod renewal;
mod samples;
mod series_codec;
mod session;
mod spool;

pub use close::CloseCode;
pub use kind::{Kind, KindNumber};
pub use renewal::{RenewRefusal, RenewRequest, RenewResponse};
pub use samples::{
    Change, Condition, GaugeReport, GpuProcess, GpuProcesses, MAX_SERIES, NodeConditions, PathLoss,
    SeriesChange, SeriesEntry, SeriesKey, SeriesTable,
};
pub use series_codec::{ApplyError, MAX_STEPS, Reading, SeriesDecoder, SeriesEncoder, TableError, Value};
pub use session::{Ack, Goodbye, GoodbyeCause, Hello, LiveMode, Welcome};
pub use spool::{Record, SpoolBatch, SpoolRecord};

/// The ALPN of the link, one per protocol major.
pub const ALPN: &[u8] = b"aim/1";
