//! The agent's footprint: one run of two agents (one that only keeps its connection, one that reports every 15 s) and
//! of the peers beside them, all at the same time on the same cores.

use std::time::Duration;

use anyhow::Context;

use crate::figure::{Figure, Hold};
use crate::netns::{Namespace, Traffic};
use crate::peers;
use crate::process::{Measured, cpu_seconds, pss_mib, rss_mib, tree};
use crate::site::{Site, free_port};

/// Reporting and scraping interval.
const INTERVAL: Duration = Duration::from_secs(15);
/// Starting, first reports and first inventory are not the steady state.
const WARM_UP: Duration = Duration::from_secs(45);
/// A connection and nothing else.
const IDLE: &str = "sample_interval_ms = 600000\ninterval_ms = 3600000\ninventory_interval_ms = 86400000\n\
                    [gpu]\nenabled = false\n[filesystems]\nenabled = false";
/// All host collectors, read and reported every 15 s as the peers are scraped; by default an agent also samples within an
/// interval, whose cost docs/performance.md gives.
const REPORTING: &str = "sample_interval_ms = 15000\ninterval_ms = 15000\n[filesystems]\ninterval_ms = 15000";

/// What one process had used at a moment.
#[derive(Clone, Copy)]
struct Reading {
    cpu_seconds: f64,
    traffic: Traffic,
}

struct Subject {
    process: Measured,
    namespace: Namespace,
}

impl Subject {
    fn read(&mut self) -> anyhow::Result<Reading> {
        self.process.ensure_alive()?;
        Ok(Reading { cpu_seconds: cpu_seconds(self.process.pid()), traffic: self.namespace.traffic()? })
    }
}

/// Measures for `length`.
pub(crate) async fn measure(site: &Site, length: Duration) -> anyhow::Result<Vec<Figure>> {
    peers::install(&[
        ("/usr/bin/prometheus-node-exporter", "prometheus-node-exporter"),
        ("/usr/bin/serf", "serf"),
    ])?;
    let namespace = Namespace::create(1)?;
    let mut idle = Subject { process: site.agent("bench-idle", &namespace, IDLE).await?, namespace };
    let namespace = Namespace::create(2)?;
    let mut reporting =
        Subject { process: site.agent("bench-reporting", &namespace, REPORTING).await?, namespace };

    let five_port = free_port(false)?;
    let mut five = peers::node_exporter(five_port, true, &site.log("node-exporter-five"))?;
    let all_port = five_port + 1;
    let mut all = peers::node_exporter(all_port, false, &site.log("node-exporter"))?;
    let serf_port = five_port + 10;
    let mut serf = peers::serf("a", serf_port, None, &site.log("serf-a"))?;
    let _other_serf = peers::serf("b", serf_port + 10, Some(serf_port), &site.log("serf-b"))?;

    let client = reqwest::Client::builder().build()?;
    scrape_for(&client, &[five_port, all_port], WARM_UP).await?;
    let before = (idle.read()?, reporting.read()?);
    let peers_before = [&five, &all, &serf].map(|peer| cpu_seconds(peer.pid()));
    let scraped = scrape_for(&client, &[five_port, all_port], length).await?;
    let after = (idle.read()?, reporting.read()?);
    for peer in [&mut five, &mut all, &mut serf] {
        peer.ensure_alive()?;
    }
    let peers_after = [&five, &all, &serf].map(|peer| cpu_seconds(peer.pid()));

    let hours = length.as_secs_f64() / 3600.0;
    let per_hour = |from: f64, to: f64| (to - from) / hours;
    let idle_cpu = per_hour(before.0.cpu_seconds, after.0.cpu_seconds);
    let reporting_cpu = per_hour(before.1.cpu_seconds, after.1.cpu_seconds) - idle_cpu;
    let [five_cpu, all_cpu, serf_cpu] =
        [0, 1, 2].map(|peer: usize| per_hour(peers_before[peer], peers_after[peer]));
    let intervals = length.as_secs_f64() / INTERVAL.as_secs_f64();
    let idle_traffic = after.0.traffic.since(before.0.traffic);
    let reporting_traffic = after.1.traffic.since(before.1.traffic);
    #[expect(clippy::cast_precision_loss, reason = "bytes of minutes fit a double")]
    let (idle_bytes, reporting_bytes) = (idle_traffic.bytes as f64, reporting_traffic.bytes as f64);

    let agent = reporting.process.pid();
    let helpers: Vec<u32> = tree(agent).into_iter().filter(|pid| *pid != agent).collect();
    let helper_pss: f64 = helpers.iter().filter_map(|pid| pss_mib(*pid).ok()).sum();
    Ok(vec![
        Figure::new("agent_rss_mib", rss_mib(agent)?, "MiB", Hold::AtMost(10.0))
            .against("node_exporter", rss_mib(all.pid())?)
            .note(format!(
                "helper processes besides: {} with {helper_pss:.1} MiB proportional",
                helpers.len()
            )),
        Figure::new("agent_idle_cpu_s_per_hour", idle_cpu, "CPU s/h", Hold::AtMost(0.45))
            .against("serf", serf_cpu)
            .note(format!("{} packets in {length:?}", idle_traffic.packets)),
        Figure::new("agent_cpu_s_per_hour", reporting_cpu, "CPU s/h", Hold::AtMost(0.4))
            .against("node_exporter, all defaults", all_cpu)
            .note(format!(
                "on top of idle, helpers included; node_exporter with five collectors {five_cpu:.2}"
            )),
        Figure::new("agent_idle_wire_bytes_per_15s", idle_bytes / intervals, "B", Hold::AtMost(1000.0))
            .note("IP and UDP headers, both directions"),
        Figure::new(
            "agent_wire_bytes_per_report",
            (reporting_bytes - idle_bytes) / intervals,
            "B",
            Hold::AtMost(900.0),
        )
        .against("node_exporter, five collectors, gzip body", scraped[0])
        .note(format!("on top of idle; node_exporter with all defaults {:.0}", scraped[1])),
    ])
}

/// Scrapes each port once an interval until the time is over; gives the mean bytes of a body for each.
async fn scrape_for(client: &reqwest::Client, ports: &[u16], length: Duration) -> anyhow::Result<Vec<f64>> {
    let end = tokio::time::Instant::now() + length;
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut bodies: Vec<Vec<usize>> = vec![Vec::new(); ports.len()];
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => break,
            _ = ticks.tick() => {
                for (port, sizes) in ports.iter().zip(&mut bodies) {
                    match peers::scrape(client, *port).await {
                        Ok(size) => sizes.push(size),
                        // The exporters take a moment to listen; a peer that stays away fails below.
                        Err(error) if sizes.is_empty() => eprintln!("{error:#}"),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
    bodies
        .into_iter()
        .map(|sizes| {
            let count = u32::try_from(sizes.len())?;
            let sum = u32::try_from(sizes.iter().sum::<usize>())?;
            (count > 0).then(|| f64::from(sum) / f64::from(count)).context("a peer answered no scrape at all")
        })
        .collect()
}
