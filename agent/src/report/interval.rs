//! The readings of one interval, wide for sending now and packed for waiting.

use std::sync::Arc;

use aim_common::inventory::UnknownReason;
use aim_common::protocol::{GaugeReport, Kind, Reading, SeriesDecoder, SeriesEncoder, SeriesTable};
use aim_common::units::EpochMs;
use aim_common::wire::{decode_section, encode_section};

/// One interval: a reading for every series of the table, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Its end by the node's clock.
    pub end: EpochMs,
    /// Its length in milliseconds.
    pub interval_ms: u32,
    /// The series; the same `Arc` as before while their set is the same.
    pub table: Arc<SeriesTable>,
    /// The readings.
    pub readings: Vec<Reading>,
}

/// An interval as it waits in the ring: about 8 bytes a series instead of 32.
#[derive(Debug, Clone)]
pub struct PackedInterval {
    end: EpochMs,
    interval_ms: u32,
    table: Arc<SeriesTable>,
    bytes: Box<[u8]>,
}

impl Interval {
    /// Packs it. The differences are against zeros, so that any interval can be dropped without harm to the others.
    pub fn pack(&self) -> PackedInterval {
        let report = GaugeReport {
            end: self.end,
            interval_ms: self.interval_ms,
            late: true,
            dropped_before: 0,
            changes: SeriesEncoder::new(self.readings.len()).encode(&self.readings),
        };
        // A bounded report always encodes; an empty packing would be read back as unknown.
        let bytes = encode_section(Kind::GaugeReport, &report).unwrap_or_default().into_boxed_slice();
        PackedInterval { end: self.end, interval_ms: self.interval_ms, table: Arc::clone(&self.table), bytes }
    }
}

impl PackedInterval {
    /// Bytes it takes in the ring, apart from the table, which many share.
    pub fn size(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// Its end by the node's clock.
    pub fn end(&self) -> EpochMs {
        self.end
    }

    /// The interval again.
    pub fn unpack(&self) -> Interval {
        let readings = self
            .readings()
            .unwrap_or_else(|| vec![Reading::Unknown(UnknownReason::Malformed); self.table.series.len()]);
        Interval { end: self.end, interval_ms: self.interval_ms, table: Arc::clone(&self.table), readings }
    }

    fn readings(&self) -> Option<Vec<Reading>> {
        let report: GaugeReport = decode_section(Kind::GaugeReport, &self.bytes).ok()?;
        let mut decoder = SeriesDecoder::new(Arc::clone(&self.table)).ok()?;
        decoder.apply(&report).ok()?;
        decoder.readings().map(|(_, reading)| reading).collect()
    }
}
