//! A QoS 2 exchange as the broker stores it, with the n-th thing done to the disk failing, for every n.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use martlet_storage::contract::exchange::exchange;
use martlet_storage::{Group, Lsn, MemoryStorage, Storage, Timestamp, load};
use martlet_storage_embedded::EmbeddedOptions;

use crate::support::{Contents, Disk, contents, directory};

/// Runs the exchange until the store fails; returns how many batches were acknowledged.
fn run(storage: &dyn Storage, mut after: impl FnMut(&dyn Storage)) -> usize {
    let Ok((mut planner, _)) = load(storage, &mut ()) else {
        return 0;
    };
    for (n, ops) in exchange().into_iter().enumerate() {
        let mut group = Group::default();
        planner.add(Lsn::new(n as u64 + 1), ops, &mut group);
        let writes = planner.finish(group, Timestamp::from_millis(7));
        if storage.apply(&writes).is_err() || storage.sync().is_err() {
            return n;
        }
        after(storage);
    }
    exchange().len()
}

/// The contents after each batch.
fn expected() -> Vec<Contents> {
    let memory = MemoryStorage::new();
    let mut states = vec![Contents::new()];
    run(&memory, |storage| {
        states.push(contents(storage).expect("lists"));
    });
    states
}

#[test]
fn whichever_act_fails_what_was_acknowledged_is_there() {
    let states = expected();
    for (tear, segment_bytes) in [(false, 16 << 20), (true, 16 << 20), (false, 1), (true, 1)] {
        let mut n = 1;
        loop {
            let root = directory();
            let disk = Arc::new(Disk::default());
            disk.tear.store(tear, Ordering::Relaxed);
            disk.fail_at.store(n, Ordering::Relaxed);
            let options = EmbeddedOptions::default().segment_bytes(segment_bytes);
            let acknowledged = match options
                .clone()
                .probe(Arc::clone(&disk) as _)
                .open(root.path())
            {
                Ok((storage, _)) => run(&storage, |_| {}),
                Err(_) => 0,
            };
            let (storage, report) = options
                .open(root.path())
                .unwrap_or_else(|error| panic!("act {n}: {error}"));
            assert!(report.lost.is_empty(), "act {n}");
            let found = contents(&storage).expect("lists");
            let next = states.get(acknowledged + 1);
            assert!(
                found == states[acknowledged] || Some(&found) == next,
                "act {n} (torn: {tear}): {acknowledged} batches were acknowledged"
            );
            // Nothing dangles, whatever was cut.
            let (_, opened) = load(&storage, &mut ()).expect("loads");
            assert_eq!(opened.removed, 0, "act {n}");
            if acknowledged == exchange().len() {
                break;
            }
            n += 1;
        }
        assert!(n > exchange().len() * 2, "every act was made to fail");
    }
}
