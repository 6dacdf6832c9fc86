//! Values as a person reads them: escaped, with unit, with age; unknown is said, never shown as zero.

use std::fmt::Write;

use aim_common::inventory::{Fact, UnknownReason};
use aim_common::units::EpochMs;

/// Text from a node or a user, made safe for a terminal: one line, no control or direction-changing character.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            other if is_unsafe(other) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(other));
            }
            other => safe.push(other),
        }
    }
    safe
}

/// JSON with the same characters written as JSON's own escapes: the same value, and safe for a terminal.
pub(crate) fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_unsafe(character) {
            // Outside of strings JSON has no such character; beyond 16 bits it is written as a pair.
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The same for a message of several lines.
pub(crate) fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// Control characters, line and paragraph separators, and the marks that reorder text (bidirectional, invisible).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Milliseconds as an age or a span: the two largest units that matter.
pub(crate) fn span(milliseconds: i64) -> String {
    if milliseconds < 0 {
        return format!("-{}", span(milliseconds.saturating_neg()));
    }
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        60..3600 => format!("{minutes}m"),
        3600..86_400 if minutes != 0 => format!("{hours}h{minutes}m"),
        3600..86_400 => format!("{hours}h"),
        86_400..864_000 if hours != 0 => format!("{days}d{hours}h"),
        _ => format!("{days}d"),
    }
}

/// How long ago.
pub(crate) fn ago(at: EpochMs, now: EpochMs) -> String {
    span(now.since_ms(at).max(0))
}

/// How long until; `ended` where it is past.
pub(crate) fn until(at: EpochMs, now: EpochMs) -> String {
    let left = at.since_ms(now);
    if left <= 0 { "ended".to_owned() } else { span(left) }
}

/// Bytes with a binary unit, three digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn bytes(count: u64) -> String {
    scaled(count as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// Bytes given as a measured number.
pub(crate) fn bytes_f64(count: f64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// A plain number with a decimal prefix, three digits.
pub(crate) fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value.abs() >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    let digits = if unit == 0 && value.fract() == 0.0 || value.abs() >= 99.95 {
        0
    } else if value.abs() >= 9.995 {
        1
    } else {
        2
    };
    let gap = if name.is_empty() { "" } else { " " };
    format!("{value:.digits$}{gap}{name}")
}

/// A share as per cent.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// Mbit/s as network people write it.
pub(crate) fn link_speed(mbps: u64) -> String {
    if mbps >= 1000 && mbps.is_multiple_of(1000) {
        format!("{} Gb/s", mbps / 1000)
    } else {
        format!("{mbps} Mb/s")
    }
}

/// Why a value is not known.
pub(crate) fn unknown(reason: UnknownReason) -> String {
    let why = match reason {
        UnknownReason::NeedsRoot => "needs root",
        UnknownReason::NeedsCapability => "needs capability",
        UnknownReason::NotSupported => "not supported",
        UnknownReason::NotPresent => "not present",
        UnknownReason::Unresponsive => "unresponsive",
        UnknownReason::ReadFailed => "read failed",
        UnknownReason::Malformed => "malformed",
        UnknownReason::NotYet => "not yet",
    };
    format!("? ({why})")
}

/// A fact: its value, or why there is none.
pub(crate) fn fact<T>(fact: &Fact<T>, show: impl FnOnce(&T) -> String) -> String {
    match fact {
        Fact::Known(value) => show(value),
        Fact::Unknown(reason) => unknown(*reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn act_20_hostile_text_cannot_steer_the_terminal() {
        let hostile = "a\x1b[2J\r\nb\t\0\u{202e}\u{2028}\u{9b}31m\u{7f}\u{feff}";
        let safe = escape(hostile);
        assert!(safe.chars().all(|c| !is_unsafe(c)), "{safe:?}");
        assert_eq!(safe, "a\\u{1b}[2J\\r\\nb\\t\\u{0}\\u{202e}\\u{2028}\\u{9b}31m\\u{7f}\\u{feff}");
        assert_eq!(escape("GPU 显卡 é"), "GPU 显卡 é");
    }

    #[test]
    fn idn_04_json_keeps_its_value_and_steers_no_terminal() {
        let hostile = serde_json::json!({ "a\u{9b}": "\x1b[2J\r\n\t\0\u{202e}\u{7f}\u{e0041}é\\\u{feff}" });
        for written in [hostile.to_string(), serde_json::to_string_pretty(&hostile).unwrap()] {
            let safe = escape_json(&written);
            assert!(safe.chars().all(|c| c == '\n' || !is_unsafe(c)), "{safe:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), hostile);
        }
    }

    #[test]
    fn spans_show_the_units_that_matter() {
        let cases = [
            (0, "0s"),
            (3_400, "3s"),
            (65_000, "1m5s"),
            (3_540_000, "59m"),
            (3_600_000, "1h"),
            (5_400_000, "1h30m"),
            (86_400_000, "1d"),
            (90_000_000, "1d1h"),
            (864_000_000, "10d"),
            (-2_000, "-2s"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(span(milliseconds), expected, "{milliseconds}");
        }
        assert_eq!(until(EpochMs(5), EpochMs(5)), "ended");
        assert_eq!(ago(EpochMs(9_000), EpochMs(5_000)), "0s");
    }

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (85_899_345_920, "80.0 GiB"),
            (2_199_023_255_552, "2.00 TiB"),
            (1_048_576 * 999, "999 MiB"),
        ];
        for (value, expected) in cases {
            assert_eq!(bytes(value), expected, "{value}");
        }
        assert_eq!(count(1_500_000.0) + "Hz", "1.50 MHz");
        assert_eq!(link_speed(400_000), "400 Gb/s");
        assert_eq!(link_speed(2_500), "2500 Mb/s");
    }

    #[test]
    fn unknown_is_never_zero() {
        let facts = [Fact::Known(0_u64), Fact::Unknown(UnknownReason::NeedsRoot)];
        let shown: Vec<String> = facts.iter().map(|f| fact(f, |n| bytes(*n))).collect();
        assert_eq!(shown, ["0 B", "? (needs root)"]);
    }
}
