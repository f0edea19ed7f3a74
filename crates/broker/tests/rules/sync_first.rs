//! The sync comes first: with every sync of a store on real files held back, no packet that waits for it leaves; when it is
//! done, all of them do; when it fails, none ever does.
//!
//! A held sync shows more than a slow one would, and no clock is asked.

use std::sync::Arc;
use std::time::Duration;

use martlet_broker::Broker;
use martlet_client::RawConnection;
use martlet_codec::{AckKind, Packet, Props, QoS, Unsubscribe, UnsubscribeFiltersBuf, Version};
use martlet_storage::{CommitOptions, Storage, StorageError, Table, Usage, Write};
use martlet_storage_embedded::{EmbeddedOptions, EmbeddedStorage, OpenError};
use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

use crate::ground::{
    ack, connect_packet, expect_ack, expect_connack, expect_silence, expect_suback, id, open,
    payload, publish, quiet, send, send_subscribe,
};

/// What is done with syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Go,
    Hold,
    Fail,
}

struct State {
    order: Order,
    /// Syncs that wait now.
    held: usize,
}

/// Holds back the syncs of a store.
struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

impl Gate {
    fn order(&self, order: Order) {
        self.state.lock().order = order;
        self.moved.notify_all();
    }

    fn is_holding(&self) -> bool {
        self.state.lock().held > 0
    }
}

/// The embedded store behind a gate.
struct Gated {
    inner: EmbeddedStorage,
    gate: Arc<Gate>,
}

impl Storage for Gated {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        self.inner.apply(writes)
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut state = self.gate.state.lock();
        state.held += 1;
        while state.order == Order::Hold {
            self.gate.moved.wait(&mut state);
        }
        state.held -= 1;
        if state.order == Order::Fail {
            return Err(StorageError::Io("the disk is gone".to_owned()));
        }
        drop(state);
        self.inner.sync()
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.inner.scan(table, prefix, visit)
    }

    fn get(
        &self,
        table: Table,
        key: &[u8],
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StorageError> {
        self.inner.get(table, key, read)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

/// A broker on a new directory.
fn start() -> (Broker, Arc<Gate>, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let (inner, _) = EmbeddedOptions::default()
        .open(directory.path().join("store"))
        .expect("opens");
    let gate = Arc::new(Gate {
        state: Mutex::new(State {
            order: Order::Go,
            held: 0,
        }),
        moved: Condvar::new(),
    });
    let storage = Gated {
        inner,
        gate: Arc::clone(&gate),
    };
    let options = CommitOptions {
        // Only what clients cause is synced.
        heartbeat: Duration::from_hours(1),
        ..CommitOptions::default()
    };
    let broker = Broker::builder()
        .config(quiet())
        .seed(7)
        .store(storage, options)
        .expect("the store can be read")
        .start()
        .expect("sound settings");
    (broker, gate, directory)
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it did not happen");
}

/// Holds syncs, sends `packet` on `from`, and when a sync waits for it requires that `to` hears nothing; then lets it go.
async fn gated(
    gate: &Gate,
    from: &mut RawConnection,
    packet: Packet<'_>,
    to: Option<&mut RawConnection>,
) {
    gate.order(Order::Hold);
    send(from, packet).await;
    until(|| gate.is_holding()).await;
    expect_silence(to.unwrap_or(from)).await;
    gate.order(Order::Go);
}

/// Connects with a session that is stored; the CONNACK must wait for the sync.
async fn connected(broker: &Broker, gate: &Gate, client_id: &str) -> RawConnection {
    let mut client = open(broker, Version::V311);
    gate.order(Order::Hold);
    let connect = connect_packet(client_id, Version::V311, false);
    send(&mut client, Packet::Connect(connect)).await;
    until(|| gate.is_holding()).await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.receive()).await;
    assert!(early.is_err(), "CONNACK waits");
    gate.order(Order::Go);
    expect_connack(&mut client, false).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_gated_packet_leaves_before_its_sync() {
    let (broker, gate, _directory) = start();
    let mut publisher = connected(&broker, &gate, "p").await;
    let mut subscriber = connected(&broker, &gate, "s").await;

    gate.order(Order::Hold);
    send_subscribe(&mut subscriber, 1, "t", QoS::ExactlyOnce).await;
    until(|| gate.is_holding()).await;
    expect_silence(&mut subscriber).await;
    gate.order(Order::Go);
    expect_suback(&mut subscriber, 1, QoS::ExactlyOnce).await;

    // PUBACK.
    let message = publish("t", "one", QoS::AtLeastOnce, 5);
    gated(&gate, &mut publisher, message, None).await;
    expect_ack(&mut publisher, AckKind::PubAck, 5).await;
    assert_eq!(payload(&mut subscriber).await, "one");
    send(&mut subscriber, ack(AckKind::PubAck, 1)).await;

    // PUBREC, and the message itself.
    let message = publish("t", "two", QoS::ExactlyOnce, 6);
    gated(&gate, &mut publisher, message, Some(&mut subscriber)).await;
    expect_ack(&mut publisher, AckKind::PubRec, 6).await;
    assert_eq!(payload(&mut subscriber).await, "two");

    // PUBREL towards the subscriber.
    let received = ack(AckKind::PubRec, 2);
    gated(&gate, &mut subscriber, received, None).await;
    expect_ack(&mut subscriber, AckKind::PubRel, 2).await;
    send(&mut subscriber, ack(AckKind::PubComp, 2)).await;

    // PUBCOMP towards the publisher.
    let release = ack(AckKind::PubRel, 6);
    gated(&gate, &mut publisher, release, None).await;
    expect_ack(&mut publisher, AckKind::PubComp, 6).await;

    // UNSUBACK.
    let mut filters = UnsubscribeFiltersBuf::new();
    filters.push("t").expect("a short filter");
    let unsubscribe = Packet::Unsubscribe(Unsubscribe {
        id: id(7),
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    gated(&gate, &mut subscriber, unsubscribe, None).await;
    let answer = subscriber.receive().await.expect("UNSUBACK");
    assert!(matches!(answer.packet(), Packet::UnsubAck(_)), "{answer:?}");
    broker.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sync_that_failed_no_gated_packet_leaves_at_all() {
    let (broker, gate, directory) = start();
    let mut publisher = connected(&broker, &gate, "p").await;
    let mut subscriber = connected(&broker, &gate, "s").await;
    send_subscribe(&mut subscriber, 1, "t", QoS::ExactlyOnce).await;
    expect_suback(&mut subscriber, 1, QoS::ExactlyOnce).await;

    gate.order(Order::Hold);
    send(&mut publisher, publish("t", "one", QoS::AtLeastOnce, 5)).await;
    send(&mut publisher, publish("t", "two", QoS::ExactlyOnce, 6)).await;
    until(|| gate.is_holding()).await;
    gate.order(Order::Fail);
    until(|| broker.store_failed()).await;
    // The disk is well again; what it dropped is not.
    gate.order(Order::Go);
    // QoS 1 reaches who is connected at once, as always; nothing else was promised to anybody.
    assert_eq!(payload(&mut subscriber).await, "one");
    expect_silence(&mut publisher).await;
    expect_silence(&mut subscriber).await;
    broker.shutdown(Duration::ZERO).await;
    drop(broker);
    // The committer's thread lets go of the directory in its own time.
    let path = directory.path().join("store");
    let mut opened = EmbeddedOptions::default().open(&path);
    for _ in 0..10_000 {
        if !matches!(opened, Err(OpenError::Locked { .. })) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        opened = EmbeddedOptions::default().open(&path);
    }
    let (_, report) = opened.expect("opens");
    assert_eq!(report.lost, []);
}
