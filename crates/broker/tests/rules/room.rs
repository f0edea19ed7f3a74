//! A store that is short of room takes no messages, and everything else goes on, so that what is delivered makes room:
//! publishers wait, nobody else does, and nobody has to delete anything by hand.

use std::path::PathBuf;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use martlet_broker::{
    Broker, Builder,
    config::Config,
    counters::Gauge,
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Identity, Refusal},
};
use martlet_client::{RawConnection, RawError};
use martlet_codec::{
    AckKind, Connect, Disconnect, Packet, Property, Props, PropsBuf, Publish, QoS, ReasonCode,
    Version, Will,
};
use martlet_storage::{
    CommitListener, CommitOptions, Committer, Fsync, Lsn, ManualCommitter, MemoryStorage, Storage,
    StorageError, StoreOp, Table, Write,
};
use martlet_storage_embedded::{Act, EmbeddedOptions, Probe, Verdict};

use crate::ground::{
    ack, connect_packet, connected, expect_ack, expect_connack, expect_silence, open, payload,
    publish, quiet, send, subscribed,
};

/// A store in memory that says what it is told to say of its room.
#[derive(Clone, Default)]
struct Tight {
    memory: MemoryStorage,
    low: Arc<AtomicBool>,
}

impl Storage for Tight {
    fn apply(&self, writes: &[Write]) -> Result<(), StorageError> {
        self.memory.apply(writes)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.memory.sync()
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
}

/// Lets everybody do everything, a moment later.
pub(crate) struct Slow;

impl Authenticator for Slow {
    fn authenticate(&self, _request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        Decision::Ready(Ok(0))
    }
}

impl Authorizer for Slow {
    fn publish(&self, _who: &Identity, _topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        Decision::Later(Box::pin(async {
            tokio::task::yield_now().await;
            true
        }))
    }
    fn subscribe(&self, _who: &Identity, _filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        Decision::Ready(Some(qos))
    }
    fn judges_deliveries(&self, _who: &Identity) -> bool {
        false
    }
    fn deliver(&self, _who: &Identity, _topic: &str) -> bool {
        true
    }
}

fn start(storage: impl Storage, config: Config, more: impl FnOnce(Builder) -> Builder) -> Broker {
    let options = CommitOptions {
        // Many small batches, and no crash.
        fsync: Fsync::Never,
        heartbeat: Duration::from_millis(1),
        ..CommitOptions::default()
    };
    let builder = Broker::builder()
        .config(config)
        .seed(7)
        .store(storage, options)
        .expect("the store can be read");
    more(builder).start().expect("sound settings")
}

/// A session of `client_id` with a subscription, whose client is away.
async fn sleeper(broker: &Broker, client_id: &str, filter: &str, qos: QoS) {
    let mut client = connected(broker, client_id, false).await;
    subscribed(&mut client, filter, qos).await;
    drop(client);
    while broker.clients_connected() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn resumed(broker: &Broker, client_id: &str) -> RawConnection {
    let mut client = open(broker, Version::V311);
    let connect = connect_packet(client_id, Version::V311, false);
    send(&mut client, Packet::Connect(connect)).await;
    expect_connack(&mut client, true).await;
    client
}

async fn until_received(broker: &Broker, messages: u64) {
    while broker.counters().publish_received() < messages {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn retained<'a>(topic: &'a str, text: &'a str) -> Packet<'a> {
    let Packet::Publish(packet) = publish(topic, text, QoS::AtMostOnce, 0) else {
        unreachable!()
    };
    Packet::Publish(Publish {
        retain: true,
        ..packet
    })
}

async fn messages_wait_and_everything_else_goes_on(more: impl FnOnce(Builder) -> Builder) {
    let tight = Tight::default();
    let broker = start(tight.clone(), quiet(), more);
    sleeper(&broker, "sleeper", "t/#", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    for n in 1..=3 {
        send(&mut publisher, publish("t/1", "early", QoS::AtLeastOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
    }
    send(&mut publisher, retained("old", "kept")).await;
    expect_silence(&mut publisher).await;
    assert_eq!(broker.counters().gauge(Gauge::RetainedMessages), 1);

    tight.low.store(true, Ordering::Release);
    // CONNACK is behind a commit, and commits look for room.
    let mut live = connected(&broker, "live", false).await;
    for n in 4..=5 {
        let text = format!("late {n}");
        send(&mut publisher, publish("t/1", &text, QoS::AtLeastOnce, n)).await;
    }
    let mut keeper = connected(&broker, "keeper", true).await;
    send(&mut keeper, retained("new", "kept")).await;
    // Of the first publisher, what is behind the message that waits is not read.
    until_received(&broker, 6).await;

    // What is not stored goes on, and so does what makes room.
    let mut free = connected(&broker, "free", true).await;
    subscribed(&mut free, "live", QoS::AtLeastOnce).await;
    let mut other = connected(&broker, "other", true).await;
    send(&mut other, publish("live", "now", QoS::AtLeastOnce, 1)).await;
    expect_ack(&mut other, AckKind::PubAck, 1).await;
    assert_eq!(payload(&mut free).await, "now");
    send(&mut other, retained("old", "")).await;
    expect_silence(&mut other).await;
    subscribed(&mut live, "u", QoS::ExactlyOnce).await;
    let mut sleeper = resumed(&broker, "sleeper").await;
    for n in 1..=3 {
        assert_eq!(payload(&mut sleeper).await, "early");
        send(&mut sleeper, ack(AckKind::PubAck, n)).await;
    }
    expect_silence(&mut sleeper).await;
    drop(connected(&broker, "probe", false).await);
    assert!(tight.memory.is_empty(Table::Message), "nothing is left");
    assert!(tight.memory.is_empty(Table::Retained), "nothing came");
    assert_eq!(broker.counters().gauge(Gauge::RetainedMessages), 0);

    tight.low.store(false, Ordering::Release);
    for n in 4..=5 {
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
        assert_eq!(payload(&mut sleeper).await, format!("late {n}"));
    }
    expect_silence(&mut keeper).await;
    assert_eq!(broker.counters().gauge(Gauge::RetainedMessages), 1);
}

#[tokio::test]
async fn without_room_messages_wait_and_everything_else_goes_on() {
    messages_wait_and_everything_else_goes_on(|builder| builder).await;
}

#[tokio::test]
async fn what_is_decided_later_waits_as_well() {
    let slow = Arc::new(Slow);
    messages_wait_and_everything_else_goes_on(|builder| builder.access(slow.clone(), slow)).await;
}

#[tokio::test]
async fn a_publisher_that_waits_for_room_can_be_taken_over_and_stopped() {
    let tight = Tight::default();
    let broker = start(tight.clone(), quiet(), |builder| builder);
    sleeper(&broker, "sleeper", "t", QoS::AtLeastOnce).await;
    tight.low.store(true, Ordering::Release);
    let mut first = connected(&broker, "publisher", false).await;
    send(&mut first, publish("t", "again", QoS::AtLeastOnce, 1)).await;
    until_received(&broker, 1).await;
    // It comes back, and sends what was not acknowledged.
    let mut second = resumed(&broker, "publisher").await;
    send(&mut second, publish("t", "again", QoS::AtLeastOnce, 1)).await;
    until_received(&broker, 2).await;
    assert!(matches!(first.receive().await, Err(RawError::Eof)));
    tight.low.store(false, Ordering::Release);
    expect_ack(&mut second, AckKind::PubAck, 1).await;
    let mut sleeper = resumed(&broker, "sleeper").await;
    assert_eq!(payload(&mut sleeper).await, "again");
    expect_silence(&mut sleeper).await;

    tight.low.store(true, Ordering::Release);
    drop(connected(&broker, "probe", false).await);
    send(&mut second, publish("t", "never", QoS::AtLeastOnce, 2)).await;
    until_received(&broker, 3).await;
    broker.shutdown(Duration::from_secs(30)).await;
    assert_eq!(broker.connections(), 0, "nobody held up the end");
    assert!(matches!(second.receive().await, Err(RawError::Eof)));
}

/// A committer whose store is low when the test says so.
#[derive(Default)]
struct Told {
    committer: ManualCommitter,
    ear: Mutex<Option<Arc<dyn CommitListener>>>,
}

impl Told {
    fn low(&self, why: Option<&str>) {
        let ear = self.ear.lock().expect("sound").clone();
        ear.expect("a broker").low(why);
    }
}

impl Committer for Told {
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn {
        let lsn = self.committer.submit(batch);
        self.committer.commit_all();
        lsn
    }
    fn watermark(&self) -> Lsn {
        self.committer.watermark()
    }
    fn set_listener(&self, listener: Arc<dyn CommitListener>) {
        *self.ear.lock().expect("sound") = Some(listener.clone());
        self.committer.set_listener(listener);
    }
    fn backlog_bytes(&self) -> usize {
        self.committer.backlog_bytes()
    }
    fn flush(&self) {
        self.committer.flush();
    }
}

/// A broker whose store is told to be low, with a sleeping subscriber of `t` at QoS 1.
async fn told() -> (Broker, Arc<Told>) {
    let told = Arc::new(Told::default());
    let builder = Broker::builder().config(quiet()).seed(7);
    let broker = builder.committer(told.clone()).start().expect("settings");
    sleeper(&broker, "sleeper", "t", QoS::AtLeastOnce).await;
    (broker, told)
}

#[tokio::test]
async fn behind_a_message_that_waits_acknowledgements_and_pings_are_heard() {
    let (broker, told) = told().await;
    // It takes one message at a time, and publishes as well.
    let mut both = open(&broker, Version::V5);
    let window = PropsBuf::new()
        .with(Property::ReceiveMaximum(1))
        .with(Property::SessionExpiry(100));
    let connect = Connect {
        props: window.as_props(),
        ..connect_packet("both", Version::V5, true)
    };
    send(&mut both, Packet::Connect(connect)).await;
    both.receive().await.expect("CONNACK");
    subscribed(&mut both, "u", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "publisher", true).await;
    for n in 1..=3 {
        let text = n.to_string();
        send(&mut publisher, publish("u", &text, QoS::AtLeastOnce, n)).await;
        expect_ack(&mut publisher, AckKind::PubAck, n).await;
    }

    told.low(Some("3 bytes left"));
    // What follows comes in one read with it, and in further ones.
    let mut bytes = Vec::new();
    for packet in [
        publish("t", "first", QoS::AtLeastOnce, 1),
        publish("t", "second", QoS::AtLeastOnce, 2),
        Packet::PingReq,
    ] {
        packet.encode(Version::V5, &mut bytes).expect("sound");
    }
    both.send_bytes(&bytes).await.expect("the broker reads");
    assert_eq!(payload(&mut both).await, "1");
    both.expect(&Packet::PingResp).await.expect("an answer");
    for n in 1..=3 {
        send(&mut both, ack(AckKind::PubAck, n)).await;
        send(&mut both, publish("t", "later", QoS::AtLeastOnce, n + 2)).await;
        if n < 3 {
            assert_eq!(payload(&mut both).await, (n + 1).to_string());
        }
    }
    expect_silence(&mut both).await;
    assert_eq!(broker.counters().gauge(Gauge::QueuedMessages), 0);
    assert_eq!(broker.counters().publish_received(), 4, "the rest waits");

    told.low(None);
    for n in 1..=5 {
        expect_ack(&mut both, AckKind::PubAck, n).await;
    }
    let mut sleeper = resumed(&broker, "sleeper").await;
    for text in ["first", "second", "later", "later", "later"] {
        assert_eq!(payload(&mut sleeper).await, text);
    }
}

#[tokio::test]
async fn a_publisher_that_leaves_while_its_message_waits_is_gone() {
    for leaves in [true, false] {
        let (broker, told) = told().await;
        let mut mourner = connected(&broker, "mourner", true).await;
        subscribed(&mut mourner, "wills", QoS::AtMostOnce).await;
        let mut publisher = open(&broker, Version::V311);
        let will = Will {
            qos: QoS::AtMostOnce,
            retain: false,
            props: Props::EMPTY,
            topic: "wills",
            payload: b"gone",
        };
        let connect = Connect {
            will: Some(will),
            ..connect_packet("publisher", Version::V311, true)
        };
        send(&mut publisher, Packet::Connect(connect)).await;
        expect_connack(&mut publisher, false).await;
        told.low(Some("3 bytes left"));
        for n in 1..=300 {
            send(&mut publisher, publish("t", "lost", QoS::AtLeastOnce, n)).await;
        }
        if leaves {
            let goodbye = Disconnect {
                reason: ReasonCode::Success,
                props: Props::EMPTY,
            };
            send(&mut publisher, Packet::Disconnect(goodbye)).await;
        }
        drop(publisher);
        while broker.clients_connected() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if !leaves {
            assert_eq!(payload(&mut mourner).await, "gone");
        }
        expect_silence(&mut mourner).await;
        told.low(None);
        let mut sleeper = resumed(&broker, "sleeper").await;
        expect_silence(&mut sleeper).await;
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alive_counts_while_a_message_waits_as_far_as_its_stream_is_read() {
    for (waiting, stays) in [(1, false), (100, true)] {
        let (broker, told) = told().await;
        let mut publisher = open(&broker, Version::V311);
        let connect = Connect {
            keep_alive_secs: 10,
            ..connect_packet("publisher", Version::V311, true)
        };
        send(&mut publisher, Packet::Connect(connect)).await;
        expect_connack(&mut publisher, false).await;
        told.low(Some("3 bytes left"));
        let text = "x".repeat(1_000);
        for n in 1..=waiting {
            send(&mut publisher, publish("t", &text, QoS::AtLeastOnce, n)).await;
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(broker.clients_connected() == 1, stays, "{waiting} messages");
    }
}

/// A file system of its own for one store.
struct Small {
    path: PathBuf,
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

/// Waits for an acknowledgement, however long it takes.
async fn acknowledged(client: &mut RawConnection, kind: AckKind, packet_id: u16) {
    loop {
        match client.receive().await {
            Ok(packet) => return assert_eq!(packet.packet(), ack(kind, packet_id)),
            Err(RawError::Timeout(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Twice as much as the disk holds, at `qos` to a receiver that comes when it is full.
async fn a_full_disk_is_drained(qos: QoS) {
    const MESSAGES: u16 = 800;
    const MIB: u64 = 1 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let options = EmbeddedOptions::default()
        .reserve_bytes(4 * MIB)
        .segment_bytes(MIB)
        .probe(Arc::new(Small {
            path: path.clone(),
            bytes: 10 * MIB,
        }));
    let (storage, _) = options.open(&path).expect("opens");
    let storage = Arc::new(storage);
    let mut config = quiet();
    config.limits.queued_messages_max = usize::from(MESSAGES);
    let broker = start(Arc::clone(&storage), config, |builder| builder);
    sleeper(&broker, "sleeper", "t", qos).await;

    let mut publisher = connected(&broker, "publisher", true).await;
    let publishing = tokio::spawn(async move {
        let filler = "x".repeat(16 << 10);
        for n in 1..=MESSAGES {
            let text = format!("{n} {filler}");
            send(&mut publisher, publish("t", &text, qos, n)).await;
            if qos == QoS::AtLeastOnce {
                acknowledged(&mut publisher, AckKind::PubAck, n).await;
            } else {
                acknowledged(&mut publisher, AckKind::PubRec, n).await;
                send(&mut publisher, ack(AckKind::PubRel, n)).await;
                acknowledged(&mut publisher, AckKind::PubComp, n).await;
            }
        }
    });
    while storage.low().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!publishing.is_finished());

    let mut receiver = resumed(&broker, "sleeper").await;
    let (mut expected, mut open) = (1, 0);
    while expected <= MESSAGES || open > 0 {
        let packet = match receiver.receive().await {
            Ok(packet) => packet,
            Err(RawError::Timeout(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        match packet.packet() {
            Packet::Publish(publish) => {
                let text = String::from_utf8_lossy(publish.payload);
                assert_eq!(text.split(' ').next(), Some(&*expected.to_string()));
                expected += 1;
                let id = publish.id.expect("above QoS 0").get();
                assert_eq!(publish.qos, qos);
                if qos == QoS::ExactlyOnce {
                    open += 1;
                    send(&mut receiver, ack(AckKind::PubRec, id)).await;
                } else {
                    send(&mut receiver, ack(AckKind::PubAck, id)).await;
                }
            }
            Packet::Ack(release) => {
                assert_eq!(release.kind, AckKind::PubRel);
                open -= 1;
                send(&mut receiver, ack(AckKind::PubComp, release.id.get())).await;
            }
            other => panic!("{other:?}"),
        }
    }
    publishing.await.expect("everything was acknowledged");
    while storage.low().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_drained_at_qos_1() {
    a_full_disk_is_drained(QoS::AtLeastOnce).await;
}

#[tokio::test]
async fn a_full_disk_is_drained_at_qos_2() {
    a_full_disk_is_drained(QoS::ExactlyOnce).await;
}
