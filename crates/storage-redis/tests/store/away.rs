//! A server that is away, whose answers are lost, that comes back with less, or that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use martlet_storage::contract::exchange::exchange;
use martlet_storage::{
    CommitListener, CommitOptions, Committer as _, GroupCommitter, Lsn, Storage as _, StorageError,
    Table, Timestamp, load,
};

use crate::support::{Server, Way, put};

#[test]
fn a_batch_whose_answer_is_lost_is_applied_once() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let way = Way::to(server.port);
    let storage = way.options().open().expect("opens");
    storage.apply(&[put(b"a", b"1")]).expect("applies");
    way.lose(1);
    let batch = [put(b"a", b"2"), put(b"b", b"1")];
    let error = storage.apply(&batch).expect_err("the answer is lost");
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    let applied: u64 = server.ask(&["HGET", "{martlet}:owner", "batch"]);
    assert_eq!(applied, 2, "the batch itself was not lost");
    // Whatever changed it meanwhile, it is not done again.
    let _: u8 = server.ask(&["HSET", "{martlet}:queue", "a", "seen"]);
    storage.apply(&batch).expect("is known");
    let value: String = server.ask(&["HGET", "{martlet}:queue", "a"]);
    assert_eq!(value, "seen");
    assert_eq!(storage.last_batch(), 2);
    storage.apply(&[put(b"c", b"1")]).expect("goes on");
    assert_eq!(storage.rows(Table::Queue), Ok(3));
}

#[test]
fn another_batch_in_place_of_a_lost_one_is_refused() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let way = Way::to(server.port);
    let storage = way.options().open().expect("opens");
    way.lose(1);
    storage.apply(&[put(b"a", b"1")]).expect_err("is lost");
    let error = storage.apply(&[put(b"b", b"1")]).expect_err("is another");
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
}

#[test]
fn a_server_that_lost_batches_is_found_out() {
    let Some(mut server) = Server::start(&["--appendonly", "no"]) else {
        return;
    };
    let storage = server.open();
    assert!(storage.remarks()[0].contains("appendonly no"));
    storage.apply(&[put(b"a", b"1")]).expect("applies");
    server.restart();
    // The connection is gone, and with the next one everything.
    let mut lost = storage.apply(&[put(b"b", b"1")]);
    if let Err(StorageError::Unavailable(_)) = lost {
        lost = storage.apply(&[put(b"b", b"1")]);
    }
    let error = lost.expect_err("is found out");
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
    assert!(
        error.to_string().contains("acknowledged batch 1"),
        "{error}"
    );
    let rows: u32 = server.ask(&["DBSIZE"]);
    assert_eq!(rows, 0, "nothing was written on top of the loss");
}

#[derive(Default)]
struct Ear {
    stalled: AtomicUsize,
    recovered: AtomicUsize,
    failed: AtomicUsize,
}

impl CommitListener for Ear {
    fn committed(&self, _watermark: Lsn) {}
    fn failed(&self, _error: &str) {
        self.failed.fetch_add(1, Ordering::AcqRel);
    }
    fn stalled(&self, _error: &str) {
        self.stalled.fetch_add(1, Ordering::AcqRel);
    }
    fn recovered(&self) {
        self.recovered.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn a_committer_goes_on_when_the_server_is_back() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let way = Way::to(server.port);
    let storage = Arc::new(way.options().open().expect("opens"));
    let (planner, _) = load(&*storage, &mut ()).expect("loads");
    let options = CommitOptions {
        retry_after: Duration::from_millis(80),
        ..CommitOptions::default()
    };
    let clock = || Timestamp::from_millis(7);
    let committer =
        GroupCommitter::start(Arc::clone(&storage), planner, options, clock).expect("starts");
    let ear = Arc::new(Ear::default());
    committer.set_listener(ear.clone());
    let mut last = Lsn::ZERO;
    for (n, ops) in exchange().into_iter().enumerate() {
        // Answers are lost, connections refused, and the server itself is killed.
        way.lose(usize::from(n % 3 == 0 || n % 4 == 3));
        if n % 5 == 4 {
            server.restart();
        }
        way.open(n % 4 != 3);
        last = committer.submit(ops);
        if n % 4 == 3 {
            let stalled = ear.stalled.load(Ordering::Acquire);
            while ear.stalled.load(Ordering::Acquire) == stalled {
                std::thread::sleep(Duration::from_millis(2));
            }
            assert!(committer.watermark() < last, "nobody has it yet");
            way.open(true);
        }
        committer.flush();
        assert_eq!(committer.watermark(), last);
    }
    assert!(way.dropped.load(Ordering::Acquire) > 3);
    assert!(ear.recovered.load(Ordering::Acquire) > 0);
    assert_eq!(ear.failed.load(Ordering::Acquire), 0);
    drop(committer);
    drop(storage);
    let storage = server.open();
    let (_, opened) = load(&storage, &mut ()).expect("loads");
    assert_eq!(opened.lsn, last);
    assert_eq!(opened.removed, 0, "every batch is whole");
}

#[test]
fn a_committer_that_was_fenced_acknowledges_nothing_more() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let storage = server.open();
    let (planner, _) = load(&storage, &mut ()).expect("loads");
    let clock = || Timestamp::from_millis(7);
    let committer =
        GroupCommitter::start(storage, planner, CommitOptions::default(), clock).expect("starts");
    let ear = Arc::new(Ear::default());
    committer.set_listener(ear.clone());
    let _: u64 = server.ask(&["HINCRBY", "{martlet}:owner", "epoch", "1"]);
    let lsn = committer.submit(exchange().swap_remove(0));
    committer.flush();
    assert!(committer.watermark() < lsn);
    // `flush` hears of the failure before the listener does.
    drop(committer);
    assert_eq!(ear.failed.load(Ordering::Acquire), 1);
}

#[test]
fn a_full_server_takes_nothing_of_a_batch_and_goes_on_with_room() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let storage = server.open();
    storage.apply(&[put(b"a", b"1")]).expect("applies");
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let batch = [put(b"b", &[0; 100]), put(b"c", b"1")];
    let error = storage.apply(&batch).expect_err("there is no room");
    assert!(matches!(error, StorageError::NoSpace(_)), "{error}");
    assert_eq!(storage.rows(Table::Queue), Ok(1));
    let delete = martlet_storage::Write::Delete {
        table: Table::Queue,
        key: b"a".to_vec(),
    };
    storage.apply(&[delete]).expect("what makes room is taken");
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    storage.apply(&batch).expect("applies");
    assert_eq!(storage.rows(Table::Queue), Ok(2));
}
