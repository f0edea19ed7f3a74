//! What depends on the broker's settings: limits announced and enforced, users, time-outs, shutdown. Each test starts its own
//! broker; with an external one they have nothing to say.

use crate::prelude::*;
use martlet_interop::settings::{DeliveryMode, User};

macro_rules! broker {
    (|$config:ident| $change:expr) => {
        match Broker::with(|$config| $change).await {
            Some(broker) => broker,
            None => return,
        }
    };
}

fn announced(c: &Client, id: u8) -> Option<u32> {
    find::number(&c.connack.properties, id)
}

/// Sends a packet and expects the connection to end with this code.
async fn ends(broker: &Broker, version: Version, packet: impl ClientPacket, code: ReasonCode) {
    let mut c = client(version).connect(broker).await;
    c.send(packet).await;
    c.expect_disconnect(code).await;
}

// shows: 5.0 MQTT-3.2.2-9, MQTT-3.2.2-10, MQTT-3.2.2-12
#[tokio::test]
async fn maximum_qos_is_announced_and_enforced() {
    let broker = broker!(|config| config.mqtt.maximum_qos = martlet_interop::QoS::AtLeastOnce);
    let mut c = client(V5).connect(&broker).await;
    assert_eq!(announced(&c, property::MAXIMUM_QOS), Some(1));
    // Any QoS may be asked for; a SUBACK grants what there is.
    c.send(subscribe(1, "t", 2)).await;
    match c.packet().await {
        Packet::SubAck(ack) => assert!(matches!(ack.codes[..], [1 | 2]), "{ack:?}"),
        other => panic!("{other:?}"),
    }
    client(V5)
        .connect(&broker)
        .await
        .publish(publish("t", "one").qos1(1))
        .await;
    assert_eq!(c.expect_message("one").await.qos, 1);
    ends(
        &broker,
        V5,
        publish("t", "two").qos2(1),
        ReasonCode::QosNotSupported,
    )
    .await;
    client(V5)
        .will(Will::new("w", "x").qos(2))
        .refused(&broker, 0x9B)
        .await;
    client(V5)
        .will(Will::new("w", "x").qos(1))
        .connect(&broker)
        .await
        .leave()
        .await;
}

// shows: 5.0 MQTT-3.2.2-13
#[tokio::test]
async fn retain_not_available_is_announced_and_enforced() {
    let broker = broker!(|config| config.mqtt.retain_available = false);
    let mut c = client(V5).connect(&broker).await;
    assert_eq!(announced(&c, property::RETAIN_AVAILABLE), Some(0));
    c.subscribe("t", 1).await;
    client(V5)
        .connect(&broker)
        .await
        .publish(publish("t", "live").qos1(1))
        .await;
    c.expect_message("live").await;
    ends(
        &broker,
        V5,
        publish("t", "x").qos1(1).retain(),
        ReasonCode::RetainNotSupported,
    )
    .await;
    client(V5)
        .will(Will::new("w", "x").retain())
        .refused(&broker, 0x9A)
        .await;
}

// shows: 3.1.1 MQTT-3.8.3-2
#[tokio::test]
async fn what_filters_may_not_be_is_announced_and_refused() {
    let broker = broker!(|config| {
        config.mqtt.wildcard_subscription_available = false;
        config.mqtt.subscription_identifier_available = false;
        config.mqtt.shared_subscription_available = false;
    });
    let mut c = client(V5).connect(&broker).await;
    assert_eq!(announced(&c, property::WILDCARD_AVAILABLE), Some(0));
    assert_eq!(announced(&c, property::SUBSCRIPTION_IDS_AVAILABLE), Some(0));
    assert_eq!(announced(&c, property::SHARED_AVAILABLE), Some(0));
    c.send(subscribe(1, "a/#", 1).and("a/+", 1).and("a", 1))
        .await;
    c.expect_suback(1, &[0xA2, 0xA2, 1]).await;
    for (request, code) in [
        (subscribe(1, "$share/g/t", 1), 0x9E),
        (subscribe(1, "t", 1).with(prop::subscription_id(1)), 0xA1),
    ] {
        let mut c = client(V5).connect(&broker).await;
        c.send(request).await;
        match c.packet().await {
            Packet::SubAck(ack) => assert_eq!(ack.codes, [code]),
            Packet::Disconnect(disconnect) => assert_eq!(disconnect.code, code),
            other => panic!("{other:?}"),
        }
    }
    let mut old = client(V311).connect(&broker).await;
    old.send(subscribe(1, "a/#", 1).and("a", 1)).await;
    old.expect_suback(1, &[0x80, 1]).await;
}

// shows: 5.0 MQTT-4.9.0-1
#[tokio::test]
async fn receive_maximum_is_announced_and_enforced() {
    let broker = broker!(|config| config.mqtt.receive_maximum = 3);
    let mut c = client(V5).connect(&broker).await;
    assert_eq!(announced(&c, property::RECEIVE_MAXIMUM), Some(3));
    for id in 1..=3 {
        c.send(publish("t", "x").qos2(id)).await;
        c.expect_pubrec(id).await;
    }
    // A finished exchange makes room for one more, and not for two.
    c.send(pubrel(2)).await;
    c.expect_pubcomp(2).await;
    c.send(publish("t", "x").qos2(4)).await;
    c.expect_pubrec(4).await;
    c.send(publish("t", "x").qos1(5)).await;
    c.expect_disconnect(ReasonCode::ReceiveMaximumExceeded)
        .await;
}

// Also [MQTT-3.2.2-15]: the client's duty, enforced.
#[tokio::test]
async fn maximum_packet_size_is_announced_and_enforced() {
    let broker = broker!(|config| config.mqtt.maximum_packet_size = 1_000);
    let c = client(V5).connect(&broker).await;
    assert_eq!(announced(&c, property::MAXIMUM_PACKET_SIZE), Some(1_000));
    for version in BOTH {
        let fixed = publish("t", "").qos1(1).bytes(version).len() + 1;
        let exactly = publish("t", "x".repeat(1_000 - fixed)).qos1(1);
        assert_eq!(exactly.bytes(version).len(), 1_000);
        let mut c = client(version).connect(&broker).await;
        c.send(exactly).await;
        c.expect_puback(1).await;
        ends(
            &broker,
            version,
            publish("t", "x".repeat(1_001 - fixed)).qos1(1),
            ReasonCode::PacketTooLarge,
        )
        .await;
    }
}

// Also [MQTT-3.3.2-9]: the client's duty, enforced at N and N + 1.
// shows: 5.0 MQTT-3.3.2-12
#[tokio::test]
async fn topic_alias_maximum_is_announced_and_enforced() {
    let broker = broker!(|config| config.mqtt.topic_alias_maximum = 5);
    let mut c = client(V5).connect(&broker).await;
    assert_eq!(announced(&c, property::TOPIC_ALIAS_MAXIMUM), Some(5));
    c.send(publish("t", "x").qos1(1).with(prop::topic_alias(5)))
        .await;
    c.expect_puback(1).await;
    ends(
        &broker,
        V5,
        publish("t", "x").with(prop::topic_alias(6)),
        ReasonCode::TopicAliasInvalid,
    )
    .await;
    let none = broker!(|config| config.mqtt.topic_alias_maximum = 0);
    ends(
        &none,
        V5,
        publish("t", "x").with(prop::topic_alias(1)),
        ReasonCode::TopicAliasInvalid,
    )
    .await;
}

// shows: 5.0 MQTT-3.1.2-26, MQTT-3.3.2-11, MQTT-3.3.2-8, MQTT-3.1.2-27, MQTT-3.3.2-7
#[tokio::test]
async fn outgoing_aliases_stay_within_the_clients_maximum() {
    let broker = broker!(|config| config.mqtt.topic_alias_outgoing_maximum = 10);
    let mut p = client(V5).connect(&broker).await;
    let id = unique("c");
    // A second connection starts from nothing.
    for _ in 0..2 {
        let mut c = client(V5)
            .id(&id)
            .resume()
            .with(prop::topic_alias_maximum(2))
            .connect(&broker)
            .await;
        c.subscribe("t/#", 2).await;
        let mut known: [Option<String>; 3] = [None, None, None];
        let mut used = false;
        for round in 0..3 {
            for level in [
                "first", "first", "second", "first", "third", "third", "second",
            ] {
                let topic = format!("t/a-topic-worth-an-alias/{level}");
                p.publish(publish(&topic, "x").qos(round, 1)).await;
                let seen = c.expect_message("x").await;
                let name = match announced_alias(&seen) {
                    Some(alias @ 1..=2) if seen.topic.is_empty() => {
                        used = true;
                        known[alias as usize].clone()
                    }
                    Some(alias @ 1..=2) => {
                        known[alias as usize] = Some(seen.topic_text());
                        Some(seen.topic_text())
                    }
                    Some(alias) => panic!("alias {alias} of at most 2"),
                    None => Some(seen.topic_text()),
                };
                assert_eq!(name, Some(topic), "round {round}");
            }
        }
        assert!(used, "the broker uses the aliases it may");
        // The last acknowledgement has arrived before the next connection takes over.
        c.expect_nothing().await;
    }
    let mut plain = client(V5).connect(&broker).await;
    plain.subscribe("t/#", 0).await;
    for _ in 0..2 {
        p.publish(publish("t/a", "x")).await;
        assert_eq!(announced_alias(&plain.expect_message("x").await), None);
    }
}

fn announced_alias(seen: &Publish) -> Option<u32> {
    find::number(&seen.properties, property::TOPIC_ALIAS)
}

// shows: 5.0 MQTT-3.3.4-5, MQTT-3.3.4-3
#[tokio::test]
async fn one_copy_per_subscription_carries_its_own_identifier() {
    let broker = broker!(|config| config.mqtt.delivery_mode = DeliveryMode::Each);
    let mut c = client(V5).connect(&broker).await;
    for (id, filter) in [(1, "t/#"), (2, "t/+"), (3, "t/x")] {
        c.send(subscribe(id, filter, 1).with(prop::subscription_id(u32::from(id))))
            .await;
        c.expect_suback(id, &[1]).await;
    }
    client(V5)
        .connect(&broker)
        .await
        .publish(publish("t/x", "message").qos1(1))
        .await;
    let mut lists = Vec::new();
    for _ in 0..3 {
        lists.push(find::subscription_ids(
            &c.expect_message("message").await.properties,
        ));
    }
    lists.sort();
    assert_eq!(lists, [[1], [2], [3]]);
    c.expect_nothing().await;
}

// shows: 5.0 MQTT-3.1.2-28
#[tokio::test]
async fn response_information_is_given_on_request() {
    let broker = broker!(|config| config.mqtt.response_information = "answers/".into());
    let text = |c: &Client| {
        find::text(&c.connack.properties, property::RESPONSE_INFORMATION).map(str::to_owned)
    };
    let asked = client(V5)
        .with(prop::request_response_information(1))
        .connect(&broker)
        .await;
    let information = text(&asked).expect("asked for");
    assert!(
        information.starts_with("answers/") && information.contains(&asked.id),
        "{information}"
    );
    let unasked = client(V5)
        .with(prop::request_response_information(0))
        .connect(&broker)
        .await;
    assert_eq!(text(&unasked), None);
    assert_eq!(text(&client(V5).connect(&broker).await), None);
}

// shows: 5.0 MQTT-3.1.2-22, MQTT-3.2.2-22
#[tokio::test]
async fn server_keep_alive_is_a_maximum() {
    let broker = broker!(|config| config.mqtt.keep_alive_max_secs = 1);
    for asked in [0, 60, 2] {
        let mut c = client(V5).keep_alive(asked).connect(&broker).await;
        assert_eq!(
            announced(&c, property::SERVER_KEEP_ALIVE),
            Some(1),
            "asked for {asked}"
        );
        if asked == 60 {
            c.expect_disconnect(ReasonCode::KeepAliveTimeout).await;
        }
    }
    let broker = broker!(|config| config.mqtt.keep_alive_max_secs = 60);
    let c = client(V5).keep_alive(5).connect(&broker).await;
    assert!(matches!(
        announced(&c, property::SERVER_KEEP_ALIVE),
        None | Some(5)
    ));
}

// The interval that is granted is announced when it is not the one asked for (3.2.2.3.2).
#[tokio::test]
async fn session_expiry_is_bounded() {
    let broker = broker!(|config| config.mqtt.session_expiry_max_secs = 1);
    let id = unique("c");
    let c = client(V5)
        .id(&id)
        .not_clean()
        .with(prop::session_expiry(1_000))
        .connect(&broker)
        .await;
    assert_eq!(announced(&c, property::SESSION_EXPIRY), Some(1));
    c.leave().await;
    sleep(Duration::from_millis(3_200)).await;
    assert!(
        !client(V5)
            .id(&id)
            .resume()
            .connect(&broker)
            .await
            .connack
            .session_present
    );
}

// shows: 5.0 MQTT-3.1.4-2, MQTT-3.2.2-7; 3.1.1 MQTT-3.2.2-5
#[tokio::test]
async fn users_need_their_password() {
    let broker = broker!(|config| {
        config.anonymous.allow = Some(false);
        config.users.push(User {
            name: "alice".into(),
            password_hash: martlet_interop::settings::hash("correct horse"),
            ..User::default()
        });
    });
    for version in BOTH {
        let code = |v5: u8, v3: &'static [u8]| {
            if version.is_v5() {
                vec![v5]
            } else {
                v3.to_vec()
            }
        };
        for (opening, codes) in [
            (
                client(version).user_name("alice").password("battery"),
                code(0x86, &[4, 5]),
            ),
            (client(version).user_name("alice"), code(0x86, &[4, 5])),
            (
                client(version).user_name("bob").password("correct horse"),
                code(0x86, &[4, 5]),
            ),
            (client(version), code(0x87, &[5])),
        ] {
            let mut c = opening.start(&broker).await;
            let connack = c.expect_connack().await;
            assert!(codes.contains(&connack.code), "{version:?} {connack:?}");
            c.expect_closed().await;
        }
        client(version)
            .user_name("alice")
            .password("correct horse")
            .connect(&broker)
            .await
            .leave()
            .await;
    }
}

// shows: 5.0 MQTT-3.1.2-2; 3.1.1 MQTT-3.1.2-2
#[tokio::test]
async fn a_level_below_the_minimum_is_refused() {
    let broker = broker!(|config| config.mqtt.minimum_protocol_level = 5);
    client(V31).refused(&broker, 1).await;
    client(V311).refused(&broker, 1).await;
    client(V5).connect(&broker).await.leave().await;
}

// Time to CONNECT is bounded, and dripping bytes do not extend it.
#[tokio::test]
async fn connections_without_connect_are_ended() {
    let broker = broker!(|config| config.limits.connect_timeout = Duration::from_secs(1));
    let silent = async {
        Client::open(&broker, V5).await.expect_closed().await;
    };
    let dripping = async {
        let mut c = Client::open(&broker, V5).await;
        let packet = client(V5).id("x".repeat(100)).packet();
        let begun = Instant::now();
        for byte in packet {
            c.send_raw(&[byte]).await;
            match c.event_within(Duration::from_millis(200)).await {
                None => assert!(begun.elapsed() < WAIT, "drips extend the time"),
                Some(Event::Closed) => return,
                Some(other) => panic!("{other:?}"),
            }
        }
        panic!("the whole CONNECT was taken");
    };
    tokio::join!(silent, dripping);
}

// A shutdown is announced with 0x8B; MQTT 3 clients see the end only (3.14.2.1).
#[tokio::test]
async fn a_shutdown_is_announced() {
    let broker = broker!(|_config| ());
    let mut old = client(V311).connect(&broker).await;
    let mut new = client(V5).connect(&broker).await;
    broker.shut_down().await;
    old.expect_disconnect(ReasonCode::ServerShuttingDown).await;
    new.expect_disconnect(ReasonCode::ServerShuttingDown).await;
    assert!(
        tokio::net::TcpStream::connect(broker.address())
            .await
            .is_err()
            || martlet_interop::mutants::chosen().is_some()
    );
}

// `$queue/` means a shared subscription where it is switched on.
#[tokio::test]
async fn queue_subscriptions_share() {
    let broker = broker!(|config| config.mqtt.queue_subscriptions = true);
    let mut members = [
        client(V311).connect(&broker).await,
        client(V311).connect(&broker).await,
    ];
    for c in &mut members {
        c.subscribe("$queue/t", 0).await;
    }
    let mut p = client(V311).connect(&broker).await;
    for number in 0..4 {
        p.publish(publish("t", format!("{number}"))).await;
    }
    let mut seen = 0;
    for c in &mut members {
        c.send(pingreq()).await;
        while let Packet::Publish(_) = c.packet().await {
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

// Sessions beyond the limit are refused; those that exist go on.
#[tokio::test]
async fn limits_on_sessions_and_subscriptions_are_told() {
    let broker = broker!(|config| {
        config.limits.sessions_max = 2;
        config.limits.subscriptions_per_client_max = 2;
        config.limits.client_id_bytes_max = 30;
        config.limits.topic_levels_max = 4;
    });
    let mut one = client(V5).connect(&broker).await;
    let _two = client(V5).connect(&broker).await;
    client(V5).refused(&broker, 0x97).await;
    client(V5).id("x".repeat(31)).refused(&broker, 0x85).await;
    one.send(subscribe(1, "a", 1).and("b", 1).and("c", 1)).await;
    one.expect_suback(1, &[1, 1, 0x97]).await;
    one.send(subscribe(2, "a", 0)).await;
    one.expect_suback(2, &[0]).await;
    one.send(subscribe(3, "a/b/c/d/e", 0)).await;
    one.expect_suback(3, &[0x8F]).await;
    one.send(publish("a/b/c/d", "x").qos1(4)).await;
    one.expect_puback(4).await;
    one.send(publish("a/b/c/d/e", "x").qos1(5)).await;
    one.expect_refused_publish(kind::PUBACK, 5, ReasonCode::TopicNameInvalid)
        .await;
}
