//! What one client may do to another: nothing (architecture rules 7, 8 and 15).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use martlet_broker::{
    Broker, Builder,
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Identity, Refusal},
};
use martlet_client::RawConnection;
use martlet_codec::{
    AckKind, Connect, Packet, Property, Props, PropsBuf, QoS, Unsubscribe, UnsubscribeFiltersBuf,
    Version,
};
use martlet_storage::ManualCommitter;

use crate::ground::{
    ack, builder, connect_packet, connected, expect_ack, expect_connack, expect_silence,
    expect_suback, id, open, payload, publish, quiet, send, send_subscribe, subscribed,
};
use crate::room::Slow;

/// Panics about one topic, at publishing or at delivery.
struct Explosive;

impl Authenticator for Explosive {
    fn authenticate(&self, _request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        Decision::Ready(Ok(0))
    }
}

impl Authorizer for Explosive {
    fn publish(&self, _who: &Identity, topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        assert_ne!(topic, "explode", "injected");
        Decision::Ready(true)
    }

    fn subscribe(&self, _who: &Identity, _filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        Decision::Ready(Some(qos))
    }

    fn judges_deliveries(&self, _who: &Identity) -> bool {
        true
    }

    fn deliver(&self, _who: &Identity, topic: &str) -> bool {
        assert_ne!(topic, "explode at delivery", "injected");
        true
    }
}

#[tokio::test]
async fn a_panic_ends_the_connection_and_session_it_happened_in_and_nothing_else() {
    let broker = builder()
        .access(Arc::new(Explosive), Arc::new(Explosive))
        .start()
        .expect("sound settings");
    let mut subscriber = connected(&broker, "s", true).await;
    subscribed(&mut subscriber, "#", QoS::AtLeastOnce).await;
    for topic in ["explode", "explode at delivery"] {
        let client_id = format!("victim of {topic}");
        let mut victim = connected(&broker, &client_id, false).await;
        send(&mut victim, publish(topic, "x", QoS::AtLeastOnce, 1)).await;
        victim.expect_eof().await.expect("closed");
        // Nothing half done is resumed.
        let mut again = open(&broker, Version::V311);
        send(
            &mut again,
            Packet::Connect(connect_packet(&client_id, Version::V311, false)),
        )
        .await;
        expect_connack(&mut again, false).await;
        send(&mut again, publish("fine", topic, QoS::AtLeastOnce, 2)).await;
        expect_ack(&mut again, AckKind::PubAck, 2).await;
        assert_eq!(payload(&mut subscriber).await, topic);
        send(&mut subscriber, ack(AckKind::PubAck, subscriber_id(topic))).await;
    }
    expect_silence(&mut subscriber).await;
}

/// The subscriber's packet ids count up from one.
fn subscriber_id(topic: &str) -> u16 {
    if topic == "explode" { 1 } else { 2 }
}

/// A client with a small pipe that subscribes to `filter` and then never reads again.
async fn deaf(broker: &Broker, filter: &str, qos: QoS) -> RawConnection {
    let (ours, theirs) = tokio::io::duplex(2_048);
    broker.attach(theirs, "deaf");
    let mut client = RawConnection::over(ours).version(Version::V311);
    send(
        &mut client,
        Packet::Connect(connect_packet("deaf", Version::V311, true)),
    )
    .await;
    expect_connack(&mut client, false).await;
    subscribed(&mut client, filter, qos).await;
    client
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_delays_and_costs_the_others_nothing() {
    let broker = builder().start().expect("sound settings");
    let _deaf = deaf(&broker, "t", QoS::AtMostOnce).await;
    let mut reader = connected(&broker, "reader", true).await;
    subscribed(&mut reader, "t", QoS::AtMostOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    let body = "x".repeat(512);
    // Twenty times what may wait for the one that does not read.
    let rounds = 20 * 4 * 1024 * 1024 / body.len() / 64;
    for _ in 0..rounds / 16 {
        for _ in 0..64 {
            send(&mut publisher, publish("t", &body, QoS::AtMostOnce, 0)).await;
        }
        for _ in 0..64 {
            assert_eq!(payload(&mut reader).await.len(), body.len());
        }
    }
    expect_silence(&mut publisher).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_still_has_its_own_messages_processed_up_to_a_bound() {
    // Answers it does not read pile up to a bound, then the broker stops reading from it.
    for kind in ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"] {
        let broker = builder().start().expect("sound settings");
        let (ours, theirs) = tokio::io::duplex(4_096);
        broker.attach(theirs, "deaf publisher");
        let mut deaf = RawConnection::over(ours).version(Version::V311);
        send(
            &mut deaf,
            Packet::Connect(connect_packet("deaf publisher", Version::V311, true)),
        )
        .await;
        expect_connack(&mut deaf, false).await;
        let mut sent = 0_u32;
        loop {
            let id = u16::try_from(sent % 60_000 + 1).expect("in range");
            let write = async {
                match kind {
                    "PUBLISH" => send(&mut deaf, publish("t", "x", QoS::AtLeastOnce, id)).await,
                    "SUBSCRIBE" => send_subscribe(&mut deaf, id, "t/+", QoS::AtLeastOnce).await,
                    _ => send_unsubscribe(&mut deaf, id, "t/+").await,
                }
            };
            let written = tokio::time::timeout(Duration::from_millis(300), write).await;
            if written.is_err() {
                break;
            }
            sent += 1;
            assert!(
                sent < 200_000,
                "the broker reads {kind} without end from a client that never reads"
            );
        }
        // Others are served meanwhile.
        let mut other = connected(&broker, "other", true).await;
        expect_silence(&mut other).await;
    }
}

async fn send_unsubscribe(client: &mut RawConnection, packet_id: u16, filter: &str) {
    let mut filters = UnsubscribeFiltersBuf::new();
    filters.push(filter).expect("a short filter");
    let packet = Packet::Unsubscribe(Unsubscribe {
        id: id(packet_id),
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    send(client, packet).await;
}

#[tokio::test]
async fn a_search_among_many_retained_messages_lets_others_have_their_turn() {
    let broker = builder().start().expect("sound settings");
    for n in 0..50_000 {
        let topic = format!("{n}/none");
        let kept = broker.publish(&topic, b"x", QoS::AtMostOnce, true);
        kept.expect("a topic name");
    }
    let mut searcher = connected(&broker, "searcher", true).await;
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let others = tokio::spawn(std::future::poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    // In a task, so that it has its turns as the others have theirs.
    let search = tokio::spawn(async move {
        let before = turns.load(Ordering::Relaxed);
        send_subscribe(&mut searcher, 1, "+/some", QoS::AtMostOnce).await;
        send_subscribe(&mut searcher, 2, "1/none", QoS::AtMostOnce).await;
        expect_suback(&mut searcher, 1, QoS::AtMostOnce).await;
        expect_suback(&mut searcher, 2, QoS::AtMostOnce).await;
        assert_eq!(payload(&mut searcher).await, "x");
        turns.load(Ordering::Relaxed) - before
    });
    let turns = search.await.expect("no panic");
    assert!(turns > 20, "others had {turns} turns");
    others.abort();
}

/// A broker whose queues hold few messages, and a subscriber of `t` at QoS 1 that takes even fewer at a time.
async fn with_small_queue(messages: usize, receive_maximum: u16) -> (Broker, RawConnection) {
    small_queue_and(messages, receive_maximum, |builder| builder).await
}

async fn small_queue_and(
    messages: usize,
    receive_maximum: u16,
    more: impl FnOnce(Builder) -> Builder,
) -> (Broker, RawConnection) {
    let mut config = quiet();
    config.limits.queued_messages_max = messages;
    let broker = more(Broker::builder().config(config).seed(7))
        .start()
        .expect("sound settings");
    let mut subscriber = open(&broker, Version::V5);
    let props = PropsBuf::new().with(Property::ReceiveMaximum(receive_maximum));
    let connect = Connect {
        props: props.as_props(),
        ..connect_packet("s", Version::V5, true)
    };
    send(&mut subscriber, Packet::Connect(connect)).await;
    subscriber.receive().await.expect("CONNACK");
    subscribed(&mut subscriber, "t", QoS::AtLeastOnce).await;
    (broker, subscriber)
}

/// The payload of the next message, which is acknowledged.
async fn take(subscriber: &mut RawConnection) -> Vec<u8> {
    let packet = subscriber.receive().await.expect("a message");
    let Packet::Publish(message) = packet.packet() else {
        panic!("expected PUBLISH, got {packet:?}")
    };
    let id = message.id.expect("QoS 1").get();
    send(subscriber, ack(AckKind::PubAck, id)).await;
    message.payload.to_vec()
}

// A client counts as live for a tenth of a second after it took something: of virtual time, which a busy machine does
// not use up.
#[tokio::test(start_paused = true)]
async fn more_publishers_than_the_queue_has_room_lose_nothing_to_a_live_client() {
    const PUBLISHERS: usize = 300;
    let (broker, mut subscriber) = with_small_queue(20, 1).await;
    let mut publishers = Vec::new();
    for n in 0..PUBLISHERS {
        publishers.push(connected(&broker, &format!("p{n}"), true).await);
    }
    for (n, publisher) in publishers.iter_mut().enumerate() {
        let text = n.to_string();
        send(publisher, publish("t", &text, QoS::AtLeastOnce, 1)).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..PUBLISHERS {
        seen.insert(take(&mut subscriber).await);
    }
    assert_eq!(seen.len(), PUBLISHERS);
}

// A client counts as live for a tenth of a second after it took something: of virtual time, which a busy machine does
// not use up.
#[tokio::test(start_paused = true)]
async fn a_fast_publisher_loses_nothing_to_a_live_client_with_a_small_window() {
    check_fast_publisher(|builder| builder).await;
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_whose_messages_are_decided_about_later() {
    check_fast_publisher(|builder| builder.access(Arc::new(Slow), Arc::new(Slow))).await;
}

async fn check_fast_publisher(more: impl FnOnce(Builder) -> Builder) {
    // mosquitto_sub announces a Receive Maximum of 20; the queue behind it is bounded.
    const MESSAGES: usize = 5_000;
    let (broker, mut subscriber) = small_queue_and(500, 20, more).await;
    let mut publisher = connected(&broker, "p", true).await;
    let burst = tokio::spawn(async move {
        for n in 0..MESSAGES {
            let id = u16::try_from(n + 1).expect("in range");
            send(
                &mut publisher,
                publish("t", &n.to_string(), QoS::AtLeastOnce, id),
            )
            .await;
        }
        publisher
    });
    for n in 0..MESSAGES {
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(take(&mut subscriber).await, n.to_string().as_bytes());
    }
    drop(burst.await);
}

#[tokio::test(start_paused = true)]
async fn a_fast_publisher_at_qos_2_loses_nothing_while_its_messages_wait_for_the_store() {
    const MESSAGES: u16 = 3_000;
    const WINDOW: u16 = 20;
    let committer = Arc::new(ManualCommitter::default());
    let stored = committer.clone();
    let (broker, mut subscriber) =
        small_queue_and(500, 20, |builder| builder.committer(stored)).await;
    let store = tokio::spawn(async move {
        loop {
            committer.commit_all();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut publisher = connected(&broker, "p", false).await;
    let burst = tokio::spawn(async move {
        for first in (1..=MESSAGES).step_by(usize::from(WINDOW)) {
            for n in first..first + WINDOW {
                let text = n.to_string();
                send(&mut publisher, publish("t", &text, QoS::ExactlyOnce, n)).await;
            }
            for n in first..first + WINDOW {
                expect_ack(&mut publisher, AckKind::PubRec, n).await;
            }
        }
        publisher
    });
    // Half as fast as a single window for each commit, and at work all the time.
    for n in 1..=MESSAGES {
        if n % (WINDOW / 2) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(take(&mut subscriber).await, n.to_string().as_bytes());
    }
    drop(burst.await);
    store.abort();
}
