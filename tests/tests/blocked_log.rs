//! A log that nobody reads: both programs go on, hold little of it, and say afterwards what is missing (LOG-05).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits"
)]

use std::io::{PipeReader, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use aim_tests::agent::{SEEN, join_string};
use aim_tests::{Agent, Api, Coordinator, until};
use reqwest::Method;
use tempfile::TempDir;

/// What a pipe holds: full from the first line on.
const PIPE_BYTES: usize = 64 * 1024;
/// The statement's bound.
const GROWTH_KIB: u64 = 16 * 1024;
/// Requests whose log lines, of 4 KiB at the most verbose level, are far more than the bound.
const REQUESTS: usize = 6_000;
/// How long both must go on; the statement's 10 minutes would prove no more: nothing waits for the pipe.
const BLOCKED: Duration = Duration::from_secs(8);
const DEADLINE: Duration = Duration::from_mins(1);

fn full_pipe() -> (PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b' '; PIPE_BYTES]).unwrap();
    (reader, writer)
}

fn verbose(config: &mut toml::Table) {
    config.insert("log".into(), toml::Table::from_iter([("filter".to_owned(), "trace".into())]).into());
}

/// Reads on until a line holds these words; gives the line.
fn said_by(name: &str, mut pipe: PipeReader, words: &'static str) -> String {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let (said, heard) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let (mut text, mut bytes) = (String::new(), vec![0; PIPE_BYTES]);
        // Ends with the program.
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            counted.fetch_add(count, Ordering::Relaxed);
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            let lines: String = text.drain(..whole).collect();
            if let Some(line) = lines.lines().find(|line| line.contains(words)) {
                let _ = said.try_send(line.trim().to_owned());
            }
        }
    });
    heard.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        panic!("{name} did not say {words:?} in {} bytes of its log", read.load(Ordering::Relaxed))
    })
}

fn dropped_by_metric(api: &Api) -> u64 {
    let text = api.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix("aim_log_lines_dropped_total "));
    line.unwrap().parse().unwrap()
}

#[test]
fn log_05_blocked_logs_stop_neither_heartbeats_nor_the_api_and_are_bounded() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::prepare(dir.path(), verbose);
    let (coordinator_log, log) = full_pipe();
    coordinator.serve_into(log.into());
    let admin = coordinator.admin();
    let mut agent = Agent::prepare(dir.path(), "node1", verbose);
    agent.enrol(&join_string(&admin, "node1")).success();
    let (agent_log, log) = full_pipe();
    agent.serve_into(log.into());
    let present = agent.await_presence(&admin, "present", SEEN);
    let coordinator_before = coordinator.program().status_kib("VmRSS");
    let agent_before = agent.program().status_kib("VmRSS");

    let (long, begun) = ("a".repeat(6_000), Instant::now());
    for _ in 0..REQUESTS {
        assert_eq!(admin.call(Method::GET, &format!("/api/v1/{long}"), None).status, 404);
    }
    until("both were blocked for long enough", DEADLINE, || (begun.elapsed() >= BLOCKED).then_some(()));
    let now = agent.node(&admin);
    assert_eq!(
        (&now["presence"]["state"], &now["presence"]["since"]),
        (&present["state"], &present["since"])
    );
    let age = now["last_seen_age_ms"].as_i64().unwrap();
    assert!(age < 15_000, "the last report is {age} ms old");
    let grown = |before: u64, after: u64| after.saturating_sub(before);
    let coordinator_grown = grown(coordinator_before, coordinator.program().status_kib("VmRSS"));
    let agent_grown = grown(agent_before, agent.program().status_kib("VmRSS"));
    assert!(coordinator_grown <= GROWTH_KIB, "the coordinator grew by {coordinator_grown} KiB");
    assert!(agent_grown <= GROWTH_KIB, "the agent grew by {agent_grown} KiB");

    // Counted while nobody reads, and said as soon as somebody does.
    let counted = dropped_by_metric(&admin);
    assert!(counted > 1_000, "{counted} lines were dropped");
    let line = said_by("the coordinator", coordinator_log, "log lines were dropped");
    let told: u64 = line.split(' ').next().unwrap().parse().unwrap();
    assert!(told >= counted, "{line}, and {counted} by the metric");
    // The agent says little: nothing was dropped, and everything that waited comes out.
    said_by("the agent", agent_log, "info: connected");
    agent.stop();
    coordinator.stop();
}

/// A dead program must end, whoever reads its last words.
#[test]
fn log_05_a_blocked_log_does_not_keep_a_program_from_ending() {
    let dir = TempDir::new().unwrap();
    let mut coordinator = Coordinator::prepare(dir.path(), verbose);
    let (coordinator_log, log) = full_pipe();
    coordinator.serve_into(log.into());
    let mut agent = Agent::prepare(dir.path(), "node1", verbose);
    let (agent_log, log) = full_pipe();
    // Not enrolled: it ends at once and says why.
    agent.serve_into(log.into());
    assert_eq!(
        agent.program().wait(DEADLINE).code(),
        Some(i32::from(aim_agent::exit::Exit::NotEnrolled as u8))
    );
    coordinator.stop();
    drop((coordinator_log, agent_log));
}
