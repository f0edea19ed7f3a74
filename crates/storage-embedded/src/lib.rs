//! The default storage backend of a Martlet broker: an append-only log with an index in memory.
//!
//! * [`EmbeddedOptions::open`] checks and locks a directory, reads the log, repairs what a crash can leave and
//!   says what it did in an [`OpenReport`]; anything that lost an acknowledged batch is refused by name.
//! * [`EmbeddedStorage`] is the [`Storage`]: one batch is one frame with a sum, appended and synced; bodies stay
//!   in the log and are found by an index that holds keys, short rows and places.
//!
//! Why a log of our own and not a library is in `docs/storage-choice.md` of the repository. Deliberately absent:
//! sessions and references (the planner of `martlet-storage`), threads, logging, compression.

mod counters;
mod frame;
mod index;
mod open;
mod place;
mod probe;
mod repair;
mod replay;
mod segment;
mod writer;

use std::fs::File;
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use martlet_storage::{Storage, StorageError, Table, Usage, Write};
use parking_lot::{Mutex, RwLock};

pub use martlet_storage::place::OpenError;
pub use open::{EmbeddedOptions, MarkFound, OpenReport};
pub use place::FORMAT;
pub use probe::{Act, Probe, Verdict};
pub use repair::Aside;

use counters::Counted;
use index::{Index, RowKey, Slot};
use writer::Writer;

/// How many rows a scan takes from the index at a time.
const SCAN_ROWS: usize = 256;

/// An open store. Dropping it syncs and unlocks it.
pub struct EmbeddedStorage {
    index: Arc<RwLock<Index>>,
    counted: Arc<Counted>,
    /// `None` when it was opened for reading only.
    writer: Option<Mutex<Writer>>,
    /// Keeps the lock of a store without a writer.
    _place: Option<place::Place>,
}

impl EmbeddedStorage {
    /// Rows of a table.
    pub fn rows(&self, table: Table) -> usize {
        self.index.read().rows(table)
    }

    /// The number of the last batch; 0 where it is open for reading only.
    pub fn last_batch(&self) -> u64 {
        self.writer
            .as_ref()
            .map_or(0, |writer| writer.lock().end().0)
    }

    /// Makes a copy of the store as it is now in `to`, which must not exist. The broker goes on meanwhile; the copy
    /// is a store of its own. With `link`, closed segments are linked where the file system can: quick and small,
    /// but on the same disk. `progress` is told how many bytes of how many are done.
    ///
    /// # Errors
    /// See [`OpenError`]. What was made by then is left for the caller to delete.
    pub fn checkpoint(
        &self,
        to: &Path,
        link: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), OpenError> {
        let Some(writer) = &self.writer else {
            return Err(OpenError::Missing(to.to_owned()));
        };
        open::checkpoint(writer, &self.index, to, link, progress)
    }

    /// Writes everything that lives again and deletes the files there were. Batches wait meanwhile.
    ///
    /// # Errors
    /// See [`StorageError`]. The store is whole whenever it ends.
    pub fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StorageError> {
        self.writer()?.lock().compact(progress)
    }

    fn writer(&self) -> Result<&Mutex<Writer>, StorageError> {
        self.writer.as_ref().ok_or(StorageError::Unsupported(
            "be written: it is open for reading",
        ))
    }
}

/// Is shown a row, with its file where its value is in one, and says whether it wants more.
type Show<'a> = dyn FnMut(&[u8], &Slot, Option<&File>) -> Result<bool, StorageError> + 'a;

/// Shows the value of a row; checks it against its sum.
fn read_slot(
    file: Option<&File>,
    slot: &Slot,
    read: &mut dyn FnMut(&[u8]),
) -> Result<(), StorageError> {
    match slot {
        Slot::Short { length, value, .. } => {
            read(value.get(..usize::from(*length)).unwrap_or(value));
            Ok(())
        }
        Slot::Long {
            segment,
            bytes,
            sum,
            at,
        } => {
            let file = file
                .ok_or_else(|| StorageError::Corrupt(format!("segment {segment:08x} is gone")))?;
            let mut value = vec![0; *bytes as usize];
            file.read_exact_at(&mut value, *at)
                .map_err(|error| StorageError::Io(format!("{segment:08x}.log: {error}")))?;
            if crc32fast::hash(&value) != *sum {
                return Err(StorageError::Corrupt(format!(
                    "{bytes} bytes at byte {at} of {segment:08x}.log are not what was written"
                )));
            }
            read(&value);
            Ok(())
        }
    }
}

impl Storage for EmbeddedStorage {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        self.writer()?.lock().apply(writes)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.writer()?.lock().sync()
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.chunks(table, prefix, true, &mut |key, slot, file| {
            let mut go_on = true;
            read_slot(file, slot, &mut |value| {
                go_on = visit(key, value);
            })?;
            Ok(go_on)
        })
    }

    fn scan_keys(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.chunks(table, prefix, false, &mut |key, _, _| Ok(visit(key)))
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        let found = {
            let index = self.index.read();
            index
                .get(table, key)
                .and_then(|slot| Some((slot, index.file_of(&slot)?)))
        };
        match found {
            Some((slot, file)) => read_slot(Some(&file), &slot, read).map(|()| true),
            None => Ok(false),
        }
    }

    fn reopen(&self) -> Result<(), StorageError> {
        // A write that failed for want of space was cut off again: there is nothing to be opened anew.
        self.writer().map(|_| ())
    }

    fn low(&self) -> Option<String> {
        self.writer.as_ref()?.lock().low()
    }

    fn usage(&self) -> Usage {
        let (bytes, live) = self.index.read().sizes();
        let mut usage = Usage::new();
        usage.disk_bytes = bytes;
        usage.live_bytes = live;
        usage.written_bytes = self.counted.written_bytes.load(Relaxed);
        usage.rewritten_bytes = self.counted.copied_bytes.load(Relaxed);
        usage.syncs = self.counted.syncs.load(Relaxed);
        usage.damaged_rows = self.counted.damaged_rows.load(Relaxed);
        usage
    }
}

impl EmbeddedStorage {
    /// Shows the rows of a prefix, with the files of those whose values are in the log, if `values` are wanted. The
    /// index is not locked while one is shown.
    fn chunks(
        &self,
        table: Table,
        prefix: &[u8],
        values: bool,
        show: &mut Show<'_>,
    ) -> Result<(), StorageError> {
        let mut from = Bound::Included(RowKey::new(prefix));
        let mut rows: Vec<(RowKey, Slot)> = Vec::with_capacity(SCAN_ROWS);
        // Few: neighbours are mostly of one segment.
        let mut files: Vec<(u32, Arc<File>)> = Vec::new();
        loop {
            files.clear();
            {
                let index = self.index.read();
                for (key, slot) in index.range(table, from.as_ref()).take(SCAN_ROWS) {
                    if !prefix.is_empty() && !key.bytes().starts_with(prefix) {
                        break;
                    }
                    let number = slot.segment();
                    if values
                        && matches!(slot, Slot::Long { .. })
                        && !files.iter().rev().any(|(known, _)| *known == number)
                    {
                        let Some(file) = index.file_of(slot) else {
                            return Err(StorageError::Corrupt(format!(
                                "segment {number:08x} is gone"
                            )));
                        };
                        files.push((number, file));
                    }
                    rows.push((key.clone(), *slot));
                }
            }
            let full = rows.len() == SCAN_ROWS;
            for (key, slot) in &rows {
                let number = slot.segment();
                let file = files.iter().rev().find(|(known, _)| *known == number);
                if !show(&key.bytes(), slot, file.map(|(_, file)| &**file))? {
                    return Ok(());
                }
            }
            match rows.pop() {
                Some((key, _)) if full => from = Bound::Excluded(key),
                _ => return Ok(()),
            }
            rows.clear();
        }
    }
}
