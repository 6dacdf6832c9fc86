//! The spool's files: segments that are only appended to, removed when acknowledged, set aside when damaged.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aim_common::identity::SpoolId;
use aim_common::protocol::{Record, SpoolRecord};

use super::format::{self, End, HEADER_LEN, RECORD_HEAD, Scan, scan};
use super::{BATCH_BYTES, BATCH_RECORDS, with_gaps};
use crate::files::{self, FileError, PRIVATE_FILE};

/// A segment is closed at this size; its removal is what makes room.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// One writing ends with the record that reaches this size.
const WRITE_BYTES: usize = 512 * 1024;
/// More than a segment ever has: a segment, a writing, and a record of at most 1 MiB.
const MAX_SEGMENT_FILE: u64 = 4 * SEGMENT_BYTES;
/// More records than the damaged end of a segment can have had: skipping this many repeats none.
const SKIP_AFTER_DAMAGE: u64 = MAX_SEGMENT_FILE / RECORD_HEAD as u64;
/// Damaged files kept for whoever looks into it; older ones go.
const MAX_QUARANTINED: usize = 4;

/// A segment that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it is now.
    pub path: PathBuf,
    /// Records before the damage that were saved.
    pub saved: usize,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    /// One past its last record.
    next: u64,
    bytes: u64,
}

/// A spool on disk.
#[derive(Debug)]
pub struct DiskSpool {
    directory: PathBuf,
    id: SpoolId,
    /// At least one; the last one is written to.
    segments: VecDeque<Segment>,
    active: File,
    next: u64,
    max_bytes: u64,
    /// Highest acknowledged sequence; 0 where none is known.
    acknowledged: u64,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.seg"))
}

impl DiskSpool {
    /// Opens what is there, or begins with `new_id`. A torn end is cut, a damaged segment set aside.
    pub fn open(directory: &Path, max_bytes: u64, new_id: SpoolId) -> Result<(Self, Vec<Damage>), FileError> {
        files::ensure_private_dir(directory)?;
        let mut damages = Vec::new();
        let mut good: Vec<(PathBuf, Scan)> = Vec::new();
        for path in segment_paths(directory)? {
            let mut bytes = Vec::new();
            File::open(&path)
                .and_then(|file| file.take(MAX_SEGMENT_FILE).read_to_end(&mut bytes))
                .map_err(failed("read", &path))?;
            let scanned = scan(&bytes).filter(|scan| follows(good.last(), scan));
            match scanned {
                Some(scan) => good.push((path, scan)),
                None => damages.push(Damage { path: set_aside(directory, &path)?, saved: 0 }),
            }
        }
        let lost_end = !damages.is_empty() || good.last().is_some_and(|(_, scan)| scan.end == End::Damaged);
        let id = good.last().map_or(new_id, |(_, scan)| scan.spool);
        let mut segments = VecDeque::new();
        let mut next = 1;
        let last = good.len().saturating_sub(1);
        for (index, (path, scan)) in good.into_iter().enumerate() {
            next = scan.next();
            let is_damaged = scan.end == End::Damaged || (scan.end == End::Torn && index != last);
            if is_damaged {
                let aside = set_aside(directory, &path)?;
                rewrite(&path, &scan)?;
                damages.push(Damage { path: aside, saved: scan.records.len() });
            } else if scan.end == End::Torn {
                cut(&path, scan.good_len() as u64)?;
            }
            let bytes = scan.good_len() as u64;
            segments.push_back(Segment { path, first: scan.first, next, bytes });
        }
        let fresh = segments.is_empty();
        if lost_end && !fresh {
            next = next.saturating_add(SKIP_AFTER_DAMAGE);
        }
        let active = match segments.back() {
            Some(segment) if !lost_end => append_to(&segment.path)?,
            _ => {
                let (segment, active) = new_segment(directory, id, next)?;
                segments.push_back(segment);
                active
            }
        };
        let directory = directory.to_owned();
        let mut spool = Self { directory, id, segments, active, next, max_bytes, acknowledged: 0 };
        if lost_end && !fresh {
            // How many were lost cannot be known.
            spool.append(&mut vec![Record::Gap { dropped: 0 }])?;
        }
        forget_old_quarantines(&spool.directory)?;
        Ok((spool, damages))
    }

    /// Its id.
    pub fn id(&self) -> SpoolId {
        self.id
    }

    /// Sequence of the oldest record that is not acknowledged; one past the newest when there is none.
    pub fn first(&self) -> u64 {
        let oldest = self.segments.front().map_or(self.next, |segment| segment.first);
        oldest.max(self.acknowledged.saturating_add(1)).min(self.next)
    }

    /// One past the newest record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Writes the records and waits for the disk; takes those out of the list that are durable.
    pub fn append(&mut self, records: &mut Vec<Record>) -> Result<(), FileError> {
        while !records.is_empty() {
            let mut bytes = Vec::new();
            let mut taken = 0;
            let mut sequence = self.next;
            for record in records.iter() {
                if bytes.len() >= WRITE_BYTES {
                    break;
                }
                taken += 1;
                match format::record(self.id, sequence, record) {
                    Ok(written) => {
                        bytes.extend(written);
                        sequence += 1;
                    }
                    // Every record is bounded by its type; one that is not cannot be sent either.
                    Err(error) => tracing::error!(%error, "a record is too long to be kept"),
                }
            }
            self.write(&bytes, sequence)?;
            records.drain(..taken);
        }
        self.make_room();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], next: u64) -> Result<(), FileError> {
        if self.segments.back().is_none_or(|segment| segment.bytes >= SEGMENT_BYTES) {
            self.begin_segment()?;
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        if let Err(error) = self.active.write_all(bytes).and_then(|()| self.active.sync_data()) {
            // What may have arrived of it must not be found by the next start: its keys are given to others.
            drop(self.active.set_len(segment.bytes));
            return Err(failed("write", &segment.path)(error));
        }
        segment.bytes += bytes.len() as u64;
        segment.next = next;
        self.next = next;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), FileError> {
        let (segment, active) = new_segment(&self.directory, self.id, self.next)?;
        self.segments.push_back(segment);
        self.active = active;
        Ok(())
    }

    /// Over the limit the oldest segments go; readers are told by a gap.
    fn make_room(&mut self) {
        let mut total: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        while total > self.max_bytes && self.segments.len() > 1 {
            let Some(oldest) = self.segments.pop_front() else { return };
            total = total.saturating_sub(oldest.bytes);
            remove(&oldest.path);
        }
    }

    /// Removes the segments that are wholly acknowledged.
    pub fn acknowledge(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence.min(self.next.saturating_sub(1)));
        let all_done = self.acknowledged.saturating_add(1) >= self.next;
        let is_large = self.segments.back().is_some_and(|segment| segment.bytes > SEGMENT_BYTES / 4);
        // A new segment keeps id and sequence, so that the old one can go.
        if all_done
            && is_large
            && let Err(error) = self.begin_segment()
        {
            tracing::warn!(%error, "cannot begin a new segment; the full one stays");
        }
        while self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|segment| segment.next <= self.acknowledged.saturating_add(1))
        {
            if let Some(done) = self.segments.pop_front() {
                remove(&done.path);
            }
        }
    }

    /// The records from this sequence on, within a batch's bounds; gaps are said.
    pub fn read(&self, from: u64) -> Result<Vec<SpoolRecord>, FileError> {
        let mut batch = Vec::new();
        let mut size = 0;
        for segment in
            self.segments.iter().filter(|segment| segment.next > from && segment.next > segment.first)
        {
            let mut bytes = Vec::new();
            File::open(&segment.path)
                .and_then(|file| file.take(segment.bytes).read_to_end(&mut bytes))
                .map_err(failed("read", &segment.path))?;
            let records = scan(&bytes)
                .filter(|scan| scan.spool == self.id)
                .map(|scan| scan.records)
                .unwrap_or_default();
            let mut start = HEADER_LEN;
            for (record, end) in records {
                let length = end - start;
                start = end;
                if record.sequence < from {
                    continue;
                }
                if batch.len() >= BATCH_RECORDS / 2 || (size + length > BATCH_BYTES && !batch.is_empty()) {
                    return Ok(with_gaps(from, batch));
                }
                size += length;
                batch.push(record);
            }
        }
        Ok(with_gaps(from, batch))
    }

    /// Sets everything aside and begins with another id.
    pub fn begin_anew(&mut self, id: SpoolId) -> Result<(), FileError> {
        for segment in &self.segments {
            set_aside(&self.directory, &segment.path)?;
        }
        let (segment, active) = new_segment(&self.directory, id, 1)?;
        self.segments = VecDeque::from([segment]);
        (self.id, self.active, self.next, self.acknowledged) = (id, active, 1, 0);
        forget_old_quarantines(&self.directory)
    }
}

/// Segments of one spool follow each other; anything else came from elsewhere.
fn follows(former: Option<&(PathBuf, Scan)>, scan: &Scan) -> bool {
    former.is_none_or(|(_, former)| former.spool == scan.spool && former.next() <= scan.first)
}

fn segment_paths(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    Ok(paths)
}

fn set_aside(directory: &Path, path: &Path) -> Result<PathBuf, FileError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let free =
        (0..1000).map(|n| directory.join(format!("{name}.{n}.quarantined"))).find(|path| !path.exists());
    let aside = free.unwrap_or_else(|| directory.join(format!("{name}.quarantined")));
    fs::rename(path, &aside).map_err(failed("set aside", path))?;
    files::sync_parent(path)?;
    Ok(aside)
}

fn forget_old_quarantines(directory: &Path) -> Result<(), FileError> {
    let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
    let mut aside: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "quarantined"))
        .collect();
    aside.sort();
    for old in aside.iter().rev().skip(MAX_QUARANTINED) {
        remove(old);
    }
    Ok(())
}

/// Writes what is good of a damaged segment under its old name.
fn rewrite(path: &Path, scan: &Scan) -> Result<(), FileError> {
    let mut bytes = format::header(scan.spool, scan.first);
    for (record, _) in &scan.records {
        if let Ok(written) = format::record(scan.spool, record.sequence, &record.record) {
            bytes.extend(written);
        }
    }
    files::write_atomic(path, &bytes, PRIVATE_FILE)
}

fn cut(path: &Path, length: u64) -> Result<(), FileError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| {
            file.set_len(length)?;
            file.sync_all()
        })
        .map_err(failed("cut", path))
}

fn append_to(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().append(true).open(path).map_err(failed("open", path))
}

fn new_segment(directory: &Path, id: SpoolId, first: u64) -> Result<(Segment, File), FileError> {
    let path = segment_path(directory, first);
    let open = || -> io::Result<File> {
        let mut file = OpenOptions::new().append(true).create(true).mode(PRIVATE_FILE).open(&path)?;
        file.set_len(0)?;
        file.write_all(&format::header(id, first))?;
        file.sync_all()?;
        Ok(file)
    };
    let file = open().map_err(failed("begin", &path))?;
    files::sync_parent(&path)?;
    Ok((Segment { path, first, next: first, bytes: HEADER_LEN as u64 }, file))
}

/// A file that stays only costs room, and is acknowledged again.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove a segment of the spool");
    }
}

#[cfg(test)]
mod tests;
