//! XIDs through the real `/dev/kmsg`. Needs the right to write to it (root) and CAP_SYSLOG to read.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use aim_agent::clock::{Clock, SystemClock};
use aim_agent::collect::kernel_log::KernelLogCollector;
use aim_agent::collect::{CollectError, Collector, EventDraft, Roots, SampleSink};
use aim_common::event::{EventKind, Severity};

fn log(line: &str) {
    // Opened for each line: the kernel limits the rate of each open file.
    let kmsg = std::fs::OpenOptions::new().write(true).open("/dev/kmsg");
    let mut kmsg =
        kmsg.unwrap_or_else(|error| panic!("this test writes to /dev/kmsg and needs root: {error}"));
    // Without its line feed a line could be continued, and nobody is shown it.
    kmsg.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A PCI address of this test alone: others write to the same log.
fn address(test: u32) -> String {
    format!("{:04x}:{test:02x}:00", std::process::id() & 0xffff)
}

fn collector(state: &Path) -> KernelLogCollector {
    KernelLogCollector::new(&Roots::default(), state, Arc::new(SystemClock::new()))
}

/// Reads to the end of the log; what concerns this address.
fn read(collector: &mut KernelLogCollector, address: &str) -> Vec<EventDraft> {
    let mut events = Vec::new();
    // A round is bounded; the ring of any kernel is read in these.
    for _ in 0..64 {
        let mut sink = SampleSink::default();
        collector.sample(&mut sink).unwrap();
        events.append(&mut sink.events);
    }
    events.retain(|event| event.subject.starts_with(address));
    events
}

fn attribute<'e>(event: &'e EventDraft, name: &str) -> &'e str {
    event.attributes.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
}

#[test]
fn an_xid_is_an_event_with_all_that_the_line_says() {
    let state = tempfile::tempdir().unwrap();
    let address = address(1);
    let before = SystemClock::new().now();
    log(&format!("NVRM: Xid (PCI:{address}): 79, pid=1234, name=python, GPU has fallen off the bus."));
    let events = read(&mut collector(state.path()), &address);
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!((event.kind, event.severity), (EventKind::GpuXid, Severity::Critical));
    assert_eq!(event.subject, format!("{address}.0"));
    assert_eq!((attribute(event, "xid"), attribute(event, "pid")), ("79", "1234"));
    assert_eq!(attribute(event, "process"), "python");
    assert!(attribute(event, "kmsg_sequence").parse::<u64>().is_ok());
    assert_eq!(attribute(event, "written_by"), "a process", "the test is not the driver");
    assert!(event.message.contains("GPU has fallen off the bus."), "{}", event.message);
    let occurred = event.occurred.unwrap().since_ms(before);
    assert!((-5_000..60_000).contains(&occurred), "{occurred} ms after the test began");
}

#[test]
fn a_restart_repeats_nothing_that_was_durable_and_loses_nothing_that_was_not() {
    let state = tempfile::tempdir().unwrap();
    let address = address(2);
    let line =
        |code: u32| log(&format!("NVRM: Xid (PCI:{address}): {code}, pid='<unknown>', name=<unknown>, x"));
    let codes = |events: &[EventDraft]| -> Vec<String> {
        events.iter().map(|event| attribute(event, "xid").to_owned()).collect()
    };
    line(31);
    let mut first = collector(state.path());
    assert_eq!(codes(&read(&mut first, &address)), ["31"]);
    first.committed().unwrap();
    line(43);
    assert_eq!(codes(&read(&mut first, &address)), ["43"]);
    drop(first);
    // The second was told but never made durable: a new agent tells it again, and not the first.
    line(13);
    let mut second = collector(state.path());
    assert_eq!(codes(&read(&mut second, &address)), ["43", "13"]);
    second.committed().unwrap();
    assert_eq!(codes(&read(&mut collector(state.path()), &address)), Vec::<String>::new());
}

#[test]
fn a_damaged_position_costs_a_repetition_and_nothing_else() {
    let state = tempfile::tempdir().unwrap();
    let address = address(3);
    log(&format!("NVRM: Xid (PCI:{address}): 48, x"));
    let mut first = collector(state.path());
    assert_eq!(read(&mut first, &address).len(), 1);
    first.committed().unwrap();
    std::fs::write(state.path().join("kernel-log.json"), b"{\"boot_id\":").unwrap();
    assert_eq!(read(&mut collector(state.path()), &address).len(), 1);
}

#[test]
fn without_a_log_the_collector_says_so() {
    let state = tempfile::tempdir().unwrap();
    let roots = Roots { dev: state.path().join("dev"), ..Roots::default() };
    let mut collector = KernelLogCollector::new(&roots, state.path(), Arc::new(SystemClock::new()));
    let missing = collector.sample(&mut SampleSink::default());
    assert!(matches!(missing, Err(CollectError::NotPresent(_))), "{missing:?}");
}
