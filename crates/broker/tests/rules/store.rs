//! What waits for the store (architecture section 7), shown with a store that commits when told.

use std::sync::Arc;
use std::time::Duration;

use martlet_codec::{
    AckKind, Connect, Packet, Property, Props, PropsBuf, QoS, ReasonCode, Unsubscribe,
    UnsubscribeFiltersBuf, Version, Will,
};

use crate::ground::{
    ack, connect_packet, connected, expect_ack, expect_connack, expect_silence, expect_suback, id,
    open, payload, publish, quiet, send, send_subscribe, subscribed, with_store,
};

/// A session that is stored, with one subscription; everything so far is committed.
async fn durable(
    broker: &martlet_broker::Broker,
    committer: &martlet_storage::ManualCommitter,
    client_id: &str,
    filter: &str,
    qos: QoS,
) -> martlet_client::RawConnection {
    let mut client = open(broker, Version::V311);
    send(
        &mut client,
        Packet::Connect(connect_packet(client_id, Version::V311, false)),
    )
    .await;
    commit_when_pending(committer).await;
    expect_connack(&mut client, false).await;
    send_subscribe(&mut client, 1, filter, qos).await;
    commit_when_pending(committer).await;
    expect_suback(&mut client, 1, qos).await;
    client
}

/// Waits until the broker has handed something in, then commits it.
async fn commit_when_pending(committer: &martlet_storage::ManualCommitter) {
    wait_until(|| committer.pending() > 0).await;
    committer.commit_all();
}

async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the broker did not do it in time");
}

#[tokio::test]
async fn connack_of_a_new_session_and_suback_wait_for_their_commit() {
    let (broker, committer) = with_store();
    let mut client = open(&broker, Version::V311);
    send(
        &mut client,
        Packet::Connect(connect_packet("a", Version::V311, false)),
    )
    .await;
    wait_until(|| committer.pending() > 0).await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.receive()).await;
    assert!(early.is_err(), "CONNACK waits");
    committer.commit_all();
    expect_connack(&mut client, false).await;

    send_subscribe(&mut client, 1, "t", QoS::AtLeastOnce).await;
    wait_until(|| committer.pending() > 0).await;
    expect_silence(&mut client).await;
    committer.commit_all();
    expect_suback(&mut client, 1, QoS::AtLeastOnce).await;
}

#[tokio::test]
async fn connack_waits_for_the_will_of_a_session_that_is_not_stored() {
    let (broker, committer) = with_store();
    let mut client = open(&broker, Version::V311);
    let connect = Connect {
        will: Some(Will {
            qos: QoS::ExactlyOnce,
            retain: false,
            props: Props::EMPTY,
            topic: "wills",
            payload: b"gone",
        }),
        ..connect_packet("a", Version::V311, true)
    };
    send(&mut client, Packet::Connect(connect)).await;
    wait_until(|| committer.pending() > 0).await;
    let early = tokio::time::timeout(Duration::from_millis(50), client.receive()).await;
    assert!(early.is_err(), "CONNACK waits for the will");
    committer.commit_all();
    expect_connack(&mut client, false).await;
}

#[tokio::test]
async fn a_client_that_waits_too_long_for_the_store_is_told_so() {
    for version in [Version::V311, Version::V5] {
        let mut config = quiet();
        config.limits.connect_timeout = Duration::from_millis(100);
        let committer = Arc::new(martlet_storage::ManualCommitter::default());
        let broker = martlet_broker::Broker::builder()
            .config(config)
            .committer(committer.clone())
            .start()
            .expect("sound settings");
        let mut client = open(&broker, version);
        // Stored, unlike a session of version 5 that ends with its connection.
        let mut props = PropsBuf::new();
        if version == Version::V5 {
            props.push(Property::SessionExpiry(60));
        }
        let connect = Connect {
            props: props.as_props(),
            ..connect_packet("a", version, false)
        };
        send(&mut client, Packet::Connect(connect)).await;
        wait_until(|| committer.pending() > 0).await;
        let answer = client.receive().await.expect("CONNACK");
        let Packet::ConnAck(connack) = answer.packet() else {
            panic!("expected CONNACK, got {answer:?}")
        };
        assert_eq!(connack.reason, ReasonCode::ServerUnavailable, "{version:?}");
        let text = connack.props.reason_string().unwrap_or_default();
        let says = text.contains("the store did not take the session");
        assert_eq!(says, version == Version::V5, "{text}");
    }
}

/// The simulator found it: a takeover by force forgot what the end of a connection means.
#[tokio::test]
async fn who_takes_over_from_one_that_waits_for_a_stalled_store_gets_a_new_session_and_the_will_fires()
 {
    let (broker, committer) = with_store();
    let mut witness = connected(&broker, "witness", true).await;
    subscribed(&mut witness, "wills", QoS::AtMostOnce).await;
    let connect = Connect {
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: false,
            props: Props::EMPTY,
            topic: "wills",
            payload: b"gone",
        }),
        ..connect_packet("a", Version::V5, false)
    };
    let mut first = open(&broker, Version::V5);
    send(&mut first, Packet::Connect(connect)).await;
    wait_until(|| committer.pending() > 0).await;
    // Nothing is committed until the broker's patience is over, which is five seconds.
    let mut second = open(&broker, Version::V5);
    let connect = connect_packet("a", Version::V5, false);
    send(&mut second, Packet::Connect(connect)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(payload(&mut witness).await, "gone");
    committer.commit_all();
    let packet = second.receive().await.expect("CONNACK");
    let Packet::ConnAck(connack) = packet.packet() else {
        panic!("expected CONNACK, got {packet:?}")
    };
    assert!(!connack.session_present, "its session ended with it");
}

#[tokio::test]
async fn qos_1_reaches_a_live_subscriber_at_once_and_puback_waits() {
    let (broker, committer) = with_store();
    let mut subscriber = durable(&broker, &committer, "s", "t", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    send(&mut publisher, publish("t", "one", QoS::AtLeastOnce, 5)).await;
    assert_eq!(payload(&mut subscriber).await, "one");
    expect_silence(&mut publisher).await;
    committer.commit_all();
    expect_ack(&mut publisher, AckKind::PubAck, 5).await;
}

#[tokio::test]
async fn acknowledgements_leave_in_order_of_receipt_behind_one_that_waits() {
    let (broker, committer) = with_store();
    let _subscriber = durable(&broker, &committer, "s", "t", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    send(&mut publisher, publish("t", "stored", QoS::AtLeastOnce, 5)).await;
    send(
        &mut publisher,
        publish("nobody", "not stored", QoS::AtLeastOnce, 6),
    )
    .await;
    expect_silence(&mut publisher).await;
    committer.commit_all();
    expect_ack(&mut publisher, AckKind::PubAck, 5).await;
    expect_ack(&mut publisher, AckKind::PubAck, 6).await;
}

#[tokio::test]
async fn qos_2_waits_in_both_directions_and_is_delivered_although_its_publisher_is_gone() {
    let (broker, committer) = with_store();
    let mut subscriber = durable(&broker, &committer, "s", "t", QoS::ExactlyOnce).await;
    let mut publisher = durable(&broker, &committer, "p", "unused", QoS::AtMostOnce).await;
    send(&mut publisher, publish("t", "one", QoS::ExactlyOnce, 5)).await;
    wait_until(|| committer.pending() > 0).await;
    expect_silence(&mut publisher).await;
    expect_silence(&mut subscriber).await;
    drop(publisher);
    wait_until(|| broker.clients_connected() == 1).await;
    // The message belongs to the broker now (rule 1).
    committer.commit_all();
    // Binding the packet id is itself a batch that PUBLISH waits for.
    commit_when_pending(&committer).await;
    assert_eq!(payload(&mut subscriber).await, "one");
    // PUBREL waits until "released" is stored.
    send(&mut subscriber, ack(AckKind::PubRec, 1)).await;
    wait_until(|| committer.pending() > 0).await;
    expect_silence(&mut subscriber).await;
    committer.commit_all();
    expect_ack(&mut subscriber, AckKind::PubRel, 1).await;
    send(&mut subscriber, ack(AckKind::PubComp, 1)).await;

    // The publisher comes back and sends it again: answered, not delivered twice.
    let mut publisher = open(&broker, Version::V311);
    send(
        &mut publisher,
        Packet::Connect(connect_packet("p", Version::V311, false)),
    )
    .await;
    commit_when_pending(&committer).await;
    expect_connack(&mut publisher, true).await;
    send(&mut publisher, publish("t", "one", QoS::ExactlyOnce, 5)).await;
    expect_ack(&mut publisher, AckKind::PubRec, 5).await;
    expect_silence(&mut subscriber).await;
    // PUBCOMP waits until the identifier is forgotten.
    committer.commit_all();
    send(&mut publisher, ack(AckKind::PubRel, 5)).await;
    wait_until(|| committer.pending() > 0).await;
    expect_silence(&mut publisher).await;
    committer.commit_all();
    expect_ack(&mut publisher, AckKind::PubComp, 5).await;
}

#[tokio::test]
async fn a_qos_2_message_that_needs_no_store_does_not_overtake_one_that_waits() {
    let (broker, committer) = with_store();
    let mut stored = durable(&broker, &committer, "stored", "t", QoS::ExactlyOnce).await;
    let mut witness = connected(&broker, "witness", true).await;
    subscribed(&mut witness, "t", QoS::ExactlyOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    send(&mut publisher, publish("t", "one", QoS::ExactlyOnce, 1)).await;
    wait_until(|| committer.pending() > 0).await;
    // With the durable subscriber gone, nothing that follows is stored.
    let mut filters = UnsubscribeFiltersBuf::new();
    filters.push("t").expect("a short filter");
    let unsubscribe = Unsubscribe {
        id: id(2),
        props: Props::EMPTY,
        filters: filters.as_filters(),
    };
    send(&mut stored, Packet::Unsubscribe(unsubscribe)).await;
    wait_until(|| committer.pending() > 1).await;
    send(&mut publisher, publish("t", "two", QoS::ExactlyOnce, 2)).await;
    expect_silence(&mut publisher).await;
    expect_silence(&mut witness).await;
    committer.commit_all();
    assert_eq!(payload(&mut witness).await, "one");
    assert_eq!(payload(&mut witness).await, "two");
}

#[tokio::test]
async fn qos_0_and_clean_sessions_store_nothing_and_wait_for_nothing() {
    let (broker, committer) = with_store();
    let mut subscriber = connected(&broker, "s", true).await;
    subscribed(&mut subscriber, "t", QoS::ExactlyOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    for (qos, packet_id) in [
        (QoS::AtMostOnce, 1),
        (QoS::AtLeastOnce, 2),
        (QoS::ExactlyOnce, 3),
    ] {
        send(&mut publisher, publish("t", "x", qos, packet_id)).await;
    }
    expect_ack(&mut publisher, AckKind::PubAck, 2).await;
    expect_ack(&mut publisher, AckKind::PubRec, 3).await;
    for _ in 0..3 {
        assert_eq!(payload(&mut subscriber).await, "x");
    }
    assert_eq!(committer.pending(), 0);
}

#[tokio::test]
async fn a_retained_message_is_stored_before_it_is_acknowledged() {
    let (broker, committer) = with_store();
    let mut publisher = connected(&broker, "p", true).await;
    let Packet::Publish(mut retained) = publish("t", "kept", QoS::AtLeastOnce, 5) else {
        unreachable!()
    };
    retained.retain = true;
    send(&mut publisher, Packet::Publish(retained)).await;
    wait_until(|| committer.pending() > 0).await;
    expect_silence(&mut publisher).await;
    committer.commit_all();
    expect_ack(&mut publisher, AckKind::PubAck, 5).await;
}

#[tokio::test]
async fn a_store_that_failed_acknowledges_nothing_and_admits_nobody() {
    let (broker, committer) = with_store();
    let _subscriber = durable(&broker, &committer, "s", "t", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    send(&mut publisher, publish("t", "one", QoS::AtLeastOnce, 5)).await;
    wait_until(|| committer.pending() > 0).await;
    committer.fail("the disk is gone");
    wait_until(|| broker.store_failed()).await;
    expect_silence(&mut publisher).await;
    let mut late = open(&broker, Version::V311);
    send(
        &mut late,
        Packet::Connect(connect_packet("late", Version::V311, true)),
    )
    .await;
    let answer = late.receive().await.expect("CONNACK");
    assert!(matches!(answer.packet(), Packet::ConnAck(connack) if connack.reason.is_error()));
}
