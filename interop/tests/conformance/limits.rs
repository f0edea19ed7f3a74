//! Limits, queues and rights: what a client sees at the limit and beyond it. Each test starts its own broker.

use crate::prelude::*;
use martlet_interop::settings::{QueueOverflow, Rights, SharedStrategy, User, hash};

macro_rules! broker {
    (|$config:ident| $change:expr) => {
        match Broker::with(|$config| $change).await {
            Some(broker) => broker,
            None => return,
        }
    };
}

/// Publishes `0` to `4` at QoS 1 while the subscriber is away, and gives what it finds when it is back.
async fn found_after_five(broker: &Broker, version: Version) -> Vec<String> {
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(version).id(&id).resume().connect(broker).await;
    c.subscribe(&topic, 1).await;
    c.leave().await;
    let mut p = client(version).connect(broker).await;
    for number in 0..5 {
        p.publish(publish(&topic, format!("{number}")).qos1(1))
            .await;
    }
    let mut c = client(version).id(&id).resume().connect(broker).await;
    assert!(c.connack.session_present);
    let mut found = Vec::new();
    c.send(pingreq()).await;
    loop {
        match c.packet().await {
            Packet::Publish(seen) => {
                c.send(puback(seen.id.expect("QoS 1"))).await;
                found.push(seen.text());
            }
            Packet::PingResp => return found,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_or_the_newest() {
    for (overflow, expected) in [
        (QueueOverflow::DropOldest, ["2", "3", "4"]),
        (QueueOverflow::DropNewest, ["0", "1", "2"]),
    ] {
        let broker = broker!(|config| {
            config.limits.queued_messages_max = 3;
            config.limits.queue_overflow = overflow;
        });
        for version in BOTH {
            assert_eq!(
                found_after_five(&broker, version).await,
                expected,
                "{overflow:?}"
            );
        }
    }
}

#[tokio::test]
async fn qos_0_waits_where_it_is_told_to() {
    let broker = broker!(|config| config.mqtt.queue_qos0 = true);
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = client(version).id(&id).resume().connect(&broker).await;
        c.subscribe(&topic, 1).await;
        c.leave().await;
        let mut p = client(version).connect(&broker).await;
        p.publish(publish(&topic, "zero")).await;
        p.publish(publish(&topic, "one").qos1(1)).await;
        let mut c = client(version).id(&id).resume().connect(&broker).await;
        assert_eq!(c.expect_message("zero").await.qos, 0);
        assert_eq!(c.expect_message("one").await.qos, 1);
    }
}

// The life of a session before version 5 is a setting.
// shows: 3.1.1 MQTT-3.2.2-3
#[tokio::test]
async fn version_3_sessions_expire_where_they_are_told_to() {
    let broker = broker!(|config| config.mqtt.session_expiry_v3_secs = 1);
    let id = unique("c");
    client(V311)
        .id(&id)
        .resume()
        .connect(&broker)
        .await
        .leave()
        .await;
    let c = client(V311).id(&id).resume().connect(&broker).await;
    assert!(c.connack.session_present);
    c.leave().await;
    sleep(Duration::from_millis(3_200)).await;
    assert!(
        !client(V311)
            .id(&id)
            .resume()
            .connect(&broker)
            .await
            .connack
            .session_present
    );
}

// A bound on the life of messages holds for those that ask for more, and for those that ask for nothing.
// shows: 5.0 MQTT-3.3.2-5
#[tokio::test]
async fn message_expiry_is_bounded() {
    let broker = broker!(|config| config.mqtt.message_expiry_max_secs = 1);
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V5).id(&id).resume().connect(&broker).await;
    c.subscribe(&topic, 1).await;
    c.leave().await;
    let mut p = client(V5).connect(&broker).await;
    p.publish(
        publish(&topic, "asks for more")
            .qos1(1)
            .with(prop::message_expiry(1_000)),
    )
    .await;
    p.publish(publish(&topic, "asks for nothing").qos1(1).retain())
        .await;
    sleep(Duration::from_millis(2_200)).await;
    client(V5)
        .id(&id)
        .resume()
        .connect(&broker)
        .await
        .expect_nothing()
        .await;
    let mut late = client(V5).connect(&broker).await;
    late.subscribe(&topic, 1).await;
    late.expect_nothing().await;
}

// shows: 5.0 MQTT-3.1.2-8
#[tokio::test]
async fn will_delay_is_bounded() {
    let broker = broker!(|config| config.mqtt.will_delay_max_secs = 1);
    let mut watcher = client(V5).connect(&broker).await;
    watcher.subscribe("w", 1).await;
    let will = Will::new("w", "farewell")
        .qos(1)
        .with(prop::will_delay(1_000));
    client(V5)
        .with(prop::session_expiry(1_000))
        .will(will)
        .connect(&broker)
        .await
        .cut();
    watcher.expect_message("farewell").await;
}

#[tokio::test]
async fn user_properties_are_bounded() {
    let broker = broker!(|config| config.limits.user_properties_max = 3);
    let mut message = publish("t", "x").qos1(1);
    for _ in 0..3 {
        message = message.with(prop::user("k", "v"));
    }
    let mut c = client(V5).connect(&broker).await;
    c.send(message.clone()).await;
    c.expect_puback(1).await;
    c.send(message.with(prop::user("one", "too many"))).await;
    match c.packet().await {
        Packet::Ack(ack) => assert_eq!(ack.code, 0x97, "{ack:?}"),
        Packet::Disconnect(disconnect) => assert_eq!(disconnect.code, 0x97, "{disconnect:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn retained_messages_are_bounded() {
    let broker = broker!(|config| config.limits.retained_messages_max = 2);
    let mut c = client(V5).connect(&broker).await;
    for (id, topic) in [(1, "a"), (2, "b"), (3, "a")] {
        c.send(publish(topic, "x").qos1(id).retain()).await;
        c.expect_puback(id).await;
    }
    c.send(publish("c", "one too many").qos1(4).retain()).await;
    c.expect_refused_publish(kind::PUBACK, 4, ReasonCode::QuotaExceeded)
        .await;
    // Clearing makes room.
    c.publish(publish("a", "").qos1(5).retain()).await;
    c.send(publish("c", "fits").qos1(6).retain()).await;
    c.expect_puback(6).await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let broker = broker!(|config| config.limits.connections_max = 2);
    let one = client(V5).connect(&broker).await;
    let _two = client(V5).connect(&broker).await;
    let code = client(V5).dropped(&broker).await;
    assert!(
        matches!(code, None | Some(0x97 | 0x89 | 0x9F)),
        "{code:02x?}"
    );
    one.leave().await;
    // The place is free as soon as the broker has noticed.
    for _ in 0..50 {
        let mut c = client(V311).start(&broker).await;
        if matches!(c.event().await, Event::Packet(Packet::ConnAck(connack)) if connack.code == 0) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of a client that left is still taken");
}

// CONNECT has a limit of its own.
#[tokio::test]
async fn the_size_of_connect_is_bounded() {
    let broker = broker!(|config| config.limits.connect_packet_size_max = 200);
    let fixed = client(V5).id("").user_name("").packet().len();
    let exactly = client(V5).id("").user_name("u".repeat(199 - fixed));
    // The remaining length takes a second byte by then.
    assert_eq!(exactly.packet().len(), 200);
    exactly.connect(&broker).await.leave().await;
    let code = client(V5)
        .id("")
        .user_name("u".repeat(200 - fixed))
        .dropped(&broker)
        .await;
    assert!(matches!(code, None | Some(0x95)), "{code:02x?}");
}

// Rights: lists of filters, a refusal beats a permission, and what may not be subscribed to is not seen through wider filters.
// shows: 3.1.1 MQTT-3.3.5-2, MQTT-3.8.4-5
#[tokio::test]
async fn rights_are_enforced() {
    let broker = broker!(|config| {
        config.users.push(User {
            name: "alice".into(),
            password_hash: hash("secret"),
            client_id: "alices-only-id".into(),
            rights: Rights {
                publish: vec!["up/#".into()],
                subscribe: vec!["up/#".into(), "down/+".into()],
                deny_publish: vec!["up/locked".into()],
                deny_subscribe: vec!["up/secret/#".into()],
            },
        });
    });
    let alice = |version| {
        client(version)
            .id("alices-only-id")
            .user_name("alice")
            .password("secret")
    };
    let code = alice(V5).id("another-id").dropped(&broker).await;
    assert!(matches!(code, Some(0x85 | 0x87)), "{code:02x?}");

    let mut c = alice(V5).connect(&broker).await;
    let request = subscribe(1, "up/#", 0)
        .and("down/x", 0)
        .and("down/+", 0)
        .and("down/#", 0)
        .and("#", 0)
        .and("+/x", 0)
        .and("up/secret/x", 0)
        .and("other", 0)
        .and("$share/g/up/x", 0)
        .and("$share/g/other", 0);
    c.send(request).await;
    c.expect_suback(1, &[0, 0, 0, 0x87, 0x87, 0x87, 0x87, 0x87, 0, 0x87])
        .await;
    c.send(publish("up/locked", "x").qos1(2)).await;
    c.expect_refused_publish(kind::PUBACK, 2, ReasonCode::NotAuthorized)
        .await;
    c.send(publish("down/x", "x").qos2(3)).await;
    c.expect_refused_publish(kind::PUBREC, 3, ReasonCode::NotAuthorized)
        .await;
    // The refusal of a QoS 0 message cannot be told: it is dropped.
    c.send(publish("down/x", "x")).await;
    c.expect_nothing().await;

    let admin = client(V5).user_name("nobody").dropped(&broker).await;
    assert!(admin.is_some(), "unknown users are refused");
    // The same rights in version 3.1.1, where a refused PUBLISH is acknowledged or ends the connection.
    let mut old = alice(V311).connect(&broker).await;
    old.send(subscribe(1, "up/#", 0).and("other", 0)).await;
    old.expect_suback(1, &[0, 0x80]).await;
    old.send(publish("up/locked", "x").qos1(2)).await;
    match old.event().await {
        Event::Closed => {}
        Event::Packet(Packet::Ack(ack)) => {
            assert_eq!(ack.id, 2);
            old.expect_nothing().await;
        }
        Event::Packet(other) => panic!("{other:?}"),
    }
}

// Messages below a denied filter do not come through a wider one that is allowed.
#[tokio::test]
async fn denied_topics_are_not_seen_through_wider_filters() {
    let broker = broker!(|config| {
        config.anonymous.rights.deny_publish.clear();
        config.anonymous.rights.deny_subscribe = vec!["denied/#".into()];
    });
    let mut c = client(V5).connect(&broker).await;
    c.send(subscribe(1, "#", 1).and("+/x", 1).and("denied/x", 1))
        .await;
    match c.packet().await {
        Packet::SubAck(ack) => assert_eq!(ack.codes[2], 0x87, "{ack:?}"),
        other => panic!("{other:?}"),
    }
    let mut p = client(V5).connect(&broker).await;
    p.publish(publish("denied/x", "secret").qos1(1).retain())
        .await;
    p.publish(publish("open", "public").qos1(1)).await;
    c.expect_message("public").await;
    // Neither live nor retained.
    c.send(subscribe(2, "#", 1)).await;
    c.expect_suback(2, &[1]).await;
    c.expect_nothing().await;
}

#[tokio::test]
async fn strategies_choose_members() {
    for (strategy, fixed) in [
        (SharedStrategy::Sticky, true),
        (SharedStrategy::HashTopic, true),
        (SharedStrategy::HashClient, true),
        (SharedStrategy::RoundRobin, false),
        (SharedStrategy::Random, false),
        (SharedStrategy::Local, false),
    ] {
        let broker = broker!(|config| config.shared.strategy = strategy);
        let mut members = Vec::new();
        for _ in 0..2 {
            let mut c = client(V5).connect(&broker).await;
            c.subscribe("$share/g/t", 0).await;
            members.push(c);
        }
        let mut p = client(V5).connect(&broker).await;
        for _ in 0..40 {
            p.send(publish("t", "x")).await;
        }
        p.expect_nothing().await;
        let mut counts = Vec::new();
        for c in &mut members {
            let mut count = 0;
            c.send(pingreq()).await;
            while let Packet::Publish(_) = c.packet().await {
                count += 1;
            }
            counts.push(count);
        }
        assert_eq!(counts.iter().sum::<u32>(), 40, "{strategy:?}");
        assert_eq!(counts.contains(&0), fixed, "{strategy:?}: {counts:?}");
    }
}

// What is under way when the broker shuts down does not stop it from saying goodbye.
// shows: 5.0 MQTT-3.14.4-2
#[tokio::test]
async fn a_shutdown_says_goodbye_before_it_closes() {
    let broker = broker!(|_config| ());
    let mut c = client(V5)
        .with(prop::session_expiry(100))
        .connect(&broker)
        .await;
    c.subscribe("t", 1).await;
    client(V5)
        .connect(&broker)
        .await
        .publish(publish("t", "last").qos1(1))
        .await;
    let seen = c.expect_publish().await;
    assert_eq!(seen.text(), "last");
    broker.shut_down().await;
    let goodbye = c
        .expect_disconnect(ReasonCode::ServerShuttingDown)
        .await
        .expect("version 5");
    assert_eq!(
        find::number(&goodbye.properties, property::SESSION_EXPIRY),
        None
    );
}
