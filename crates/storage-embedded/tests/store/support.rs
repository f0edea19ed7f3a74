//! What the tests share: small stores, their contents, and a disk that fails on cue.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use martlet_storage::{Storage, StorageError, Table, Value, Write};
use martlet_storage_embedded::{Act, EmbeddedOptions, EmbeddedStorage, Probe, Verdict};

/// A directory in memory where there is one: these tests sync often and mean their own files, not the disk.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

pub(crate) fn open(path: &Path) -> EmbeddedStorage {
    let (storage, _) = EmbeddedOptions::default().open(path).expect("opens");
    storage
}

pub(crate) fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write::Put {
        table,
        key: key.to_vec(),
        value: Value::Record(value.to_vec()),
    }
}

pub(crate) fn delete(table: Table, key: &[u8]) -> Write {
    Write::Delete {
        table,
        key: key.to_vec(),
    }
}

/// Every row of a store.
pub(crate) type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

pub(crate) fn contents(storage: &dyn Storage) -> Result<Contents, StorageError> {
    let mut rows = Contents::new();
    for table in Table::ALL {
        storage.scan(table, &[], &mut |key, value| {
            rows.insert((table, key.to_vec()), value.to_vec());
            true
        })?;
    }
    Ok(rows)
}

/// Batches that put, replace and delete, with short and long values.
pub(crate) fn batches() -> Vec<Vec<Write>> {
    (0..6_u8)
        .map(|n| {
            let mut batch = vec![
                put(Table::Meta, b"", &[n; 41]),
                put(Table::Message, &[n], &[n ^ 0x55; 60]),
                put(Table::Queue, &[1, n], &[n; 8]),
            ];
            if n > 1 {
                batch.push(delete(Table::Queue, &[1, n - 2]));
                batch.push(put(Table::Outbound, b"state", &[n; 18]));
            }
            if n == 4 {
                batch.push(Write::DeletePrefix {
                    table: Table::Message,
                    prefix: vec![0],
                });
            }
            batch
        })
        .collect()
}

/// The contents after each of the batches, that before the first one first.
pub(crate) fn states(batches: &[Vec<Write>]) -> Vec<Contents> {
    let memory = martlet_storage::MemoryStorage::new();
    let mut states = vec![Contents::new()];
    for batch in batches {
        memory.apply(batch).expect("memory applies");
        states.push(contents(&memory).expect("memory lists"));
    }
    states
}

/// Writes and syncs `batches` into a new store.
pub(crate) fn write_store(path: &Path, batches: &[Vec<Write>]) {
    let storage = open(path);
    for batch in batches {
        storage.apply(batch).expect("applies");
        storage.sync().expect("syncs");
    }
}

/// Copies the files of a directory, which keeps its mode.
pub(crate) fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .expect("a directory");
    for entry in fs::read_dir(from).expect("lists").flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copies");
        }
    }
}

/// The first segment of a store.
pub(crate) fn log(path: &Path) -> std::path::PathBuf {
    path.join("00000001.log")
}

/// A disk that fails from the n-th thing on that is done to it, or whatever else it is told.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Things to be done before it fails; none when zero.
    pub(crate) fail_at: AtomicUsize,
    /// Whether the failing write is torn in the middle.
    pub(crate) tear: AtomicBool,
    /// What writes fail with instead, while set.
    pub(crate) full: AtomicBool,
    /// Free bytes that are reported; nothing when zero.
    pub(crate) free: AtomicU64,
    /// Whether syncs fail.
    pub(crate) sync_fails: AtomicBool,
    pub(crate) acts: Mutex<Vec<Act>>,
}

impl Probe for Disk {
    fn before(&self, act: Act) -> Verdict {
        let mut acts = self.acts.lock().expect("no test panics here");
        acts.push(act);
        let broken = || io::Error::other("the disk is broken");
        let fail_at = self.fail_at.load(Ordering::Relaxed);
        if fail_at > 0 && acts.len() >= fail_at {
            return match act {
                Act::Write(bytes) if self.tear.load(Ordering::Relaxed) => {
                    Verdict::Tear(bytes / 2, broken())
                }
                _ => Verdict::Fail(broken()),
            };
        }
        match act {
            Act::Write(bytes) if self.full.load(Ordering::Relaxed) => {
                Verdict::Tear(bytes / 3, io::ErrorKind::StorageFull.into())
            }
            Act::Sync if self.sync_fails.load(Ordering::Relaxed) => Verdict::Fail(broken()),
            _ => Verdict::Go,
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::Relaxed)).filter(|free| *free > 0)
    }
}
