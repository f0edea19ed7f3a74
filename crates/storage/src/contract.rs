//! The suite that every backend runs: what [`Storage`] promises, and that a broker's operations come back.
//!
//! ```text
//! martlet_storage::contract::run(|| MyStorage::create(fresh_place()), |old| old.reopen());
//! ```
//!
//! Beside it are what backends are tested and measured with: an exchange at QoS 2, the contents of fixtures, a load, and
//! figures. Deliberately absent: crashes of the machine, which need the backend's own tests.

mod counters;
pub mod exchange;
pub mod fixture;
pub mod measure;
pub mod queue_load;

use std::collections::BTreeMap;
use std::sync::Arc;

use martlet_codec::{PacketId, QoS, RetainHandling, SubscribeOptions};

use crate::{
    CommitOptions, Committer, Fsync, GroupCommitter, Lsn, Message, MessageHead, MessageId, Opened,
    OutboundRow, OutboundState, QueuedRow, SessionId, SessionRecord, Storage, StoreOp,
    SubscriptionRow, Table, Timestamp, Value, Visitor, WillRecord, Write, load,
};

/// Runs every test of the suite. `make` gives an empty store each time; `reopen` closes a store and opens it
/// again.
///
/// # Panics
/// Where the backend breaks the contract; the message names the test.
pub fn run<S: Storage>(make: impl Fn() -> S, reopen: impl Fn(S) -> S) {
    type Test<S> = fn(&dyn Fn() -> S, &dyn Fn(S) -> S);
    let tests: [(&str, Test<S>); 14] = [
        ("an empty store is empty", empty),
        ("rows are put, replaced, deleted", put_replace_delete),
        ("scans are ordered and stop when told", ordered_scan),
        ("prefixes do not run into their neighbours", prefixes),
        ("writes of a batch apply in order", order_in_batch),
        ("keys and values may be empty, long and binary", extremes),
        ("a reopened store is the same", survives_reopening),
        ("bodies are read by identity", bodies),
        ("operations come back as rows", operations_come_back),
        ("bodies go with their last reference", references),
        ("a session takes its rows along", session_ends),
        ("dead rows are removed at opening", dead_rows),
        ("positions and numbers go on", positions),
        ("counters are kept beside everything", counters::kept),
    ];
    for (name, test) in tests {
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&make, &reopen)));
        if let Err(panic) = result {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            panic!("storage contract: {name}: {}", text.unwrap_or_default());
        }
    }
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write::Put {
        table,
        key: key.to_vec(),
        value: Value::Record(value.to_vec()),
    }
}

fn delete(table: Table, key: &[u8]) -> Write {
    Write::Delete {
        table,
        key: key.to_vec(),
    }
}

fn rows(storage: &dyn Storage, table: Table, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let scan = storage.scan(table, prefix, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        true
    });
    scan.expect("a scan succeeds");
    let mut keys = Vec::new();
    let scan = storage.scan_keys(table, prefix, &mut |key| {
        keys.push(key.to_vec());
        true
    });
    scan.expect("a scan of keys succeeds");
    assert!(
        keys.iter().eq(rows.iter().map(|(key, _)| key)),
        "both scans show the same keys"
    );
    rows
}

fn value(storage: &dyn Storage, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let mut read = None;
    let found = storage
        .get(table, key, &mut |value| read = Some(value.to_vec()))
        .expect("a read succeeds");
    assert_eq!(found, read.is_some(), "get says whether it read");
    read
}

fn empty<S: Storage>(make: &dyn Fn() -> S, _reopen: &dyn Fn(S) -> S) {
    let storage = make();
    for table in Table::ALL {
        assert_eq!(rows(&storage, table, &[]), []);
        assert_eq!(value(&storage, table, b"key"), None);
    }
    storage.apply(&[]).expect("an empty batch succeeds");
    storage.sync().expect("a sync of nothing succeeds");
}

fn put_replace_delete<S: Storage>(make: &dyn Fn() -> S, _reopen: &dyn Fn(S) -> S) {
    let storage = make();
    for table in Table::ALL {
        storage
            .apply(&[put(table, b"k", table.name().as_bytes())])
            .expect("applies");
    }
    for table in Table::ALL {
        assert_eq!(
            value(&storage, table, b"k").as_deref(),
            Some(table.name().as_bytes()),
            "tables are apart"
        );
    }
    storage
        .apply(&[put(Table::Session, b"k", b"new"), delete(Table::Will, b"k")])
        .expect("applies");
    storage
        .apply(&[
            delete(Table::Will, b"k"),
            delete(Table::Will, b"never there"),
        ])
        .expect("deleting nothing is fine");
    assert_eq!(
        value(&storage, Table::Session, b"k").as_deref(),
        Some(&b"new"[..])
    );
    assert_eq!(value(&storage, Table::Will, b"k"), None);
    assert_eq!(
        value(&storage, Table::Queue, b"k").as_deref(),
        Some(&b"queue"[..])
    );
}

fn ordered_scan<S: Storage>(make: &dyn Fn() -> S, _reopen: &dyn Fn(S) -> S) {
    let storage = make();
    let keys: [&[u8]; 6] = [b"b", b"a\xFF", b"a", b"\xFF\xFF", b"", b"a\0"];
    let writes: Vec<_> = keys.iter().map(|key| put(Table::Queue, key, key)).collect();
    storage.apply(&writes).expect("applies");
    let found: Vec<_> = rows(&storage, Table::Queue, &[])
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(found, [&b""[..], b"a", b"a\0", b"a\xFF", b"b", b"\xFF\xFF"]);
    let mut shown = 0;
    let scan = storage.scan(Table::Queue, &[], &mut |_, _| {
        shown += 1;
        shown < 2
    });
    scan.expect("a stopped scan succeeds");
    assert_eq!(shown, 2);
}

fn prefixes<S: Storage>(make: &dyn Fn() -> S, _reopen: &dyn Fn(S) -> S) {
    let storage = make();
    let session = |n: u64, rest: &[u8]| [&n.to_be_bytes(), rest].concat();
    let mut writes = Vec::new();
    for n in [1, 2, 255, 256, u64::MAX] {
        for rest in [&b""[..], b"\0", b"\xFF\xFF"] {
            writes.push(put(Table::Subscription, &session(n, rest), rest));
        }
    }
    writes.push(put(Table::Queue, &session(255, b""), b""));
    storage.apply(&writes).expect("applies");
    assert_eq!(
        rows(&storage, Table::Subscription, &session(255, b"")).len(),
        3
    );
    let delete = |n| Write::DeletePrefix {
        table: Table::Subscription,
        prefix: session(n, b""),
    };
    storage
        .apply(&[delete(255), delete(u64::MAX), delete(7)])
        .expect("applies");
    let left = rows(&storage, Table::Subscription, &[]);
    assert_eq!(left.len(), 9);
    assert!(
        left.iter()
            .all(|(key, _)| !key.starts_with(&session(255, b"")) && !key.starts_with(&[0xFF]))
    );
    assert_eq!(
        rows(&storage, Table::Queue, &[]).len(),
        1,
        "another table keeps its rows"
    );
}

fn order_in_batch<S: Storage>(make: &dyn Fn() -> S, _reopen: &dyn Fn(S) -> S) {
    let storage = make();
    let all = Write::DeletePrefix {
        table: Table::Subscription,
        prefix: Vec::new(),
    };
    storage
        .apply(&[
            put(Table::Subscription, b"before", b"1"),
            put(Table::Subscription, b"k", b"1"),
            all,
            put(Table::Subscription, b"k", b"2"),
            put(Table::Subscription, b"k", b"3"),
            put(Table::Subscription, b"gone", b"1"),
            delete(Table::Subscription, b"gone"),
            delete(Table::Subscription, b"back"),
            put(Table::Subscription, b"back", b"1"),
        ])
        .expect("applies");
    let left = rows(&storage, Table::Subscription, &[]);
    assert_eq!(
        left,
        [
            (b"back".to_vec(), b"1".to_vec()),
            (b"k".to_vec(), b"3".to_vec())
        ]
    );
}

fn extremes<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let storage = make();
    let long_key = vec![0xA5; crate::KEY_BYTES_MAX];
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    storage
        .apply(&[
            put(Table::Subscription, &long_key, b""),
            put(Table::Message, b"large", &large),
            put(Table::Meta, b"", b""),
        ])
        .expect("applies");
    storage.sync().expect("syncs");
    let storage = reopen(storage);
    assert_eq!(
        value(&storage, Table::Subscription, &long_key),
        Some(Vec::new())
    );
    assert!(
        value(&storage, Table::Message, b"large").is_some_and(|read| read == large),
        "3 MB come back"
    );
    assert_eq!(value(&storage, Table::Meta, b""), Some(Vec::new()));
}

fn survives_reopening<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let mut storage = make();
    let mut expect = BTreeMap::new();
    for round in 0..20_u32 {
        let writes: Vec<_> = (0..50_u32)
            .map(|n| {
                put(
                    Table::Queue,
                    &(n * 7 + round).to_be_bytes(),
                    &round.to_le_bytes(),
                )
            })
            .collect();
        storage.apply(&writes).expect("applies");
        for n in 0..50_u32 {
            expect.insert(
                (n * 7 + round).to_be_bytes().to_vec(),
                round.to_le_bytes().to_vec(),
            );
        }
        if round % 5 == 4 {
            storage = reopen(storage);
        }
    }
    assert!(rows(&storage, Table::Queue, &[]).into_iter().eq(expect));
}

fn bodies<S: Storage>(make: &dyn Fn() -> S, _reopen: &dyn Fn(S) -> S) {
    let storage = make();
    let message = message(77, "a/b", b"payload");
    let key = 77_u64.to_be_bytes().to_vec();
    storage
        .apply(&[Write::Put {
            table: Table::Message,
            key,
            value: Value::Message(message.clone()),
        }])
        .expect("applies");
    assert_eq!(storage.read_body(MessageId::new(77)), Ok(Some(message)));
    assert_eq!(storage.read_body(MessageId::new(78)), Ok(None));
}

// ---------------------------------------------------------------- with the committer

/// Everything a store shows at opening.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    sessions: BTreeMap<SessionId, SessionRecord>,
    subscriptions: Vec<(SessionId, SubscriptionRow)>,
    wills: BTreeMap<SessionId, WillRecord>,
    outbound: Vec<(SessionId, PacketId, MessageId, OutboundState)>,
    queued: Vec<(SessionId, QueuedRow)>,
    inbound: Vec<(SessionId, PacketId)>,
    retained: Vec<Message>,
}

impl Visitor for Seen {
    fn session(&mut self, session: SessionId, record: SessionRecord) {
        self.sessions.insert(session, record);
    }
    fn subscription(&mut self, session: SessionId, row: SubscriptionRow) {
        self.subscriptions.push((session, row));
    }
    fn will(&mut self, session: SessionId, will: WillRecord) {
        self.wills.insert(session, will);
    }
    fn outbound(&mut self, session: SessionId, rows: &[OutboundRow]) {
        self.outbound.extend(
            rows.iter()
                .map(|row| (session, row.packet_id, row.message, row.state)),
        );
    }
    fn queued(&mut self, session: SessionId, row: QueuedRow) {
        self.queued.push((session, row));
    }
    fn inbound(&mut self, session: SessionId, packet_id: PacketId) {
        self.inbound.push((session, packet_id));
    }
    fn retained(&mut self, message: Message) {
        self.retained.push(message);
    }
}

/// Submits each batch on its own and commits, then opens the store again.
fn commit<S: Storage>(
    storage: S,
    batches: Vec<Vec<StoreOp>>,
    reopen: &dyn Fn(S) -> S,
) -> (S, Seen, Opened) {
    let storage = Arc::new(storage);
    let (planner, _) = load(&*storage, &mut ()).expect("loads");
    let options = CommitOptions {
        fsync: Fsync::Always,
        ..CommitOptions::default()
    };
    let committer = GroupCommitter::start(Shared(Arc::clone(&storage)), planner, options, || {
        Timestamp::from_millis(5_000)
    })
    .expect("a thread starts");
    let mut last = Lsn::ZERO;
    for batch in batches {
        last = committer.submit(batch);
    }
    committer.flush();
    assert!(
        committer.watermark() >= last,
        "flush waits for the watermark"
    );
    drop(committer);
    let storage =
        Arc::try_unwrap(storage).unwrap_or_else(|_| panic!("the committer let go of the store"));
    let storage = reopen(storage);
    let mut seen = Seen::default();
    let (_, opened) = load(&storage, &mut seen).expect("loads");
    (storage, seen, opened)
}

/// The committer owns its store; the suite wants it back.
struct Shared<S>(Arc<S>);

impl<S: Storage> Storage for Shared<S> {
    fn apply(&self, writes: &[Write]) -> Result<(), crate::StorageError> {
        self.0.apply(writes)
    }
    fn sync(&self) -> Result<(), crate::StorageError> {
        self.0.sync()
    }
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), crate::StorageError> {
        self.0.scan(table, prefix, visit)
    }
    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, crate::StorageError> {
        self.0.get(table, key, read)
    }
    fn reopen(&self) -> Result<(), crate::StorageError> {
        self.0.reopen()
    }
}

fn message(id: u64, topic: &str, payload: &[u8]) -> Message {
    let head = MessageHead {
        id: MessageId::new(id),
        qos: QoS::ExactlyOnce,
        retain: false,
        publisher: SessionId::new(3),
        received: Timestamp::from_millis(1_000),
        expires: Some(Timestamp::from_millis(90_000)),
    };
    Message::new(head, topic, &[1, 0], payload, &mut Vec::new())
}

const A: SessionId = SessionId::new(1);
const B: SessionId = SessionId::new(2);

fn record(client_id: &str) -> SessionRecord {
    SessionRecord {
        client_id: client_id.into(),
        username: Some("user".into()),
        expiry_interval_secs: 60,
        expires: None,
        connected: true,
    }
}

fn session(session: SessionId) -> StoreOp {
    StoreOp::PutSession {
        session,
        record: record(if session == A { "a" } else { "b" }),
    }
}

fn body(id: u64) -> StoreOp {
    StoreOp::PutMessage {
        message: message(id, "t", &id.to_le_bytes()),
    }
}

fn enqueue(session: SessionId, id: u64) -> StoreOp {
    StoreOp::Enqueue {
        session,
        message: MessageId::new(id),
        qos: QoS::ExactlyOnce,
        retain: true,
        subscription_ids: [7, 268_435_455].into(),
        share: Some(u64::MAX),
    }
}

fn dequeue(session: SessionId, id: u64) -> StoreOp {
    StoreOp::Dequeue {
        session,
        message: MessageId::new(id),
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

fn outbound(session: SessionId, id: u16, message: u64, state: OutboundState) -> StoreOp {
    StoreOp::PutOutbound {
        session,
        packet_id: packet_id(id),
        message: MessageId::new(message),
        state,
    }
}

fn options(qos: QoS) -> SubscribeOptions {
    SubscribeOptions {
        qos,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    }
}

fn queue_of(seen: &Seen, session: SessionId) -> Vec<u64> {
    seen.queued
        .iter()
        .filter(|(of, _)| *of == session)
        .map(|(_, row)| row.message.get())
        .collect()
}

fn operations_come_back<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let subscribe = |filter: &str, qos| StoreOp::PutSubscription {
        session: A,
        filter: filter.into(),
        options: options(qos),
        subscription_id: Some(9),
    };
    let will = WillRecord {
        message: message(0, "will", b"gone"),
        due: Some(Timestamp::from_millis(7)),
        delay_secs: 3,
    };
    let lone = SessionId::new(50);
    let batches = vec![
        vec![session(A), session(B)],
        vec![
            subscribe("a/+", QoS::AtMostOnce),
            subscribe("a/+", QoS::AtLeastOnce),
            subscribe("$share/g/#", QoS::AtMostOnce),
        ],
        vec![StoreOp::DeleteSubscription {
            session: A,
            filter: "$share/g/#".into(),
        }],
        vec![body(10), enqueue(A, 10), enqueue(B, 10)],
        vec![body(11), enqueue(A, 11)],
        vec![
            outbound(A, 9, 11, OutboundState::Published),
            outbound(A, 2, 10, OutboundState::Published),
        ],
        vec![outbound(A, 9, 11, OutboundState::Released), dequeue(A, 11)],
        vec![
            StoreOp::PutInbound {
                session: B,
                packet_id: packet_id(4),
            },
            StoreOp::PutInbound {
                session: B,
                packet_id: packet_id(65_535),
            },
            StoreOp::DeleteInbound {
                session: B,
                packet_id: packet_id(4),
            },
        ],
        vec![
            StoreOp::PutRetained {
                message: message(0, "r/1", b"x"),
            },
            StoreOp::PutRetained {
                message: message(0, "r/2", b""),
            },
        ],
        vec![
            StoreOp::PutRetained {
                message: message(0, "r/1", b"y"),
            },
            StoreOp::DeleteRetained {
                topic: "r/2".into(),
            },
        ],
        vec![
            StoreOp::PutWill {
                session: A,
                will: will.clone(),
            },
            StoreOp::PutWill {
                session: lone,
                will: will.clone(),
            },
        ],
        vec![StoreOp::DeleteWill { session: A }],
    ];
    let (storage, seen, opened) = commit(make(), batches, reopen);
    let mut expect = BTreeMap::new();
    expect.insert(A, record("a"));
    expect.insert(B, record("b"));
    assert_eq!(seen.sessions, expect);
    let row = SubscriptionRow {
        filter: "a/+".into(),
        options: options(QoS::AtLeastOnce),
        subscription_id: Some(9),
    };
    assert_eq!(seen.subscriptions, [(A, row)]);
    assert_eq!(queue_of(&seen, A), [10]);
    assert_eq!(queue_of(&seen, B), [10]);
    assert_eq!(
        seen.queued.first().map(|(_, row)| row.clone()),
        Some(QueuedRow {
            message: MessageId::new(10),
            bytes: message(10, "t", &[0; 8]).len_bytes() as u32,
            expires: Some(Timestamp::from_millis(90_000)),
            qos: QoS::ExactlyOnce,
            retain: true,
            subscription_ids: [7, 268_435_455].into(),
            share: Some(u64::MAX),
        })
    );
    assert_eq!(
        seen.outbound,
        [
            (A, packet_id(9), MessageId::new(11), OutboundState::Released),
            (
                A,
                packet_id(2),
                MessageId::new(10),
                OutboundState::Published
            )
        ],
        "by first sending, not by packet id"
    );
    assert_eq!(seen.inbound, [(B, packet_id(65_535))]);
    assert_eq!(seen.retained, [message(0, "r/1", b"y")]);
    assert_eq!(seen.wills.into_iter().collect::<Vec<_>>(), [(lone, will)]);
    assert_eq!(
        (opened.removed, opened.last_message, opened.last_session),
        (0, 11, 50)
    );
    assert_eq!(
        storage.read_body(MessageId::new(10)),
        Ok(Some(message(10, "t", &10_u64.to_le_bytes())))
    );
    assert_eq!(storage.read_body(MessageId::new(11)), Ok(None));
}

fn references<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let setup = vec![
        vec![session(A), session(B)],
        vec![body(1), enqueue(A, 1), enqueue(A, 1), enqueue(B, 1)],
    ];
    let (storage, seen, _) = commit(make(), setup, reopen);
    assert_eq!(queue_of(&seen, A), [1, 1], "the same message twice");
    // A move to B: the reference never ends in between.
    let (storage, seen, _) = commit(
        storage,
        vec![
            vec![dequeue(A, 1)],
            vec![dequeue(B, 1), dequeue(A, 1), enqueue(B, 1)],
        ],
        reopen,
    );
    assert_eq!((queue_of(&seen, A), queue_of(&seen, B)), (vec![], vec![1]));
    assert!(
        storage
            .read_body(MessageId::new(1))
            .expect("reads")
            .is_some()
    );
    let more = vec![
        vec![dequeue(B, 1), dequeue(B, 1)],
        vec![body(2), enqueue(A, 2), enqueue(B, 2)],
        vec![dequeue(A, 2), dequeue(B, 2)],
        vec![body(3)],
        vec![enqueue(A, 3), enqueue(A, 1)],
        vec![body(4), enqueue(SessionId::new(99), 4)],
    ];
    let (storage, seen, _) = commit(storage, more, reopen);
    assert_eq!(seen.queued, []);
    assert_eq!(rows(&storage, Table::Message, &[]), [], "no body is left");
    assert_eq!(rows(&storage, Table::Queue, &[]), []);
}

fn session_ends<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let subscribe = |session, filter: &str| StoreOp::PutSubscription {
        session,
        filter: filter.into(),
        options: options(QoS::AtMostOnce),
        subscription_id: None,
    };
    let will = WillRecord {
        message: message(0, "will", b""),
        due: None,
        delay_secs: 0,
    };
    let setup = vec![
        vec![session(A), session(B), subscribe(A, "x"), subscribe(B, "y")],
        vec![
            body(1),
            enqueue(A, 1),
            enqueue(B, 1),
            body(2),
            enqueue(A, 2),
            enqueue(A, 2),
        ],
        vec![
            outbound(A, 1, 1, OutboundState::Published),
            StoreOp::PutInbound {
                session: A,
                packet_id: packet_id(1),
            },
        ],
        vec![StoreOp::PutWill { session: A, will }],
    ];
    let (storage, _, _) = commit(make(), setup, reopen);
    let end = vec![
        vec![subscribe(A, "z"), StoreOp::DeleteSession { session: A }],
        // Late operations of a session that is gone.
        vec![
            subscribe(A, "late"),
            enqueue(A, 1),
            outbound(A, 5, 1, OutboundState::Published),
        ],
        vec![
            StoreOp::PutInbound {
                session: A,
                packet_id: packet_id(2),
            },
            dequeue(A, 1),
            StoreOp::DeleteSession { session: A },
        ],
    ];
    let (storage, seen, opened) = commit(storage, end, reopen);
    assert_eq!(seen.sessions.keys().copied().collect::<Vec<_>>(), [B]);
    assert_eq!(
        seen.subscriptions
            .iter()
            .map(|(of, row)| (*of, &*row.filter))
            .collect::<Vec<_>>(),
        [(B, "y")]
    );
    assert_eq!((queue_of(&seen, A), queue_of(&seen, B)), (vec![], vec![1]));
    assert_eq!(
        (
            seen.outbound.len(),
            seen.inbound.len(),
            seen.wills.len(),
            opened.removed
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(rows(&storage, Table::Message, &[]).len(), 1);
}

fn dead_rows<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let (storage, _, _) = commit(
        make(),
        vec![
            vec![session(A), session(B)],
            vec![body(1), enqueue(A, 1), enqueue(B, 1)],
        ],
        reopen,
    );
    // What an interrupted repair could leave: B's own row is gone, the rest is not; a body nobody wants.
    let stray = Value::Message(message(40, "t", b""));
    storage
        .apply(&[
            delete(Table::Session, &2_u64.to_be_bytes()),
            Write::Put {
                table: Table::Message,
                key: 40_u64.to_be_bytes().to_vec(),
                value: stray,
            },
        ])
        .expect("applies");
    let mut seen = Seen::default();
    let (_, opened) = load(&storage, &mut seen).expect("loads");
    assert_eq!(
        (opened.removed, queue_of(&seen, A), queue_of(&seen, B)),
        (2, vec![1], vec![])
    );
    let (_, opened) = load(&storage, &mut ()).expect("loads");
    assert_eq!(opened.removed, 0, "opening twice changes nothing");
    storage
        .apply(&[put(Table::Session, b"short", b"")])
        .expect("applies");
    assert!(
        load(&storage, &mut ()).is_err(),
        "a row that cannot be read is not skipped"
    );
}

fn positions<S: Storage>(make: &dyn Fn() -> S, reopen: &dyn Fn(S) -> S) {
    let (storage, _, opened) = commit(
        make(),
        vec![vec![session(A)], vec![], vec![body(9), enqueue(A, 9)]],
        reopen,
    );
    assert_eq!(
        (opened.lsn, opened.committed),
        (Lsn::new(3), Timestamp::from_millis(5_000))
    );
    let (_, _, opened) = commit(
        storage,
        vec![vec![StoreOp::DeleteSession { session: A }]],
        reopen,
    );
    assert_eq!(opened.lsn, Lsn::new(4));
    assert_eq!(
        (opened.last_session, opened.last_message),
        (1, 9),
        "numbers are not given out again"
    );
}
