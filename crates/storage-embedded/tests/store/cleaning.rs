//! Room comes back: old segments go, what lives in them does not, and copies of an open store are stores.

use std::sync::Arc;

use martlet_storage::{Storage, Table};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage};

use crate::support::{Contents, Disk, contents, delete, directory, put};

const MIB: u64 = 1 << 20;

fn heartbeat(storage: &EmbeddedStorage) {
    storage
        .apply(&[put(Table::Meta, b"", &[9; 41])])
        .expect("applies");
}

fn fill(storage: &EmbeddedStorage, from: u32, count: u32, expect: &mut Contents) {
    for n in from..from + count {
        let (key, value) = (n.to_be_bytes(), [n as u8; 16 * 1024]);
        storage
            .apply(&[
                put(Table::Message, &key, &value),
                put(Table::Queue, &key, &[1; 8]),
            ])
            .expect("applies");
        expect.insert((Table::Message, key.to_vec()), value.to_vec());
        expect.insert((Table::Queue, key.to_vec()), vec![1; 8]);
    }
    storage.sync().expect("syncs");
}

fn drain(storage: &EmbeddedStorage, which: impl Iterator<Item = u32>, expect: &mut Contents) {
    for n in which {
        let key = n.to_be_bytes();
        storage
            .apply(&[delete(Table::Message, &key), delete(Table::Queue, &key)])
            .expect("applies");
        storage.sync().expect("syncs");
        expect.remove(&(Table::Message, key.to_vec()));
        expect.remove(&(Table::Queue, key.to_vec()));
    }
}

#[test]
fn a_drained_store_is_small_again() {
    let root = directory();
    let options = EmbeddedOptions::default().segment_bytes(MIB);
    let (storage, _) = options.open(root.path()).expect("opens");
    let mut expect = Contents::new();
    fill(&storage, 0, 8_000, &mut expect);
    assert!(storage.usage().disk_bytes > 120 * MIB);
    drain(&storage, 0..8_000, &mut expect);
    for _ in 0..3 {
        heartbeat(&storage);
    }
    storage.sync().expect("syncs");
    let usage = storage.usage();
    assert!(usage.disk_bytes < 64 * MIB, "{usage:?}");
    let on_disk: u64 = std::fs::read_dir(root.path())
        .expect("lists")
        .flatten()
        .map(|entry| entry.metadata().expect("there").len())
        .sum();
    assert!(on_disk < 64 * MIB, "{on_disk}");
}

#[test]
fn what_lives_among_what_is_gone_is_kept() {
    let root = directory();
    let options = EmbeddedOptions::default().segment_bytes(MIB);
    let mut expect = Contents::new();
    {
        let (storage, _) = options.open(root.path()).expect("opens");
        fill(&storage, 0, 6_000, &mut expect);
        // One of fifty stays, so that every segment has something to carry on.
        drain(&storage, (0..6_000).filter(|n| n % 50 != 3), &mut expect);
        for _ in 0..60 {
            heartbeat(&storage);
            storage.sync().expect("syncs");
        }
        expect.insert((Table::Meta, Vec::new()), vec![9; 41]);
        let usage = storage.usage();
        assert!(usage.rewritten_bytes > 0, "{usage:?}");
        assert!(
            usage.disk_bytes < 2 * usage.live_bytes + 36 * MIB,
            "{usage:?}"
        );
        assert!(contents(&storage).expect("lists") == expect);
    }
    let (storage, report) = options.open(root.path()).expect("opens");
    assert!(report.is_clean(), "{:?}", report.remarks());
    assert!(contents(&storage).expect("lists") == expect);
}

#[test]
fn whichever_act_of_cleaning_fails_nothing_is_lost() {
    // Enough garbage that the next batches clean, then the disk fails at every act in turn.
    let root = directory();
    let made = root.path().join("made");
    let options = EmbeddedOptions::default().segment_bytes(4 * MIB);
    let mut expect = Contents::new();
    {
        let disk = Arc::new(Disk::default());
        let (storage, _) = options.clone().probe(disk as _).open(&made).expect("opens");
        fill(&storage, 0, 2_300, &mut expect);
        let gone: Vec<_> = (0..2_300_u32)
            .filter(|n| n % 100 != 7)
            .flat_map(|n| {
                let key = n.to_be_bytes();
                expect.remove(&(Table::Message, key.to_vec()));
                expect.remove(&(Table::Queue, key.to_vec()));
                [delete(Table::Message, &key), delete(Table::Queue, &key)]
            })
            .collect();
        // Applied last, so that nothing was cleaned yet.
        storage.apply(&gone).expect("applies");
    }
    expect.insert((Table::Meta, Vec::new()), vec![9; 41]);
    for n in (1..).step_by(3) {
        let at = root.path().join("run");
        crate::support::copy(&made, &at);
        let disk = Arc::new(Disk::default());
        disk.fail_at.store(n, std::sync::atomic::Ordering::Relaxed);
        disk.tear
            .store(n % 2 == 0, std::sync::atomic::Ordering::Relaxed);
        let mut survived = true;
        if let Ok((storage, _)) = options.clone().probe(disk as _).open(&at) {
            for _ in 0..8 {
                survived &= storage.apply(&[put(Table::Meta, b"", &[9; 41])]).is_ok()
                    && storage.sync().is_ok();
            }
        } else {
            survived = false;
        }
        let (storage, report) = options.open(&at).expect("opens");
        assert!(report.lost.is_empty(), "act {n}");
        heartbeat(&storage);
        assert!(contents(&storage).expect("lists") == expect, "act {n}");
        drop(storage);
        std::fs::remove_dir_all(&at).expect("removes");
        if survived {
            break;
        }
    }
}

#[test]
fn a_copy_of_an_open_store_is_a_store() {
    for link in [true, false] {
        let root = directory();
        let options = EmbeddedOptions::default().segment_bytes(MIB);
        let (storage, _) = options.open(root.path().join("store")).expect("opens");
        let mut expect = Contents::new();
        fill(&storage, 0, 300, &mut expect);
        drain(&storage, 10..20, &mut expect);
        let copy = root.path().join("copy");
        let mut told = (0, 1);
        storage
            .checkpoint(&copy, link, &mut |done, total| told = (done, total))
            .expect("copies");
        assert_eq!(told.0, told.1);
        let mut later = expect.clone();
        fill(&storage, 300, 50, &mut later);
        let (copied, report) = options.open(&copy).expect("opens");
        assert!(report.is_clean() && !report.created, "{report:?}");
        assert!(contents(&copied).expect("lists") == expect);
        fill(&copied, 1_000, 5, &mut expect);
        assert!(
            contents(&storage).expect("lists") == later,
            "they are apart"
        );
        let again = storage.checkpoint(&copy, link, &mut |_, _| {});
        assert!(again.is_err(), "nothing is overwritten");
    }
}

#[test]
fn compacting_leaves_what_lives_and_nothing_else() {
    let root = directory();
    let options = EmbeddedOptions::default().segment_bytes(MIB);
    let mut expect = Contents::new();
    {
        let (storage, _) = options.open(root.path()).expect("opens");
        fill(&storage, 0, 1_000, &mut expect);
        drain(&storage, (0..1_000).filter(|n| n % 10 != 0), &mut expect);
        let before = storage.usage();
        let mut told = (0, 1);
        storage
            .compact(&mut |done, total| told = (done, total))
            .expect("compacts");
        assert_eq!(told.0, told.1);
        let after = storage.usage();
        assert!(after.disk_bytes * 5 < before.disk_bytes, "{after:?}");
        assert!(after.disk_bytes < after.live_bytes + MIB, "{after:?}");
        assert!(contents(&storage).expect("lists") == expect);
        storage.compact(&mut |_, _| {}).expect("compacts again");
    }
    let (storage, report) = options.open(root.path()).expect("opens");
    assert!(report.is_clean(), "{:?}", report.remarks());
    assert!(contents(&storage).expect("lists") == expect);
}
