//! How much of what the agent sends gets lost, by QUIC's own count: said with a report while it is worth a word. Pure.

use aim_common::protocol::PathLoss;

/// What was counted so long ago weighs half.
const HALF_LIFE_MS: f64 = 10_000.0;
/// Fewer lost packets say nothing: a single one may get lost on any path.
const ENOUGH_LOST: f64 = 1.5;

/// The share of packets lost of late.
#[derive(Debug, Default)]
pub(super) struct LossMeter {
    counted: (u64, u64),
    sent: f64,
    lost: f64,
    told: PathLoss,
}

impl LossMeter {
    /// Takes the connection's counters of packets at the end of an interval; gives what the coordinator does not know.
    #[expect(clippy::cast_precision_loss, reason = "differences of packet counts are small")]
    pub(super) fn observe(&mut self, sent: u64, lost: u64, interval_ms: u32) -> Option<PathLoss> {
        let former = std::mem::replace(&mut self.counted, (sent, lost));
        let fade = 0.5_f64.powf(f64::from(interval_ms) / HALF_LIFE_MS);
        self.sent = self.sent * fade + sent.saturating_sub(former.0) as f64;
        self.lost = self.lost * fade + lost.saturating_sub(former.1) as f64;
        let now = PathLoss { lost_permille: self.permille() };
        let before = std::mem::replace(&mut self.told, now);
        // Said again while it loses, since the coordinator believes it for a minute only.
        (now.lost_permille > 0 || now != before).then_some(now)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    fn permille(&self) -> u16 {
        if self.lost < ENOUGH_LOST {
            return 0;
        }
        (self.lost / self.sent.max(self.lost) * 1000.0) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many intervals of 10 s with so many packets sent and lost in each; what was said of each.
    fn said(meter: &mut LossMeter, intervals: u64, sent: u64, lost: u64) -> Vec<Option<u16>> {
        (0..intervals)
            .map(|_| {
                let (all, gone) = (meter.counted.0 + sent, meter.counted.1 + lost);
                meter.observe(all, gone, 10_000).map(|loss| loss.lost_permille)
            })
            .collect()
    }

    #[test]
    fn flt_16_loss_is_said_while_there_is_any_and_once_when_it_is_over() {
        let mut meter = LossMeter::default();
        assert_eq!(said(&mut meter, 3, 8, 0), [None; 3], "a good path costs no byte");
        assert_eq!(said(&mut meter, 1, 8, 1), [None], "one packet says nothing");
        assert_eq!(said(&mut meter, 3, 8, 0), [None; 3]);
        let lossy = said(&mut meter, 6, 10, 3);
        assert!(lossy.iter().all(|said| said.is_some_and(|permille| permille > 50)), "{lossy:?}");
        assert!((280..=300).contains(&lossy.last().unwrap().unwrap()), "{lossy:?}");
        let healed = said(&mut meter, 4, 8, 0);
        assert_eq!(healed.iter().rev().take(1).collect::<Vec<_>>(), [&None]);
        assert_eq!(healed.iter().flatten().last(), Some(&0), "the end is said once: {healed:?}");
    }
}
