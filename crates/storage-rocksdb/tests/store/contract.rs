//! The suite that every backend runs, and an exchange at QoS 2 killed after each of its batches.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use martlet_storage::contract::exchange::exchange;
use martlet_storage::{
    Group, Lsn, MemoryStorage, Storage, StorageError, Table, Timestamp, Usage, Write, load,
    transfer,
};
use martlet_storage_rocksdb::RocksDbStorage;

use crate::support::{Contents, contents, copy, directory, open, within};

/// A store that knows where it is.
struct Placed {
    storage: RocksDbStorage,
    path: PathBuf,
}

impl Placed {
    fn open(path: PathBuf) -> Self {
        let storage = open(&path);
        Self { storage, path }
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

#[test]
fn rocksdb_keeps_the_contract() {
    let root = directory();
    let count = AtomicU32::new(0);
    let fresh = || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Placed::open(root.path().join(number.to_string()))
    };
    let reopen = |old: Placed| {
        let Placed { storage, path } = old;
        drop(storage);
        Placed::open(path)
    };
    martlet_storage::contract::run(fresh, reopen);
}

/// Runs the exchange; `after` sees the store behind each batch.
fn run(storage: &dyn Storage, mut after: impl FnMut(&dyn Storage)) {
    let (mut planner, _) = load(storage, &mut ()).expect("loads");
    for (n, ops) in exchange().into_iter().enumerate() {
        let mut group = Group::default();
        planner.add(Lsn::new(n as u64 + 1), ops, &mut group);
        let writes = planner.finish(group, Timestamp::from_millis(7));
        storage.apply(&writes).expect("applies");
        storage.sync().expect("syncs");
        after(storage);
    }
}

#[test]
fn a_store_killed_after_any_batch_of_an_exchange_is_as_it_was() {
    let memory = MemoryStorage::new();
    let mut states: Vec<Contents> = Vec::new();
    run(&memory, |storage| {
        states.push(contents(storage).expect("lists"));
    });
    let root = directory();
    let storage = open(&within(&root));
    let mut n = 0;
    run(&storage, |_| {
        let killed = root.path().join(format!("killed-{n}"));
        copy(&within(&root), &killed);
        let store = open(&killed);
        assert_eq!(contents(&store).expect("lists"), states[n], "batch {n}");
        let (_, opened) = load(&store, &mut ()).expect("loads");
        assert_eq!(opened.removed, 0, "batch {n}");
        n += 1;
    });
    assert_eq!(n, exchange().len());
}

#[test]
fn every_moment_of_an_exchange_moves_to_another_backend_and_back() {
    let root = directory();
    let storage = open(&within(&root));
    let mut n = 0;
    run(&storage, |storage| {
        n += 1;
        let mut lines = Vec::new();
        transfer::export(storage, &mut lines, &mut |_| {}).expect("exports");
        let memory = MemoryStorage::new();
        transfer::import(&memory, &mut lines.as_slice(), &mut |_| {}).expect("imports");
        let back = open(&root.path().join(format!("back-{n}")));
        let mut again = Vec::new();
        transfer::export(&memory, &mut again, &mut |_| {}).expect("exports");
        transfer::import(&back, &mut again.as_slice(), &mut |_| {}).expect("imports");
        let mut third = Vec::new();
        transfer::export(&back, &mut third, &mut |_| {}).expect("exports");
        assert_eq!(third, lines, "moment {n}");
        let checked = transfer::check(&back, &mut |_| {}).expect("checks");
        assert_eq!(checked.problem_count, 0, "{:?}", checked.problems);
    });
}
