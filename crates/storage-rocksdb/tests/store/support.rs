//! What the tests share: small stores and their contents.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use martlet_storage::{Storage, StorageError, Table, Value, Write};
use martlet_storage_rocksdb::{RocksDbOptions, RocksDbStorage};

/// A directory in memory where there is one: these tests sync often and mean their own files, not the disk.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

/// A place for a store in a directory, which has other things in it.
pub(crate) fn within(root: &tempfile::TempDir) -> PathBuf {
    root.path().join("store")
}

pub(crate) fn open(path: &Path) -> RocksDbStorage {
    let (storage, report) = RocksDbOptions::default().open(path).expect("opens");
    assert_eq!(report.remarks(), Vec::<String>::new());
    storage
}

pub(crate) fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write::Put {
        table,
        key: key.to_vec(),
        value: Value::Record(value.to_vec()),
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

/// Batches that put, replace and delete.
pub(crate) fn batches() -> Vec<Vec<Write>> {
    (0..4_u8)
        .map(|n| {
            let mut batch = vec![
                put(Table::Meta, b"", &[n; 5]),
                put(Table::Message, &[n], &[n ^ 0x55; 12]),
                put(Table::Queue, &[1, n], &[n; 3]),
            ];
            if n > 1 {
                let key = vec![1, n - 2];
                let table = Table::Queue;
                batch.push(Write::Delete { table, key });
            }
            if n == 3 {
                let prefix = vec![0];
                let table = Table::Message;
                batch.push(Write::DeletePrefix { table, prefix });
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

/// Makes a store as a process leaves it that was killed after it had synced `batches`: a copy of the open files.
pub(crate) fn killed(path: &Path, batches: &[Vec<Write>]) {
    let root = directory();
    let storage = open(&within(&root));
    for batch in batches {
        storage.apply(batch).expect("applies");
        storage.sync().expect("syncs");
    }
    copy(&within(&root), path);
}

/// Copies a directory and those in it, which keep their mode.
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&to)
            .expect("a directory");
        for entry in fs::read_dir(from).expect("lists").flatten() {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                left.push((entry.path(), to));
            } else {
                fs::copy(entry.path(), to).expect("copies");
            }
        }
    }
}

/// The write-ahead log with the last batches.
pub(crate) fn log(path: &Path) -> PathBuf {
    let entries = fs::read_dir(path.join("db")).expect("lists").flatten();
    let logs = entries.map(|entry| entry.path());
    logs.filter(|path| path.extension().is_some_and(|it| it == "log"))
        .max()
        .expect("a log")
}
