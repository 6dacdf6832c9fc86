//! `aim-agent report --once`: exactly what would be sent, for a person or a script.

use std::sync::Arc;
use std::time::Duration;

use aim_agent::clock::{SharedClock, SystemClock};
use aim_agent::collect::{self, CollectorSet, Roots, Round, SampleSink};
use aim_agent::config::Config;
use aim_agent::exit::Exit;
use aim_agent::probe::{Probes, ProbesConfig};
use aim_agent::report::{Aggregator, render};

use super::{Output, runtime, say};

/// How long the probes may take for their first answer.
const PROBES_WITHIN: Duration = Duration::from_secs(8);
/// Between the two samples: what is a rate needs two.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(500);

/// Show what would be sent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  aim-agent report --once\n  aim-agent report --once -o json | jq .inventory.cpu\n"
)]
pub(super) struct Args {
    /// One report, and end.
    #[arg(long, required = true)]
    once: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub(super) fn main(args: &Args, config: &Config) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let text = runtime.block_on(report(args.output, config));
    runtime.shutdown_timeout(Duration::from_millis(200));
    say(&text)
}

async fn report(output: Output, config: &Config) -> String {
    let clock: SharedClock = Arc::new(SystemClock::new());
    let roots = Roots::default();
    let probes =
        Probes::start(&ProbesConfig::new(config.gpu.clone(), config.filesystems.clone()), &roots, &clock);
    // Late answers are shown as what they are: unresponsive.
    drop(tokio::time::timeout(PROBES_WITHIN, probes.settled()).await);
    let mut collectors = collect::all(&roots);
    collectors.extend(collect::probed(&roots, &probes, &config.state_dir, &clock));
    let mut collectors = CollectorSet::new(collectors);
    let mut aggregator = Aggregator::new();
    let mut sink = SampleSink::new(Round::Full);
    collectors.sample(&mut sink);
    tokio::time::sleep(BETWEEN_SAMPLES).await;
    let mut sink = SampleSink::new(Round::Full);
    collectors.sample(&mut sink);
    let sections = collectors.inventory(&mut sink);
    aggregator.add(sink.samples);
    let length = u32::try_from(BETWEEN_SAMPLES.as_millis()).unwrap_or(u32::MAX);
    let interval = aggregator.close(clock.now(), length);
    probes.shutdown().await;
    match output {
        Output::Json => format!("{:#}\n", render::json(&sections, &interval)),
        Output::Table => {
            let section = |section: &aim_common::inventory::Section| {
                format!("[{}]\n{:#}\n", section.name(), section.to_json())
            };
            let sections: Vec<String> = sections.iter().map(section).collect();
            format!("{}\n{}", sections.concat(), render::table(&interval))
        }
    }
}
