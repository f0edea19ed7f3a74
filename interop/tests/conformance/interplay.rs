//! Where features meet: most statements are kept by a broker that keeps each alone, these find the seams.

use crate::prelude::*;

async fn connected(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

async fn session(version: Version, id: &str) -> Client {
    client(version)
        .id(id)
        .resume()
        .connect(Broker::shared().await)
        .await
}

// Packet identifiers of the two directions are independent (2.2.1): a client that talks to itself uses the same ones at once.
// shows: 5.0 MQTT-4.3.3-8, MQTT-4.3.3-11; 3.1.1 MQTT-4.3.3-2
#[tokio::test]
async fn both_directions_use_the_same_identifier_at_once() {
    for version in BOTH {
        let topic = unique("t/");
        let mut c = connected(version).await;
        c.subscribe(&topic, 2).await;
        // The server's first identifier is very likely 1.
        c.send(publish(&topic, "self").qos2(1)).await;
        let (mut released, mut completed, mut received) = (false, false, None);
        while !(released && completed) {
            match c.packet().await {
                Packet::Publish(seen) => {
                    assert_eq!(seen.text(), "self");
                    received = seen.id;
                    c.send(pubrec(seen.id.expect("QoS 2"))).await;
                }
                Packet::Ack(ack) if ack.kind == kind::PUBREC => {
                    assert_eq!((ack.id, ack.code), (1, 0));
                    c.send(pubrel(1)).await;
                }
                Packet::Ack(ack) if ack.kind == kind::PUBREL => {
                    assert_eq!(Some(ack.id), received);
                    c.send(pubcomp(ack.id)).await;
                    released = true;
                }
                Packet::Ack(ack) => {
                    assert_eq!((ack.kind, ack.id), (kind::PUBCOMP, 1));
                    completed = true;
                }
                other => panic!("{other:?}"),
            }
        }
        c.expect_nothing().await;
    }
}

// A PUBREL after a reconnect, without its PUBLISH again, completes the exchange.
// shows: 5.0 MQTT-4.3.3-11, MQTT-4.1.0-1; 3.1.1 MQTT-4.3.3-2, MQTT-4.1.0-1
#[tokio::test]
async fn a_released_message_is_completed_after_a_reconnect() {
    for version in BOTH {
        let (id, topic) = (unique("p"), unique("t/"));
        let mut watcher = connected(version).await;
        watcher.subscribe(&topic, 2).await;
        let mut p = session(version, &id).await;
        p.send(publish(&topic, "once").qos2(3)).await;
        p.expect_pubrec(3).await;
        p.cut();
        let mut p = session(version, &id).await;
        p.send(pubrel(3)).await;
        p.expect_pubcomp(3).await;
        watcher.expect_message("once").await;
        // The identifier is free again.
        p.publish(publish(&topic, "twice").qos2(3)).await;
        watcher.expect_message("twice").await;
    }
}

// What waited, what was in flight, and what comes now arrive in the order of publication.
// shows: 5.0 MQTT-4.6.0-5, MQTT-4.6.0-6; 3.1.1 MQTT-4.6.0-5, MQTT-4.6.0-6
#[tokio::test]
async fn order_survives_a_reconnect() {
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = session(version, &id).await;
        c.subscribe(&topic, 1).await;
        let mut p = connected(version).await;
        for number in 0..4 {
            p.publish(publish(&topic, format!("{number}")).qos1(1))
                .await;
        }
        for number in 0..4 {
            assert_eq!(c.expect_publish().await.text(), format!("{number}"));
        }
        c.cut();
        for number in 4..8 {
            p.publish(publish(&topic, format!("{number}")).qos1(1))
                .await;
        }
        let mut c = session(version, &id).await;
        p.publish(publish(&topic, "8").qos1(1)).await;
        for number in 0..9 {
            let seen = c.expect_message(&format!("{number}")).await;
            // Later ones may have been sent into the old connection before its end was noticed.
            assert!(seen.dup || number >= 4, "{number}");
        }
        c.expect_nothing().await;
    }
}

// A session changes hands between versions and keeps subscriptions and messages (3.1.3-2 knows the client id only).
// shows: 5.0 MQTT-3.1.2-5, MQTT-3.1.3-2; 3.1.1 MQTT-3.1.2-4, MQTT-3.1.3-2
#[tokio::test]
async fn a_session_moves_between_versions() {
    for (first, second) in [(V311, V5), (V5, V311)] {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = session(first, &id).await;
        c.subscribe(&topic, 1).await;
        c.leave().await;
        let message = publish(&topic, "waiting")
            .qos1(1)
            .with(prop::user("k", "v"));
        connected(V5).await.publish(message).await;
        let mut c = session(second, &id).await;
        assert!(c.connack.session_present);
        let seen = c.expect_message("waiting").await;
        assert_eq!(seen.properties.len(), usize::from(second.is_v5()));
    }
}

// Options of a subscription belong to the session.
// shows: 5.0 MQTT-3.8.3-3, MQTT-3.3.1-13, MQTT-3.3.4-3
#[tokio::test]
async fn subscription_options_survive_a_reconnect() {
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = session(V5, &id).await;
    let request = subscribe(1, &topic, 1 | NO_LOCAL | RETAIN_AS_PUBLISHED);
    c.send(request.with(prop::subscription_id(300))).await;
    c.expect_suback(1, &[1]).await;
    c.leave().await;
    let mut c = session(V5, &id).await;
    c.publish(publish(&topic, "own").qos1(1)).await;
    c.expect_nothing().await;
    let mut other = connected(V5).await;
    other
        .publish(publish(&topic, "foreign").qos1(1).retain())
        .await;
    let seen = c.expect_message("foreign").await;
    assert!(seen.retain);
    assert_eq!(find::subscription_ids(&seen.properties), [300]);
    other.publish(publish(&topic, "").retain()).await;
}

// A session's own retained publication that waited for it is a live copy, not a replay.
// shows: 5.0 MQTT-3.3.1-12; 3.1.1 MQTT-3.3.1-9
#[tokio::test]
async fn what_waited_is_not_marked_retained() {
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = session(version, &id).await;
        c.subscribe(&topic, 1).await;
        c.leave().await;
        let mut p = connected(version).await;
        p.publish(publish(&topic, "kept").qos1(1).retain()).await;
        let mut c = session(version, &id).await;
        assert!(!c.expect_message("kept").await.retain);
        c.expect_nothing().await;
        p.publish(publish(&topic, "").retain()).await;
    }
}

// One subscription with No Local does not silence another without.
// shows: 5.0 MQTT-3.8.3-3, MQTT-3.3.4-3
#[tokio::test]
async fn no_local_of_one_subscription_leaves_the_other_alone() {
    let root = unique("t");
    let mut c = connected(V5).await;
    c.send(subscribe(1, format!("{root}/a"), NO_LOCAL).with(prop::subscription_id(1)))
        .await;
    c.expect_suback(1, &[0]).await;
    c.send(subscribe(2, format!("{root}/#"), 0).with(prop::subscription_id(2)))
        .await;
    c.expect_suback(2, &[0]).await;
    c.send(publish(format!("{root}/a"), "own")).await;
    let seen = c.expect_message("own").await;
    assert_eq!(find::subscription_ids(&seen.properties), [2]);
    c.expect_nothing().await;
}

// A shared and an ordinary subscription of one client are two subscriptions (4.8.2).
#[tokio::test]
async fn a_shared_subscription_adds_to_an_ordinary_one() {
    let topic = unique("t/");
    let mut c = connected(V5).await;
    c.subscribe(&topic, 0).await;
    c.subscribe(format!("$share/{}/{topic}", unique("g")), 0)
        .await;
    c.subscribe(format!("$share/{}/{topic}", unique("h")), 0)
        .await;
    connected(V5).await.publish(publish(&topic, "thrice")).await;
    for _ in 0..3 {
        c.expect_message("thrice").await;
    }
    c.expect_nothing().await;
}

// Leaving a share group that one is not in, or under another filter.
// shows: 5.0 MQTT-3.10.4-1, MQTT-3.11.3-2
#[tokio::test]
async fn shared_filters_are_unsubscribed_by_their_full_name() {
    let (group, topic) = (unique("g"), unique("t/"));
    let mut c = connected(V5).await;
    c.subscribe(format!("$share/{group}/{topic}"), 0).await;
    let request = unsubscribe(1, &topic)
        .and(format!("$share/{group}x/{topic}"))
        .and(format!("$share/{group}/{topic}/#"));
    c.send(request).await;
    c.expect_unsuback(1, &[0x11, 0x11, 0x11]).await;
    connected(V5).await.publish(publish(&topic, "still")).await;
    c.expect_message("still").await;
}

// `$` topics: retained there, shared there, and never through wildcards in front.
// shows: 5.0 MQTT-4.7.2-1; 3.1.1 MQTT-4.7.2-1
#[tokio::test]
async fn wildcards_in_front_get_no_sys_topics_retained_or_shared() {
    for version in BOTH {
        let mut c = connected(version).await;
        for filter in ["#", "+/#", "+/broker/version"] {
            c.send(subscribe(1, filter, 0)).await;
            c.send(pingreq()).await;
            loop {
                match c.packet().await {
                    Packet::Publish(seen) => {
                        assert!(!seen.topic_text().starts_with('$'), "{filter}");
                    }
                    Packet::PingResp => break,
                    _ => {}
                }
            }
        }
    }
    let mut c = connected(V5).await;
    c.send(subscribe(1, format!("$share/{}/#", unique("g")), 0))
        .await;
    c.send(pingreq()).await;
    loop {
        match c.packet().await {
            Packet::Publish(seen) => assert!(!seen.topic_text().starts_with('$')),
            Packet::PingResp => break,
            _ => {}
        }
    }
}

// The delay counts after DISCONNECT 0x04 as well.
// shows: 5.0 MQTT-3.1.2-8
#[tokio::test]
async fn disconnect_with_will_waits_for_the_delay() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut watcher = connected(V5).await;
    watcher.subscribe(&topic, 1).await;
    let will = Will::new(&topic, "farewell")
        .qos(1)
        .with(prop::will_delay(1));
    let mut c = client(V5)
        .with(prop::session_expiry(100))
        .will(will)
        .connect(broker)
        .await;
    let begun = Instant::now();
    c.send(disconnect().code(0x04)).await;
    c.expect_closed().await;
    watcher.expect_message("farewell").await;
    assert!(
        begun.elapsed() >= Duration::from_millis(990),
        "after {:?}",
        begun.elapsed()
    );
}

// A will has an expiry of its own, from the moment it is published.
// shows: 5.0 MQTT-3.3.2-5, MQTT-3.3.2-6
#[tokio::test]
async fn a_will_expires_in_the_queue() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("w/"));
    let mut away = session(V5, &id).await;
    away.subscribe(&topic, 1).await;
    away.leave().await;
    let short = Will::new(&topic, "short")
        .qos(1)
        .with(prop::message_expiry(1));
    client(V5).will(short).connect(broker).await.cut();
    let long = Will::new(&topic, "long")
        .qos(1)
        .with(prop::message_expiry(100));
    client(V5).will(long).connect(broker).await.cut();
    sleep(Duration::from_millis(2_200)).await;
    let mut back = session(V5, &id).await;
    let seen = back.expect_message("long").await;
    let left = find::number(&seen.properties, property::MESSAGE_EXPIRY);
    assert!(matches!(left, Some(90..=98)), "{left:?}");
    back.expect_nothing().await;
}

// The will reaches the session of its own client, which may have subscribed to it.
// shows: 5.0 MQTT-4.5.0-1; 3.1.1 MQTT-4.5.0-1
#[tokio::test]
async fn a_client_gets_its_own_will() {
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("w/"));
        let will = Will::new(&topic, "mine").qos(1);
        let mut c = client(version)
            .id(&id)
            .resume()
            .will(will)
            .connect(Broker::shared().await)
            .await;
        c.subscribe(&topic, 1).await;
        c.cut();
        session(version, &id).await.expect_message("mine").await;
    }
}

// More retained messages than a queue holds or a window is wide: a new subscriber gets them all.
// shows: 3.1.1 MQTT-3.3.1-6
#[tokio::test]
async fn a_new_subscriber_gets_all_of_many_retained_messages() {
    const MANY: usize = 1_500;
    let root = unique("r");
    let mut p = connected(V5).await;
    for number in 0..MANY {
        p.send(publish(format!("{root}/{number}"), format!("{number}")).retain())
            .await;
    }
    p.expect_nothing().await;
    for qos in [0, 1] {
        let mut c = client(V5)
            .with(prop::receive_maximum(10))
            .connect(Broker::shared().await)
            .await;
        c.subscribe(format!("{root}/#"), qos).await;
        let mut seen = vec![false; MANY];
        for _ in 0..MANY {
            let message = c.expect_publish().await;
            c.acknowledge(&message).await;
            let number: usize = message.text().parse().expect("a number");
            assert!(
                !std::mem::replace(&mut seen[number], true),
                "{number} twice"
            );
        }
        c.expect_nothing().await;
    }
    for number in 0..MANY {
        p.send(publish(format!("{root}/{number}"), "").retain())
            .await;
    }
    p.expect_nothing().await;
}

// Thousands of acknowledged messages to a subscriber that keeps up: none is lost, none twice, all in order.
// shows: 5.0 MQTT-4.5.0-1, MQTT-4.6.0-5; 3.1.1 MQTT-4.5.0-1, MQTT-4.6.0-6
#[tokio::test]
async fn a_steady_stream_loses_nothing() {
    const MANY: u32 = 4_000;
    for (version, qos) in [(V311, 1), (V5, 2)] {
        let topic = unique("t/");
        let mut c = connected(version).await;
        c.subscribe(&topic, qos).await;
        let mut p = connected(version).await;
        let receiving = async {
            let mut next = 0;
            while next < MANY {
                match c.packet().await {
                    Packet::Publish(seen) => {
                        assert_eq!(seen.text(), next.to_string());
                        next += 1;
                        let id = seen.id.expect("QoS above 0");
                        if qos == 1 {
                            c.send(puback(id)).await;
                        } else {
                            c.send(pubrec(id)).await;
                        }
                    }
                    Packet::Ack(ack) => c.send(pubcomp(ack.id)).await,
                    other => panic!("{other:?}"),
                }
            }
        };
        let publishing = async {
            for batch in 0..MANY / 50 {
                for index in 0..50 {
                    let number = batch * 50 + index;
                    p.send(publish(&topic, number.to_string()).qos(qos, index as u16 + 1))
                        .await;
                }
                let mut open = 50;
                while open > 0 {
                    match p.packet().await {
                        Packet::Ack(ack) if ack.kind == kind::PUBREC => {
                            p.send(pubrel(ack.id)).await;
                        }
                        Packet::Ack(_) => open -= 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
        };
        tokio::join!(receiving, publishing);
    }
}

// A SUBACK longer than one length byte, and filters that repeat within one SUBSCRIBE: the last one holds.
// shows: 5.0 MQTT-3.8.4-5, MQTT-3.8.4-3, MQTT-3.8.4-6; 3.1.1 MQTT-3.8.4-4, MQTT-3.8.4-3
#[tokio::test]
async fn many_and_repeated_filters_in_one_subscribe() {
    for version in BOTH {
        let root = unique("t");
        let mut c = connected(version).await;
        let mut request = subscribe(1, format!("{root}/0"), 2);
        for number in 1..300 {
            request = request.and(format!("{root}/{number}"), 1);
        }
        request = request.and(format!("{root}/0"), 0);
        c.send(request).await;
        let mut codes = vec![2];
        codes.extend(vec![1; 299]);
        codes.push(0);
        c.expect_suback(1, &codes).await;
        let mut p = connected(version).await;
        p.publish(publish(format!("{root}/0"), "zero").qos2(1))
            .await;
        assert_eq!(c.expect_message("zero").await.qos, 0);
        p.publish(publish(format!("{root}/299"), "last").qos2(1))
            .await;
        assert_eq!(c.expect_message("last").await.qos, 1);
        c.expect_nothing().await;
    }
}

// Half a packet is no packet: bytes that drip do not keep a connection alive (3.1.2.10).
// shows: 5.0 MQTT-3.1.2-22; 3.1.1 MQTT-3.1.2-24
#[tokio::test]
async fn half_a_packet_does_not_keep_the_connection_alive() {
    let mut c = client(V5)
        .keep_alive(1)
        .connect(Broker::shared().await)
        .await;
    let packet = publish(unique("t/"), "x".repeat(100)).bytes(V5);
    for byte in &packet[..packet.len() - 1] {
        c.send_raw(&[*byte]).await;
        match c.event_within(Duration::from_millis(100)).await {
            None => {}
            Some(Event::Packet(Packet::Disconnect(disconnect))) => {
                assert_eq!(disconnect.code, 0x8D);
                return;
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    panic!("ten seconds of drips did not end a connection with a keep alive of one second");
}

// QoS 0 messages do not wait for a session that is away, by default.
#[tokio::test]
async fn qos_0_does_not_wait() {
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = session(version, &id).await;
        c.subscribe(&topic, 2).await;
        c.leave().await;
        let mut p = connected(version).await;
        p.publish(publish(&topic, "zero")).await;
        p.publish(publish(&topic, "one").qos1(1)).await;
        let mut c = session(version, &id).await;
        c.expect_message("one").await;
        c.expect_nothing().await;
    }
}

// Unusual but legal topics.
// shows: 5.0 MQTT-4.7.3-1, MQTT-4.7.3-4; 3.1.1 MQTT-4.7.3-1, MQTT-4.7.3-4
#[tokio::test]
async fn unusual_topics_are_topics() {
    for version in BOTH {
        let name = unique("u");
        let mut c = connected(version).await;
        let mut p = connected(version).await;
        for topic in [
            format!("/{name}"),
            format!("{name}/"),
            format!("{name}//x"),
            format!(" {name} "),
            format!("{name}/\u{1F980}/\u{10FFFF}"),
            format!("{name}/.."),
            format!("{name}/\u{7F}\u{1}"),
            format!("{name}/$share/x"),
        ] {
            c.send(subscribe(1, &topic, 1)).await;
            c.expect_suback(1, &[1]).await;
            p.publish(publish(&topic, "here").qos1(1)).await;
            assert_eq!(c.expect_message("here").await.topic_text(), topic);
            c.expect_nothing().await;
        }
    }
}

// A CONNECT with everything in it at once.
// shows: 5.0 MQTT-3.1.2-9, MQTT-3.1.2-17, MQTT-3.1.2-19; 3.1.1 MQTT-3.1.2-9, MQTT-3.1.2-19, MQTT-3.1.2-21
#[tokio::test]
async fn a_full_connect_is_understood() {
    for version in BOTH {
        let topic = unique("w/");
        let mut watcher = connected(version).await;
        watcher.subscribe(&topic, 2).await;
        let mut opening = client(version)
            .keep_alive(600)
            .user_name("user \u{e9}")
            .password([0, 0xFF, 0x80, 0])
            .will(Will::new(&topic, [0, 0xC0, 0xFF]).qos(2));
        if version.is_v5() {
            opening = opening
                .with(prop::user("k", "v"))
                .with(prop::session_expiry(u32::MAX))
                .with(prop::receive_maximum(65_535))
                .with(prop::maximum_packet_size(u32::MAX))
                .with(prop::topic_alias_maximum(65_535))
                .with(prop::request_problem_information(1))
                .with(prop::request_response_information(1))
                .with(prop::user("k", "v"));
        }
        let c = opening.connect(Broker::shared().await).await;
        let id = c.id.clone();
        c.cut();
        let seen = watcher.expect_publish().await;
        // Will payloads and passwords are bytes, not text.
        assert_eq!(seen.payload, [0, 0xC0, 0xFF]);
        watcher.acknowledge(&seen).await;
        client(version)
            .id(id)
            .connect(Broker::shared().await)
            .await
            .leave()
            .await;
    }
}
