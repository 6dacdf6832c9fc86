//! Peers that send too slowly, too fast, too much: what the others notice of it.

use std::time::Duration;

use aim_common::metric::Metric;
use aim_common::protocol::{Change, CloseCode, GaugeReport, SeriesChange, SeriesKey, SeriesTable};
use aim_common::units::EpochMs;
use quinn::SendStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::site::{Agent, Identity, Site, endpoint, frame, hello};

/// Statement's number of slow streams, over identities with 15 of each sort.
const SLOW: usize = 1_000;
const SLOW_EACH: usize = 30;
/// Statement's bound of a good report.
const GOOD_WITHIN: Duration = Duration::from_secs(1);
/// Below this a shared machine measures itself and not the coordinator.
const NOISE: Duration = Duration::from_millis(250);

fn table() -> SeriesTable {
    let key = SeriesKey { metric: Metric::CpuUtilization, instance: "".into() };
    SeriesTable { series: vec![key.into()].try_into().unwrap() }
}

fn report() -> GaugeReport {
    let change = Change::Gauge { average_delta: 1, below: 0, above: 0 };
    GaugeReport {
        end: EpochMs(0),
        interval_ms: 10_000,
        late: false,
        dropped_before: 0,
        changes: vec![SeriesChange { skip: 0, change }].try_into().unwrap(),
    }
}

/// An agent that behaves, and how long its reports take from its hand into the live state.
struct Good {
    agent: Agent,
    samples: SendStream,
    arrived: tokio::sync::watch::Receiver<u64>,
}

impl Good {
    async fn start(site: &Site, identity: &Identity) -> Self {
        let agent = site.agent(identity, &hello(1)).await;
        let mut samples = agent.stream().await;
        samples.write_all(&frame(&table())).await.unwrap();
        Self { agent, samples, arrived: site.node(identity.node).watch() }
    }

    async fn p99(&mut self, reports: usize) -> Duration {
        let mut took = Vec::new();
        for _ in 0..reports {
            self.arrived.mark_unchanged();
            let began = Instant::now();
            self.samples.write_all(&frame(&report())).await.unwrap();
            self.arrived.changed().await.unwrap();
            took.push(began.elapsed());
            // Below the limit of 100 messages a second.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(self.agent.connection.close_reason().is_none());
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

/// A session whose thirty streams get a byte a second each of a frame that is never whole.
async fn slow_session(agent: Agent) -> (Option<CloseCode>, usize) {
    let mut streams = Vec::new();
    for _ in 0..SLOW_EACH / 2 {
        streams.push(agent.stream().await);
        let (send, _receive) = agent.connection.open_bi().await.unwrap();
        streams.push(send);
    }
    // A series table of 65,535 bytes, which would take 18 hours.
    let begun = [b'A', b'I', 1, 0, 16, 0, 0, 0, 0xff, 0xff, 0, 0];
    let bytes = begun.iter().chain(std::iter::repeat(&0));
    let dribble = async {
        for byte in bytes {
            for stream in &mut streams {
                let _ = stream.write_all(&[*byte]).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = dribble => unreachable!("it never ends"),
        closed = tokio::time::timeout(Duration::from_secs(90), agent.connection.closed()) => {
            closed.expect("a slow peer is cut");
        }
    }
    agent.closed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_07_a_thousand_slow_streams_are_cut_after_30_s_and_slow_nobody() {
    let site = Site::start().await;
    let good = site.enrol("good").await;
    let shared = endpoint();
    let began = Instant::now();
    let mut slow = JoinSet::new();
    for index in 0..SLOW.div_ceil(SLOW_EACH) {
        let identity = site.enrol(&format!("slow{index}")).await;
        slow.spawn(slow_session(site.agent_from(&shared, &identity, &hello(1)).await));
    }
    let opened = began.elapsed();
    let mut good = Good::start(&site, &good).await;
    let p99 = good.p99(200).await;
    println!("p99 of good reports beside {SLOW} slow streams: {p99:?}");
    assert!(p99 < GOOD_WITHIN, "{p99:?}");
    let mut cut = 0;
    while let Some(ended) = slow.join_next().await {
        assert_eq!(ended.unwrap(), (Some(CloseCode::LimitExceeded), 0));
        if cut == 0 {
            assert!(began.elapsed() >= Duration::from_secs(29), "cut too early");
        }
        cut += 1;
    }
    let took = began.elapsed().saturating_sub(opened);
    assert!(
        took < Duration::from_secs(45),
        "30 s after its first byte each of them is cut, and not {took:?}"
    );
    assert_eq!(cut, SLOW.div_ceil(SLOW_EACH));
    drop(good);
    site.stop().await;
}

/// Sends whole reports for as long as it lives, as fast as it may.
async fn messages_at_line_rate(mut samples: SendStream) {
    let many = frame(&report()).repeat(500);
    while samples.write_all(&many).await.is_ok() {}
}

/// Sends frames that are passed over, as fast as it may, and counts what left.
async fn bytes_at_line_rate(agent: &Agent, time: Duration) -> usize {
    let mut skippable = vec![b'A', b'I', 1, 0, 0xff, 0x7f, 1, 0, 0, 0, 1, 0];
    skippable.resize(12 + 65_536, 0);
    let mut stream = agent.stream().await;
    let mut sent = 0;
    let sending = async {
        loop {
            stream.write_all(&skippable).await.unwrap();
            sent += skippable.len();
        }
    };
    let _ = tokio::time::timeout(time, sending).await;
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qui_09_an_agent_at_line_rate_is_slowed_down_and_the_others_do_not_notice() {
    const MEASURED: Duration = Duration::from_secs(6);
    let site = Site::start().await;
    let (good, loud, big) = (site.enrol("good").await, site.enrol("loud").await, site.enrol("big").await);
    let mut good = Good::start(&site, &good).await;
    let quiet = good.p99(100).await;

    let mut noisy = Good::start(&site, &loud).await;
    noisy.arrived.mark_unchanged();
    let reports = noisy.arrived.clone();
    let first = *reports.borrow();
    let big = site.agent(&big, &hello(1)).await;
    let began = Instant::now();
    let messages = tokio::spawn(messages_at_line_rate(noisy.samples));
    let (bytes, beside) = tokio::join!(bytes_at_line_rate(&big, MEASURED), good.p99(150));
    let passed = *reports.borrow() - first;
    let seconds = began.elapsed().as_secs_f64();
    messages.abort();
    println!(
        "{bytes} bytes and {passed} messages in {seconds:.1} s; p99 {quiet:?} without, {beside:?} beside them"
    );
    // Two seconds' worth may come at once, and a window is on its way.
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let (bytes, passed) = (bytes as f64, passed as f64);
    let window = 1024.0 * 1024.0 + 65_548.0;
    assert!(bytes <= 2.0 * 1024.0 * 1024.0 * (MEASURED.as_secs_f64() + 2.0) + window, "{bytes}");
    assert!(passed <= 100.0 * (seconds + 2.0) + 1.0, "{passed} messages in {seconds} s");
    assert!(beside < quiet.max(NOISE) * 2, "{quiet:?} without, {beside:?} beside two agents at line rate");
    site.stop().await;
}
