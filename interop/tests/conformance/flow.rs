//! Flow control and maximum packet size, both ways.

use crate::prelude::*;

async fn publisher() -> Client {
    client(V5).connect(Broker::shared().await).await
}

// shows: 5.0 MQTT-3.3.4-9, MQTT-4.9.0-2, MQTT-4.3.2-3
#[tokio::test]
async fn the_server_stays_within_the_clients_receive_maximum() {
    let broker = Broker::shared().await;
    let topic = unique("t/");
    let mut c = client(V5)
        .with(prop::receive_maximum(2))
        .connect(broker)
        .await;
    c.subscribe(&topic, 2).await;
    let mut p = publisher().await;
    for number in 0..5 {
        p.publish(publish(&topic, format!("{number}")).qos(1 + number % 2, 1))
            .await;
    }
    let zero = c.expect_publish().await;
    let one = c.expect_publish().await;
    assert_eq!((zero.text(), one.text()), ("0".into(), "1".into()));
    // Two are open: the third has to wait.
    c.expect_nothing().await;
    c.acknowledge(&zero).await;
    let two = c.expect_publish().await;
    assert_eq!(two.text(), "2");
    c.expect_nothing().await;
    // PUBREC does not end a QoS 2 exchange, PUBCOMP does.
    let id = one.id.expect("QoS 2");
    c.send(pubrec(id)).await;
    c.expect_pubrel(id).await;
    c.expect_nothing().await;
    c.send(pubcomp(id)).await;
    let three = c.expect_publish().await;
    assert_eq!(three.text(), "3");
    c.expect_nothing().await;
    c.acknowledge(&two).await;
    c.expect_message("4").await;
    c.acknowledge(&three).await;
    c.expect_nothing().await;
}

// An error in PUBREC gives the place back as well (4.9).
// shows: 5.0 MQTT-4.9.0-2
#[tokio::test]
async fn a_refusing_pubrec_gives_the_place_back() {
    let topic = unique("t/");
    let mut c = client(V5)
        .with(prop::receive_maximum(1))
        .connect(Broker::shared().await)
        .await;
    c.subscribe(&topic, 2).await;
    let mut p = publisher().await;
    for text in ["one", "two"] {
        p.publish(publish(&topic, text).qos2(1)).await;
    }
    let one = c.expect_publish().await.id.expect("QoS 2");
    c.expect_nothing().await;
    c.send(pubrec(one).code(0x80)).await;
    c.expect_message("two").await;
    c.expect_nothing().await;
}

// shows: 5.0 MQTT-3.3.4-10, MQTT-4.9.0-3
#[tokio::test]
async fn at_the_limit_everything_else_goes_on() {
    let topic = unique("t/");
    let mut c = client(V5)
        .with(prop::receive_maximum(1))
        .connect(Broker::shared().await)
        .await;
    c.subscribe(&topic, 2).await;
    let mut p = publisher().await;
    p.publish(publish(&topic, "open").qos1(1)).await;
    p.publish(publish(&topic, "waits").qos1(1)).await;
    let open = c.expect_publish().await;
    // QoS 0, subscriptions, publications of the client itself and pings are not held up.
    let other = unique("t/");
    c.subscribe(&other, 0).await;
    p.publish(publish(&other, "QoS 0")).await;
    c.expect_message("QoS 0").await;
    c.publish(publish(unique("elsewhere/"), "x").qos1(5)).await;
    c.publish(publish(unique("elsewhere/"), "x").qos2(6)).await;
    c.send(unsubscribe(7, &other)).await;
    c.expect_unsuback(7, &[0]).await;
    c.expect_nothing().await;
    c.acknowledge(&open).await;
    c.expect_message("waits").await;
}

// Receive Maximum holds for what is sent again after a reconnect, too.
// shows: 5.0 MQTT-3.3.4-9
#[tokio::test]
async fn a_smaller_receive_maximum_on_resume_is_kept() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    c.subscribe(&topic, 1).await;
    let mut p = publisher().await;
    for text in ["1", "2", "3"] {
        p.publish(publish(&topic, text).qos1(1)).await;
        c.expect_publish().await;
    }
    c.cut();
    let mut c = client(V5)
        .id(&id)
        .resume()
        .with(prop::receive_maximum(1))
        .connect(broker)
        .await;
    for text in ["1", "2", "3"] {
        let seen = c.expect_publish().await;
        assert_eq!((seen.text().as_str(), seen.dup), (text, true));
        c.expect_nothing().await;
        c.acknowledge(&seen).await;
    }
    c.expect_nothing().await;
}

// A client that exceeds the server's Receive Maximum is told 0x93 (3.3.4, 4.9).
#[tokio::test]
async fn exceeding_the_servers_receive_maximum_ends_the_connection() {
    let mut c = publisher().await;
    let maximum = find::number(&c.connack.properties, property::RECEIVE_MAXIMUM).unwrap_or(65_535);
    let topic = unique("t/");
    let burst: Vec<u8> = (1..=maximum + 1)
        .filter_map(|id| u16::try_from(id).ok())
        .flat_map(|id| publish(&topic, "x").qos2(id).bytes(V5))
        .collect();
    if maximum == 65_535 {
        return;
    }
    c.send_raw(&burst).await;
    for id in 1..=maximum {
        c.expect_pubrec(id as u16).await;
    }
    c.expect_disconnect(ReasonCode::ReceiveMaximumExceeded)
        .await;
}

// QoS 1 messages that have been acknowledged do not count, however many there were.
#[tokio::test]
async fn acknowledged_messages_give_their_place_back() {
    let mut c = publisher().await;
    let maximum = find::number(&c.connack.properties, property::RECEIVE_MAXIMUM)
        .unwrap_or(65_535)
        .min(1_000);
    let topic = unique("t/");
    for round in 0..3 {
        for id in 1..=maximum / 3 {
            let id = id as u16;
            c.send(publish(&topic, "x").qos(1 + round % 2, id)).await;
        }
        for id in 1..=maximum / 3 {
            let id = id as u16;
            if round % 2 == 0 {
                c.expect_puback(id).await;
            } else {
                c.expect_pubrec(id).await;
                c.send(pubrel(id)).await;
            }
        }
        if round % 2 == 1 {
            for id in 1..=maximum / 3 {
                c.expect_pubcomp(id as u16).await;
            }
        }
    }
    c.expect_nothing().await;
}

// shows: 5.0 MQTT-3.1.2-24, MQTT-3.1.2-25
#[tokio::test]
async fn a_packet_too_large_for_the_client_is_dropped() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V5)
        .id(&id)
        .resume()
        .with(prop::maximum_packet_size(100))
        .connect(broker)
        .await;
    c.subscribe(&topic, 2).await;
    let mut p = publisher().await;
    let large = "L".repeat(100);
    for qos in 0..=2 {
        p.publish(publish(&topic, &large).qos(qos, 1)).await;
        p.publish(publish(&topic, format!("small {qos}")).qos(qos, 1))
            .await;
        c.expect_message(&format!("small {qos}")).await;
        assert!(c.last.len() <= 100);
    }
    c.expect_nothing().await;
    // It counts as delivered: a roomier connection does not get it later.
    c.cut();
    client(V5)
        .id(&id)
        .resume()
        .connect(broker)
        .await
        .expect_nothing()
        .await;
}

// The limit is inclusive.
// shows: 5.0 MQTT-3.1.2-24
#[tokio::test]
async fn a_packet_of_exactly_the_limit_is_delivered() {
    let topic = unique("t/");
    let fixed = publish(&topic, "").bytes(V5).len();
    let mut c = client(V5)
        .with(prop::maximum_packet_size(90))
        .connect(Broker::shared().await)
        .await;
    c.subscribe(&topic, 0).await;
    let mut p = publisher().await;
    p.publish(publish(&topic, "x".repeat(91 - fixed)).qos1(1))
        .await;
    p.publish(publish(&topic, "y".repeat(90 - fixed)).qos1(1))
        .await;
    let seen = c.expect_publish().await;
    assert!(seen.text().starts_with('y'));
    assert_eq!(c.last.len(), 90);
}

// A client that sends more than the server takes is told 0x95, on the header alone (3.2.2.3.6, 4.13).
#[tokio::test]
async fn a_packet_too_large_for_the_server_ends_the_connection() {
    let mut c = publisher().await;
    let maximum =
        find::number(&c.connack.properties, property::MAXIMUM_PACKET_SIZE).unwrap_or(268_435_455);
    if maximum >= 268_435_455 {
        return;
    }
    let mut header = vec![0x30];
    header.extend(varint(maximum as usize + 1));
    c.send_raw(&header).await;
    c.expect_disconnect(ReasonCode::PacketTooLarge).await;
}
