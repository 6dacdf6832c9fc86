//! `aim-agent check`: configuration, files, clock, the way to the coordinator, rights; and what to mend.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aim_agent::clock::{Clock, SharedClock, SystemClock};
use aim_agent::collect::{self, Roots};
use aim_agent::config::Config;
use aim_agent::exit::Exit;
use aim_agent::files;
use aim_agent::identity::{ClockView, Identity, IdentityStore, view_clock};
use aim_agent::link::{client_config, client_socket, endpoint, resolve};
use aim_agent::probe::{Probes, ProbesConfig};

use super::{runtime, say};

/// A handshake; the coordinator is near.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// The findings, one line each.
#[derive(Default)]
struct Findings {
    lines: Vec<String>,
    worst: Option<Exit>,
}

impl Findings {
    fn good(&mut self, text: impl std::fmt::Display) {
        self.lines.push(format!("ok    {text}"));
    }

    fn note(&mut self, text: impl std::fmt::Display) {
        self.lines.push(format!("note  {text}"));
    }

    fn bad(&mut self, exit: Exit, text: impl std::fmt::Display) {
        self.lines.push(format!("BAD   {text}"));
        self.worst = self.worst.or(Some(exit));
    }
}

pub(super) fn main(config: &Config) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut findings = Findings::default();
    findings.good("configuration: every key is known");
    directories(config, &mut findings);
    let identity = identity(config, &mut findings);
    runtime.block_on(async {
        if let Some(identity) = &identity {
            connectivity(config, identity, &mut findings).await;
        }
        rights(config, &mut findings).await;
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    let lines: Vec<String> = findings.lines.iter().map(|line| aim_agent::log::escape(line) + "\n").collect();
    match say(&lines.concat()) {
        Exit::Ok => findings.worst.unwrap_or(Exit::Ok),
        failed => failed,
    }
}

fn directories(config: &Config, findings: &mut Findings) {
    match files::ensure_private_dir(&config.state_dir).and_then(|()| writable(&config.state_dir)) {
        Ok(()) => findings.good(format!("state directory {}", config.state_dir.display())),
        Err(error) => findings.bad(Exit::Failed, error),
    }
    match std::fs::create_dir_all(&config.runtime_dir) {
        Ok(()) => findings.good(format!("runtime directory {}", config.runtime_dir.display())),
        Err(error) => findings.note(format!(
            "runtime directory {}: {error}; `aim-agent status` will not know the state",
            config.runtime_dir.display()
        )),
    }
}

fn writable(directory: &Path) -> Result<(), files::FileError> {
    let trial = directory.join("check");
    files::write_atomic(&trial, b"", files::PRIVATE_FILE)?;
    files::remove_durably(&trial)
}

fn identity(config: &Config, findings: &mut Findings) -> Option<Identity> {
    let identity = match IdentityStore::new(&config.state_dir).load() {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            findings
                .bad(Exit::NotEnrolled, "not enrolled: run `aim-agent enroll` (see aim-agent enroll --help)");
            return None;
        }
        Err(error) => {
            findings.bad(Exit::Failed, error);
            return None;
        }
    };
    findings.good(format!("identity: node {} ({})", identity.node_name, identity.node_id));
    let (begin, end) = (identity.not_before(), identity.not_after());
    let now = SystemClock::new().now();
    match view_clock(begin, end, now) {
        ClockView::Good => findings.good(format!("certificate: good until {end}")),
        ClockView::Expired => findings.note(format!(
            "certificate: expired at {end}; `aim-agent run` renews it by proof of its key, within 14 days by default"
        )),
        ClockView::Early | ClockView::Absurd => findings.bad(
            Exit::Clock,
            format!("clock: it says {now}, the certificate is good from {begin} to {end}; set this machine's clock"),
        ),
    }
    Some(identity)
}

async fn connectivity(config: &Config, identity: &Identity, findings: &mut Findings) {
    let own = &config.link.addresses;
    let addresses = if own.is_empty() { &identity.link_addresses } else { own };
    if addresses.is_empty() {
        findings.bad(Exit::Failed, "no address of the coordinator is known: set [link] addresses");
    }
    for address in addresses {
        match resolve(address).await {
            Err(error) => findings.bad(
                Exit::Unreachable,
                format!("{address}: {error}; mend the name service or [link] addresses"),
            ),
            Ok(socket_addresses) => {
                for socket_address in socket_addresses {
                    match handshake(socket_address, identity).await {
                        Ok(()) => {
                            findings
                                .good(format!("coordinator {address} ({socket_address}): QUIC handshake"));
                        }
                        Err(reason) => findings.bad(
                            Exit::Unreachable,
                            format!("coordinator {address} ({socket_address}): {reason}"),
                        ),
                    }
                }
            }
        }
    }
}

/// Only the handshake: a Hello would take over the running agent's session.
async fn handshake(address: std::net::SocketAddr, identity: &Identity) -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let config = client_config(identity).map_err(|error| words(&error))?;
    let endpoint = client_socket(address).and_then(endpoint).map_err(|error| words(&error))?;
    let name = identity.trust_domain.coordinator_server_name();
    let connecting = endpoint.connect_with(config, address, &name).map_err(|error| words(&error))?;
    let connection = tokio::time::timeout(HANDSHAKE_WITHIN, connecting)
        .await
        .map_err(|_| {
            "udp_blocked: no answer by UDP within 5 s; see whether the coordinator runs, and allow UDP to this port on the way".to_owned()
        })?
        .map_err(|error| format!("{error}; see whether this is the coordinator and the node is not revoked"))?;
    connection.close(0_u32.into(), b"");
    drop(tokio::time::timeout(Duration::from_millis(500), endpoint.wait_idle()).await);
    Ok(())
}

async fn rights(config: &Config, findings: &mut Findings) {
    let clock: SharedClock = Arc::new(SystemClock::new());
    let roots = Roots::default();
    let probes =
        Probes::start(&ProbesConfig::new(config.gpu.clone(), config.filesystems.clone()), &roots, &clock);
    let mut collectors = collect::all(&roots);
    collectors.extend(collect::probed(&roots, &probes, &config.state_dir, &clock));
    let held = effective_capabilities();
    for collector in &collectors {
        for (right, loss) in collector.privileges() {
            let name = collector.name();
            match has_right(held, right) {
                Some(true) => findings.good(format!("collector {name}: {right}")),
                Some(false) => findings.note(format!("collector {name}: without {right}, {loss}")),
                None => findings
                    .note(format!("collector {name}: {right} cannot be checked here; without it, {loss}")),
            }
        }
    }
    probes.shutdown().await;
}

fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Numbers of capabilities(7).
fn has_right(held: Option<u64>, right: &str) -> Option<bool> {
    let bit = match right {
        "root" => return Some(rustix::process::geteuid().is_root()),
        "CAP_DAC_READ_SEARCH" => 2,
        "CAP_NET_ADMIN" => 12,
        "CAP_SYS_ADMIN" => 21,
        "CAP_SYSLOG" => 34,
        _ => return None,
    };
    held.map(|held| held & (1 << bit) != 0)
}
