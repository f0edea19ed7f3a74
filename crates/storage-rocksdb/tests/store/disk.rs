//! A disk that is full, a store that is opened again, and what is counted. A sync that fails cannot be arranged on real
//! files: what follows one is a test beside the code.

use martlet_storage::{Storage, StorageError, Table};
use martlet_storage_rocksdb::RocksDbOptions;

use crate::support::{batches, contents, directory, open, put, states, within};

#[test]
fn below_the_reserve_nothing_is_written() {
    let root = directory();
    let path = within(&root);
    drop(open(&path));
    let (storage, _) = RocksDbOptions::default()
        .reserve_bytes(u64::MAX)
        .open(&path)
        .expect("opens");
    let error = storage.apply(&batches()[0]);
    let Err(StorageError::NoSpace(text)) = error else {
        panic!("no space: {error:?}");
    };
    assert!(text.contains("reserve"), "{text}");
    assert_eq!(storage.low().as_deref(), Some(&*text));
    storage.reopen().expect("opens again");
    assert_eq!(contents(&storage).expect("lists"), states(&[])[0]);
    assert_eq!(storage.last_batch(), 0);
}

#[test]
fn a_store_that_is_opened_again_goes_on() {
    let root = directory();
    let storage = open(&within(&root));
    let states = states(&batches());
    for (n, batch) in batches().iter().enumerate() {
        storage.apply(batch).expect("applies");
        storage.reopen().expect("opens again");
        assert_eq!(storage.last_batch(), n as u64 + 1);
        assert_eq!(contents(&storage).expect("lists"), states[n + 1]);
        storage.sync().expect("syncs");
    }
}

#[test]
fn a_row_is_read_while_others_are_shown() {
    let root = directory();
    let storage = open(&within(&root));
    let rows = [
        put(Table::Queue, b"a", b"1"),
        put(Table::Message, b"m", b"2"),
    ];
    storage.apply(&rows).expect("applies");
    let mut read = 0;
    let scan = storage.scan(Table::Queue, &[], &mut |_, _| {
        let found = storage.get(Table::Message, b"m", &mut |_| read += 1);
        found.expect("reads")
    });
    scan.expect("lists");
    assert_eq!(read, 1);
}

#[test]
fn what_is_done_is_counted() {
    let root = directory();
    let storage = open(&within(&root));
    for batch in batches() {
        storage.apply(&batch).expect("applies");
        storage.sync().expect("syncs");
    }
    let usage = storage.usage();
    assert_eq!(usage.syncs, 4);
    assert!(usage.written_bytes > 200, "{usage:?}");
    assert!(usage.disk_bytes >= usage.written_bytes, "{usage:?}");
}
