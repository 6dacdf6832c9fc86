use std::io::Read;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// Everything that could end, hide, colour or turn a line, with what surrounds it.
const HOSTILE: &str =
    "\\PC*|.*|(\r|\n|\u{1b}\\[31m|\0|\u{2028}|\u{2029}|\u{85}|\u{9b}|\u{200b}|\u{202e}|\u{feff}|a)*";

fn forges(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

proptest! {
    #[test]
    fn inj_08_no_text_leaves_its_line(text in HOSTILE) {
        prop_assert!(!escape(&text).chars().any(forges), "{:?}", escape(&text));
    }

    #[test]
    fn inj_08_any_event_is_one_printable_line(event in HOSTILE) {
        let line = String::from_utf8(one_line(event.as_bytes())).unwrap();
        let body = line.strip_suffix('\n').unwrap();
        prop_assert!(!body.chars().any(forges), "{:?}", line);
        prop_assert!(line.len() <= LINE_BYTES);
    }

    #[test]
    fn inj_08_any_bytes_are_one_line(event in proptest::collection::vec(any::<u8>(), 0..8_192)) {
        let line = one_line(&event);
        prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        prop_assert!(line.len() <= LINE_BYTES);
    }
}

#[test]
fn inj_08_the_end_of_a_long_event_is_cut_and_marked() {
    let line = one_line(&vec![b'a'; 1_000_000]);
    assert!(line.ends_with(b"a [cut]\n") && line.len() > LINE_BYTES / 2, "{}", line.len());
}

/// Nothing reads: each line costs nothing but its place, and what has none is counted.
#[test]
fn log_05_a_blocked_reader_costs_lines_and_not_time_or_memory() {
    const MOST: usize = 64 * 1024;
    let queue = LogQueue::new(MOST);
    for _ in 0..1_000 {
        queue.push(&vec![b'a'; 100_000]);
        queue.push(b"short");
    }
    let waiting = queue.lock();
    let held: usize = waiting.lines.iter().map(|line| line.len()).sum();
    assert!(held <= waiting.bytes && waiting.bytes <= MOST, "{held} {}", waiting.bytes);
    assert_eq!(waiting.dropped + waiting.lines.len() as u64, 2_000);
    assert!(waiting.dropped > 1_000);
}

#[test]
fn log_05_dropped_lines_are_told_when_somebody_reads_again() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let queue = Arc::new(LogQueue::new(1_024));
    for number in 0..100 {
        queue.push(format!("line {number}").as_bytes());
    }
    let dropped = queue.dropped();
    assert!(dropped > 50);
    let writing = Arc::clone(&queue);
    std::thread::spawn(move || writing.write_to(writer));
    let mut text = String::new();
    let mut bytes = [0; 4_096];
    while !text.contains("dropped") {
        let count = reader.read(&mut bytes).unwrap();
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(text.starts_with("line 0\nline 1\n"), "{text}");
    assert!(text.contains(&format!("\n{dropped} log lines were dropped")), "{text}");
    // The end of a program does not wait for a reader that is gone.
    drop(reader);
    queue.push(b"after");
    queue.flush(Duration::from_secs(30));
    assert!(queue.lock().lines.is_empty());
}
