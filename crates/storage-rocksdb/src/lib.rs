//! A storage backend of a Martlet broker: tables in RocksDB.
//!
//! * `RocksDbOptions::open` checks and locks a directory, opens the database in it, and says what it found in an
//!   `OpenReport`; a database that lost an acknowledged batch is refused by name.
//! * `RocksDbStorage` is the `Storage`: one batch is one batch of the database, written to its write-ahead log and
//!   synced there. A mark beside the database says how far it was synced, as with the embedded store.
//!
//! Without the feature `rocksdb` the crate is empty. Deliberately absent: threads (RocksDB has its own, which write
//! out and merge), logging, recycled log files (what is at their end could not be told from a torn batch).
#![cfg(feature = "rocksdb")]

mod open;
mod tables;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use martlet_storage::place::{MarkFile, Place};
use martlet_storage::{Storage, StorageError, Table, Usage, Write};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DB, DBRawIterator, ErrorKind, ReadOptions,
    WriteOptions, properties,
};

pub use martlet_storage::place::OpenError;
pub use open::{FORMAT, OpenReport, RocksDbOptions};

/// How long the mark may stay unsynced while batches are synced.
const MARK_AFTER: Duration = Duration::from_secs(1);
/// How much is read ahead when many rows are.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// An open store. Dropping it syncs and unlocks it.
pub struct RocksDbStorage {
    options: RocksDbOptions,
    /// `None` only while it is opened again. Closed before the directory is given back.
    db: RwLock<Option<DB>>,
    place: Place,
    end: Mutex<End>,
    /// What was free before the last batch.
    free: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
}

/// How far the store goes.
struct End {
    /// The last batch.
    batch: u64,
    /// `None` when it is open for reading only.
    mark: Option<MarkFile>,
    mark_dirty: bool,
    mark_synced: Instant,
    /// Why nothing is written any more.
    failed: Option<String>,
}

impl RocksDbStorage {
    /// The number of the last batch.
    pub fn last_batch(&self) -> u64 {
        self.end.lock().batch
    }

    /// Counts the rows of a table, key by key.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn rows(&self, table: Table) -> Result<u64, StorageError> {
        let mut rows = 0;
        self.scan_keys(table, &[], &mut |_| {
            rows += 1;
            true
        })?;
        Ok(rows)
    }

    /// Makes a copy of the store as it is now in `to`, which must not exist. The broker goes on meanwhile; the copy is a
    /// store of its own. On the same file system the files that never change are linked, not copied.
    ///
    /// # Errors
    /// See [`OpenError`]. What was made by then is left for the caller to delete.
    pub fn checkpoint(&self, to: &Path) -> Result<(), OpenError> {
        let failed = |error: String| OpenError::io(to, "write the copy")(io_error(error));
        self.sync().map_err(|error| failed(error.to_string()))?;
        let batch = self.last_batch();
        let target = open::make(to)?;
        let db = self.db().map_err(|error| failed(error.to_string()))?;
        let db = db.as_ref().ok_or_else(|| failed(CLOSED.to_owned()))?;
        Checkpoint::new(db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(open::database(target.path())))
            .map_err(|error| failed(error.into_string()))?;
        open::finish(&target, batch)
    }

    /// Merges everything and gives back what is of no use. Batches go on meanwhile. `progress` is told how many bytes of how
    /// many were read.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StorageError> {
        let db = self.db()?;
        let db = db.as_ref().ok_or_else(closed)?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let size = |family| {
            let known = db.property_int_value_cf(family, properties::TOTAL_SST_FILES_SIZE);
            known.ok().flatten().unwrap_or(0)
        };
        let families: Vec<_> = tables::all(db).map(|it| (it, size(it))).collect();
        let total = families.iter().map(|(_, bytes)| bytes).sum();
        let mut done = 0;
        for (family, bytes) in families {
            db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
            done += bytes;
            progress(done, total);
        }
        Ok(())
    }

    fn db(&self) -> Result<RwLockReadGuard<'_, Option<DB>>, StorageError> {
        // A row may be read while others are shown.
        let db = self.db.read_recursive();
        if db.is_some() { Ok(db) } else { Err(closed()) }
    }

    /// Shows the rows of a prefix as `show` reads them.
    fn walk(
        &self,
        table: Table,
        prefix: &[u8],
        keys: bool,
        show: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let db = self.db()?;
        let db = db.as_ref().ok_or_else(closed)?;
        let family = if keys {
            tables::keys(db, table)
        } else {
            tables::rows(db, table)
        };
        let family = family.ok_or_else(closed)?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(tables::behind(prefix));
        options.fill_cache(false);
        if prefix.is_empty() {
            options.set_readahead_size(READ_AHEAD_BYTES);
        }
        let mut rows: DBRawIterator<'_> = db.raw_iterator_cf_opt(family, options);
        rows.seek(prefix);
        while let Some((key, value)) = rows.item() {
            if !show(key, value) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| meaning(&error))
    }

    /// Makes room a condition of every batch. The last quarter of the reserve is for what RocksDB does by itself to make
    /// some.
    fn reserve(&self, writes: &[Write]) -> Result<(), StorageError> {
        // A file system that does not say how much is free says so when a write fails.
        let Ok(stat) = rustix::fs::statvfs(self.place.path()) else {
            return Ok(());
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        self.free.store(free, Relaxed);
        let needed = weight(writes);
        if free >= (self.options.reserve_bytes / 4).saturating_add(needed) {
            return Ok(());
        }
        Err(StorageError::NoSpace(self.little_room(free)))
    }

    fn little_room(&self, free: u64) -> String {
        format!(
            "{} has {} MiB left and {} MiB are kept as a reserve; make room on that file system",
            self.place.path().display(),
            free >> 20,
            self.options.reserve_bytes >> 20
        )
    }
}

impl End {
    fn writable(&mut self) -> Result<&mut MarkFile, StorageError> {
        if let Some(error) = &self.failed {
            return Err(StorageError::Io(format!("{error} (earlier)")));
        }
        self.mark.as_mut().ok_or(StorageError::Unsupported(
            "be written: it is open for reading",
        ))
    }

    /// From here on nothing is written any more.
    fn fail(&mut self, error: StorageError) -> StorageError {
        self.failed = Some(error.to_string());
        error
    }

    fn sync_mark(&mut self) -> Result<(), StorageError> {
        let synced = self.writable()?.sync();
        if let Err(error) = synced {
            return Err(self.fail(StorageError::Io(format!("the mark: {error}"))));
        }
        self.mark_dirty = false;
        self.mark_synced = Instant::now();
        Ok(())
    }
}

impl Storage for RocksDbStorage {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        let mut end = self.end.lock();
        end.writable()?;
        if writes.is_empty() {
            return Ok(());
        }
        self.reserve(writes)?;
        let number = end.batch + 1;
        {
            let db = self.db()?;
            let db = db.as_ref().ok_or_else(closed)?;
            let batch = tables::batch(db, writes, number).ok_or_else(closed)?;
            let bytes = batch.size_in_bytes() as u64;
            match db.write_opt(batch, &WriteOptions::default()) {
                Ok(()) => {}
                Err(error) => {
                    return Err(match meaning(&error) {
                        full @ StorageError::NoSpace(_) => full,
                        error => end.fail(error),
                    });
                }
            }
            self.written_bytes.fetch_add(bytes, Relaxed);
        }
        end.batch = number;
        // A heartbeat: nobody waits for it.
        if writes.len() == 1 && end.mark_dirty {
            end.sync_mark()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut end = self.end.lock();
        end.writable()?;
        let synced = match self.db()?.as_ref() {
            Some(db) => db.flush_wal(true),
            None => return Err(closed()),
        };
        if let Err(error) = synced {
            // Of any kind: what the operating system dropped will not be written by asking again.
            return Err(end.fail(StorageError::Io(error.into_string())));
        }
        self.syncs.fetch_add(1, Relaxed);
        let batch = end.batch;
        if let Err(error) = end.writable()?.write(batch, 0, 0) {
            return Err(end.fail(StorageError::Io(format!("the mark: {error}"))));
        }
        end.mark_dirty = true;
        if end.mark_synced.elapsed() >= MARK_AFTER {
            end.sync_mark()?;
        }
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.walk(table, prefix, false, visit)
    }

    fn scan_keys(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.walk(table, prefix, true, &mut |key, _| visit(key))
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        let db = self.db()?;
        let db = db.as_ref().ok_or_else(closed)?;
        let family = tables::rows(db, table).ok_or_else(closed)?;
        let value = db.get_pinned_cf(family, key);
        let value = value.map_err(|error| meaning(&error))?;
        if let Some(value) = &value {
            read(value);
        }
        Ok(value.is_some())
    }

    fn reopen(&self) -> Result<(), StorageError> {
        let mut end = self.end.lock();
        end.writable()?;
        let mut db = self.db.write();
        // Closed first: it holds its own lock.
        *db = None;
        let (opened, batch) = match open::reopen(&self.place) {
            Ok(opened) => opened,
            Err(error) => {
                let text = error.to_string();
                return Err(if is_full(&text) {
                    StorageError::NoSpace(text)
                } else {
                    end.fail(StorageError::Io(text))
                });
            }
        };
        if batch < end.batch {
            let lost = format!("it came back at batch {batch} instead of {}", end.batch);
            return Err(end.fail(StorageError::Corrupt(lost)));
        }
        // The batch that failed may be there, or not; it is the same when it is tried again.
        end.batch = batch;
        *db = Some(opened);
        Ok(())
    }

    fn low(&self) -> Option<String> {
        let free = self.free.load(Relaxed);
        (free < self.options.reserve_bytes).then(|| self.little_room(free))
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::new();
        usage.disk_bytes = bytes_in(&open::database(self.place.path()));
        if let Ok(db) = self.db()
            && let Some(db) = db.as_ref()
        {
            let live =
                |family| db.property_int_value_cf(family, properties::ESTIMATE_LIVE_DATA_SIZE);
            usage.live_bytes = tables::all(db)
                .filter_map(|family| live(family).ok().flatten())
                .sum();
        }
        usage.written_bytes = self.written_bytes.load(Relaxed);
        usage.syncs = self.syncs.load(Relaxed);
        usage
    }
}

impl Drop for RocksDbStorage {
    fn drop(&mut self) {
        let writable = {
            let end = self.end.lock();
            end.mark.is_some() && end.failed.is_none()
        };
        if writable && self.sync().is_ok() {
            let _ = self.end.lock().sync_mark();
        }
    }
}

/// What is said of a database between closing and opening it.
const CLOSED: &str = "the database is closed: it could not be opened again";

fn closed() -> StorageError {
    StorageError::NoSpace(CLOSED.to_owned())
}

fn io_error(text: String) -> std::io::Error {
    std::io::Error::other(text)
}

/// What an error of the database says about the store.
fn meaning(error: &rocksdb::Error) -> StorageError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::IOError if is_full(&text) => StorageError::NoSpace(text),
        ErrorKind::Corruption => StorageError::Corrupt(text),
        _ => StorageError::Io(text),
    }
}

/// Whether a disk is full; the database passes on the words of the operating system only.
fn is_full(text: &str) -> bool {
    ["No space left", "quota exceeded", "File too large"]
        .iter()
        .any(|words| text.contains(words))
}

fn weight(writes: &[Write]) -> u64 {
    let weigh = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.as_bytes().len(),
        Write::Delete { key, .. } => key.len(),
        Write::DeletePrefix { prefix, .. } => prefix.len(),
    };
    writes.iter().map(weigh).sum::<usize>() as u64
}

/// The sizes of the files in a directory; what is just being deleted counts as nothing.
fn bytes_in(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use martlet_storage::Value;

    #[test]
    fn after_a_failure_nothing_is_written_any_more() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("store");
        let (storage, _) = RocksDbOptions::default().open(&path).expect("opens");
        let write = Write::Put {
            table: Table::Queue,
            key: vec![1],
            value: Value::Record(vec![2]),
        };
        storage
            .apply(std::slice::from_ref(&write))
            .expect("applies");
        // As after a sync that failed; the disk is well again.
        let failed = storage.end.lock().fail(StorageError::Io("gone".to_owned()));
        let earlier = Err(StorageError::Io(format!("{failed} (earlier)")));
        assert_eq!(storage.sync(), earlier);
        assert_eq!(storage.apply(&[write]), earlier);
        assert_eq!(storage.reopen(), earlier);
        let read = storage.get(Table::Queue, &[1], &mut |value| assert_eq!(value, [2]));
        assert_eq!(read, Ok(true), "what is there can be read");
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let check = |text: &str, full: bool| assert_eq!(is_full(text), full, "{text}");
        check("IO error: No space left on device: While appending", true);
        check("IO error: Disk quota exceeded: While appending", true);
        check("IO error: Input/output error: While fdatasync", false);
    }
}
