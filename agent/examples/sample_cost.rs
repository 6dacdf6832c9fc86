//! What collecting costs on this machine: time of a round by collector, and the bytes of a steady report.
//! Run by hand: `cargo run --release -p aim-agent --example sample_cost`.
#![expect(clippy::print_stdout, reason = "the table is for the terminal")]
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::{Duration, Instant};

use aim_agent::collect::{self, CollectorSet, Roots, Round, SampleSink};
use aim_agent::report::{Aggregator, SessionReports};
use aim_common::protocol::Kind;
use aim_common::units::EpochMs;
use aim_common::wire::encode_section;

const ROUNDS: u32 = 500;

fn main() {
    let roots = Roots::default();
    for mut collector in collect::all(&roots) {
        let within = mean(|| collector.sample(&mut SampleSink::new(Round::Within)));
        let full = mean(|| collector.sample(&mut SampleSink::new(Round::Full)));
        let inventory = mean(|| collector.inventory());
        println!(
            "{:12} within {within:>8.1?}  full {full:>8.1?}  inventory {inventory:>8.1?}",
            collector.name()
        );
    }

    let mut set = CollectorSet::new(collect::all(&roots));
    let mut aggregator = Aggregator::new();
    let mut reports = SessionReports::new(None);
    let mut round = |kind| {
        let mut sink = SampleSink::new(kind);
        set.sample(&mut sink);
        aggregator.add(sink.samples);
        if kind == Round::Within {
            return 0;
        }
        let (_, report) = reports.encode(&aggregator.close(EpochMs(0), 15_000), false, 0);
        encode_section(Kind::GaugeReport, &report).map_or(0, |bytes| bytes.len())
    };
    println!(
        "whole round: within {:.1?}, full with its report {:.1?}",
        mean(|| round(Round::Within)),
        mean(|| round(Round::Full))
    );
    for _ in 0..4 {
        for _ in 0..2 {
            std::thread::sleep(Duration::from_secs(5));
            round(Round::Within);
        }
        std::thread::sleep(Duration::from_secs(5));
        println!("report of 15 s: {} bytes", round(Round::Full));
    }
}

/// Time of one call, the mean of many.
fn mean<T>(mut call: impl FnMut() -> T) -> Duration {
    call();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        call();
    }
    start.elapsed() / ROUNDS
}
