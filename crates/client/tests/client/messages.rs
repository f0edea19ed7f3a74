//! What the server sends to the client.

use crate::support::{ALL_VERSIONS, ack, ack_with, connected, message, publish, simple};
use bytes::Bytes;
use martlet_client::codec::{
    AckKind, Packet, Property, PropsBuf, Publish, QoS, ReasonCode, Version,
};
use martlet_client::{ConnectOptions, Disconnected, Error, Event, PublishRequest};

#[tokio::test]
async fn messages_arrive_and_are_acknowledged() {
    for version in ALL_VERSIONS {
        let (_client, mut events, mut server) = simple(version).await;
        for (qos, number) in [
            (QoS::AtMostOnce, 0),
            (QoS::AtLeastOnce, 7),
            (QoS::ExactlyOnce, 7),
        ] {
            let sent = publish("a/b", qos, number);
            server.send(&Packet::Publish(sent)).await.unwrap();
            let got = message(&mut events).await;
            assert_eq!((got.topic.as_str(), got.qos), ("a/b", qos));
            assert_eq!(got.payload, Bytes::from_static(b"payload"));
            assert!(!got.dup && !got.retain && got.props.is_empty());
            match qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => server.expect(&ack(AckKind::PubAck, 7)).await.unwrap(),
                QoS::ExactlyOnce => {
                    server.expect(&ack(AckKind::PubRec, 7)).await.unwrap();
                    server.send(&ack(AckKind::PubRel, 7)).await.unwrap();
                    server.expect(&ack(AckKind::PubComp, 7)).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_qos2_message_is_delivered_once() {
    let (_client, mut events, mut server) = simple(Version::V5).await;
    let first = publish("first", QoS::ExactlyOnce, 3);
    server.send(&Packet::Publish(first)).await.unwrap();
    let again = Publish { dup: true, ..first };
    server.send(&Packet::Publish(again)).await.unwrap();
    server.expect(&ack(AckKind::PubRec, 3)).await.unwrap();
    server.expect(&ack(AckKind::PubRec, 3)).await.unwrap();
    server.send(&ack(AckKind::PubRel, 3)).await.unwrap();
    server.expect(&ack(AckKind::PubComp, 3)).await.unwrap();
    // Once released, the identifier stands for a new message.
    let second = publish("second", QoS::ExactlyOnce, 3);
    server.send(&Packet::Publish(second)).await.unwrap();
    assert_eq!(message(&mut events).await.topic, "first");
    assert_eq!(message(&mut events).await.topic, "second");
    server.expect(&ack(AckKind::PubRec, 3)).await.unwrap();
}

#[tokio::test]
async fn answers_to_what_is_unknown() {
    let unknown = ReasonCode::PacketIdentifierNotFound;
    for (version, reason) in [(Version::V311, ReasonCode::Success), (Version::V5, unknown)] {
        let (_client, _events, mut server) = simple(version).await;
        server.send(&ack(AckKind::PubRel, 9)).await.unwrap();
        server
            .expect(&ack_with(AckKind::PubComp, 9, reason))
            .await
            .unwrap();
        server.send(&ack(AckKind::PubRec, 9)).await.unwrap();
        server
            .expect(&ack_with(AckKind::PubRel, 9, reason))
            .await
            .unwrap();
        // These call for nothing.
        server.send(&ack(AckKind::PubAck, 9)).await.unwrap();
        server.send(&ack(AckKind::PubComp, 9)).await.unwrap();
        server.send(&ack(AckKind::PubRel, 10)).await.unwrap();
        server
            .expect(&ack_with(AckKind::PubComp, 10, reason))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn topic_aliases_are_resolved() {
    let options = ConnectOptions::default().topic_alias_maximum(2);
    let (_client, mut events, mut server) = connected(options, PropsBuf::new()).await;
    for (topic, alias, resolved) in [
        ("a", 1, "a"),
        ("", 1, "a"),
        ("b", 2, "b"),
        ("", 1, "a"),
        ("c", 1, "c"),
        ("", 1, "c"),
        ("", 2, "b"),
    ] {
        let mut props = PropsBuf::new();
        props
            .push(Property::UserProperty("k", "v"))
            .push(Property::TopicAlias(alias));
        let sent = Publish {
            topic,
            props: props.as_props(),
            ..publish("", QoS::AtMostOnce, 0)
        };
        server.send(&Packet::Publish(sent)).await.unwrap();
        let got = message(&mut events).await;
        assert_eq!(got.topic, resolved);
        let expected = PropsBuf::new().with(Property::UserProperty("k", "v"));
        assert_eq!(got.props, expected);
    }
}

#[tokio::test]
async fn broken_rules_of_the_server_are_told_and_end_the_connection() {
    let alias = |alias| PropsBuf::new().with(Property::TopicAlias(alias));
    let with = |topic, props: &PropsBuf| {
        let mut bytes = Vec::new();
        let sent = Publish {
            topic,
            props: props.as_props(),
            ..publish("", QoS::AtMostOnce, 0)
        };
        Packet::Publish(sent)
            .encode(Version::V5, &mut bytes)
            .unwrap();
        bytes
    };
    let qos2 = |number| {
        let mut bytes = Vec::new();
        let sent = publish("a", QoS::ExactlyOnce, number);
        Packet::Publish(sent)
            .encode(Version::V5, &mut bytes)
            .unwrap();
        bytes
    };
    for (bytes, reason) in [
        (with("a", &alias(3)), ReasonCode::TopicAliasInvalid),
        (with("", &alias(1)), ReasonCode::ProtocolError),
        (
            [qos2(1), qos2(2), qos2(3)].concat(),
            ReasonCode::ReceiveMaximumExceeded,
        ),
        (b"\xC0\x00".to_vec(), ReasonCode::ProtocolError),
        (b"\xF0\x02\x18\x00".to_vec(), ReasonCode::ProtocolError),
        (b"\x30\x00".to_vec(), ReasonCode::MalformedPacket),
        (b"\x30\xFF\xFF\x7F".to_vec(), ReasonCode::PacketTooLarge),
    ] {
        let options = ConnectOptions::default()
            .topic_alias_maximum(2)
            .receive_maximum(2)
            .max_packet_bytes(1000);
        let (client, mut events, mut server) = connected(options, PropsBuf::new()).await;
        server.send_bytes(&bytes).await.unwrap();
        let told = loop {
            let packet = server.receive().await.unwrap();
            if let Packet::Disconnect(disconnect) = packet.packet() {
                break disconnect.reason;
            }
        };
        assert_eq!(told, reason, "{bytes:02x?}");
        server.expect_eof().await.unwrap();
        drop(server);
        let cause = loop {
            match events.next().await {
                Some(Event::Message(_)) => {}
                Some(Event::Disconnected(cause)) => break cause,
                None => panic!("no cause"),
            }
        };
        assert!(
            matches!(
                cause,
                Disconnected::Protocol { .. } | Disconnected::Decode(_)
            ),
            "{cause:?}"
        );
        let error = client.publish(PublishRequest::new("a", "")).await;
        assert!(matches!(error, Err(Error::Disconnected(_))), "{error:?}");
    }
}

#[tokio::test]
async fn without_listeners_messages_are_still_acknowledged() {
    let (client, events, mut server) = simple(Version::V5).await;
    drop(events);
    for number in 1..=1000 {
        let sent = publish("a", QoS::AtLeastOnce, number);
        server.send(&Packet::Publish(sent)).await.unwrap();
        server.expect(&ack(AckKind::PubAck, number)).await.unwrap();
    }
    client.publish(PublishRequest::new("a", "")).await.unwrap();
}

#[tokio::test]
async fn a_full_event_queue_stops_reading_and_nothing_is_lost() {
    let options = ConnectOptions::default().event_queue_max(3);
    let (client, mut events, mut server) = connected(options, PropsBuf::new()).await;
    let send = tokio::spawn(async move {
        for number in 1..=100 {
            let sent = publish("a", QoS::AtLeastOnce, number);
            server.send(&Packet::Publish(sent)).await.unwrap();
        }
        server
    });
    let mut server = send.await.unwrap();
    // Sending still works meanwhile.
    client
        .publish(PublishRequest::new("out", ""))
        .await
        .unwrap();
    let mut acknowledged = 0;
    loop {
        let packet = server.receive().await.unwrap();
        match packet.packet() {
            Packet::Ack(_) => acknowledged += 1,
            Packet::Publish(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged <= 4, "three in the queue, one in hand");
    for _ in 1..=100 {
        message(&mut events).await;
    }
    for number in acknowledged + 1..=100 {
        server.expect(&ack(AckKind::PubAck, number)).await.unwrap();
    }
}

#[tokio::test]
async fn large_messages_both_ways() {
    let (client, mut events, mut server) = simple(Version::V5).await;
    let payload: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = Packet::Publish(Publish {
        payload: &payload,
        ..publish("a", QoS::AtLeastOnce, 1)
    });
    let (sent, got) = tokio::join!(server.send(&sent), message(&mut events));
    sent.unwrap();
    assert!(got.payload == payload);
    server.expect(&ack(AckKind::PubAck, 1)).await.unwrap();
    let (outcome, packet) = tokio::join!(
        client.publish(PublishRequest::new("b", payload.clone())),
        server.receive()
    );
    outcome.unwrap();
    let packet = packet.unwrap();
    assert!(matches!(packet.packet(), Packet::Publish(publish) if publish.payload == payload));
}
