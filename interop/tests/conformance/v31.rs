//! MQTT 3.1: its own protocol name, and what it does differently. It has no numbered statements.

use crate::prelude::*;

// The name is MQIsdp with level 3.
#[tokio::test]
async fn mqisdp_level_3_is_served() {
    let broker = Broker::shared().await;
    let mut c = client(V31).connect(broker).await;
    assert_eq!(c.last, [0x20, 0x02, 0x00, 0x00]);
    let topic = unique("t/");
    c.subscribe(&topic, 2).await;
    let mut p = client(V31).connect(broker).await;
    for qos in 0..=2 {
        p.publish(publish(&topic, format!("{qos}")).qos(qos, 1))
            .await;
        assert_eq!(c.expect_message(&format!("{qos}")).await.qos, qos);
    }
    c.send(unsubscribe(3, &topic)).await;
    c.expect_unsuback(3, &[]).await;
    c.expect_nothing().await;
}

// Name and level belong together.
#[tokio::test]
async fn name_and_level_have_to_agree() {
    let broker = Broker::shared().await;
    for (name, level) in [("MQIsdp", 4), ("MQIsdp", 5), ("MQTT", 3)] {
        let mut c = Client::open(broker, V311).await;
        c.send_raw(&client(V311).protocol_name(name).level(level).packet())
            .await;
        let answer = c.last_words().await;
        let refused =
            answer.is_empty() || answer == [0x20, 2, 0, 1] || answer.get(3) == Some(&0x84);
        assert!(refused, "{name} level {level}: {answer:02x?}");
    }
}

// A session is resumed; the acknowledge flags of CONNACK are reserved in 3.1 and stay zero.
#[tokio::test]
async fn sessions_are_resumed_without_session_present() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V31).id(&id).resume().connect(broker).await;
    c.subscribe(&topic, 1).await;
    c.leave().await;
    client(V311)
        .connect(broker)
        .await
        .publish(publish(&topic, "waiting").qos1(1))
        .await;
    let mut c = client(V31).id(&id).resume().connect(broker).await;
    assert!(!c.connack.session_present);
    c.expect_message("waiting").await;
}

// Versions talk to each other; properties stay with those who know them.
#[tokio::test]
async fn versions_mix() {
    let broker = Broker::shared().await;
    let topic = unique("t/");
    let mut listeners = Vec::new();
    for version in [V31, V311, V5] {
        let mut c = client(version).connect(broker).await;
        c.subscribe(&topic, 2).await;
        listeners.push(c);
    }
    for version in [V31, V311, V5] {
        let mut message = publish(&topic, format!("{version:?}")).qos2(1);
        if version.is_v5() {
            message = message
                .with(prop::user("k", "v"))
                .with(prop::message_expiry(100));
        }
        client(version).connect(broker).await.publish(message).await;
        for c in &mut listeners {
            let seen = c.expect_message(&format!("{version:?}")).await;
            assert_eq!(
                seen.properties.is_empty(),
                !(version.is_v5() && c.version.is_v5())
            );
        }
    }
}

// The will and a clean end.
#[tokio::test]
async fn wills_are_published() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut watcher = client(V31).connect(broker).await;
    watcher.subscribe(&topic, 1).await;
    client(V31)
        .will(Will::new(&topic, "farewell").qos(1))
        .connect(broker)
        .await
        .cut();
    watcher.expect_message("farewell").await;
    client(V31)
        .will(Will::new(&topic, "farewell").qos(1))
        .connect(broker)
        .await
        .leave()
        .await;
    client(V31)
        .connect(broker)
        .await
        .publish(publish(&topic, "marker").qos1(1))
        .await;
    watcher.expect_message("marker").await;
}

// MQTT 3.1 wants client ids of 1 to 23 characters: an empty one is refused with 2, longer ones are served or refused with 2.
#[tokio::test]
async fn client_ids() {
    let broker = Broker::shared().await;
    let mut c = client(V31).id("").start(broker).await;
    let connack = c.expect_connack().await;
    assert!([0, 2].contains(&connack.code), "{connack:?}");
    let mut c = client(V31)
        .id(format!("{}{}", unique("c"), "x".repeat(20)))
        .start(broker)
        .await;
    let connack = c.expect_connack().await;
    assert!([0, 2].contains(&connack.code), "{connack:?}");
}

// Mosquitto's bridge bit: levels 0x83 and 0x84 are 3 and 4 spoken by a bridge, whose RETAIN flags are kept as published.
#[tokio::test]
async fn the_bridge_bit_is_understood() {
    let broker = Broker::shared().await;
    for (version, level) in [(V31, 0x83), (V311, 0x84)] {
        let topic = unique("t/");
        let mut bridge = client(version).level(level).connect(broker).await;
        bridge.subscribe(&topic, 1).await;
        let mut p = client(V311).connect(broker).await;
        p.publish(publish(&topic, "for the bridge").qos1(1)).await;
        bridge.expect_message("for the bridge").await;
        // A bridge hears its own publications no more than an echo would be useful.
        bridge
            .publish(publish(&topic, "from the bridge").qos1(2))
            .await;
        bridge.expect_nothing().await;
    }
}
