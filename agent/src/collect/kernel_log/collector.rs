//! The collector: reads new records each round, and keeps how far it came.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aim_common::event::{EventKind, Severity};
use aim_common::identity::BootId;
use aim_common::protocol::Condition;
use aim_common::units::EpochMs;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::codes;
use super::fold::{Fold, Folded};
use super::position::{Position, PositionFile};
use super::record::{self, Record};
use super::xid::{self, Source, Xid};
use crate::clock::SharedClock;
use crate::collect::standing::{Degraded, Standing};
use crate::collect::system::boot_id;
use crate::collect::{CollectError, Collector, EventDraft, Roots, SampleSink, source};

/// The kernel's longest record with its dictionary; a smaller buffer loses records.
const BUFFER: usize = 8 * 1024;
/// Records read in one round: a storm takes a few milliseconds of each round, and the rest waits in the ring.
const RECORDS_A_ROUND: usize = 4096;
/// The position is kept this often where nothing was told.
const KEEP_EVERY: Duration = Duration::from_mins(1);

/// Reads `/dev/kmsg`.
pub struct KernelLogCollector {
    roots: Roots,
    clock: SharedClock,
    path: PathBuf,
    log: Option<File>,
    boot_id: Option<BootId>,
    buffer: Vec<u8>,
    fold: Fold,
    kept: PositionFile,
    /// The last record read.
    sequence: Option<u64>,
    /// The last record that is kept as read, and when.
    kept_sequence: Option<u64>,
    kept_at: Duration,
    /// Something was told since.
    told: bool,
    standing: Standing,
}

impl KernelLogCollector {
    /// With the agent's state directory.
    pub fn new(roots: &Roots, state: &Path, clock: SharedClock) -> Self {
        Self {
            roots: roots.clone(),
            clock,
            path: roots.dev.join("kmsg"),
            log: None,
            boot_id: None,
            buffer: vec![0; BUFFER],
            fold: Fold::default(),
            kept: PositionFile::in_directory(state),
            sequence: None,
            kept_sequence: None,
            kept_at: Duration::ZERO,
            told: false,
            standing: Standing::default(),
        }
    }

    fn open(&mut self) -> Result<(), CollectError> {
        if self.log.is_some() {
            return Ok(());
        }
        let boot = boot_id(&self.roots)?;
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let log = OpenOptions::new().read(true).custom_flags(flags).open(&self.path);
        let log = log.map_err(|error| self.failure(error))?;
        // Without a position of this boot, everything that is still in the ring is news.
        self.sequence = self.kept.read().filter(|kept| kept.boot_id == boot).map(|kept| kept.sequence);
        self.kept_sequence = self.sequence;
        self.boot_id = Some(boot);
        self.log = Some(log);
        Ok(())
    }

    fn failure(&self, error: io::Error) -> CollectError {
        let what = self.path.display().to_string();
        match error.kind() {
            io::ErrorKind::PermissionDenied => CollectError::NeedsPrivilege { what, privilege: "CAP_SYSLOG" },
            io::ErrorKind::NotFound => CollectError::NotPresent(what),
            _ => CollectError::Read { what, source: error },
        }
    }

    fn drain(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        for _ in 0..RECORDS_A_ROUND {
            let Some(log) = &mut self.log else { return Ok(()) };
            match log.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    if let Some(record) = self.buffer.get(..length).and_then(record::parse) {
                        self.take(&record, sink);
                    }
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::AGAIN) => return Ok(()),
                    // Overwritten: the next read gives the oldest record that is left, and the gap shows in its
                    // number. A record over the buffer is passed over.
                    Some(Errno::PIPE | Errno::INVAL | Errno::INTR) => {}
                    _ => {
                        self.log = None;
                        return Err(self.failure(error));
                    }
                },
            }
        }
        Ok(())
    }

    fn take(&mut self, record: &Record, sink: &mut SampleSink) {
        if let Some(last) = self.sequence {
            if record.sequence <= last {
                return;
            }
            let lost = record.sequence - last - 1;
            if lost > 0 {
                sink.event(gap(lost));
                self.told = true;
            }
        }
        self.sequence = Some(record.sequence);
        let Some(xid) = xid::parse(&record.text) else { return };
        self.told = true;
        if self.fold.admit(self.clock.monotonic(), &xid) {
            sink.event(self.event(record, &xid));
        }
    }

    fn event(&self, record: &Record, xid: &Xid) -> EventDraft {
        let mut event = draft(xid);
        event.occurred = self.wall(record.since_boot_us);
        let mut attribute = |name: &str, value: String| event.attributes.push((name.to_owned(), value));
        attribute("kmsg_sequence", record.sequence.to_string());
        if let Some(boot_id) = self.boot_id {
            attribute("kmsg_boot_id", boot_id.to_string());
        }
        if !record.from_kernel {
            // Root may write to the log; the driver does not go that way.
            attribute("written_by", "a process".to_owned());
        }
        event
    }

    /// The wall-clock time of a moment after boot.
    fn wall(&self, since_boot_us: u64) -> Option<EpochMs> {
        let uptime = source::fact(&self.roots.proc.join("uptime")).ok()?;
        let uptime: f64 = str::from_utf8(source::words(&uptime).next()?).ok()?.parse().ok()?;
        let uptime = Duration::try_from_secs_f64(uptime).ok()?;
        let ago = uptime.saturating_sub(Duration::from_micros(since_boot_us));
        Some(self.clock.now().plus_ms(-i64::try_from(ago.as_millis()).ok()?))
    }

    fn keep(&mut self) -> Result<(), CollectError> {
        let (Some(boot_id), Some(sequence)) = (self.boot_id, self.sequence) else { return Ok(()) };
        let now = self.clock.monotonic();
        let due = self.told || now.saturating_sub(self.kept_at) >= KEEP_EVERY;
        if !due || self.kept_sequence == Some(sequence) {
            return Ok(());
        }
        self.kept.write(&Position { boot_id, sequence }).map_err(|error| CollectError::Read {
            what: "how far the kernel's log was read".into(),
            source: io::Error::other(error),
        })?;
        (self.kept_sequence, self.kept_at, self.told) = (Some(sequence), now, false);
        Ok(())
    }
}

impl Collector for KernelLogCollector {
    fn name(&self) -> &'static str {
        "kernel_log"
    }

    fn privileges(&self) -> &'static [(&'static str, &'static str)] {
        &[("CAP_SYSLOG", "XID and SXID events of GPUs and NVSwitches")]
    }

    fn sample(&mut self, sink: &mut SampleSink) -> Result<(), CollectError> {
        let read = self.open().and_then(|()| self.drain(sink));
        for folded in self.fold.close(self.clock.monotonic()) {
            sink.event(storm(&folded));
        }
        let degraded = match &read {
            Err(error @ CollectError::NeedsPrivilege { .. }) => vec![Degraded {
                name: "kernel_log_unreadable",
                subject: String::new(),
                detail: format!("{error}: XID events are not seen; the packaged unit grants it"),
                since: None,
            }],
            _ => vec![],
        };
        self.standing.replace(self.clock.now(), degraded);
        read
    }

    fn conditions(&self) -> Vec<Condition> {
        self.standing.list()
    }

    fn committed(&mut self) -> Result<(), CollectError> {
        self.keep()
    }
}

fn gap(lost: u64) -> EventDraft {
    EventDraft {
        kind: EventKind::KernelLogGap,
        severity: Severity::Warning,
        occurred: None,
        subject: String::new(),
        message: format!("{lost} lines of the kernel's log were overwritten before they were read"),
        attributes: vec![("lines".into(), lost.to_string())],
    }
}

fn storm(folded: &Folded) -> EventDraft {
    let mut event = draft(&folded.last);
    event.message = format!("{} more times within a minute: {}", folded.count, event.message);
    event.attributes.push(("repeated".into(), folded.count.to_string()));
    event
}

fn draft(xid: &Xid) -> EventDraft {
    let (severity, meaning) = codes::judge(xid);
    let (kind, name) = match xid.source {
        Source::Gpu => (EventKind::GpuXid, "xid"),
        Source::Switch => (EventKind::GpuSxid, "sxid"),
    };
    let mut attributes = vec![
        (name, xid.code.to_string()),
        ("pci_address", xid.pci_address.clone()),
        ("meaning", meaning.to_owned()),
    ];
    attributes.extend(xid.pid.map(|pid| ("pid", pid.to_string())));
    attributes.extend(xid.process.clone().map(|process| ("process", process)));
    attributes.extend(xid.gpu_instance.map(|instance| ("gpu_instance", instance.to_string())));
    EventDraft {
        kind,
        severity,
        occurred: None,
        subject: xid.pci_address.clone(),
        message: format!(
            "{} {} on {}: {meaning} ({})",
            name.to_uppercase(),
            xid.code,
            xid.pci_address,
            xid.text
        ),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
