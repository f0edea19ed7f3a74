//! Disks that do not do what they are told: failing writes, failing syncs, no space.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use martlet_storage::contract::exchange::session;
use martlet_storage::{
    CommitListener, CommitOptions, Committer, GroupCommitter, Lsn, Storage, StorageError, Table,
    Timestamp, load,
};
use martlet_storage_embedded::{Act, EmbeddedOptions, Probe, Verdict};

use crate::support::{Disk, batches, contents, delete, directory, put, states};

#[test]
fn a_full_disk_refuses_a_batch_and_takes_it_when_there_is_room() {
    let root = directory();
    let disk = Arc::new(Disk::default());
    let options = EmbeddedOptions::default().probe(Arc::clone(&disk) as _);
    let (storage, _) = options.open(root.path()).expect("opens");
    let all = batches();
    for (n, batch) in all.iter().enumerate() {
        for round in 0..3 {
            disk.full.store(true, Ordering::Relaxed);
            let refused = storage.apply(batch);
            assert!(
                matches!(refused, Err(StorageError::NoSpace(_))),
                "batch {n}, round {round}: {refused:?}"
            );
            assert_eq!(contents(&storage).expect("lists"), states(&all)[n]);
            storage.sync().expect("what is there can be synced");
        }
        disk.full.store(false, Ordering::Relaxed);
        storage.reopen().expect("reopens");
        storage.apply(batch).expect("applies");
        storage.sync().expect("syncs");
    }
    drop(storage);
    let (storage, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
    assert!(report.is_clean(), "{:?}", report.remarks());
    assert_eq!(contents(&storage).expect("lists"), states(&all)[all.len()]);
}

#[test]
fn below_the_reserve_room_is_low_and_below_a_quarter_nothing_is_written() {
    let root = directory();
    let disk = Arc::new(Disk::default());
    let options = EmbeddedOptions::default()
        .reserve_bytes(10 << 20)
        .probe(Arc::clone(&disk) as _);
    let (storage, _) = options.open(root.path()).expect("opens");
    let path = root.path().display().to_string();
    let named = |text: &str, free: &str| {
        text.contains(&path) && text.contains("10 MiB are kept") && text.contains(free)
    };
    for (free, is_low, is_taken) in [
        (11 << 20, false, true),
        (9 << 20, true, true),
        (3 << 20, true, true),
        (2 << 20, true, false),
        (9 << 20, true, true),
        (10 << 20, false, true),
    ] {
        disk.free.store(free, Ordering::Relaxed);
        let mebibytes = format!("{} MiB left", free >> 20);
        match storage.apply(&batches()[0]) {
            Ok(()) => assert!(is_taken, "{mebibytes}"),
            Err(StorageError::NoSpace(text)) => {
                assert!(!is_taken && named(&text, &mebibytes), "{text}");
            }
            Err(error) => panic!("{error}"),
        }
        match storage.low() {
            Some(text) => assert!(is_low && named(&text, &mebibytes), "{text}"),
            None => assert!(!is_low, "{mebibytes}"),
        }
    }
}

/// A file system of its own for one store.
struct Small {
    path: std::path::PathBuf,
    bytes: u64,
}

impl Probe for Small {
    fn before(&self, _act: Act) -> Verdict {
        Verdict::Go
    }

    fn free_bytes(&self) -> Option<u64> {
        let files = std::fs::read_dir(&self.path).ok()?.flatten();
        let taken: u64 = files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum();
        Some(self.bytes.saturating_sub(taken))
    }
}

/// Writes and deletes messages of 16 KiB until there is room again, with nobody's help.
#[test]
fn what_is_deleted_below_the_reserve_makes_room() {
    const MIB: u64 = 1 << 20;
    let check = |segment: u64, kept: usize| {
        let root = directory();
        let small = Small {
            path: root.path().to_owned(),
            bytes: 16 * MIB,
        };
        let options = EmbeddedOptions::default()
            .reserve_bytes(8 * MIB)
            .segment_bytes(segment)
            .probe(Arc::new(small));
        let (storage, _) = options.open(root.path()).expect("opens");
        let message = |n: u32| put(Table::Message, &n.to_be_bytes(), &[n as u8; 16 << 10]);
        let gone = |n: u32| delete(Table::Message, &n.to_be_bytes());
        let mut there: Vec<u32> = Vec::new();
        let mut next = 0;
        for _round in 0..4 {
            while storage.low().is_none() {
                storage.apply(&[message(next)]).expect("applies");
                there.push(next);
                next += 1;
            }
            let (mut at, mut steps) = (0, 0);
            while storage.low().is_some() {
                if there.len() > kept {
                    // Every other one, so that what stays is everywhere.
                    at = (at + 1) % there.len();
                    let n = there.remove(at);
                    storage.apply(&[gone(n)]).expect("applies");
                } else {
                    storage
                        .apply(&[put(Table::Meta, b"", &[9; 41])])
                        .expect("a heartbeat applies");
                }
                steps += 1;
                assert!(steps < 5_000, "{:?}", storage.usage());
            }
        }
        assert!(next > 550, "more came than fit at first: {next}");
        drop(storage);
        let (storage, report) = EmbeddedOptions::default().open(root.path()).expect("opens");
        assert!(report.is_clean(), "{:?}", report.remarks());
        let mut found = Vec::new();
        let scan = storage.scan(Table::Message, &[], &mut |key, value| {
            let n = u32::from_be_bytes(key.try_into().expect("four bytes"));
            assert_eq!(value, [n as u8; 16 << 10]);
            found.push(n);
            true
        });
        scan.expect("lists");
        there.sort_unstable();
        assert_eq!(found, there);
    };
    check(MIB, 0);
    check(MIB, 200);
    check(16 * MIB, 100);
    check(64 * MIB, 0);
}

/// Remembers what the committer said.
#[derive(Default)]
struct Heard {
    committed: AtomicU64,
    failed: AtomicBool,
}

impl CommitListener for Heard {
    fn committed(&self, watermark: Lsn) {
        self.committed.store(watermark.get(), Ordering::Release);
    }
    fn failed(&self, _error: &str) {
        self.failed.store(true, Ordering::Release);
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let root = directory();
    let disk = Arc::new(Disk::default());
    let options = EmbeddedOptions::default().probe(Arc::clone(&disk) as _);
    let (storage, _) = options.open(root.path()).expect("opens");
    let storage = Arc::new(storage);
    let (planner, _) = load(&*storage, &mut ()).expect("loads");
    let clock = || Timestamp::from_millis(1);
    let committer = GroupCommitter::start(
        Arc::clone(&storage),
        planner,
        CommitOptions::default(),
        clock,
    )
    .expect("starts");
    let heard = Arc::new(Heard::default());
    committer.set_listener(Arc::clone(&heard) as _);
    let first = committer.submit(vec![session(1)]);
    committer.flush();
    assert_eq!(committer.watermark(), first);
    disk.sync_fails.store(true, Ordering::Relaxed);
    committer.submit(vec![session(2)]);
    committer.flush();
    // The disk says that it is well again. What it dropped meanwhile is not known.
    disk.sync_fails.store(false, Ordering::Relaxed);
    for n in 3..10 {
        committer.submit(vec![session(n)]);
        committer.flush();
    }
    assert_eq!(committer.watermark(), first);
    drop(committer);
    assert_eq!(heard.committed.load(Ordering::Acquire), first.get());
    assert!(heard.failed.load(Ordering::Acquire));
    assert!(storage.sync().is_err() && storage.apply(&batches()[0]).is_err());
    let mut acts = disk.acts.lock().expect("not poisoned");
    let failed = acts.iter().rposition(|act| *act == Act::Sync);
    let after: Vec<Act> = acts.drain(failed.unwrap_or(0) + 1..).collect();
    assert_eq!(after, [], "nothing is done to the files after the failure");
}

/// Looks at the watermark whenever the disk is asked to sync.
#[derive(Default)]
struct Witness {
    committer: OnceLock<Arc<dyn Committer>>,
    submitted: AtomicU64,
    early: AtomicBool,
    syncs: AtomicU64,
}

impl Probe for Witness {
    fn before(&self, act: Act) -> Verdict {
        if act == Act::Sync
            && let Some(committer) = self.committer.get()
        {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(20));
            let submitted = self.submitted.load(Ordering::Acquire);
            if committer.watermark().get() >= submitted {
                self.early.store(true, Ordering::Release);
            }
        }
        Verdict::Go
    }
}

#[test]
fn the_watermark_waits_for_a_slow_sync() {
    let root = directory();
    let witness = Arc::new(Witness::default());
    let options = EmbeddedOptions::default().probe(Arc::clone(&witness) as _);
    let (storage, _) = options.open(root.path()).expect("opens");
    let (planner, _) = load(&storage, &mut ()).expect("loads");
    let clock = || Timestamp::from_millis(1);
    let committer = GroupCommitter::start(storage, planner, CommitOptions::default(), clock);
    let committer: Arc<dyn Committer> = Arc::new(committer.expect("starts"));
    assert!(witness.committer.set(Arc::clone(&committer)).is_ok());
    for n in 1..=10 {
        witness.submitted.store(n, Ordering::Release);
        let lsn = committer.submit(vec![session(n)]);
        assert_eq!(lsn.get(), n);
        committer.flush();
    }
    assert!(witness.syncs.load(Ordering::Relaxed) >= 10);
    assert!(!witness.early.load(Ordering::Acquire));
}

#[test]
fn large_bodies_survive() {
    let root = directory();
    let sizes = [1 << 20, (1 << 20) + 1, 3_000_000, 20 << 20];
    let row = |n: usize| {
        let value: Vec<u8> = (0..sizes[n]).map(|at| (at * 31 + n) as u8).collect();
        put(Table::Message, &[n as u8], &value)
    };
    {
        let storage = crate::support::open(root.path());
        for n in 0..sizes.len() {
            storage.apply(&[row(n)]).expect("applies");
        }
        storage.sync().expect("syncs");
    }
    let storage = crate::support::open(root.path());
    for n in 0..sizes.len() {
        let martlet_storage::Write::Put { value, .. } = row(n) else {
            continue;
        };
        let read = storage.get(Table::Message, &[n as u8], &mut |bytes| {
            assert!(bytes == value.as_bytes(), "body {n}");
        });
        assert_eq!(read, Ok(true));
    }
}
