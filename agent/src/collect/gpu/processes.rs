//! Who the processes on the GPUs are: from `/proc`, as they are now.

use std::path::Path;

use aim_common::protocol::{GpuProcess, GpuProcesses};
use aim_common::wire::{BoundedString, BoundedVec};

use super::answers::Holder;
use crate::collect::source;

/// `starttime` in `/proc/PID/stat`, counted after the name (Linux: proc(5)).
const START_TICKS: usize = 19;

/// The message for these holders. A process that is gone already is left out: it holds nothing any more.
pub(super) fn describe<'a>(proc: &Path, holders: impl Iterator<Item = &'a Holder>) -> GpuProcesses {
    let mut processes: Vec<GpuProcess> = holders.filter_map(|holder| process(proc, holder)).collect();
    processes.sort_by(|a, b| (&a.gpu_uuid, a.pid, a.compute).cmp(&(&b.gpu_uuid, b.pid, b.compute)));
    let (processes, left_out) = BoundedVec::truncated(processes);
    GpuProcesses { processes, left_out: u32::try_from(left_out).unwrap_or(u32::MAX) }
}

fn process(proc: &Path, holder: &Holder) -> Option<GpuProcess> {
    let folder = proc.join(holder.pid.to_string());
    let start_ticks = start_ticks(&source::fact(&folder.join("stat")).ok()?)?;
    let status = source::fact(&folder.join("status")).ok();
    let name = source::fact(&folder.join("comm")).unwrap_or_default();
    Some(GpuProcess {
        gpu_uuid: BoundedString::truncated(&holder.gpu_uuid),
        pid: holder.pid,
        start_ticks,
        uid: status.as_deref().and_then(real_uid),
        name: BoundedString::truncated(&source::text(&name)),
        memory_bytes: holder.memory_bytes,
        compute: holder.compute,
    })
}

fn start_ticks(stat: &[u8]) -> Option<u64> {
    // The name may hold anything, a `)` too; nothing after it does.
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    source::number(source::words(stat.get(end_of_name + 1..)?).nth(START_TICKS)?)
}

fn real_uid(status: &[u8]) -> Option<u32> {
    let line = source::lines(status).find_map(|line| line.strip_prefix(b"Uid:"))?;
    u32::try_from(source::number(source::words(line).next()?)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agt_04_a_hostile_name_moves_no_field() {
        let stat = b"4242 (evil) R 1 2) S 1 4242 4242 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 987654 1000 50";
        assert_eq!(start_ticks(stat), Some(987_654));
        // A user chooses the name, the kernel escapes line feeds in it, and `Uid:` stands at the start of its own line.
        assert_eq!(real_uid(b"Name:\tUid: 0\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\n"), Some(1000));
    }

    #[test]
    fn this_process_is_described_and_a_gone_one_left_out() {
        let me = std::process::id();
        let holder = |pid| Holder { gpu_uuid: "GPU-1".into(), pid, memory_bytes: Some(7), compute: true };
        let holders = [holder(me), holder(u32::MAX)];
        let described = describe(Path::new("/proc"), holders.iter());
        assert_eq!(described.processes.len(), 1);
        let process = &described.processes[0];
        assert_eq!(process.pid, me);
        assert_eq!(process.uid, Some(rustix::process::getuid().as_raw()));
        assert!(process.start_ticks > 0);
    }

    proptest! {
        #[test]
        fn agt_04_arbitrary_files_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = start_ticks(&bytes);
            let _ = real_uid(&bytes);
        }
    }
}
