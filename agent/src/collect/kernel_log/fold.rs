//! Storms: the same code of the same card is told a few times, then counted. Pure: time is a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use super::xid::{Source, Xid};

/// Times in one window that the same code of the same card is told in full.
pub(super) const TOLD_IN_FULL: u32 = 5;
/// Length of a window, from the first line.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// Windows that are open at a time; beyond them all are closed early.
const MOST_WINDOWS: usize = 256;

type Key = (Source, u32, String);

/// What was counted instead of told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folded {
    /// The last line of them.
    pub(super) last: Xid,
    /// How many were not told.
    pub(super) count: u32,
}

struct Window {
    since: Duration,
    lines: u32,
    last: Xid,
}

/// Counts lines by card and code.
#[derive(Default)]
pub(super) struct Fold {
    windows: BTreeMap<Key, Window>,
}

impl Fold {
    /// Whether this line is told in full.
    pub(super) fn admit(&mut self, now: Duration, xid: &Xid) -> bool {
        let key = (xid.source, xid.code, xid.pci_address.clone());
        let window =
            self.windows.entry(key).or_insert_with(|| Window { since: now, lines: 0, last: xid.clone() });
        window.lines = window.lines.saturating_add(1);
        if window.lines > TOLD_IN_FULL {
            window.last = xid.clone();
        }
        window.lines <= TOLD_IN_FULL
    }

    /// Closes the windows that are over, and says what was counted in them.
    pub(super) fn close(&mut self, now: Duration) -> Vec<Folded> {
        let mut closed = Vec::new();
        let is_over = |window: &Window| now.saturating_sub(window.since) >= WINDOW;
        let mut over: Vec<Key> =
            self.windows.iter().filter(|(_, window)| is_over(window)).map(|(key, _)| key.clone()).collect();
        if self.windows.len() - over.len() > MOST_WINDOWS {
            over = self.windows.keys().cloned().collect();
        }
        for key in over {
            let window = self.windows.remove(&key);
            closed.extend(
                window
                    .filter(|window| window.lines > TOLD_IN_FULL)
                    .map(|window| Folded { last: window.last, count: window.lines - TOLD_IN_FULL }),
            );
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_line_is_told_or_counted_once(
            lines in proptest::collection::vec((0_u32..3, 0_u64..30_000), 1..300),
        ) {
            let (mut fold, mut now, mut told, mut counted) = (Fold::default(), Duration::ZERO, 0, 0);
            for (code, later) in &lines {
                now += Duration::from_millis(*later);
                let line = format!("NVRM: Xid (PCI:0000:17:00): {code}, x");
                told += u32::from(fold.admit(now, &super::super::xid::parse(&line).unwrap()));
                counted += fold.close(now).iter().map(|folded| folded.count).sum::<u32>();
            }
            counted += fold.close(now + WINDOW).iter().map(|folded| folded.count).sum::<u32>();
            prop_assert_eq!((told + counted) as usize, lines.len());
            prop_assert!(fold.windows.is_empty());
        }
    }

    #[test]
    fn a_storm_is_told_a_few_times_and_then_as_a_count() {
        let xid = super::super::xid::parse("NVRM: Xid (PCI:0000:17:00): 13, x").unwrap();
        let mut fold = Fold::default();
        let told = (0..1000).filter(|_| fold.admit(Duration::from_secs(1), &xid)).count();
        assert_eq!(told, 5);
        assert!(fold.close(Duration::from_secs(2)).is_empty());
        assert_eq!(fold.close(Duration::from_secs(61)), [Folded { last: xid, count: 995 }]);
    }
}
