//! Processes under measurement: CPU time to the nanosecond, memory, and an end that leaves nothing behind.

use std::process::{Child, Command};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// A child in a process group of its own; the whole group ends with it.
pub(crate) struct Measured {
    name: String,
    child: Child,
}

impl Measured {
    pub(crate) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt;
        let child =
            command.process_group(0).spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails where the process is gone: a dead peer would measure as a very cheap one.
    pub(crate) fn ensure_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended during the measurement: {status}", self.name),
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Every process below `root`, with `root` itself. By parent ids: not every kernel has `children` files.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name stands in parentheses and may hold anything; the parent is the second field after it.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        found.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
    }
    found
}

/// CPU seconds that a process and its living children have used, from the scheduler's own nanoseconds.
pub(crate) fn cpu_seconds(root: u32) -> f64 {
    let mut nanos = 0_u64;
    for pid in tree(root) {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            nanos += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

/// Resident memory of one process in MiB.
pub(crate) fn rss_mib(pid: u32) -> anyhow::Result<f64> {
    memory_mib(pid, "Rss:")
}

/// Proportional share of memory of one process in MiB: pages shared with others count in part.
pub(crate) fn pss_mib(pid: u32) -> anyhow::Result<f64> {
    memory_mib(pid, "Pss:")
}

fn memory_mib(pid: u32, field: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no {field}"))? / 1024.0)
}
