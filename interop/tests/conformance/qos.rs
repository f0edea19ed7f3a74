//! Quality of service: both exchanges, both directions, broken off and resumed.

use crate::prelude::*;

/// A session of this version that has subscribed at QoS 2 to a new topic.
async fn subscribed(version: Version) -> (Client, String) {
    let mut c = client(version)
        .resume()
        .connect(Broker::shared().await)
        .await;
    let topic = unique("t/");
    c.subscribe(&topic, 2).await;
    (c, topic)
}

async fn publisher(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

async fn resumed(version: Version, id: &str) -> Client {
    let c = client(version)
        .id(id)
        .resume()
        .connect(Broker::shared().await)
        .await;
    assert!(c.connack.session_present);
    c
}

// shows: 5.0 MQTT-4.3.2-1, MQTT-4.3.2-2, MQTT-2.2.1-4, MQTT-4.3.3-1, MQTT-4.3.3-2
// shows: 3.1.1 MQTT-4.3.2-1, MQTT-2.3.1-4, MQTT-4.3.3-1, MQTT-2.3.1-1
#[tokio::test]
async fn the_server_uses_free_identifiers_and_no_dup_on_first_sending() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        let mut ids = Vec::new();
        for number in 0..10 {
            let qos = 1 + number % 2;
            p.publish(publish(&topic, format!("{number}")).qos(qos, 5))
                .await;
            let seen = c.expect_publish().await;
            assert_eq!(
                (seen.text(), seen.qos, seen.dup),
                (format!("{number}"), qos, false)
            );
            let id = seen.id.expect("an identifier above zero");
            assert!(!ids.contains(&id), "{id} is still in use");
            ids.push(id);
        }
    }
}

// shows: 5.0 MQTT-4.3.2-4, MQTT-4.3.2-5; 3.1.1 MQTT-4.3.2-2
#[tokio::test]
async fn after_puback_an_identifier_means_a_new_message() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        for message in [
            publish(&topic, "one"),
            publish(&topic, "two"),
            publish(&topic, "three").dup(),
        ] {
            let text = message.text();
            p.send(message.qos1(77)).await;
            p.expect_puback(77).await;
            c.expect_message(&text).await;
        }
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.3.3-8, MQTT-4.3.3-10, MQTT-4.3.3-11; 3.1.1 MQTT-4.3.3-2
#[tokio::test]
async fn a_repeated_qos_2_message_is_acknowledged_and_not_delivered_twice() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        p.send(publish(&topic, "once").qos2(9)).await;
        p.expect_pubrec(9).await;
        for _ in 0..2 {
            p.send(publish(&topic, "once").qos2(9).dup()).await;
            p.expect_pubrec(9).await;
        }
        p.send(pubrel(9)).await;
        p.expect_pubcomp(9).await;
        c.expect_message("once").await;
        c.expect_nothing().await;
    }
}

// The same across a reconnect of the publisher.
// shows: 5.0 MQTT-4.3.3-10; 3.1.1 MQTT-4.3.3-2
#[tokio::test]
async fn a_qos_2_message_repeated_after_a_reconnect_is_not_delivered_twice() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let id = unique("p");
        let mut p = client(version).id(&id).resume().connect(broker).await;
        p.send(publish(&topic, "once").qos2(9)).await;
        p.expect_pubrec(9).await;
        p.cut();
        let mut p = resumed(version, &id).await;
        p.send(publish(&topic, "once").qos2(9).dup()).await;
        p.expect_pubrec(9).await;
        p.send(pubrel(9)).await;
        p.expect_pubcomp(9).await;
        c.expect_message("once").await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.3.3-11, MQTT-4.3.3-12; 3.1.1 MQTT-4.3.3-2
#[tokio::test]
async fn after_pubcomp_an_identifier_means_a_new_message() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        for text in ["one", "two", "three"] {
            p.send(publish(&topic, text).qos2(77)).await;
            p.expect_pubrec(77).await;
            p.send(pubrel(77)).await;
            p.expect_pubcomp(77).await;
            c.expect_message(text).await;
        }
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.3.3-9
#[tokio::test]
async fn after_a_refusing_pubrec_an_identifier_means_a_new_message() {
    let (mut c, topic) = subscribed(V5).await;
    let mut p = publisher(V5).await;
    p.send(publish("denied/x", "no").qos2(5)).await;
    p.expect_refused_publish(kind::PUBREC, 5, ReasonCode::NotAuthorized)
        .await;
    p.send(publish(&topic, "yes").qos2(5)).await;
    p.expect_pubrec(5).await;
    p.send(pubrel(5)).await;
    p.expect_pubcomp(5).await;
    c.expect_message("yes").await;
}

// shows: 5.0 MQTT-4.3.3-4, MQTT-2.2.1-5, MQTT-3.6.1-1; 3.1.1 MQTT-4.3.3-1, MQTT-2.3.1-6, MQTT-3.6.1-1
#[tokio::test]
async fn the_server_answers_pubrec_with_pubrel() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        publisher(version)
            .await
            .publish(publish(&topic, "two").qos2(1))
            .await;
        let id = c.expect_publish().await.id.expect("QoS 2");
        c.send(pubrec(id)).await;
        c.expect_pubrel(id).await;
        let expected = [0x62, 0x02, (id >> 8) as u8, id as u8];
        let spelled_out = [0x62, 0x03, (id >> 8) as u8, id as u8, 0];
        assert!(
            c.last == expected || (version.is_v5() && c.last == spelled_out),
            "{:02x?}",
            c.last
        );
        c.send(pubcomp(id)).await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.3.2-3, MQTT-4.4.0-1, MQTT-3.3.1-1; 3.1.1 MQTT-4.3.2-1, MQTT-4.4.0-1, MQTT-3.3.1-1
#[tokio::test]
async fn unacknowledged_qos_1_messages_are_sent_again_on_resume() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        for text in ["one", "two", "three"] {
            p.publish(publish(&topic, text).qos1(1)).await;
        }
        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(c.expect_publish().await);
        }
        // The middle one is acknowledged, the others are not.
        c.send(puback(sent[1].id.expect("QoS 1"))).await;
        c.expect_nothing().await;
        let id = c.id.clone();
        c.cut();
        let mut c = resumed(version, &id).await;
        for expected in [&sent[0], &sent[2]] {
            let again = c.expect_publish().await;
            assert!(again.dup, "a message sent again has DUP set");
            assert_eq!(
                (again.id, again.qos, again.text()),
                (expected.id, 1, expected.text())
            );
            c.acknowledge(&again).await;
        }
        c.expect_nothing().await;
        let id = c.id.clone();
        c.leave().await;
        resumed(version, &id).await.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.3.3-3, MQTT-4.4.0-1, MQTT-3.3.1-1; 3.1.1 MQTT-4.3.3-1, MQTT-4.4.0-1, MQTT-3.3.1-1
#[tokio::test]
async fn a_qos_2_message_without_pubrec_is_sent_again_on_resume() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        publisher(version)
            .await
            .publish(publish(&topic, "two").qos2(1))
            .await;
        let first = c.expect_publish().await;
        let id = c.id.clone();
        c.cut();
        let mut c = resumed(version, &id).await;
        let again = c.expect_publish().await;
        assert!(again.dup);
        assert_eq!(
            (again.id, again.qos, again.text()),
            (first.id, 2, first.text())
        );
        c.acknowledge(&again).await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.3.3-5, MQTT-4.3.3-6, MQTT-4.4.0-1; 3.1.1 MQTT-4.3.3-1, MQTT-4.4.0-1
#[tokio::test]
async fn after_pubrec_only_pubrel_is_sent_again() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        publisher(version)
            .await
            .publish(publish(&topic, "two").qos2(1))
            .await;
        let packet_id = c.expect_publish().await.id.expect("QoS 2");
        c.send(pubrec(packet_id)).await;
        c.expect_pubrel(packet_id).await;
        let id = c.id.clone();
        c.cut();
        let mut c = resumed(version, &id).await;
        c.expect_pubrel(packet_id).await;
        c.send(pubcomp(packet_id)).await;
        c.expect_nothing().await;
        let id = c.id.clone();
        c.leave().await;
        resumed(version, &id).await.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.4.0-1; 3.1.1 MQTT-4.4.0-1
#[tokio::test]
async fn unacknowledged_messages_are_resent_in_order() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        for (number, qos) in [(0, 1), (1, 2), (2, 1), (3, 2), (4, 1)] {
            p.publish(publish(&topic, format!("{number}")).qos(qos, 1))
                .await;
        }
        let mut sent = Vec::new();
        for _ in 0..5 {
            let seen = c.expect_publish().await;
            sent.push((seen.text(), seen.id));
        }
        for _ in 0..2 {
            let id = c.id.clone();
            c.cut();
            c = resumed(version, &id).await;
            let mut again = Vec::new();
            for _ in 0..5 {
                let seen = c.expect_publish().await;
                assert!(seen.dup);
                again.push((seen.text(), seen.id));
            }
            assert_eq!(again, sent);
        }
    }
}

// shows: 5.0 MQTT-4.4.0-1
#[tokio::test]
async fn nothing_is_sent_again_on_a_living_connection() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        p.publish(publish(&topic, "one").qos1(1)).await;
        p.publish(publish(&topic, "two").qos2(1)).await;
        c.expect_publish().await;
        let two = c.expect_publish().await.id.expect("QoS 2");
        c.send(pubrec(two)).await;
        c.expect_pubrel(two).await;
        sleep(Duration::from_millis(1_200)).await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-4.4.0-2
#[tokio::test]
async fn a_refusing_acknowledgement_counts_as_one() {
    let (mut c, topic) = subscribed(V5).await;
    let mut p = publisher(V5).await;
    p.publish(publish(&topic, "one").qos1(1)).await;
    p.publish(publish(&topic, "two").qos2(1)).await;
    let one = c.expect_publish().await.id.expect("QoS 1");
    let two = c.expect_publish().await.id.expect("QoS 2");
    c.send(puback(one).code(0x83)).await;
    c.send(pubrec(two).code(0x97)).await;
    c.expect_nothing().await;
    let id = c.id.clone();
    c.cut();
    resumed(V5, &id).await.expect_nothing().await;
}

// shows: 5.0 MQTT-3.3.1-3; 3.1.1 MQTT-3.3.1-3
#[tokio::test]
async fn dup_of_the_publisher_is_not_passed_on() {
    for version in BOTH {
        let (mut c, topic) = subscribed(version).await;
        let mut p = publisher(version).await;
        for qos in [1, 2] {
            p.publish(publish(&topic, "dup").qos(qos, 3).dup()).await;
            assert!(!c.expect_message("dup").await.dup);
        }
    }
}

// Acknowledgements with reason and properties are as good as the short form (3.4.2).
#[tokio::test]
async fn long_forms_of_acknowledgements_are_understood() {
    let (mut c, topic) = subscribed(V5).await;
    let mut p = publisher(V5).await;
    p.publish(publish(&topic, "one").qos1(1)).await;
    let id = c.expect_publish().await.id.expect("QoS 1");
    c.send(
        puback(id)
            .code(0x10)
            .with(prop::reason_string("so what"))
            .with(prop::user("a", "b")),
    )
    .await;
    p.publish(publish(&topic, "two").qos2(1)).await;
    let id = c.expect_publish().await.id.expect("QoS 2");
    // Reason code, and a property length of zero.
    c.send_raw(&frame(0x50, &[(id >> 8) as u8, id as u8, 0x00, 0x00]))
        .await;
    c.expect_pubrel(id).await;
    c.send_raw(&frame(0x70, &[(id >> 8) as u8, id as u8, 0x00]))
        .await;
    c.expect_nothing().await;
    let id = c.id.clone();
    c.leave().await;
    resumed(V5, &id).await.expect_nothing().await;
}

// A client that reuses an identifier of an unfinished QoS 2 exchange for QoS 1 is served or told 0x91, and not cut off from others.
#[tokio::test]
async fn an_identifier_in_use_by_qos_2_is_told_apart_or_refused() {
    let topic = unique("t/");
    let mut p = publisher(V5).await;
    p.send(publish(&topic, "two").qos2(4)).await;
    p.expect_pubrec(4).await;
    p.send(publish(&topic, "one").qos1(4)).await;
    match p.packet().await {
        Packet::Ack(ack) => assert!(ack.id == 4 && ack.kind == kind::PUBACK, "{ack:?}"),
        Packet::Disconnect(disconnect) => {
            assert!([0x82, 0x91].contains(&disconnect.code), "{disconnect:?}");
        }
        other => panic!("{other:?}"),
    }
}
