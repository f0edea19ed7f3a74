//! The will: kept, published, delayed, discarded.

use crate::prelude::*;

/// A subscriber at QoS 2 that keeps RETAIN as published in version 5.
async fn watcher(version: Version, topic: &str) -> Client {
    let mut c = client(version).connect(Broker::shared().await).await;
    c.subscribe(
        topic,
        if version.is_v5() {
            2 | RETAIN_AS_PUBLISHED
        } else {
            2
        },
    )
    .await;
    c
}

// shows: 5.0 MQTT-3.1.2-7, MQTT-3.1.2-8, MQTT-3.1.2-9; 3.1.1 MQTT-3.1.2-8, MQTT-3.1.2-9
#[tokio::test]
async fn the_will_is_published_when_the_network_fails() {
    let broker = Broker::shared().await;
    for version in BOTH {
        for qos in [0, 1, 2] {
            let topic = unique("w/");
            let mut w = watcher(version, &topic).await;
            let c = client(version)
                .will(Will::new(&topic, "farewell").qos(qos))
                .connect(broker)
                .await;
            w.expect_nothing().await;
            c.cut();
            let will = w.expect_message("farewell").await;
            assert_eq!((will.qos, will.topic_text()), (qos, topic));
        }
    }
}

// shows: 5.0 MQTT-3.1.2-8; 3.1.1 MQTT-3.1.2-8
#[tokio::test]
async fn the_will_is_published_when_the_client_closes_without_disconnect() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("w/");
        let mut w = watcher(version, &topic).await;
        drop(
            client(version)
                .will(Will::new(&topic, "farewell").qos(1))
                .connect(broker)
                .await,
        );
        w.expect_message("farewell").await;
    }
}

// shows: 5.0 MQTT-3.1.2-8; 3.1.1 MQTT-3.1.2-8
#[tokio::test]
async fn the_will_is_published_after_a_protocol_error() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("w/");
        let mut w = watcher(version, &topic).await;
        let mut c = client(version)
            .will(Will::new(&topic, "farewell").qos(1))
            .connect(broker)
            .await;
        // A PUBLISH with both QoS bits set.
        c.send_raw(&frame(0x36, b"\0\x01t\0\x01\0x")).await;
        c.expect_disconnect(ReasonCode::MalformedPacket).await;
        w.expect_message("farewell").await;
    }
}

// shows: 5.0 MQTT-3.1.2-10, MQTT-3.1.2-8, MQTT-3.14.4-3; 3.1.1 MQTT-3.1.2-10, MQTT-3.14.4-3, MQTT-3.1.2-8
#[tokio::test]
async fn disconnect_discards_the_will() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("w/");
        let mut w = watcher(version, &topic).await;
        let c = client(version)
            .will(Will::new(&topic, "farewell").qos(1))
            .connect(broker)
            .await;
        c.leave().await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "marker").qos1(1))
            .await;
        w.expect_message("marker").await;
    }
}

// shows: 5.0 MQTT-3.1.2-10; 3.1.1 MQTT-3.1.2-10
#[tokio::test]
async fn the_will_is_published_once() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("w/"));
        let mut w = watcher(version, &topic).await;
        client(version)
            .id(&id)
            .resume()
            .will(Will::new(&topic, "farewell").qos(1))
            .connect(broker)
            .await
            .cut();
        w.expect_message("farewell").await;
        // The session goes on, its will does not.
        let c = client(version).id(&id).resume().connect(broker).await;
        assert!(c.connack.session_present);
        c.cut();
        client(version).id(&id).connect(broker).await.leave().await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "marker").qos1(1))
            .await;
        w.expect_message("marker").await;
    }
}

// shows: 3.1.1 MQTT-3.1.2-12, MQTT-3.1.2-11
#[tokio::test]
async fn without_a_will_nothing_is_published_at_the_end() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let id = unique("c");
        let mut w = watcher(version, &format!("{id}/#")).await;
        client(version).id(&id).connect(broker).await.cut();
        sleep(Duration::from_millis(100)).await;
        w.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.1.2-14, MQTT-3.1.2-15; 3.1.1 MQTT-3.1.2-16, MQTT-3.1.2-17, MQTT-3.1.2-9
#[tokio::test]
async fn will_retain_decides_whether_the_will_is_retained() {
    let broker = Broker::shared().await;
    for version in BOTH {
        for retain in [false, true] {
            let topic = unique("w/");
            let mut w = watcher(version, &topic).await;
            let mut will = Will::new(&topic, "farewell").qos(1);
            if retain {
                will = will.retain();
            }
            client(version).will(will).connect(broker).await.cut();
            let seen = w.expect_message("farewell").await;
            assert_eq!(
                seen.retain,
                retain && version.is_v5(),
                "towards an established subscription"
            );

            let mut late = client(version).connect(broker).await;
            late.subscribe(&topic, 1).await;
            if retain {
                assert!(late.expect_message("farewell").await.retain);
            }
            late.expect_nothing().await;
        }
    }
}

// shows: 5.0 MQTT-3.1.3-10, MQTT-3.1.2-9
#[tokio::test]
async fn will_properties_are_published_with_the_will() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut w = watcher(V5, &topic).await;
    let will = Will::new(&topic, "farewell")
        .qos(1)
        .with(prop::user("z", "1"))
        .with(prop::content_type("text/plain"))
        .with(prop::user("a", "2"))
        .with(prop::payload_format(1))
        .with(prop::response_topic("answers"))
        .with(prop::correlation_data(&[0, 255, 1]))
        .with(prop::user("z", "3"))
        .with(prop::message_expiry(500))
        .with(prop::will_delay(0));
    client(V5).will(will).connect(broker).await.cut();
    let seen = w.expect_message("farewell").await.properties;
    assert_eq!(find::user(&seen), [("z", "1"), ("a", "2"), ("z", "3")]);
    assert_eq!(
        find::text(&seen, property::CONTENT_TYPE),
        Some("text/plain")
    );
    assert_eq!(find::text(&seen, property::RESPONSE_TOPIC), Some("answers"));
    assert_eq!(
        find::binary(&seen, property::CORRELATION_DATA),
        Some(&[0, 255, 1][..])
    );
    assert_eq!(find::number(&seen, property::PAYLOAD_FORMAT), Some(1));
    assert!(matches!(
        find::number(&seen, property::MESSAGE_EXPIRY),
        Some(1..=500)
    ));
    assert_eq!(find::number(&seen, property::WILL_DELAY), None);
}

// shows: 5.0 MQTT-3.1.2-8
#[tokio::test]
async fn the_will_waits_for_its_delay() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut w = watcher(V5, &topic).await;
    let will = Will::new(&topic, "farewell")
        .qos(1)
        .with(prop::will_delay(2));
    let c = client(V5)
        .with(prop::session_expiry(100))
        .will(will)
        .connect(broker)
        .await;
    let ended = Instant::now();
    c.cut();
    w.expect_message("farewell").await;
    assert!(
        ended.elapsed() >= Duration::from_millis(1_990),
        "after {:?}",
        ended.elapsed()
    );
}

// shows: 5.0 MQTT-3.1.2-8
#[tokio::test]
async fn the_will_waits_no_longer_than_the_session_lives() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut w = watcher(V5, &topic).await;
    let will = || {
        Will::new(&topic, "farewell")
            .qos(1)
            .with(prop::will_delay(1_000))
    };
    // No expiry interval: the session ends with the connection.
    client(V5).will(will()).connect(broker).await.cut();
    w.expect_message("farewell").await;
    client(V5)
        .with(prop::session_expiry(1))
        .will(will())
        .connect(broker)
        .await
        .cut();
    w.expect_message("farewell").await;
    // A new session under the same id ends the old one.
    let id = unique("c");
    client(V5)
        .id(&id)
        .with(prop::session_expiry(100))
        .will(will())
        .connect(broker)
        .await
        .cut();
    sleep(Duration::from_millis(100)).await;
    w.expect_nothing().await;
    client(V5).id(&id).connect(broker).await.leave().await;
    w.expect_message("farewell").await;
}

// shows: 5.0 MQTT-3.1.3-9
#[tokio::test]
async fn a_new_connection_within_the_delay_suppresses_the_will() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("w/"));
    let mut w = watcher(V5, &topic).await;
    let will = Will::new(&topic, "farewell")
        .qos(1)
        .with(prop::will_delay(1));
    client(V5)
        .id(&id)
        .resume()
        .will(will)
        .connect(broker)
        .await
        .cut();
    let mut back = client(V5).id(&id).resume().connect(broker).await;
    assert!(back.connack.session_present);
    sleep(Duration::from_millis(2_600)).await;
    w.expect_nothing().await;
    back.expect_nothing().await;
}

// 3.14.2.1: Disconnect with Will Message.
// shows: 5.0 MQTT-3.1.2-8
#[tokio::test]
async fn disconnect_0x04_publishes_the_will() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut w = watcher(V5, &topic).await;
    for code in [0x04, 0x80] {
        let mut c = client(V5)
            .will(Will::new(&topic, "farewell").qos(1))
            .connect(broker)
            .await;
        c.send(disconnect().code(code)).await;
        c.expect_closed().await;
        w.expect_message("farewell").await;
    }
}

// A takeover ends the old connection without a DISCONNECT from the client, so its will is published (3.1.4).
// shows: 5.0 MQTT-3.1.2-8; 3.1.1 MQTT-3.1.2-8
#[tokio::test]
async fn takeover_publishes_the_will_of_the_old_connection() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("w/"));
        let mut w = watcher(version, &topic).await;
        let mut old = client(version)
            .id(&id)
            .resume()
            .will(Will::new(&topic, "farewell").qos(1))
            .connect(broker)
            .await;
        let mut new = client(version).id(&id).resume().connect(broker).await;
        old.expect_disconnect(ReasonCode::SessionTakenOver).await;
        w.expect_message("farewell").await;
        new.expect_nothing().await;
    }
}
