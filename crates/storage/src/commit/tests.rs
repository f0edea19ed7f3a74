//! Committers under faults: what is acknowledged was written, and nothing is acknowledged after a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use martlet_codec::QoS;
use martlet_sync::Instant;
use parking_lot::{Condvar, Mutex};

use super::*;
use crate::memory::MemoryStorage;
use crate::{
    Message, MessageHead, SessionId, SessionRecord, Storage, Table, Timestamp, Write, contract,
    load,
};

/// What the storage below does with a call.
#[derive(Clone, Debug)]
enum Fault {
    None,
    Apply(StorageError),
    Sync(StorageError),
    Panic,
}

#[derive(Debug, Default)]
struct Log {
    /// Writes per applied batch, `None` for a sync.
    calls: Vec<Option<usize>>,
    reopened: usize,
}

/// A memory store that can be stopped, broken and watched.
#[derive(Clone)]
struct Probe {
    memory: MemoryStorage,
    fault: Arc<Mutex<Fault>>,
    log: Arc<Mutex<Log>>,
    gate: Arc<(Mutex<bool>, Condvar)>,
    low: Arc<AtomicBool>,
}

impl Probe {
    fn new() -> Self {
        Self {
            memory: MemoryStorage::new(),
            fault: Arc::new(Mutex::new(Fault::None)),
            log: Arc::default(),
            gate: Arc::new((Mutex::new(true), Condvar::new())),
            low: Arc::default(),
        }
    }

    fn close_gate(&self) {
        *self.gate.0.lock() = false;
    }

    fn open_gate(&self) {
        *self.gate.0.lock() = true;
        self.gate.1.notify_all();
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    fn syncs(&self) -> usize {
        self.log
            .lock()
            .calls
            .iter()
            .filter(|call| call.is_none())
            .count()
    }

    /// Writes of each batch, its position included.
    fn batches(&self) -> Vec<usize> {
        self.log.lock().calls.iter().copied().flatten().collect()
    }
}

impl Storage for Probe {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        {
            let mut open = self.gate.0.lock();
            while !*open {
                self.gate.1.wait(&mut open);
            }
        }
        let fault = self.fault.lock().clone();
        match fault {
            Fault::Apply(error) => return Err(error),
            Fault::Panic => panic!("injected"),
            Fault::None | Fault::Sync(_) => {}
        }
        self.log.lock().calls.push(Some(writes.len()));
        self.memory.apply(writes)
    }

    fn sync(&self) -> Result<(), StorageError> {
        if let Fault::Sync(error) = self.fault.lock().clone() {
            return Err(error);
        }
        self.log.lock().calls.push(None);
        Ok(())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.memory.scan(table, prefix, visit)
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        self.memory.get(table, key, read)
    }

    fn low(&self) -> Option<String> {
        let low = self.low.load(Ordering::Acquire);
        low.then(|| "3 bytes left".to_owned())
    }

    fn reopen(&self) -> Result<(), StorageError> {
        self.log.lock().reopened += 1;
        self.set(Fault::None);
        Ok(())
    }
}

/// Remembers what it was told, and lets tests wait for it.
#[derive(Default)]
struct Ear {
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Default, Clone, Debug)]
struct Heard {
    committed: Vec<Lsn>,
    failed: Vec<String>,
    stalled: usize,
    recovered: usize,
    low: Vec<Option<String>>,
}

impl Ear {
    fn wait(&self, until: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.lock();
        while !until(&heard) {
            let late = self
                .changed
                .wait_for(&mut heard, Duration::from_secs(30))
                .timed_out();
            assert!(!late, "nothing was heard for half a minute: {heard:?}");
        }
        heard.clone()
    }

    fn hear(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.heard.lock());
        self.changed.notify_all();
    }
}

impl CommitListener for Ear {
    fn committed(&self, watermark: Lsn) {
        self.hear(|heard| heard.committed.push(watermark));
    }
    fn failed(&self, error: &str) {
        self.hear(|heard| heard.failed.push(error.to_owned()));
    }
    fn stalled(&self, _error: &str) {
        self.hear(|heard| heard.stalled += 1);
    }
    fn recovered(&self) {
        self.hear(|heard| heard.recovered += 1);
    }
    fn low(&self, why: Option<&str>) {
        self.hear(|heard| heard.low.push(why.map(str::to_owned)));
    }
}

fn start(probe: &Probe, options: CommitOptions) -> (GroupCommitter<Probe>, Arc<Ear>) {
    let (planner, _) = load(probe, &mut ()).expect("loads");
    // A heartbeat would add batches that the tests do not count.
    let options = CommitOptions {
        heartbeat: Duration::from_hours(1),
        ..options
    };
    let committer = GroupCommitter::start(probe.clone(), planner, options, || {
        Timestamp::from_millis(1)
    })
    .expect("a thread starts");
    let ear = Arc::new(Ear::default());
    let listener: Arc<dyn CommitListener> = Arc::clone(&ear) as _;
    committer.set_listener(listener);
    (committer, ear)
}

fn session(n: u64) -> StoreOp {
    let record = SessionRecord {
        client_id: "c".into(),
        username: None,
        expiry_interval_secs: u32::MAX,
        expires: None,
        connected: false,
    };
    StoreOp::PutSession {
        session: SessionId::new(n),
        record,
    }
}

fn body(n: u64) -> StoreOp {
    let head = MessageHead {
        id: MessageId::new(n),
        qos: QoS::AtLeastOnce,
        retain: false,
        publisher: SessionId::NONE,
        received: Timestamp::from_millis(0),
        expires: None,
    };
    StoreOp::PutMessage {
        message: Message::new(head, "t", &[], b"payload", &mut Vec::new()),
    }
}

fn enqueue(session: u64, message: u64) -> StoreOp {
    StoreOp::Enqueue {
        session: SessionId::new(session),
        message: MessageId::new(message),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: Box::default(),
        share: None,
    }
}

fn dequeue(session: u64, message: u64) -> StoreOp {
    StoreOp::Dequeue {
        session: SessionId::new(session),
        message: MessageId::new(message),
    }
}

#[test]
fn what_gathers_during_a_write_is_one_group() {
    let probe = Probe::new();
    let (committer, ear) = start(&probe, CommitOptions::default());
    probe.close_gate();
    assert_eq!(committer.submit(vec![session(1)]), Lsn::new(1));
    // The first group may or may not have been taken by now; the rest gathers behind the gate.
    let mut last = Lsn::ZERO;
    for n in 2..=500 {
        last = committer.submit(vec![session(n)]);
    }
    assert_eq!(committer.watermark(), Lsn::ZERO);
    assert!(committer.backlog_bytes() > 0);
    probe.open_gate();
    committer.flush();
    assert_eq!(
        (committer.watermark(), committer.backlog_bytes()),
        (last, 0)
    );
    let heard = ear.wait(|heard| heard.committed.last() == Some(&last));
    assert!(heard.committed.len() <= 2, "one wake per group: {heard:?}");
    assert_eq!(
        probe.batches().len(),
        probe.syncs(),
        "each group is synced once"
    );
    assert_eq!(probe.memory.len(Table::Session), 500);
}

#[test]
fn pairs_inside_a_group_cancel_and_the_gates_advance() {
    let probe = Probe::new();
    let (committer, _ear) = start(&probe, CommitOptions::default());
    committer.submit(vec![session(1)]);
    committer.flush();
    probe.close_gate();
    committer.submit(vec![session(1)]);
    let mut last = Lsn::ZERO;
    for n in 1..=1_000 {
        committer.submit(vec![body(n), enqueue(1, n)]);
        last = committer.submit(vec![dequeue(1, n)]);
    }
    probe.open_gate();
    committer.flush();
    assert_eq!(committer.watermark(), last);
    // Where the groups were cut decides whether one message was written and deleted; the other 999 never were.
    assert!(
        probe.batches().iter().sum::<usize>() < 15,
        "{:?}",
        probe.batches()
    );
    assert!(probe.memory.is_empty(Table::Queue) && probe.memory.is_empty(Table::Message));
}

#[test]
fn failures_stop_acknowledging_for_ever() {
    let check = |fault: Fault, expect: &str| {
        let probe = Probe::new();
        let (committer, ear) = start(&probe, CommitOptions::default());
        let safe = committer.submit(vec![session(1)]);
        committer.flush();
        probe.set(fault.clone());
        committer.submit(vec![session(2)]);
        committer.flush();
        let heard = ear.wait(|heard| !heard.failed.is_empty());
        assert!(
            heard.failed.concat().contains(expect),
            "{fault:?}: {heard:?}"
        );
        probe.set(Fault::None);
        for n in 3..10 {
            committer.submit(vec![session(n)]);
        }
        committer.flush();
        assert_eq!(committer.watermark(), safe, "{fault:?}");
        assert_eq!(committer.backlog_bytes(), 0, "a dead store gathers nothing");
        drop(committer);
        assert_eq!(ear.heard.lock().failed.len(), 1);
    };
    check(
        Fault::Apply(StorageError::Io("broken disk".into())),
        "broken disk",
    );
    check(
        Fault::Apply(StorageError::Fenced("epoch 2".into())),
        "epoch 2",
    );
    check(
        Fault::Sync(StorageError::Io("fsync failed".into())),
        "fsync failed",
    );
    check(Fault::Panic, "injected");
}

#[test]
fn a_store_that_is_full_or_away_is_tried_again() {
    for error in [
        StorageError::NoSpace("0 bytes left".into()),
        StorageError::Unavailable("connection refused".into()),
    ] {
        let probe = Probe::new();
        let options = CommitOptions {
            retry_after: Duration::from_millis(1),
            ..CommitOptions::default()
        };
        let (committer, ear) = start(&probe, options);
        probe.set(Fault::Apply(error));
        let last = committer.submit(vec![session(1)]);
        committer.flush();
        assert_eq!(committer.watermark(), last);
        assert_eq!(probe.log.lock().reopened, 1);
        let heard = ear.heard.lock();
        assert!(heard.stalled >= 1 && heard.failed.is_empty());
        assert_eq!(heard.recovered, 1);
    }
}

#[test]
fn little_room_is_told_once_and_holds_nothing_up() {
    let probe = Probe::new();
    let (committer, ear) = start(&probe, CommitOptions::default());
    let commit = |low: bool| {
        probe.low.store(low, Ordering::Release);
        let last = committer.submit(vec![session(1)]);
        committer.flush();
        assert_eq!(committer.watermark(), last);
        ear.heard.lock().low.clone()
    };
    let told = || Some("3 bytes left".to_owned());
    assert_eq!(commit(false), []);
    assert_eq!(commit(true), [told()]);
    assert_eq!(commit(true), [told()]);
    assert_eq!(commit(false), [told(), None]);
    assert_eq!(commit(true), [told(), None, told()]);
    drop(committer);

    // A heartbeat notices as well.
    probe.low.store(false, Ordering::Release);
    let (planner, _) = load(&probe, &mut ()).expect("loads");
    let options = CommitOptions {
        heartbeat: Duration::from_millis(1),
        ..CommitOptions::default()
    };
    let start = Instant::now();
    let committer = GroupCommitter::start(probe.clone(), planner, options, move || {
        Timestamp::from_millis(10 + start.elapsed().as_millis() as u64)
    })
    .expect("a thread starts");
    let ear = Arc::new(Ear::default());
    committer.set_listener(Arc::clone(&ear) as _);
    probe.low.store(true, Ordering::Release);
    ear.wait(|heard| heard.low.len() == 1);
    probe.low.store(false, Ordering::Release);
    ear.wait(|heard| heard.low.len() == 2);
}

#[test]
fn little_room_is_told_while_a_batch_waits_for_it() {
    let probe = Probe::new();
    let options = CommitOptions {
        retry_after: Duration::from_hours(1),
        ..CommitOptions::default()
    };
    let (committer, ear) = start(&probe, options);
    probe.low.store(true, Ordering::Release);
    probe.set(Fault::Apply(StorageError::NoSpace("0 bytes left".into())));
    committer.submit(vec![session(1)]);
    let heard = ear.wait(|heard| !heard.low.is_empty());
    assert_eq!((heard.stalled, heard.recovered), (1, 0));
}

#[test]
fn little_room_is_told_to_who_begins_to_listen_later() {
    let probe = Probe::new();
    probe.low.store(true, Ordering::Release);
    let (planner, _) = load(&probe, &mut ()).expect("loads");
    let options = CommitOptions::default();
    let clock = || Timestamp::from_millis(1);
    let committer = GroupCommitter::start(probe, planner, options, clock).expect("a thread starts");
    committer.submit(vec![session(1)]);
    committer.flush();
    let ear = Arc::new(Ear::default());
    committer.set_listener(Arc::clone(&ear) as _);
    committer.submit(vec![session(1)]);
    committer.flush();
    assert_eq!(ear.heard.lock().low.len(), 1);
}

#[test]
fn a_full_disk_does_not_hold_up_the_end() {
    let probe = Probe::new();
    let options = CommitOptions {
        retry_after: Duration::from_hours(1),
        ..CommitOptions::default()
    };
    let (committer, ear) = start(&probe, options);
    probe.set(Fault::Apply(StorageError::NoSpace("0 bytes left".into())));
    committer.submit(vec![session(1)]);
    ear.wait(|heard| heard.stalled > 0);
    drop(committer);
    assert_eq!(ear.heard.lock().failed.len(), 1);
}

#[test]
fn fsync_policies_sync_when_they_say() {
    let check = |fsync: Fsync, syncs_after_each: bool, syncs_at_end: usize| {
        let probe = Probe::new();
        let (committer, _ear) = start(
            &probe,
            CommitOptions {
                fsync,
                ..CommitOptions::default()
            },
        );
        for n in 1..=3 {
            committer.submit(vec![session(n)]);
            committer.flush();
            assert_eq!(probe.syncs() > 0, syncs_after_each, "{fsync:?}");
        }
        drop(committer);
        assert_eq!(probe.syncs(), syncs_at_end, "{fsync:?}");
    };
    check(Fsync::Always, true, 3);
    check(Fsync::Interval(Duration::from_hours(1)), false, 1);
    check(Fsync::Never, false, 0);
}

#[test]
fn dropping_commits_what_was_submitted() {
    let probe = Probe::new();
    let (committer, _ear) = start(
        &probe,
        CommitOptions {
            linger: Duration::from_millis(1),
            ..CommitOptions::default()
        },
    );
    for n in 1..=100 {
        committer.submit(vec![session(n)]);
    }
    drop(committer);
    assert_eq!(probe.memory.len(Table::Session), 100);
}

#[test]
fn the_last_commit_time_is_written_while_idle() {
    let probe = Probe::new();
    let (planner, _) = load(&probe, &mut ()).expect("loads");
    let late = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&late);
    let options = CommitOptions {
        heartbeat: Duration::from_millis(1),
        ..CommitOptions::default()
    };
    let committer = GroupCommitter::start(probe.clone(), planner, options, move || {
        Timestamp::from_millis(if clock.load(Ordering::Acquire) {
            70_000
        } else {
            9_000
        })
    })
    .expect("a thread starts");
    let ear = Arc::new(Ear::default());
    let wait_for = |millis: u64| {
        for _ in 0..10_000 {
            let (_, opened) = load(&probe, &mut ()).expect("loads");
            if opened.committed == Timestamp::from_millis(millis) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{millis} was not written in ten seconds");
    };
    wait_for(9_000);
    late.store(true, Ordering::Release);
    wait_for(70_000);
    assert!(ear.heard.lock().committed.is_empty());
    drop(committer);
}

#[test]
fn bodies_can_be_read_before_they_are_written() {
    let probe = Probe::new();
    let (committer, _ear) = start(
        &probe,
        CommitOptions {
            linger: Duration::from_millis(20),
            ..CommitOptions::default()
        },
    );
    committer.submit(vec![session(1), body(5), enqueue(1, 5)]);
    let mut read = Vec::new();
    let ids = [MessageId::new(5), MessageId::new(6)];
    committer
        .read_bodies(&ids, &mut |id, body| read.push((id.get(), body.is_some())))
        .expect("reads");
    assert_eq!(read, [(5, true), (6, false)]);
}

#[test]
fn the_immediate_committer_is_done_when_it_returns() {
    let memory = MemoryStorage::new();
    let (planner, _) = load(&memory, &mut ()).expect("loads");
    let committer = ImmediateCommitter::new(memory.clone(), planner, || Timestamp::from_millis(4));
    for n in 1..=3 {
        assert_eq!(committer.submit(vec![session(n)]), Lsn::new(n));
        assert_eq!(
            (committer.watermark(), committer.backlog_bytes()),
            (Lsn::new(n), 0)
        );
    }
    assert_eq!(memory.len(Table::Session), 3);
    let (_, opened) = load(&memory, &mut ()).expect("loads");
    assert_eq!(
        (opened.lsn, opened.committed),
        (Lsn::new(3), Timestamp::from_millis(4))
    );
}

#[test]
fn the_immediate_committer_fails_like_the_others() {
    let probe = Probe::new();
    let (planner, _) = load(&probe, &mut ()).expect("loads");
    let committer = ImmediateCommitter::new(probe.clone(), planner, || Timestamp::from_millis(4));
    let ear = Arc::new(Ear::default());
    let listener: Arc<dyn CommitListener> = Arc::clone(&ear) as _;
    committer.set_listener(listener);
    committer.submit(vec![session(1)]);
    probe.set(Fault::Apply(StorageError::Io("broken".into())));
    committer.submit(vec![session(2)]);
    probe.set(Fault::None);
    committer.submit(vec![session(3)]);
    assert_eq!(committer.watermark(), Lsn::new(1));
    assert_eq!(ear.heard.lock().failed.len(), 1);
}

#[test]
fn the_null_committer_commits_at_once() {
    let committer = NullCommitter::new();
    let lsn = committer.submit(vec![session(1)]);
    assert_eq!(committer.watermark(), lsn);
}

#[test]
fn the_manual_committer_waits_to_be_told() {
    let committer = ManualCommitter::default();
    let ear = Arc::new(Ear::default());
    let listener: Arc<dyn CommitListener> = Arc::clone(&ear) as _;
    committer.set_listener(listener);
    committer.submit(vec![session(1)]);
    let second = committer.submit(vec![session(2)]);
    committer.submit(vec![session(3)]);
    assert_eq!((committer.watermark(), committer.pending()), (Lsn::ZERO, 3));
    assert_eq!(
        committer.pending_ops(),
        [session(1), session(2), session(3)]
    );
    assert!(committer.commit_one() && committer.commit_one());
    assert_eq!((committer.watermark(), committer.pending()), (second, 1));
    assert_eq!(
        committer.storage().len(Table::Session),
        2,
        "a crash now leaves two"
    );
    committer.fail("pulled the plug");
    assert!(!committer.commit_one());
    assert_eq!(committer.watermark(), second);
    let heard = ear.heard.lock().clone();
    assert_eq!(
        (heard.committed.len(), heard.failed),
        (2, vec!["pulled the plug".to_owned()])
    );
}

#[test]
fn a_broken_backend_does_not_pass_the_contract() {
    /// Forgets that deletions were asked for.
    #[derive(Clone, Default)]
    struct Forgetful(MemoryStorage);
    impl Storage for Forgetful {
        fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
            let puts: Vec<_> = writes
                .iter()
                .filter(|write| matches!(write, Write::Put { .. }))
                .cloned()
                .collect();
            self.0.apply(&puts)
        }
        fn sync(&self) -> Result<(), StorageError> {
            Ok(())
        }
        fn scan(
            &self,
            table: Table,
            prefix: &[u8],
            visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
        ) -> Result<(), StorageError> {
            self.0.scan(table, prefix, visit)
        }
        fn get(
            &self,
            table: Table,
            key: &[u8],
            read: &mut dyn FnMut(&[u8]),
        ) -> Result<bool, StorageError> {
            self.0.get(table, key, read)
        }
    }
    let result = std::panic::catch_unwind(|| contract::run(Forgetful::default, |storage| storage));
    let panic = result.expect_err("the contract is broken");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("rows are put, replaced, deleted"), "{text}");
}

#[test]
fn batches_of_many_threads_commit_in_the_order_of_their_positions() {
    let probe = Probe::new();
    let (committer, ear) = start(&probe, CommitOptions::default());
    let committer = &committer;
    let lsns: Vec<u64> = std::thread::scope(|scope| {
        let submit = |thread: u64| {
            move || {
                (1..=200)
                    .map(|n| committer.submit(vec![session(thread * 1_000 + n)]).get())
                    .collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (1..=4).map(|thread| scope.spawn(submit(thread))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("submits"))
            .collect()
    });
    committer.flush();
    let mut sorted = lsns.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(1..=800), "each position once");
    assert!(
        lsns.chunks(200).all(<[u64]>::is_sorted),
        "each thread's in its order"
    );
    let heard = ear.wait(|heard| heard.committed.last() == Some(&Lsn::new(800)));
    assert!(heard.committed.is_sorted());
    assert_eq!(probe.memory.len(Table::Session), 800);
}
