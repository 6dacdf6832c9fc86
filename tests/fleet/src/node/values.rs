//! The values of a moment: gauges that wander, counters that grow, many that stay. A function of seed and time.

use std::sync::Arc;

use aim_agent::report::Interval;
use aim_common::inventory::UnknownReason;
use aim_common::metric::{Metric, MetricKind};
use aim_common::protocol::{GpuProcess, GpuProcesses, MAX_STEPS, Reading};
use aim_common::units::EpochMs;
use aim_common::wire::{BoundedString, BoundedVec};

use super::layout::{Place, Series, Shape};
use super::{Faults, GPU_MEMORY_MIB, GPUS, Layout, Node};
use crate::random::join;

/// A job runs, or does not, for so long.
const JOB_MS: i64 = 10 * 60 * 1000;
/// Of a hundred such times a job runs in so many.
const BUSY_OF_100: u64 = 70;
/// A gauge goes to another place within its bounds in this time.
const WANDER_MS: i64 = 2 * 60 * 1000;
/// Noise is in thousandths.
const WHOLE: i64 = 1000;
/// Where counters and uptimes begin: 2026-01-01. Before it a node has not booted.
const BOOTED_MS: i64 = 1_767_225_600_000;

/// A smooth number between 0 and [`WHOLE`] times [`WANDER_MS`].
fn fine_noise(seed: u64, at_ms: i64) -> i64 {
    let knot = at_ms.div_euclid(WANDER_MS);
    let level = |knot: i64| {
        i64::try_from(join(seed, knot.unsigned_abs()) % (WHOLE.unsigned_abs() + 1)).unwrap_or_default()
    };
    let (from, to) = (level(knot), level(knot + 1));
    from * WANDER_MS + (to - from) * at_ms.rem_euclid(WANDER_MS)
}

/// A smooth number between 0 and [`WHOLE`].
fn noise(seed: u64, at_ms: i64) -> i64 {
    fine_noise(seed, at_ms) / WANDER_MS
}

fn between(low: i64, high: i64, part: i64) -> i64 {
    low + (high - low) * part / WHOLE
}

/// Whether a job runs on the node at this moment.
pub(crate) fn is_busy(node: &Node, at: EpochMs) -> bool {
    let phase = i64::try_from(node.number(0x500) % JOB_MS.unsigned_abs()).unwrap_or_default();
    join(node.seed, (at.0 + phase).div_euclid(JOB_MS).unsigned_abs()) % 100 < BUSY_OF_100
}

/// The readings of the interval that ends at this moment.
pub(crate) fn readings(
    layout: &Layout,
    node: &Node,
    faults: &Faults,
    end: EpochMs,
    interval_ms: u32,
) -> Interval {
    let busy = is_busy(node, end);
    let reading =
        |(index, series): (u64, &Series)| reading(series, join(node.seed, index), faults, busy, end);
    let readings = (0_u64..).zip(&layout.series).map(reading).collect();
    Interval { end, interval_ms, table: Arc::clone(&layout.shape), readings }
}

fn reading(series: &Series, seed: u64, faults: &Faults, busy: bool, end: EpochMs) -> Reading {
    if matches!(series.place, Place::Gpu(gpu) if faults.lost_gpu() == Some(gpu)) {
        return Reading::Unknown(UnknownReason::ReadFailed);
    }
    let value = value(series, seed, faults, busy, end.0);
    match series.metric.kind() {
        MetricKind::Counter => Reading::Counter(value),
        MetricKind::Gauge if matches!(series.shape, Shape::Constant(_) | Shape::Uptime) => {
            Reading::Gauge { min: value, average: value, max: value }
        }
        MetricKind::Gauge => {
            let band = value / 50;
            Reading::Gauge { min: value - band, average: value, max: value + band }
        }
    }
}

fn value(series: &Series, seed: u64, faults: &Faults, busy: bool, at_ms: i64) -> i64 {
    let up_ms = (at_ms - BOOTED_MS).max(0);
    match series.shape {
        Shape::Constant(value) if series.metric == Metric::GpuEccUncorrectedVolatile => {
            value.saturating_add(faults.ecc_errors())
        }
        Shape::Constant(value) if series.metric == Metric::NetworkCarrierChanges => {
            value.saturating_add(faults.carrier_changes())
        }
        Shape::Constant(value) => value,
        Shape::Walk(low, high) => between(low, high, noise(seed, at_ms)),
        Shape::Busy(_, full) if busy => between(full - full / 10, full, noise(seed, at_ms)),
        Shape::Busy(idle, _) => idle,
        // Never back: the noise moves by at most half of what time adds.
        Shape::Counter(per_second) => {
            let shifted = i128::from(up_ms + fine_noise(seed, up_ms) / (2 * WHOLE));
            i64::try_from(shifted * i128::from(per_second) / 1_000_000).unwrap_or(MAX_STEPS).min(MAX_STEPS)
        }
        Shape::Uptime => up_ms / 1000,
    }
}

/// The processes on the node's GPUs: one on each while a job runs.
pub(crate) fn processes(node: &Node, busy: bool) -> GpuProcesses {
    let process = |gpu: u32| GpuProcess {
        gpu_uuid: BoundedString::truncated(&node.gpu_uuid(gpu)),
        pid: 40_000 + gpu,
        start_ticks: node.number(0x600) % 1_000_000,
        uid: Some(10_001),
        name: "python3".into(),
        memory_bytes: Some(GPU_MEMORY_MIB.unsigned_abs() * 1024 * 1024 / 10 * 9),
        compute: true,
    };
    let count = if busy { GPUS } else { 0 };
    GpuProcesses { processes: BoundedVec::truncated((0..count).map(process).collect()).0, left_out: 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(seed: u64) -> Node {
        Node::new("n1".parse().unwrap(), seed)
    }

    proptest! {
        #[test]
        fn values_are_bounded_repeat_by_seed_and_counters_never_fall(
            seed: u64, start in 0_i64..4_000_000_000_000, step in 1_i64..600_000,
        ) {
            let (layout, node, faults) = (Layout::new(), node(seed), Faults::default());
            let at = |at| readings(&layout, &node, &faults, EpochMs(at), 10_000).readings;
            let (before, after) = (at(start), at(start + step));
            prop_assert_eq!(&before, &at(start));
            for ((series, before), after) in layout.series.iter().zip(&before).zip(&after) {
                match (before, after) {
                    (Reading::Counter(before), Reading::Counter(after)) => prop_assert!(
                        0 <= *before && before <= after, "{:?} fell from {before} to {after}", series.metric),
                    (_, Reading::Gauge { min, average, max }) => {
                        prop_assert!(min <= average && average <= max);
                        if let Shape::Walk(low, high) = series.shape {
                            prop_assert!((low..=high).contains(average), "{:?} is {average}", series.metric);
                        }
                        if series.metric == Metric::GpuUtilization {
                            prop_assert!((0..=100).contains(average));
                        }
                    }
                    (_, other) => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }

    #[test]
    fn some_values_change_from_report_to_report_and_many_do_not() {
        let (layout, node, faults) = (Layout::new(), node(3), Faults::default());
        let at =
            |at: i64| readings(&layout, &node, &faults, EpochMs(1_790_000_000_000 + at), 10_000).readings;
        let changed = at(0).iter().zip(&at(10_000)).filter(|(one, other)| one != other).count();
        assert!((40..200).contains(&changed), "{changed} of {} changed", layout.series.len());
    }

    #[test]
    fn jobs_come_and_go_and_show_in_processes_and_utilisation() {
        let (layout, faults) = (Layout::new(), Faults::default());
        let utilisation = |node: &Node, at| {
            let readings = readings(&layout, node, &faults, at, 10_000).readings;
            let place =
                layout.series.iter().position(|series| series.metric == Metric::GpuUtilization).unwrap();
            readings[place]
        };
        let mut seen = [false, false];
        for seed in 0..40 {
            let (node, at) = (node(seed), EpochMs(1_790_000_000_000));
            let busy = is_busy(&node, at);
            seen[usize::from(busy)] = true;
            assert_eq!(processes(&node, busy).processes.is_empty(), !busy);
            let idle = Reading::Gauge { min: 0, average: 0, max: 0 };
            assert_eq!(utilisation(&node, at) == idle, !busy);
        }
        assert_eq!(seen, [true, true]);
    }
}
