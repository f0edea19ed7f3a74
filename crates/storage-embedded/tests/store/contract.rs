//! The suite that every backend runs, with segments of the usual size and so small that each batch has its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use martlet_storage::{Storage, StorageError, Table, Usage, Write};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage};

/// A store that knows where it is.
struct Placed {
    storage: EmbeddedStorage,
    path: PathBuf,
    options: EmbeddedOptions,
}

impl Placed {
    fn open(path: PathBuf, options: EmbeddedOptions) -> Self {
        let (storage, report) = options.open(&path).expect("opens");
        assert!(report.is_clean(), "{:?}", report.remarks());
        Self {
            storage,
            path,
            options,
        }
    }
}

impl Storage for Placed {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        self.storage.apply(writes)
    }
    fn sync(&self) -> Result<(), StorageError> {
        self.storage.sync()
    }
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.storage.scan(table, prefix, visit)
    }
    fn scan_keys(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.storage.scan_keys(table, prefix, visit)
    }
    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        self.storage.get(table, key, read)
    }
    fn usage(&self) -> Usage {
        self.storage.usage()
    }
}

fn run(options: &EmbeddedOptions) {
    let root = tempfile::tempdir().expect("a directory");
    let count = AtomicU32::new(0);
    let fresh = || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Placed::open(root.path().join(number.to_string()), options.clone())
    };
    let reopen = |old: Placed| {
        let Placed {
            storage,
            path,
            options,
        } = old;
        drop(storage);
        Placed::open(path, options)
    };
    martlet_storage::contract::run(fresh, reopen);
}

#[test]
fn embedded_keeps_the_contract() {
    run(&EmbeddedOptions::default());
}

#[test]
fn embedded_keeps_the_contract_in_many_segments() {
    run(&EmbeddedOptions::default().segment_bytes(1));
}
