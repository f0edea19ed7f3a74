//! Disks that do not do what they are told: failing writes, failing syncs, no space.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use martlet_storage::contract::exchange::session;
use martlet_storage::{
    CommitListener, CommitOptions, Committer, GroupCommitter, Lsn, Storage, StorageError,
    Timestamp, load,
};
use martlet_storage_embedded::{Act, EmbeddedOptions, Probe, Verdict};

use crate::support::{Disk, batches, contents, directory, states};

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
fn below_the_reserve_nothing_is_written() {
    let root = directory();
    let disk = Arc::new(Disk::default());
    disk.free.store(10 << 20, Ordering::Relaxed);
    let options = EmbeddedOptions::default()
        .reserve_bytes(10 << 20)
        .probe(Arc::clone(&disk) as _);
    let (storage, _) = options.open(root.path()).expect("opens");
    let Err(StorageError::NoSpace(text)) = storage.apply(&batches()[0]) else {
        panic!("refused");
    };
    let path = root.path().display().to_string();
    assert!(text.contains(&path) && text.contains("10 MiB"), "{text}");
    disk.free.store(11 << 20, Ordering::Relaxed);
    storage.apply(&batches()[0]).expect("applies");
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
        crate::support::put(martlet_storage::Table::Message, &[n as u8], &value)
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
        let read = storage.get(martlet_storage::Table::Message, &[n as u8], &mut |bytes| {
            assert!(bytes == value.as_bytes(), "body {n}");
        });
        assert_eq!(read, Ok(true));
    }
}
