//! PUBLISH: what is accepted, what is refused, what reaches the subscriber and in which shape.

use crate::prelude::*;

/// Connects, sends these bytes, and expects the connection to end with one of `codes`.
async fn refused(version: Version, bytes: &[u8], codes: &[ReasonCode]) {
    let mut c = client(version).connect(Broker::shared().await).await;
    c.send_raw(bytes).await;
    if !version.is_v5() {
        c.expect_closed().await;
        return;
    }
    match c.packet().await {
        Packet::Disconnect(disconnect) => {
            assert!(
                codes.iter().any(|&code| code as u8 == disconnect.code),
                "{disconnect:?} for {bytes:02x?}"
            );
        }
        other => panic!("expected DISCONNECT, got {other:?} for {bytes:02x?}"),
    }
    c.expect_closed().await;
}

// shows: 5.0 MQTT-2.2.1-2, MQTT-3.3.2-1, MQTT-3.3.2-3, MQTT-4.3.1-1, MQTT-3.3.1-2, MQTT-3.3.4-1, MQTT-2.2.2-1
// shows: 3.1.1 MQTT-2.3.1-5, MQTT-3.3.2-1, MQTT-3.3.2-3, MQTT-4.3.1-1, MQTT-3.3.1-2, MQTT-3.3.4-1
#[tokio::test]
async fn a_qos_0_message_arrives_byte_for_byte() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("t/");
        let mut subscriber = client(version).connect(broker).await;
        subscriber.subscribe(&topic, 0).await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "payload"))
            .await;
        subscriber.expect_message("payload").await;
        // Nothing but the topic, no identifier, a property length of zero in version 5, and the payload.
        assert_eq!(subscriber.last, publish(&topic, "payload").bytes(version));
    }
}

// shows: 5.0 MQTT-3.3.4-1, MQTT-2.2.1-5; 3.1.1 MQTT-3.3.4-1, MQTT-2.3.1-6
#[tokio::test]
async fn each_qos_is_answered_as_it_demands() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("t/");
        let mut c = client(version).connect(broker).await;
        c.send(publish(&topic, "0")).await;
        c.expect_nothing().await;
        c.send(publish(&topic, "1").qos1(0x1234)).await;
        c.expect_puback(0x1234).await;
        c.send(publish(&topic, "2").qos2(0xFFFF)).await;
        c.expect_pubrec(0xFFFF).await;
        c.send(pubrel(0xFFFF)).await;
        c.expect_pubcomp(0xFFFF).await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.7.2-1, MQTT-3.6.2-1
#[tokio::test]
async fn acknowledgements_carry_codes_of_their_tables() {
    let broker = Broker::shared().await;
    let topic = unique("t/");
    let mut c = client(V5).connect(broker).await;
    let mut subscriber = client(V5).connect(broker).await;
    // Nobody subscribes: 0x10 says so, 0x00 does as well. The strict reader refuses codes beyond the table.
    c.send(publish(&topic, "1").qos1(1)).await;
    assert!([0x00, 0x10].contains(&c.expect_puback(1).await.code));
    c.send(publish(&topic, "2").qos2(2)).await;
    assert!([0x00, 0x10].contains(&c.expect_pubrec(2).await.code));
    c.send(pubrel(2)).await;
    assert_eq!(c.expect_pubcomp(2).await.code, 0);
    subscriber.subscribe(&topic, 2).await;
    c.send(publish(&topic, "1").qos1(1)).await;
    assert_eq!(c.expect_puback(1).await.code, 0);
    c.send(publish(&topic, "2").qos2(2)).await;
    assert_eq!(c.expect_pubrec(2).await.code, 0);
    c.send(pubrel(2)).await;
    c.expect_pubcomp(2).await;
    subscriber.expect_message("1").await;
    let two = subscriber.expect_publish().await.id.expect("QoS 2");
    subscriber.send(pubrec(two)).await;
    assert_eq!(subscriber.expect_pubrel(two).await.code, 0);
    subscriber.send(pubcomp(two)).await;
    // A PUBREL and a PUBREC for identifiers nobody uses.
    c.send(pubrel(999)).await;
    assert!([0x00, 0x92].contains(&c.expect_pubcomp(999).await.code));
    c.send(pubrec(998)).await;
    assert!([0x00, 0x92].contains(&c.expect_pubrel(998).await.code));
    c.expect_nothing().await;
}

// shows: 5.0 MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18, MQTT-3.3.2-20
#[tokio::test]
async fn properties_are_passed_on_unchanged() {
    let broker = Broker::shared().await;
    let topic = unique("t/");
    let mut subscriber = client(V5).connect(broker).await;
    subscriber.subscribe(&topic, 2).await;
    let mut publisher = client(V5).connect(broker).await;
    for (qos, format) in [(0, 0), (1, 1), (2, 1)] {
        let message = publish(&topic, "message")
            .qos(qos, 7)
            .with(prop::user("k", "first"))
            .with(prop::content_type("application/x-\u{fc}"))
            .with(prop::user("a", "second"))
            .with(prop::response_topic("answer/to//me/"))
            .with(prop::correlation_data(&[0, 1, 2, 0xFF, 0xC0, 0]))
            .with(prop::payload_format(format))
            .with(prop::user("k", "first"))
            .with(prop::user("", ""));
        publisher.publish(message).await;
        let seen = subscriber.expect_message("message").await.properties;
        assert_eq!(
            find::user(&seen),
            [("k", "first"), ("a", "second"), ("k", "first"), ("", "")]
        );
        assert_eq!(
            find::text(&seen, property::CONTENT_TYPE),
            Some("application/x-\u{fc}")
        );
        assert_eq!(
            find::text(&seen, property::RESPONSE_TOPIC),
            Some("answer/to//me/")
        );
        assert_eq!(
            find::binary(&seen, property::CORRELATION_DATA),
            Some(&[0, 1, 2, 0xFF, 0xC0, 0][..])
        );
        assert_eq!(
            find::number(&seen, property::PAYLOAD_FORMAT),
            Some(u32::from(format))
        );
        assert_eq!(seen.len(), 8, "and nothing else: {seen:?}");
    }
}

// The same through the retained store and through the queue of a session that is away.
// shows: 5.0 MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18, MQTT-3.3.2-20
#[tokio::test]
async fn stored_messages_keep_their_properties() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut away = client(V5).id(&id).resume().connect(broker).await;
    away.subscribe(&topic, 1).await;
    away.leave().await;
    let message = publish(&topic, "message")
        .qos1(7)
        .retain()
        .with(prop::user("b", "1"))
        .with(prop::user("a", "2"))
        .with(prop::content_type("text"))
        .with(prop::response_topic("answers"))
        .with(prop::correlation_data(&[9, 0]))
        .with(prop::payload_format(1));
    client(V5).connect(broker).await.publish(message).await;

    let mut queued = client(V5).id(&id).resume().connect(broker).await;
    let mut late = client(V5).connect(broker).await;
    late.send(subscribe(1, &topic, 1)).await;
    late.expect_suback(1, &[1]).await;
    for c in [&mut queued, &mut late] {
        let seen = c.expect_message("message").await.properties;
        assert_eq!(find::user(&seen), [("b", "1"), ("a", "2")]);
        assert_eq!(find::text(&seen, property::CONTENT_TYPE), Some("text"));
        assert_eq!(find::text(&seen, property::RESPONSE_TOPIC), Some("answers"));
        assert_eq!(
            find::binary(&seen, property::CORRELATION_DATA),
            Some(&[9, 0][..])
        );
        assert_eq!(find::number(&seen, property::PAYLOAD_FORMAT), Some(1));
    }
}

// shows: 5.0 MQTT-1.5.4-3; 3.1.1 MQTT-1.5.3-3
#[tokio::test]
async fn a_byte_order_mark_in_text_stays() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = format!("\u{FEFF}{}/\u{FEFF}x", unique("t"));
        let mut subscriber = client(version).connect(broker).await;
        subscriber.subscribe(&topic, 0).await;
        let mut message = publish(&topic, "marked");
        if version.is_v5() {
            message = message.with(prop::user("\u{FEFF}k", "v\u{FEFF}"));
        }
        client(version).connect(broker).await.publish(message).await;
        let seen = subscriber.expect_message("marked").await;
        assert_eq!(seen.topic_text(), topic);
        if version.is_v5() {
            assert_eq!(find::user(&seen.properties), [("\u{FEFF}k", "v\u{FEFF}")]);
        }
        // Without the mark it is another topic.
        let mut other = client(version).connect(broker).await;
        other
            .subscribe(topic.trim_start_matches('\u{FEFF}'), 0)
            .await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "marked"))
            .await;
        other.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.3.1-4; 3.1.1 MQTT-3.3.1-4
#[tokio::test]
async fn qos_3_is_malformed() {
    for version in BOTH {
        let mut message = publish("t", "x");
        (message.qos, message.id) = (3, Some(1));
        refused(
            version,
            &message.bytes(version),
            &[ReasonCode::MalformedPacket],
        )
        .await;
    }
}

// shows: 5.0 MQTT-3.3.1-2; 3.1.1 MQTT-3.3.1-2
#[tokio::test]
async fn dup_at_qos_0_is_refused() {
    for version in BOTH {
        let codes = [ReasonCode::MalformedPacket, ReasonCode::ProtocolError];
        refused(version, &publish("t", "x").dup().bytes(version), &codes).await;
    }
}

// shows: 5.0 MQTT-3.3.2-2, MQTT-4.7.0-1; 3.1.1 MQTT-3.3.2-2, MQTT-4.7.1-1
#[tokio::test]
async fn wildcards_in_topic_names_are_refused() {
    for version in BOTH {
        for topic in ["a/+", "#", "a/#", "+", "a+b", "a/b#"] {
            let codes = [
                ReasonCode::TopicNameInvalid,
                ReasonCode::MalformedPacket,
                ReasonCode::ProtocolError,
            ];
            refused(version, &publish(topic, "x").bytes(version), &codes).await;
        }
    }
}

// shows: 5.0 MQTT-4.7.3-1; 3.1.1 MQTT-4.7.3-1
#[tokio::test]
async fn an_empty_topic_name_is_refused() {
    for version in BOTH {
        let codes = [
            ReasonCode::ProtocolError,
            ReasonCode::TopicNameInvalid,
            ReasonCode::MalformedPacket,
        ];
        refused(version, &publish("", "x").bytes(version), &codes).await;
    }
}

// shows: 5.0 MQTT-3.3.2-1, MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-4.7.3-2; 3.1.1 MQTT-3.3.2-1, MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-4.7.3-2
#[tokio::test]
async fn topic_names_are_well_formed_text() {
    let ill_formed: [&[u8]; 6] = [
        b"\xFF",
        b"a/\xC3",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xC0\x80",
        b"a\0b",
    ];
    for version in BOTH {
        for topic in ill_formed {
            let codes = [ReasonCode::MalformedPacket, ReasonCode::TopicNameInvalid];
            refused(version, &publish(topic, "x").bytes(version), &codes).await;
        }
    }
}

// shows: 5.0 MQTT-3.3.2-13, MQTT-3.3.2-14, MQTT-3.3.2-19, MQTT-1.5.7-1
#[tokio::test]
async fn texts_among_publish_properties_are_checked() {
    let malformed = [ReasonCode::MalformedPacket];
    let cases = [
        prop::raw(property::RESPONSE_TOPIC, b"\0\x01\xFF"),
        prop::raw(property::RESPONSE_TOPIC, b"\0\x02a\0"),
        prop::raw(property::CONTENT_TYPE, b"\0\x03\xED\xA0\x80"),
        prop::raw(property::CONTENT_TYPE, b"\0\x01\0"),
        prop::raw(property::USER_PROPERTY, b"\0\x01\xFF\0\x01v"),
        prop::raw(property::USER_PROPERTY, b"\0\x01n\0\x01\xFF"),
    ];
    for case in cases {
        refused(V5, &publish("t", "x").with(case).bytes(V5), &malformed).await;
    }
    for topic in ["a/#", "+/b", "#"] {
        let codes = [
            ReasonCode::ProtocolError,
            ReasonCode::TopicNameInvalid,
            ReasonCode::MalformedPacket,
        ];
        refused(
            V5,
            &publish("t", "x")
                .with(prop::response_topic(topic))
                .bytes(V5),
            &codes,
        )
        .await;
    }
}

// shows: 5.0 MQTT-3.3.4-6
#[tokio::test]
async fn a_subscription_identifier_from_a_client_is_a_protocol_error() {
    refused(
        V5,
        &publish("t", "x").with(prop::subscription_id(1)).bytes(V5),
        &[ReasonCode::ProtocolError],
    )
    .await;
}

// Properties given twice, in the wrong packet, or with values they may not have (2.2.2.2, 3.3.2.3).
#[tokio::test]
async fn publish_properties_are_checked() {
    let codes = [ReasonCode::ProtocolError, ReasonCode::MalformedPacket];
    let cases = [
        vec![prop::payload_format(2)],
        vec![prop::payload_format(1), prop::payload_format(1)],
        vec![prop::message_expiry(1), prop::message_expiry(1)],
        vec![prop::content_type("a"), prop::content_type("a")],
        vec![prop::response_topic("a"), prop::response_topic("a")],
        vec![prop::correlation_data(b"a"), prop::correlation_data(b"a")],
        vec![prop::topic_alias(1), prop::topic_alias(1)],
        vec![prop::session_expiry(1)],
        vec![prop::will_delay(1)],
        vec![prop::reason_string("no")],
        vec![prop::receive_maximum(1)],
        vec![prop::raw(0x00, &[])],
        vec![prop::raw(0x7F, &[0])],
    ];
    for case in cases {
        let mut message = publish("t", "x");
        message.properties = case;
        refused(V5, &message.bytes(V5), &codes).await;
    }
}

// shows: 3.1.1 MQTT-2.3.1-1
#[tokio::test]
async fn packet_identifier_zero_is_refused() {
    for version in BOTH {
        let codes = [ReasonCode::ProtocolError, ReasonCode::MalformedPacket];
        let packets = [
            publish("t", "x").qos1(0).bytes(version),
            publish("t", "x").qos2(0).bytes(version),
            subscribe(0, "t", 0).bytes(version),
            unsubscribe(0, "t").bytes(version),
        ];
        for packet in packets {
            refused(version, &packet, &codes).await;
        }
    }
}

// shows: 5.0 MQTT-4.5.0-1; 3.1.1 MQTT-4.5.0-1
#[tokio::test]
async fn a_message_reaches_every_matching_session() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let root = unique("t");
        let away = unique("c");
        let mut absent = client(version).id(&away).resume().connect(broker).await;
        absent.subscribe(format!("{root}/#"), 1).await;
        absent.leave().await;
        let mut listeners = Vec::new();
        for filter in [
            format!("{root}/a/b"),
            format!("{root}/+/b"),
            format!("{root}/#"),
            format!("{root}/a/b/#"),
        ] {
            let mut c = client(version).connect(broker).await;
            c.subscribe(filter, 1).await;
            listeners.push(c);
        }
        let mut publisher = client(version).connect(broker).await;
        publisher.subscribe(format!("{root}/a/+"), 0).await;
        publisher
            .send(publish(format!("{root}/a/b"), "to all").qos1(1))
            .await;
        for c in &mut listeners {
            c.expect_message("to all").await;
            c.expect_nothing().await;
        }
        client(version)
            .id(&away)
            .resume()
            .connect(broker)
            .await
            .expect_message("to all")
            .await;
        let own: Vec<Packet> = [publisher.packet().await, publisher.packet().await].into();
        assert!(own.iter().any(
            |packet| matches!(packet, Packet::Publish(message) if message.text() == "to all")
        ));
    }
}

// shows: 5.0 MQTT-4.3.1-1; 3.1.1 MQTT-4.3.1-1
#[tokio::test]
async fn a_message_is_delivered_once() {
    let broker = Broker::shared().await;
    for version in BOTH {
        for qos in 0..=2 {
            let topic = unique("t/");
            let mut subscriber = client(version).connect(broker).await;
            subscriber.subscribe(&topic, qos).await;
            client(version)
                .connect(broker)
                .await
                .publish(publish(&topic, "once").qos(qos, 1))
                .await;
            let seen = subscriber.expect_message("once").await;
            assert_eq!((seen.qos, seen.dup), (qos, false));
            subscriber.expect_nothing().await;
        }
    }
}

// shows: 5.0 MQTT-4.6.0-5, MQTT-4.6.0-6; 3.1.1 MQTT-4.6.0-5, MQTT-4.6.0-6
#[tokio::test]
async fn messages_of_a_topic_arrive_in_order() {
    let broker = Broker::shared().await;
    for version in BOTH {
        for qos in [0, 1, 2] {
            let topic = unique("t/");
            let mut subscriber = client(version).connect(broker).await;
            subscriber.subscribe(&topic, qos).await;
            let mut publisher = client(version).connect(broker).await;
            let burst: Vec<u8> = (1..=15)
                .flat_map(|number: u16| {
                    publish(&topic, format!("{number}"))
                        .qos(qos, number)
                        .bytes(version)
                })
                .collect();
            publisher.send_raw(&burst).await;
            let mut open = if qos == 0 { 0 } else { 15 };
            while open > 0 {
                match publisher.packet().await {
                    Packet::Ack(ack) if ack.kind == kind::PUBREC => {
                        publisher.send(pubrel(ack.id)).await;
                    }
                    Packet::Ack(_) => open -= 1,
                    other => panic!("{other:?}"),
                }
            }
            let mut arrived = Vec::new();
            while arrived.len() < 15 {
                match subscriber.packet().await {
                    Packet::Publish(message) => {
                        arrived.push(message.text());
                        match (message.qos, message.id) {
                            (1, Some(id)) => subscriber.send(puback(id)).await,
                            (2, Some(id)) => subscriber.send(pubrec(id)).await,
                            _ => {}
                        }
                    }
                    Packet::Ack(ack) => subscriber.send(pubcomp(ack.id)).await,
                    other => panic!("{other:?}"),
                }
            }
            let expected: Vec<String> = (1..=15).map(|number| number.to_string()).collect();
            assert_eq!(arrived, expected, "{version:?} at QoS {qos}");
        }
    }
}

// shows: 5.0 MQTT-3.8.4-8, MQTT-3.8.4-7; 3.1.1 MQTT-3.8.4-6
#[tokio::test]
async fn delivery_qos_is_the_lower_of_published_and_granted() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let mut publisher = client(version).connect(broker).await;
        for granted in 0..=2 {
            let topic = unique("t/");
            let mut subscriber = client(version).connect(broker).await;
            subscriber.subscribe(&topic, granted).await;
            for published in 0..=2 {
                publisher
                    .publish(publish(&topic, format!("{published}")).qos(published, 1))
                    .await;
                let seen = subscriber.expect_message(&format!("{published}")).await;
                assert_eq!(
                    seen.qos,
                    granted.min(published),
                    "published {published}, granted {granted}"
                );
            }
        }
    }
}

// shows: 5.0 MQTT-3.3.2-5
#[tokio::test]
async fn an_expired_message_is_not_delivered() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    c.subscribe(&topic, 2).await;
    c.leave().await;
    let mut publisher = client(V5).connect(broker).await;
    publisher
        .publish(
            publish(&topic, "short")
                .qos1(1)
                .with(prop::message_expiry(1)),
        )
        .await;
    publisher
        .publish(
            publish(&topic, "short too")
                .qos2(1)
                .with(prop::message_expiry(1)),
        )
        .await;
    publisher
        .publish(
            publish(&topic, "long")
                .qos1(1)
                .with(prop::message_expiry(100)),
        )
        .await;
    publisher
        .publish(
            publish(&topic, "retained")
                .retain()
                .with(prop::message_expiry(1)),
        )
        .await;
    sleep(Duration::from_millis(2_100)).await;
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    c.expect_message("long").await;
    c.expect_nothing().await;
    let mut late = client(V5).connect(broker).await;
    late.subscribe(&topic, 0).await;
    late.expect_nothing().await;
}

// shows: 5.0 MQTT-3.3.2-6
#[tokio::test]
async fn the_forwarded_expiry_is_less_the_time_waited() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    c.subscribe(&topic, 1).await;
    let mut publisher = client(V5).connect(broker).await;
    publisher
        .publish(
            publish(&topic, "at once")
                .qos1(1)
                .with(prop::message_expiry(100)),
        )
        .await;
    let seen = c.expect_message("at once").await;
    assert!(matches!(
        find::number(&seen.properties, property::MESSAGE_EXPIRY),
        Some(98..=100)
    ));
    c.leave().await;

    publisher
        .publish(
            publish(&topic, "later")
                .qos1(1)
                .retain()
                .with(prop::message_expiry(100)),
        )
        .await;
    sleep(Duration::from_millis(2_100)).await;
    let mut queued = client(V5).id(&id).resume().connect(broker).await;
    let mut late = client(V5).connect(broker).await;
    late.subscribe(&topic, 1).await;
    for c in [&mut queued, &mut late] {
        let seen = c.expect_message("later").await;
        let left = find::number(&seen.properties, property::MESSAGE_EXPIRY);
        assert!(matches!(left, Some(90..=98)), "{left:?} of 100 s after 2 s");
    }
}

// shows: 5.0 MQTT-3.3.2-3, MQTT-4.7.3-3; 3.1.1 MQTT-3.3.2-3, MQTT-4.7.3-3
#[tokio::test]
async fn long_topics_payloads_and_binary_bytes_pass_unharmed() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = format!("{}/{}", unique("t"), "l".repeat(3_000));
        let mut subscriber = client(version).connect(broker).await;
        subscriber.subscribe(&topic, 1).await;
        let mut publisher = client(version).connect(broker).await;
        for length in [0, 1, 127, 128, 16_383, 16_384, 300_000] {
            let payload: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            publisher.publish(publish(&topic, &payload).qos1(1)).await;
            let seen = subscriber.expect_publish().await;
            assert!(
                seen.payload == payload && seen.topic_text() == topic,
                "{length} bytes"
            );
            subscriber.acknowledge(&seen).await;
        }
        // A topic of 65,535 bytes is legal on the wire: delivered, or refused as too long, never cut.
        let longest = "m".repeat(65_535);
        publisher.send(publish(&longest, "x").qos1(2)).await;
        match publisher.event().await {
            Event::Closed => assert!(!version.is_v5(), "version 5 is told"),
            Event::Packet(Packet::Ack(ack)) => assert_eq!(ack.id, 2),
            Event::Packet(Packet::Disconnect(disconnect)) => {
                assert!([0x90, 0x95].contains(&disconnect.code));
            }
            Event::Packet(other) => panic!("{other:?}"),
        }
    }
}
