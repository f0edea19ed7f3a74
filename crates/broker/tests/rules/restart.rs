//! What a broker finds again after the process before it died at any moment: everything that was acknowledged, QoS 2
//! exactly once, wills and expiries counted from the last commit (rules 17 to 21).
//!
//! The crash is a copy of the store: whatever the first broker does later, the second one starts from that instant.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use martlet_broker::{Broker, clock::Clock, counters::Gauge, hooks::Hooks};
use martlet_client::RawConnection;
use martlet_codec::{
    AckKind, Connect, Packet, Property, Props, PropsBuf, Publish, QoS, Version, Will,
};
use martlet_session::DropReason;
use martlet_storage::{
    CommitOptions, MemoryStorage, Message, Storage, Table, Timestamp, Value, Write,
};

use crate::ground::{
    ack, connect_packet, connected, expect_ack, expect_silence, open, payload, publish, quiet,
    send, send_subscribe, subscribed,
};

/// A clock that stands where the test puts it.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

const NOON: u64 = 1_800_000_000_000;

/// A broker over `storage` at `secs` past noon.
fn start(storage: &MemoryStorage, secs: u64) -> Broker {
    start_with_clock(storage, Arc::new(Hand(AtomicU64::new(NOON + secs * 1_000))))
}

fn start_with_clock(storage: &MemoryStorage, clock: Arc<Hand>) -> Broker {
    Broker::builder()
        .config(quiet())
        .seed(7)
        .clock(clock)
        .store(storage.clone(), CommitOptions::default())
        .expect("the store can be read")
        .start()
        .expect("sound settings")
}

/// The store as a crash at this instant would leave it.
fn crashed(storage: &MemoryStorage) -> MemoryStorage {
    let mut writes = Vec::new();
    for table in Table::ALL {
        let mut row = |key: &[u8], value: &[u8]| {
            let (key, value) = (key.to_vec(), Value::Record(value.to_vec()));
            writes.push(Write::Put { table, key, value });
            true
        };
        storage
            .scan(table, &[], &mut row)
            .expect("memory can be read");
    }
    let copy = MemoryStorage::default();
    copy.apply(&writes).expect("memory can be written");
    copy
}

/// Waits until everything up to now is in the store: CONNACK of a new session is behind it.
async fn committed(broker: &Broker) {
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    drop(connected(broker, &format!("probe {number}"), false).await);
}

/// Resumes a session, which must be there, and leaves it open.
async fn resumed(broker: &Broker, client_id: &str) -> RawConnection {
    let mut client = open(broker, Version::V311);
    let connect = connect_packet(client_id, Version::V311, false);
    send(&mut client, Packet::Connect(connect)).await;
    crate::ground::expect_connack(&mut client, true).await;
    client
}

/// A session with one subscription, whose client is gone again.
async fn sleeper(broker: &Broker, client_id: &str, filter: &str, qos: QoS) {
    let mut client = connected(broker, client_id, false).await;
    subscribed(&mut client, filter, qos).await;
    drop(client);
    while broker.clients_connected() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The next PUBLISH: packet id, DUP, payload.
async fn delivery(client: &mut RawConnection) -> (u16, bool, String) {
    let packet = client.receive().await.expect("a packet");
    match packet.packet() {
        Packet::Publish(publish) => (
            publish.id.map_or(0, martlet_codec::PacketId::get),
            publish.dup,
            String::from_utf8_lossy(publish.payload).into_owned(),
        ),
        other => panic!("expected PUBLISH, got {other:?}"),
    }
}

#[tokio::test]
async fn sessions_queues_and_retained_messages_come_back_in_order() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "t/#", QoS::ExactlyOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    let Packet::Publish(kept) = publish("kept", "retained", QoS::AtLeastOnce, 1) else {
        unreachable!()
    };
    let kept = Publish {
        retain: true,
        ..kept
    };
    send(&mut publisher, Packet::Publish(kept)).await;
    expect_ack(&mut publisher, AckKind::PubAck, 1).await;
    for n in 2..300_u16 {
        let text = format!("message {n} {}", "x".repeat(1_000));
        send(&mut publisher, publish("t/1", &text, QoS::AtLeastOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
    }
    let store = broker.counters().store;
    assert!(store.batches.sum() >= 300, "one for each message at least");
    assert_eq!(store.batches.count(), store.commit_micros.count());
    assert!(store.records >= 600, "a body and a row for each");
    assert_eq!((store.stalls, store.backlog_bytes), (0, 0));
    let after = start(&crashed(&storage), 1);
    let mut sleeper = resumed(&after, "sleeper").await;
    for n in 2..300_u16 {
        let (id, _, text) = delivery(&mut sleeper).await;
        assert_eq!(text, format!("message {n} {}", "x".repeat(1_000)));
        send(&mut sleeper, ack(AckKind::PubAck, id)).await;
    }
    subscribed(&mut sleeper, "kept", QoS::AtMostOnce).await;
    assert_eq!(payload(&mut sleeper).await, "retained");
    expect_silence(&mut sleeper).await;
    // The same without a crash: bodies were let go of while the client was away.
    let mut sleeper = resumed(&broker, "sleeper").await;
    for n in 2..300_u16 {
        let (id, _, text) = delivery(&mut sleeper).await;
        assert!(text.starts_with(&format!("message {n} ")), "{n}: {text}");
        send(&mut sleeper, ack(AckKind::PubAck, id)).await;
    }
}

#[tokio::test]
async fn a_subscription_that_was_refused_does_not_come_back() {
    let storage = MemoryStorage::default();
    let mut config = quiet();
    config.anonymous.rights.deny_subscribe = vec!["secret/#".into()];
    let broker = Broker::builder()
        .config(config)
        .seed(7)
        .clock(Arc::new(Hand(AtomicU64::new(NOON))))
        .store(storage.clone(), CommitOptions::default())
        .expect("the store can be read")
        .start()
        .expect("sound settings");
    let mut client = connected(&broker, "curious", false).await;
    send_subscribe(&mut client, 1, "secret/#", QoS::AtLeastOnce).await;
    let packet = client.receive().await.expect("SUBACK");
    let Packet::SubAck(answer) = packet.packet() else {
        panic!("{packet:?}")
    };
    assert_eq!(answer.codes.as_bytes(), [0x80]);
    subscribed(&mut client, "t/#", QoS::AtLeastOnce).await;
    // Where nothing is denied: what comes is what was stored.
    let after = start(&crashed(&storage), 1);
    let mut client = resumed(&after, "curious").await;
    let mut publisher = connected(&after, "publisher", true).await;
    for (n, topic) in [(1, "secret/1"), (2, "t/1")] {
        send(&mut publisher, publish(topic, topic, QoS::AtLeastOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
    }
    assert_eq!(payload(&mut client).await, "t/1");
    expect_silence(&mut client).await;
}

#[tokio::test]
async fn what_a_client_must_not_receive_is_not_queued_while_it_is_away() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "t/#", QoS::AtLeastOnce).await;
    let mut denying = quiet();
    denying.anonymous.rights.deny_subscribe = vec!["t/secret".into()];
    broker.reload(denying.clone()).expect("sound settings");
    let publish_both = async |broker: &Broker| {
        let mut publisher = connected(broker, "publisher", true).await;
        for (n, topic) in [(1, "t/secret"), (2, "t/open")] {
            send(&mut publisher, publish(topic, topic, QoS::AtLeastOnce, n)).await;
            expect_ack(&mut publisher, AckKind::PubAck, n).await;
        }
    };
    publish_both(&broker).await;
    // Nobody has connected as this client since, so all that is known of it is what was stored.
    let after = Broker::builder()
        .config(denying)
        .store(crashed(&storage), CommitOptions::default())
        .expect("the store can be read")
        .start()
        .expect("sound settings");
    publish_both(&after).await;
    let mut sleeper = resumed(&after, "sleeper").await;
    for _ in 0..2 {
        let (id, _, text) = delivery(&mut sleeper).await;
        assert_eq!(text, "t/open");
        send(&mut sleeper, ack(AckKind::PubAck, id)).await;
    }
    expect_silence(&mut sleeper).await;
}

#[tokio::test]
async fn a_stored_subscription_that_rights_no_longer_cover_brings_what_they_permit() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "t/#", QoS::AtLeastOnce).await;
    let mut narrow = quiet();
    narrow.anonymous.rights.subscribe = vec!["t/open".into()];
    let after = Broker::builder()
        .config(narrow)
        .store(crashed(&storage), CommitOptions::default())
        .expect("the store can be read")
        .start()
        .expect("sound settings");
    let mut publisher = connected(&after, "publisher", true).await;
    let mut publish_both = async |first| {
        for (id, topic) in [(first, "t/secret"), (first + 1, "t/open")] {
            send(&mut publisher, publish(topic, topic, QoS::AtLeastOnce, id)).await;
            expect_ack(&mut publisher, AckKind::PubAck, id).await;
        }
    };
    publish_both(1).await;
    let mut sleeper = resumed(&after, "sleeper").await;
    for next in [3, 5] {
        let (id, _, text) = delivery(&mut sleeper).await;
        assert_eq!(text, "t/open");
        send(&mut sleeper, ack(AckKind::PubAck, id)).await;
        publish_both(next).await;
    }
}

#[tokio::test]
async fn a_body_that_is_damaged_in_the_store_costs_one_message() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "t/#", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    for n in 1..=4_u16 {
        let text = format!("message {n}");
        send(&mut publisher, publish("t/1", &text, QoS::AtLeastOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
    }
    let storage = crashed(&storage);
    let mut keys = Vec::new();
    let scan = storage.scan_keys(Table::Message, &[], &mut |key| {
        keys.push(key.to_vec());
        true
    });
    scan.expect("memory lists");
    let damaged = Write::Put {
        table: Table::Message,
        key: keys[1].clone(),
        value: Value::Record(b"not what was written".to_vec()),
    };
    storage.apply(&[damaged]).expect("memory applies");
    let after = start(&storage, 1);
    let mut sleeper = resumed(&after, "sleeper").await;
    for n in [1, 3, 4] {
        let (id, _, text) = delivery(&mut sleeper).await;
        assert_eq!(text, format!("message {n}"));
        send(&mut sleeper, ack(AckKind::PubAck, id)).await;
    }
    expect_silence(&mut sleeper).await;
    committed(&after).await;
    let counters = after.counters();
    assert_eq!(counters.gauge(Gauge::QueuedMessages), 0);
    assert_eq!(
        (
            counters.dropped_for(DropReason::BodyLost),
            counters.dropped()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn qos_2_towards_a_client_goes_on_at_its_step() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    let mut subscriber = connected(&broker, "subscriber", false).await;
    subscribed(&mut subscriber, "t", QoS::ExactlyOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    for (n, text) in [(1, "one"), (2, "two")] {
        send(&mut publisher, publish("t", text, QoS::ExactlyOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubRec, n).await;
    }
    assert_eq!(delivery(&mut subscriber).await, (1, false, "one".into()));
    assert_eq!(delivery(&mut subscriber).await, (2, false, "two".into()));
    send(&mut subscriber, ack(AckKind::PubRec, 1)).await;
    expect_ack(&mut subscriber, AckKind::PubRel, 1).await;

    let after = start(&crashed(&storage), 1);
    let mut subscriber = resumed(&after, "subscriber").await;
    // What was received is only released; what was not is sent again under its identifier.
    expect_ack(&mut subscriber, AckKind::PubRel, 1).await;
    assert_eq!(delivery(&mut subscriber).await, (2, true, "two".into()));
    send(&mut subscriber, ack(AckKind::PubComp, 1)).await;
    send(&mut subscriber, ack(AckKind::PubRec, 2)).await;
    expect_ack(&mut subscriber, AckKind::PubRel, 2).await;
    send(&mut subscriber, ack(AckKind::PubComp, 2)).await;
    expect_silence(&mut subscriber).await;
}

#[tokio::test]
async fn qos_2_from_a_client_is_not_delivered_twice() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "t", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "publisher", false).await;
    send(&mut publisher, publish("t", "once", QoS::ExactlyOnce, 7)).await;
    expect_ack(&mut publisher, AckKind::PubRec, 7).await;

    let storage = crashed(&storage);
    let after = start(&storage, 1);
    let mut publisher = resumed(&after, "publisher").await;
    send(&mut publisher, publish("t", "once", QoS::ExactlyOnce, 7)).await;
    expect_ack(&mut publisher, AckKind::PubRec, 7).await;
    send(&mut publisher, ack(AckKind::PubRel, 7)).await;
    expect_ack(&mut publisher, AckKind::PubComp, 7).await;

    // Released: the identifier is free for another message, after a further crash as well.
    let last = start(&crashed(&storage), 2);
    let mut publisher = resumed(&last, "publisher").await;
    send(&mut publisher, publish("t", "another", QoS::ExactlyOnce, 7)).await;
    expect_ack(&mut publisher, AckKind::PubRec, 7).await;
    let mut sleeper = resumed(&last, "sleeper").await;
    assert_eq!(payload(&mut sleeper).await, "once");
    assert_eq!(payload(&mut sleeper).await, "another");
    expect_silence(&mut sleeper).await;
}

async fn connect_with_will(
    broker: &Broker,
    client_id: &str,
    expiry_secs: u32,
    delay_secs: u32,
) -> RawConnection {
    let mut client = open(broker, Version::V5);
    let props = PropsBuf::new().with(Property::SessionExpiry(expiry_secs));
    let delay = PropsBuf::new().with(Property::WillDelay(delay_secs));
    let connect = Connect {
        props: props.as_props(),
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            props: delay.as_props(),
            topic: "wills",
            payload: client_id.as_bytes(),
        }),
        ..connect_packet(client_id, Version::V5, false)
    };
    send(&mut client, Packet::Connect(connect)).await;
    client.receive().await.expect("CONNACK");
    client
}

#[tokio::test]
async fn wills_fire_after_a_crash_when_they_are_due_and_only_then() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "wills", QoS::AtLeastOnce).await;
    let _unstored = connect_with_will(&broker, "not stored", 0, 0).await;
    let _due = connect_with_will(&broker, "due", 3_600, 10).await;
    let _later = connect_with_will(&broker, "later", 3_600, 600).await;
    let _ends_first = connect_with_will(&broker, "its session ends first", 20, 600).await;
    let mut cancelled = connect_with_will(&broker, "cancelled", 3_600, 0).await;
    let disconnect = martlet_codec::Disconnect {
        reason: martlet_codec::ReasonCode::Success,
        props: Props::EMPTY,
    };
    send(&mut cancelled, Packet::Disconnect(disconnect)).await;
    assert!(cancelled.receive().await.is_err(), "closed");
    while broker.clients_connected() > 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    committed(&broker).await;

    let storage = crashed(&storage);
    let after = start(&storage, 60);
    let mut sleeper = resumed(&after, "sleeper").await;
    let mut fired = Vec::new();
    for _ in 0..3 {
        let (id, _, text) = delivery(&mut sleeper).await;
        send(&mut sleeper, ack(AckKind::PubAck, id)).await;
        fired.push(text);
    }
    fired.sort();
    assert_eq!(fired, ["due", "its session ends first", "not stored"]);
    expect_silence(&mut sleeper).await;
    committed(&after).await;

    // Once more: what has fired stays fired, what was due at a time is still due at that time.
    let last = start(&crashed(&storage), 601);
    let mut sleeper = resumed(&last, "sleeper").await;
    assert_eq!(payload(&mut sleeper).await, "later");
    expect_silence(&mut sleeper).await;
}

#[tokio::test]
async fn a_client_that_comes_back_after_its_will_was_due_does_not_save_it() {
    let storage = MemoryStorage::default();
    let clock = Arc::new(Hand(AtomicU64::new(NOON)));
    let broker = start_with_clock(&storage, Arc::clone(&clock));
    let mut witness = connected(&broker, "witness", true).await;
    subscribed(&mut witness, "wills", QoS::AtLeastOnce).await;
    let client = connect_with_will(&broker, "late", 3_600, 10).await;
    drop(client);
    while broker.clients_connected() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The timer, which waits by another clock, has not come to it yet.
    clock.0.store(NOON + 10_000, Ordering::Relaxed);
    drop(resumed(&broker, "late").await);
    assert_eq!(payload(&mut witness).await, "late");
}

/// Holds the timer in the middle of a will, until the client is back or has had every chance to be.
#[derive(Default)]
struct Delay {
    firing: AtomicBool,
    back: AtomicBool,
}

impl Hooks for Delay {
    fn will(&self, _client_id: &str, _will: &Message) -> bool {
        self.firing.store(true, Ordering::Release);
        for _ in 0..300 {
            if self.back.load(Ordering::Acquire) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_will_that_fires_while_its_client_comes_back_leaves_the_next_will_in_the_store() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "sleeper", "wills", QoS::AtLeastOnce).await;
    let _client = connect_with_will(&broker, "client", 3_600, 10).await;
    committed(&broker).await;

    let storage = crashed(&storage);
    let hooks = Arc::new(Delay::default());
    let second = Broker::builder()
        .config(quiet())
        .seed(7)
        .clock(Arc::new(Hand(AtomicU64::new(NOON + 60_000))))
        .hooks(hooks.clone())
        .store(storage.clone(), CommitOptions::default())
        .expect("the store can be read")
        .start()
        .expect("sound settings");
    while !hooks.firing.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _client = connect_with_will(&second, "client", 3_600, 10).await;
    hooks.back.store(true, Ordering::Release);
    let mut sleeper = resumed(&second, "sleeper").await;
    assert_eq!(payload(&mut sleeper).await, "client");
    committed(&second).await;

    let mut wills = 0;
    crashed(&storage)
        .scan_keys(Table::Will, &[], &mut |_| {
            wills += 1;
            true
        })
        .expect("memory can be read");
    assert_eq!(wills, 1, "the will of the new connection");
}

#[tokio::test]
async fn a_session_ends_at_its_time_however_often_the_broker_dies() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    let mut client = open(&broker, Version::V5);
    let props = PropsBuf::new().with(Property::SessionExpiry(100));
    let connect = Connect {
        props: props.as_props(),
        ..connect_packet("client", Version::V5, true)
    };
    send(&mut client, Packet::Connect(connect)).await;
    client.receive().await.expect("CONNACK");
    subscribed_v5(&mut client).await;
    let second = crashed(&storage);
    drop(start(&second, 60));
    let third = crashed(&second);
    let after = start(&third, 99);
    assert_eq!(after.counters().gauge(Gauge::Sessions), 1);
    let last = start(&crashed(&third), 101);
    while last.counters().gauge(Gauge::Sessions) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(last.counters().gauge(Gauge::Subscriptions), 0);
}

async fn subscribed_v5(client: &mut RawConnection) {
    send_subscribe(client, 1, "t", QoS::AtLeastOnce).await;
    client.receive().await.expect("SUBACK");
}

#[tokio::test]
async fn what_a_member_leaves_is_stored_with_the_member_that_gets_it() {
    let storage = MemoryStorage::default();
    let broker = start(&storage, 0);
    sleeper(&broker, "leaves", "$share/g/t", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    for n in 1..=5_u16 {
        let text = format!("message {n}");
        send(&mut publisher, publish("t", &text, QoS::AtLeastOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
    }
    drop(publisher);
    sleeper(&broker, "stays", "$share/g/t", QoS::AtLeastOnce).await;
    // A clean start ends the session of the first member.
    drop(connected(&broker, "leaves", true).await);
    committed(&broker).await;

    let after = start(&crashed(&storage), 1);
    let mut stays = resumed(&after, "stays").await;
    for n in 1..=5_u16 {
        assert_eq!(payload(&mut stays).await, format!("message {n}"));
    }
    expect_silence(&mut stays).await;
}
