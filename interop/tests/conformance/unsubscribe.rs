//! UNSUBSCRIBE and UNSUBACK.

use crate::prelude::*;

async fn connected(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

// shows: 5.0 MQTT-3.10.4-1, MQTT-3.10.4-2, MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-2.2.1-6, MQTT-3.11.3-2, MQTT-2.2.2-1
// shows: 3.1.1 MQTT-3.10.4-1, MQTT-3.10.4-2, MQTT-3.10.4-4, MQTT-2.3.1-7
#[tokio::test]
async fn unsubscribing_ends_deliveries_and_is_answered() {
    for version in BOTH {
        let topic = unique("t/");
        let mut c = connected(version).await;
        let mut p = connected(version).await;
        c.subscribe(&topic, 1).await;
        p.publish(publish(&topic, "before").qos1(1)).await;
        c.expect_message("before").await;
        c.send(unsubscribe(0x0102, &topic)).await;
        c.expect_unsuback(0x0102, &[0]).await;
        let expected: &[u8] = if version.is_v5() {
            &[0xB0, 4, 1, 2, 0, 0]
        } else {
            &[0xB0, 2, 1, 2]
        };
        assert_eq!(c.last, expected);
        p.publish(publish(&topic, "after").qos1(1)).await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.10.4-5, MQTT-3.11.3-2; 3.1.1 MQTT-3.10.4-5
#[tokio::test]
async fn unsubscribing_from_nothing_is_answered_too() {
    for version in BOTH {
        let mut c = connected(version).await;
        c.send(unsubscribe(9, unique("never/"))).await;
        c.expect_unsuback(9, &[0x11]).await;
    }
}

// shows: 5.0 MQTT-3.10.4-1; 3.1.1 MQTT-3.10.4-1
#[tokio::test]
async fn filters_are_compared_character_by_character() {
    for version in BOTH {
        let root = unique("t");
        let mut c = connected(version).await;
        c.subscribe(format!("{root}/+/x"), 1).await;
        let near_misses = [
            format!("{root}/#"),
            format!("{root}/a/x"),
            format!("{root}/+/X"),
            format!("{root}/+/x/"),
            format!("/{root}/+/x"),
            format!("{root}/+/x/#"),
            format!("{root}/+"),
            "#".to_owned(),
        ];
        for filter in &near_misses {
            c.send(unsubscribe(5, filter)).await;
            c.expect_unsuback(5, &[0x11]).await;
        }
        connected(version)
            .await
            .publish(publish(format!("{root}/a/x"), "still").qos1(1))
            .await;
        c.expect_message("still").await;
    }
}

// shows: 5.0 MQTT-3.10.4-6, MQTT-3.11.3-1; 3.1.1 MQTT-3.10.4-6
#[tokio::test]
async fn several_filters_are_answered_in_their_order() {
    for version in BOTH {
        let root = unique("t");
        let mut c = connected(version).await;
        c.send(
            subscribe(1, format!("{root}/a"), 1)
                .and(format!("{root}/b"), 1)
                .and(format!("{root}/c"), 1),
        )
        .await;
        c.expect_suback(1, &[1, 1, 1]).await;
        let request = unsubscribe(2, format!("{root}/none"))
            .and(format!("{root}/a"))
            .and(format!("{root}/c"));
        c.send(request).await;
        c.expect_unsuback(2, &[0x11, 0, 0]).await;
        let mut p = connected(version).await;
        for level in ["a", "b", "c"] {
            p.publish(publish(format!("{root}/{level}"), level).qos1(1))
                .await;
        }
        c.expect_message("b").await;
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.10.4-3; 3.1.1 MQTT-3.10.4-3
#[tokio::test]
async fn deliveries_under_way_are_completed() {
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let broker = Broker::shared().await;
        let mut c = client(version).id(&id).resume().connect(broker).await;
        c.subscribe(&topic, 2).await;
        let mut p = connected(version).await;
        p.publish(publish(&topic, "one").qos1(1)).await;
        p.publish(publish(&topic, "two").qos2(1)).await;
        let one = c.expect_publish().await;
        let two = c.expect_publish().await;
        c.send(unsubscribe(3, &topic)).await;
        c.expect_unsuback(3, &[0]).await;
        c.acknowledge(&two).await;
        c.expect_nothing().await;
        // The unacknowledged one is even sent again after a reconnect.
        c.cut();
        let mut c = client(version).id(&id).resume().connect(broker).await;
        let again = c.expect_message("one").await;
        assert_eq!((again.id, again.dup), (one.id, true));
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.10.1-1, MQTT-2.1.3-1; 3.1.1 MQTT-3.10.1-1, MQTT-2.2.2-2
#[tokio::test]
async fn flags_in_the_header_of_unsubscribe_are_0010() {
    for version in BOTH {
        for first in [0xA0, 0xA1, 0xA3, 0xA6, 0xAF] {
            let mut packet = unsubscribe(1, "t").bytes(version);
            packet[0] = first;
            let mut c = connected(version).await;
            c.send_raw(&packet).await;
            c.expect_disconnect(ReasonCode::MalformedPacket).await;
        }
    }
}

// shows: 5.0 MQTT-3.10.3-1, MQTT-1.5.4-1, MQTT-1.5.4-2; 3.1.1 MQTT-3.10.3-1, MQTT-1.5.3-1, MQTT-1.5.3-2
#[tokio::test]
async fn filters_are_well_formed_text() {
    let ill_formed: [&[u8]; 4] = [b"\xFF", b"a/\xC3", b"\xED\xA0\x80", b"a\0b"];
    for version in BOTH {
        for filter in ill_formed {
            let mut c = connected(version).await;
            c.send(unsubscribe(1, filter)).await;
            c.expect_disconnect(ReasonCode::MalformedPacket).await;
        }
    }
}

// shows: 5.0 MQTT-3.10.3-2; 3.1.1 MQTT-3.10.3-2
#[tokio::test]
async fn an_unsubscribe_without_filters_is_refused() {
    for version in BOTH {
        let body: &[u8] = if version.is_v5() { &[0, 1, 0] } else { &[0, 1] };
        let mut c = connected(version).await;
        c.send_raw(&frame(0xA2, body)).await;
        match c.event().await {
            Event::Closed => assert!(!version.is_v5()),
            Event::Packet(Packet::Disconnect(disconnect)) => {
                assert!([0x81, 0x82].contains(&disconnect.code), "{disconnect:?}");
                c.expect_closed().await;
            }
            Event::Packet(other) => panic!("{other:?}"),
        }
    }
}

// UNSUBSCRIBE takes user properties only (3.10.2.1).
#[tokio::test]
async fn unsubscribe_properties_are_checked() {
    for property in [
        prop::subscription_id(1),
        prop::reason_string("x"),
        prop::message_expiry(1),
        prop::topic_alias(1),
    ] {
        let mut c = connected(V5).await;
        c.send(unsubscribe(1, "t").with(property)).await;
        match c.packet().await {
            Packet::Disconnect(disconnect) => {
                assert!([0x81, 0x82].contains(&disconnect.code), "{disconnect:?}");
            }
            other => panic!("{other:?}"),
        }
        c.expect_closed().await;
    }
}
