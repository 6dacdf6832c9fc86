//! The command line. Secrets are never in it: the password is in a file.

use std::path::PathBuf;

use aim_common::identity::{Sha256Digest, TrustDomain};
use clap::Parser;
use clap::builder::PossibleValuesParser;

use crate::scenario;

/// Largest fleet of one process.
const MAX_NODES: u32 = 20_000;

/// Simulates a fleet of AIM agents in one process, on the real link, against a coordinator.
///
/// Exit codes: 0 all went well; 1 something that must hold did not (named in the summary); 2 bad usage or environment.
#[derive(Debug, Parser)]
#[command(name = "aim-fleet", version, after_help = scenarios())]
pub(crate) struct Args {
    /// How many agents.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_NODES)))]
    pub(crate) nodes: u32,
    /// HTTPS address of the coordinator, HOST:PORT; for enrolment.
    #[arg(long)]
    pub(crate) coordinator: String,
    /// SHA-256 of the coordinator's root certificate, as `aimctl login` takes it.
    #[arg(long)]
    pub(crate) pin: Sha256Digest,
    /// The coordinator's trust domain.
    #[arg(long, default_value_t = TrustDomain::default())]
    pub(crate) trust_domain: TrustDomain,
    /// Address of the link, HOST:PORT, instead of those that the coordinator tells; may be given again.
    #[arg(long)]
    pub(crate) link: Vec<String>,
    /// User that issues the enrolment tokens.
    #[arg(long, default_value = "admin")]
    pub(crate) user: String,
    /// File (0600) with that user's password; needed only while nodes are not enrolled.
    #[arg(long)]
    pub(crate) password_file: Option<PathBuf>,
    /// Folder (0700) for the identities; the next run uses them again.
    #[arg(long)]
    pub(crate) state: PathBuf,
    /// What the nodes' names begin with: fleet00001, fleet00002, ….
    #[arg(long, default_value = "fleet")]
    pub(crate) prefix: String,
    /// Nodes of the same names that the coordinator knows already are replaced.
    #[arg(long)]
    pub(crate) replace: bool,
    /// Enrolments at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel: u16,
    /// What is done to the fleet.
    #[arg(long, default_value = "steady", value_parser = PossibleValuesParser::new(scenario::ALL.iter().map(|scenario| scenario.name)))]
    pub(crate) scenario: String,
    /// Percent of the agents that the scenario touches; each scenario has its own default.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) share: Option<u8>,
    /// Seconds from the moment at which all are connected; without it until SIGINT or SIGTERM.
    #[arg(long)]
    pub(crate) duration: Option<u32>,
    /// Seconds over which the first connections are spread; by default 500 agents a second.
    #[arg(long)]
    pub(crate) ramp: Option<u32>,
    /// Faults (XIDs, lost GPUs, ECC errors, flapping links) of each node in an hour.
    #[arg(long, default_value_t = 1)]
    pub(crate) faults_per_hour: u32,
    /// Seed of the nodes, of what happens to them and of the scenario.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// File to which each acknowledged record is appended: NODE SPOOL SEQUENCE.
    #[arg(long)]
    pub(crate) ack_log: Option<PathBuf>,
    /// File for the summary; standard output where absent.
    #[arg(long)]
    pub(crate) summary: Option<PathBuf>,
}

fn scenarios() -> String {
    let lines: Vec<String> =
        scenario::ALL.iter().map(|scenario| format!("  {:10} {}", scenario.name, scenario.about)).collect();
    format!("Scenarios:\n{}\n\nSIGUSR1 prints the state at once.", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
