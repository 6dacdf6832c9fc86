//! The programs that AIM's agent is measured against, from Debian's packages.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::process::Measured;

/// Installs what is missing, saying so first.
pub(crate) fn install(packages: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing the peers: {}", missing.join(" "));
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    ensure!(status.success(), "apt-get could not install {}; install them by hand", missing.join(" "));
    Ok(())
}

/// prometheus-node-exporter; scraped by [`scrape`].
pub(crate) fn node_exporter(port: u16, five_collectors: bool, log: &Path) -> anyhow::Result<Measured> {
    let mut command = Command::new("/usr/bin/prometheus-node-exporter");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    if five_collectors {
        command.arg("--collector.disable-defaults");
        command.args(
            ["cpu", "meminfo", "diskstats", "netdev", "loadavg"].map(|name| format!("--collector.{name}")),
        );
    }
    Measured::start("prometheus-node-exporter", quiet(&mut command, log)?)
}

/// serf: a gossip agent, the peer for the cost of being connected and doing nothing else. Two of them, so that there is
/// somebody to talk to.
pub(crate) fn serf(name: &str, port: u16, join: Option<u16>, log: &Path) -> anyhow::Result<Measured> {
    let mut command = Command::new("/usr/bin/serf");
    command.args(["agent", "-node", name]);
    command.arg(format!("-bind=127.0.0.1:{port}"));
    command.arg(format!("-rpc-addr=127.0.0.1:{}", port + 1));
    if let Some(join) = join {
        command.arg(format!("-join=127.0.0.1:{join}"));
    }
    Measured::start("serf", quiet(&mut command, log)?)
}

fn quiet<'a>(command: &'a mut Command, log: &Path) -> anyhow::Result<&'a mut Command> {
    let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    Ok(command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))
}

/// One scrape with gzip, as Prometheus does it; gives the bytes of the body as they crossed the wire.
pub(crate) async fn scrape(client: &reqwest::Client, port: u16) -> anyhow::Result<usize> {
    let response = client
        .get(format!("http://127.0.0.1:{port}/metrics"))
        .header("accept-encoding", "gzip")
        .timeout(Duration::from_secs(10))
        .send()
        .await
        .context("cannot scrape prometheus-node-exporter")?;
    Ok(response.bytes().await?.len())
}
