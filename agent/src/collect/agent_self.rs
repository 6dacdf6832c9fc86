//! What the agent itself costs its node.

use aim_common::inventory::UnknownReason;
use aim_common::metric::Metric;

use super::cpu::TICKS_PER_SECOND;
use super::source::{self, KeptFile, float};
use super::{CollectError, Collector, Roots, Round, SampleSink};

/// Places in `/proc/self/stat` counted after the name (Linux: proc(5)): utime, stime, cutime, cstime.
const CPU_TIMES: std::ops::RangeInclusive<usize> = 11..=14;
/// Resident pages.
const RESIDENT_PAGES: usize = 21;

/// Reads the agent's own costs.
#[derive(Debug)]
pub(super) struct AgentCollector {
    stat: KeptFile,
    buffer: Vec<u8>,
}

impl AgentCollector {
    /// Below these roots.
    pub(super) fn new(roots: &Roots) -> Self {
        Self { stat: KeptFile::new(roots.proc.join("self/stat")), buffer: Vec::new() }
    }
}

impl Collector for AgentCollector {
    fn name(&self) -> &'static str {
        "agent"
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        if sink.round == Round::Within {
            return Ok(());
        }
        let stat = match self.stat.read_value(&mut self.buffer) {
            Ok(stat) => stat,
            Err(error) => return Err(source::failure(self.stat.path(), error)),
        };
        let costs = parse(stat).ok_or(UnknownReason::Malformed);
        let page = float(rustix::param::page_size() as u64);
        sink.counter_or_reason(
            Metric::AgentCpuSeconds,
            "",
            costs.map(|(ticks, _)| float(ticks) / TICKS_PER_SECOND),
        );
        sink.gauge_or_reason(Metric::AgentResidentMemory, "", costs.map(|(_, pages)| float(pages) * page));
        Ok(())
    }
}

/// CPU time in ticks, of the agent and of the helpers it has waited for, and resident pages.
fn parse(stat: &[u8]) -> Option<(u64, u64)> {
    // The name may hold anything, a `)` too; nothing after it does.
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&[u8]> = source::words(stat.get(end_of_name + 1..)?).collect();
    let times = fields.get(CPU_TIMES)?.iter();
    let ticks =
        times.map(|field| source::number(field)).try_fold(0_u64, |sum, ticks| sum.checked_add(ticks?))?;
    Some((ticks, source::number(fields.get(RESIDENT_PAGES)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agt_04_a_process_name_cannot_forge_the_numbers() {
        let after = "S 1 2 3 4 5 6 7 8 9 10 100 20 3 1 16 17 18 19 20 21 777 23";
        for name in ["(aim-agent)", "(a) R 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9)", "(a\n) ()"] {
            assert_eq!(parse(format!("42 {name} {after}").as_bytes()), Some((124, 777)), "{name:?}");
        }
        assert_eq!(parse(b"42 (x"), None);
    }
}
