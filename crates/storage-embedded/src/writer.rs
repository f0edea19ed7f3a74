//! Appending batches to the log, syncing it, and cleaning it from its old end.
//!
//! Segments are removed from the oldest on only: what still lives in the oldest is written again at the new end,
//! then its file goes. A deletion in the log can therefore never outlive its need, nor go before it. Deliberately
//! absent: reading for others, and threads.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_storage::place::{self, MarkFile};
use martlet_storage::{StorageError, Table, Write};
use parking_lot::RwLock;

use crate::counters::Counted;
use crate::frame::{HEADER_BYTES, Kind, Row, Rows};
use crate::index::{Index, Segment, Slot};
use crate::place::Place;
use crate::probe::{Act, Probe, ask, write_all_at};
use crate::read_slot;
use crate::repair;
use crate::segment::{HEAD_BYTES, Reader, head, seed};

/// What is written at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// How much room beyond what is of use the log may take before it is cleaned, besides that much again.
const SPARE_BYTES: u64 = 32 << 20;
/// How much is copied after an ordinary batch, and after one that only says that time passes.
const COPY_BYTES: u64 = 512 << 10;
const COPY_IDLE_BYTES: u64 = 4 << 20;
/// How much is copied to make room for a batch that finds none: nobody waits for anything else.
const COPY_FULL_BYTES: u64 = 32 << 20;
/// How many closed segments may wait for their sync.
const UNSYNCED_MAX: usize = 4;
/// How long the mark may stay unsynced while batches are.
const MARK_AFTER: Duration = Duration::from_secs(1);

/// How a writer works.
pub(crate) struct Settings {
    pub(crate) reserve_bytes: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) probe: Arc<dyn Probe>,
}

/// The new end of the log.
pub(crate) struct Writer {
    settings: Settings,
    place: Place,
    index: Arc<RwLock<Index>>,
    counted: Arc<Counted>,
    salt: u64,
    segment: u32,
    file: Arc<File>,
    at: u64,
    last: u64,
    synced: u64,
    /// Closed segments that are not synced.
    unsynced: Vec<Arc<File>>,
    directory_dirty: bool,
    mark: MarkFile,
    mark_dirty: bool,
    mark_synced: Instant,
    rows: Rows,
    buffer: Vec<u8>,
    cleaner: Option<Cleaner>,
    /// Segments nobody needs, to be deleted after the next sync.
    emptied: Vec<u32>,
    /// What was free before the last frame, if the file system says it.
    free: Option<u64>,
    failed: Option<String>,
}

/// How far the oldest segment was read for what still lives.
#[derive(Clone, Copy, Debug)]
struct Cleaner {
    segment: u32,
    at: u64,
}

/// Where a writer starts.
pub(crate) struct Start {
    pub(crate) place: Place,
    pub(crate) index: Arc<RwLock<Index>>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) mark: MarkFile,
    pub(crate) salt: u64,
    pub(crate) last: u64,
}

fn no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl Writer {
    /// Goes on in the newest segment, or makes the first.
    pub(crate) fn start(settings: Settings, start: Start) -> io::Result<Self> {
        let newest = {
            let index = start.index.read();
            let newest = index.segments.last_key_value();
            newest.map(|(number, segment)| (*number, Arc::clone(&segment.file), segment.bytes))
        };
        let (segment, file, at) = match newest {
            Some(newest) => newest,
            None => {
                let number = start.mark.mark().oldest.max(1);
                let made = create(&settings, &start.place, number, start.last + 1, start.salt)?;
                let file = Arc::clone(&made.file);
                start.index.write().segments.insert(number, made);
                (number, file, HEAD_BYTES as u64)
            }
        };
        let mut writer = Self {
            settings,
            place: start.place,
            index: start.index,
            counted: start.counted,
            salt: start.salt,
            segment,
            file,
            at,
            last: start.last,
            synced: 0,
            unsynced: Vec::new(),
            directory_dirty: true,
            mark: start.mark,
            mark_dirty: false,
            mark_synced: Instant::now(),
            rows: Rows::default(),
            buffer: Vec::new(),
            cleaner: None,
            emptied: Vec::new(),
            free: None,
            failed: None,
        };
        // What was read may be in the page cache only; from here on it counts as safe.
        writer.sync_files()?;
        writer.sync_mark()?;
        Ok(writer)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The last batch, the newest segment, and the byte at which the log ends.
    pub(crate) fn end(&self) -> (u64, u32, u64) {
        (self.last, self.segment, self.at)
    }

    /// What a mark says of the log as it is.
    pub(crate) fn identity(&self) -> (u64, u32, u64) {
        (self.last, self.mark.mark().oldest, self.salt)
    }

    fn check(&self) -> Result<(), StorageError> {
        match &self.failed {
            Some(error) => Err(StorageError::Io(format!("{error} (earlier)"))),
            None => Ok(()),
        }
    }

    /// From here on nothing is written any more.
    fn fail(&mut self, action: &str, error: &io::Error) -> StorageError {
        let text = format!("{}: cannot {action}: {error}", self.place.path().display());
        self.failed = Some(text.clone());
        StorageError::Io(text)
    }

    pub(crate) fn apply(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        self.check()?;
        if writes.is_empty() {
            return Ok(());
        }
        self.rows.clear();
        for write in writes {
            self.rows.write(write);
        }
        let values = || {
            writes.iter().filter_map(|write| match write {
                Write::Put { value, .. } => Some(value.as_bytes()),
                _ => None,
            })
        };
        let rows = std::mem::take(&mut self.rows);
        let floor = self.settings.reserve_bytes / 4;
        let mut appended = self.append(&rows, values(), floor);
        if matches!(appended, Err(StorageError::NoSpace(_))) && self.make_room()? {
            appended = self.append(&rows, values(), floor);
        }
        self.rows = rows;
        appended?;
        let low = self.is_low();
        self.clean(if low || writes.len() <= 1 {
            COPY_IDLE_BYTES
        } else {
            COPY_BYTES
        })?;
        if self.emptied.len() >= if low { 1 } else { 2 } {
            self.sync()?;
        }
        // A heartbeat: nobody waits for it.
        if writes.len() == 1 && self.mark_dirty {
            self.sync_mark()
                .map_err(|error| self.fail("sync the mark", &error))?;
        }
        Ok(())
    }

    /// Looks whether so many bytes fit above `floor`. Below the reserve who reads [`Writer::low`] takes no messages any
    /// more; the last quarter of it is for cleaning only, so that there is always a way back.
    fn reserve(&mut self, needed: u64, floor: u64) -> Result<(), StorageError> {
        let free = match self.settings.probe.free_bytes() {
            Some(free) => free,
            // A file system that does not say how much is free says so when a write fails.
            None => match rustix::fs::statvfs(self.place.path()) {
                Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
                Err(_) => return Ok(()),
            },
        };
        self.free = Some(free);
        if free >= floor.saturating_add(needed) {
            return Ok(());
        }
        Err(StorageError::NoSpace(self.little_room(free)))
    }

    fn little_room(&self, free: u64) -> String {
        format!(
            "{} has {} MiB left and {} MiB are kept as a reserve; make room on that file system",
            self.place.path().display(),
            free >> 20,
            self.settings.reserve_bytes >> 20
        )
    }

    /// Whether less than the reserve is free, and in which words.
    pub(crate) fn low(&self) -> Option<String> {
        self.is_low()
            .then(|| self.little_room(self.free.unwrap_or(0)))
    }

    fn is_low(&self) -> bool {
        self.free
            .is_some_and(|free| free < self.settings.reserve_bytes)
    }

    /// Cleans as much as may help a batch that finds no room; whether files went.
    fn make_room(&mut self) -> Result<bool, StorageError> {
        self.clean(COPY_FULL_BYTES)?;
        let made = !self.emptied.is_empty();
        if made {
            self.sync()?;
        }
        Ok(made)
    }

    /// Writes one frame and applies it to the index. After an error nothing of it counts.
    fn append<'v>(
        &mut self,
        rows: &'v Rows,
        values: impl Iterator<Item = &'v [u8]>,
        floor: u64,
    ) -> Result<(), StorageError> {
        if u32::try_from(rows.bytes.len()).is_err() {
            return Err(StorageError::Unsupported(
                "write a batch with more than 4 GiB of rows",
            ));
        }
        let header = rows.header(self.last + 1, self.synced);
        self.reserve(header.frame_bytes(), floor)?;
        if self.at >= self.settings.segment_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.write(&header.encode(seed(self.segment, self.salt)), rows, values)
        {
            return Err(self.undo(&error));
        }
        let values_at = self.at + HEADER_BYTES as u64 + rows.bytes.len() as u64;
        {
            let mut index = self.index.write();
            let segment = self.segment;
            let read = crate::frame::read_rows(&rows.bytes, |row| {
                index.apply(segment, values_at, row);
            });
            debug_assert_eq!(read, Some(()));
            index.settle(segment);
            self.at += header.frame_bytes();
            if let Some(segment) = index.segments.get_mut(&segment) {
                segment.bytes = self.at;
            }
        }
        self.last += 1;
        self.counted.wrote(header.frame_bytes());
        Ok(())
    }

    fn write<'v>(
        &mut self,
        header: &[u8],
        rows: &'v Rows,
        values: impl Iterator<Item = &'v [u8]>,
    ) -> io::Result<()> {
        let mut at = self.at;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut flush = |bytes: &[u8]| -> io::Result<()> {
            write_all_at(&*self.settings.probe, &self.file, bytes, at)?;
            at += bytes.len() as u64;
            Ok(())
        };
        let long = values.filter(|value| value.len() > crate::frame::SHORT_BYTES_MAX);
        buffer.extend_from_slice(header);
        for piece in std::iter::once(rows.bytes.as_slice()).chain(long) {
            if buffer.len() + piece.len() > BUFFER_BYTES && !buffer.is_empty() {
                flush(&buffer)?;
                buffer.clear();
            }
            if piece.len() > BUFFER_BYTES {
                flush(piece)?;
            } else {
                buffer.extend_from_slice(piece);
            }
        }
        if !buffer.is_empty() {
            flush(&buffer)?;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Cuts off what a failed write left.
    fn undo(&mut self, error: &io::Error) -> StorageError {
        let cut =
            ask(&*self.settings.probe, Act::Truncate).and_then(|()| self.file.set_len(self.at));
        match cut {
            Ok(()) if no_space(error) => StorageError::NoSpace(format!(
                "{}: {error}; make room on that file system",
                self.place.path().display()
            )),
            _ => self.fail("write the log", error),
        }
    }

    /// Starts a new segment.
    fn rotate(&mut self) -> Result<(), StorageError> {
        if self.unsynced.len() >= UNSYNCED_MAX {
            self.sync()?;
        }
        let number = self.segment + 1;
        let made = create(
            &self.settings,
            &self.place,
            number,
            self.last + 1,
            self.salt,
        );
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                let removed = fs::remove_file(self.place.segment(number));
                let gone = removed.is_ok_and(|()| true) || !self.place.segment(number).exists();
                if no_space(&error) && gone {
                    return Err(StorageError::NoSpace(format!(
                        "{}: {error}; make room on that file system",
                        self.place.path().display()
                    )));
                }
                return Err(self.fail("start a segment of the log", &error));
            }
        };
        let old = std::mem::replace(&mut self.file, Arc::clone(&made.file));
        self.unsynced.push(old);
        self.index.write().segments.insert(number, made);
        self.segment = number;
        self.at = HEAD_BYTES as u64;
        self.directory_dirty = true;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), StorageError> {
        self.check()?;
        if self.synced != self.last || !self.emptied.is_empty() {
            self.sync_files()
                .map_err(|error| self.fail("sync the log", &error))?;
        }
        if !self.emptied.is_empty() {
            self.delete_emptied()
                .map_err(|error| self.fail("delete a segment of the log", &error))?;
        } else if self.mark_dirty && self.mark_synced.elapsed() >= MARK_AFTER {
            self.sync_mark()
                .map_err(|error| self.fail("sync the mark", &error))?;
        }
        Ok(())
    }

    /// Syncs everything written, then says so in the mark.
    fn sync_files(&mut self) -> io::Result<()> {
        let probe = Arc::clone(&self.settings.probe);
        for file in &self.unsynced {
            ask(&*probe, Act::Sync)?;
            file.sync_data()?;
        }
        ask(&*probe, Act::Sync)?;
        self.file.sync_data()?;
        if self.directory_dirty {
            self.place.sync_directory()?;
            self.directory_dirty = false;
        }
        self.unsynced.clear();
        self.synced = self.last;
        self.counted.synced();
        self.write_mark()
    }

    fn write_mark(&mut self) -> io::Result<()> {
        ask(&*self.settings.probe, Act::WriteMark)?;
        let oldest = {
            let index = self.index.read();
            let mut needed = index.segments.keys();
            needed
                .find(|number| !self.emptied.contains(number))
                .copied()
                .unwrap_or(self.segment)
        };
        self.mark.write(self.synced, oldest, self.salt)?;
        self.mark_dirty = true;
        Ok(())
    }

    fn sync_mark(&mut self) -> io::Result<()> {
        ask(&*self.settings.probe, Act::SyncMark)?;
        self.mark.sync()?;
        self.mark_dirty = false;
        self.mark_synced = Instant::now();
        Ok(())
    }

    /// The copies of what lived in them are synced; the mark must know before they go.
    fn delete_emptied(&mut self) -> io::Result<()> {
        self.sync_mark()?;
        for number in std::mem::take(&mut self.emptied) {
            ask(&*self.settings.probe, Act::Delete)?;
            fs::remove_file(self.place.segment(number))?;
            self.index.write().segments.remove(&number);
        }
        self.directory_dirty = true;
        Ok(())
    }

    /// Writes everything that lives again and deletes the segments that were there before. Tells `progress` how
    /// many bytes of how many are done.
    pub(crate) fn compact(
        &mut self,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StorageError> {
        self.check()?;
        self.sync()?;
        let total = self.index.read().sizes().0;
        let last = self.segment;
        self.rotate()?;
        let mut done = 0;
        loop {
            let oldest = {
                let index = self.index.read();
                let mut left = index.segments.iter();
                left.find(|(number, _)| !self.emptied.contains(number))
                    .map(|(number, segment)| (*number, segment.clone()))
            };
            let Some((number, segment)) = oldest.filter(|(number, _)| *number <= last) else {
                break;
            };
            if segment.live_rows == 0 {
                self.emptied.push(number);
                self.cleaner = None;
                self.sync()?;
                done += segment.bytes;
                progress(done, total);
            } else if self.copy_some(number, &segment, COPY_IDLE_BYTES)? == 0 {
                return Err(StorageError::Corrupt(format!(
                    "{} rows of {} are not where they should be",
                    segment.live_rows,
                    segment.path.display()
                )));
            }
        }
        self.sync()
    }

    /// Takes a step of cleaning, if the log is much larger than what is of use in it.
    fn clean(&mut self, mut budget: u64) -> Result<(), StorageError> {
        if self.is_low() && self.holds_all_in_one() {
            match self.rotate() {
                Ok(()) | Err(StorageError::NoSpace(_)) => {}
                Err(error) => return Err(error),
            }
        }
        while budget > 0 {
            let Some((number, segment)) = self.to_clean() else {
                return Ok(());
            };
            if segment.live_rows == 0 {
                self.emptied.push(number);
                self.cleaner = None;
                continue;
            }
            match self.copy_some(number, &segment, budget) {
                Ok(0) => return Ok(()),
                Ok(copied) => budget = budget.saturating_sub(copied),
                // There is always a later step.
                Err(StorageError::NoSpace(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether what could be cleaned is in the segment that is being written, and nowhere else.
    fn holds_all_in_one(&self) -> bool {
        let index = self.index.read();
        let (bytes, live) = index.sizes();
        let mut needed = index.segments.keys();
        needed.all(|number| *number == self.segment || self.emptied.contains(number))
            && self.at >= COPY_IDLE_BYTES.min(self.settings.segment_bytes / 4)
            && is_worth_cleaning(bytes, live)
    }

    /// The oldest segment, if it pays to clean it.
    fn to_clean(&self) -> Option<(u32, Segment)> {
        let index = self.index.read();
        let (mut bytes, live) = index.sizes();
        for number in &self.emptied {
            bytes -= index
                .segments
                .get(number)
                .map_or(0, |segment| segment.bytes);
        }
        let (number, segment) = index
            .segments
            .iter()
            .find(|(number, _)| !self.emptied.contains(number))?;
        let wasteful = if self.is_low() {
            is_worth_cleaning(bytes, live)
        } else {
            bytes > live.saturating_mul(2).saturating_add(SPARE_BYTES)
        };
        (wasteful && *number != self.segment).then(|| (*number, segment.clone()))
    }

    /// Writes rows of the oldest segment again; returns how many bytes were looked at.
    fn copy_some(
        &mut self,
        number: u32,
        segment: &Segment,
        budget: u64,
    ) -> Result<u64, StorageError> {
        let from = match self.cleaner {
            Some(cleaner) if cleaner.segment == number => cleaner.at,
            _ => HEAD_BYTES as u64,
        };
        let mut rows = Rows::default();
        let mut values: Vec<Vec<u8>> = Vec::new();
        let mut at = from;
        let mut failed = None;
        let mut damaged = 0;
        let read = (|| -> io::Result<()> {
            let mut reader = Reader::new(&segment.file, number, self.salt)?;
            while at < segment.bytes && rows.bytes.len() as u64 + rows.values_bytes < budget {
                let Some(header) = reader.header(at)? else {
                    return Err(io::Error::other("a frame is damaged"));
                };
                let index = self.index.read();
                let sound = header.kind == Kind::Gap
                    || reader.rows(at, &header, |row| {
                        let (Row::Short { table, key, .. } | Row::Long { table, key, .. }) = row
                        else {
                            return;
                        };
                        let Some(slot) = index.get(table, key) else {
                            return;
                        };
                        if slot.segment() != number {
                            return;
                        }
                        match copy_row(&segment.file, table, key, &slot, &mut rows, &mut values) {
                            Ok(()) => {}
                            // Nobody can read it any more. Its file is kept, the row goes.
                            Err(StorageError::Corrupt(_)) => {
                                rows.delete(table, key);
                                damaged += 1;
                            }
                            Err(error) => {
                                failed.get_or_insert(error);
                            }
                        }
                    })?;
                if !sound {
                    return Err(io::Error::other("rows of a frame are damaged"));
                }
                at += header.frame_bytes();
            }
            Ok(())
        })();
        if let Err(error) = read {
            return Err(self.fail("read an old segment of the log", &error));
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if damaged > 0 {
            repair::keep_whole(&self.place, number)
                .map_err(|error| self.fail("keep a damaged segment", &error))?;
            self.counted.damaged(damaged);
        }
        if !rows.bytes.is_empty() {
            self.append(&rows, values.iter().map(Vec::as_slice), 0)?;
            self.counted
                .copied(rows.bytes.len() as u64 + rows.values_bytes);
        }
        self.cleaner = Some(Cleaner {
            segment: number,
            at,
        });
        Ok(at - from)
    }
}

/// With little room on the disk: a quarter of the log is of no use.
fn is_worth_cleaning(bytes: u64, live: u64) -> bool {
    live < bytes / 4 * 3
}

fn copy_row(
    file: &File,
    table: Table,
    key: &[u8],
    slot: &Slot,
    rows: &mut Rows,
    values: &mut Vec<Vec<u8>>,
) -> Result<(), StorageError> {
    read_slot(Some(file), slot, &mut |value| {
        rows.put(table, key, value);
        values.push(value.to_vec());
    })
}

fn create(
    settings: &Settings,
    place: &Place,
    number: u32,
    first: u64,
    salt: u64,
) -> io::Result<Segment> {
    ask(&*settings.probe, Act::Create)?;
    let path = place.segment(number);
    let file = place::create(&path)?;
    write_all_at(&*settings.probe, &file, &head(number, first, salt), 0)?;
    Ok(Segment {
        file: Arc::new(file),
        path,
        bytes: HEAD_BYTES as u64,
        live_bytes: 0,
        live_rows: 0,
    })
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wanted to know about an error has asked for a sync before.
        if self.failed.is_none() && self.sync_files().is_ok() {
            let _ = self.sync_mark();
        }
    }
}
