//! SUBSCRIBE and SUBACK: granting, replacing, overlapping, identifiers, refusals.

use crate::prelude::*;

async fn connected(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

/// Connects, sends these bytes, and expects the connection to end with one of `codes`.
async fn refused(version: Version, bytes: &[u8], codes: &[ReasonCode]) {
    let mut c = connected(version).await;
    c.send_raw(bytes).await;
    if version.is_v5() {
        match c.packet().await {
            Packet::Disconnect(disconnect) => {
                assert!(
                    codes.iter().any(|&code| code as u8 == disconnect.code),
                    "{disconnect:?} for {bytes:02x?}"
                );
            }
            other => panic!("expected DISCONNECT, got {other:?} for {bytes:02x?}"),
        }
    }
    c.expect_closed().await;
}

const PROTOCOL: [ReasonCode; 2] = [ReasonCode::ProtocolError, ReasonCode::MalformedPacket];

// shows: 5.0 MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-2.2.1-6, MQTT-3.8.4-6, MQTT-3.8.4-7, MQTT-3.9.3-2, MQTT-2.2.2-1
// shows: 3.1.1 MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-2.3.1-7, MQTT-3.8.4-5, MQTT-3.9.3-2
#[tokio::test]
async fn each_subscribe_is_answered_with_its_identifier_and_a_code_per_filter() {
    for version in BOTH {
        let mut c = connected(version).await;
        for (id, qos) in [(1, 0), (0xFFFF, 1), (0x0100, 2)] {
            c.send(subscribe(id, unique("t/"), qos)).await;
            c.expect_suback(id, &[qos]).await;
            let mut expected = vec![0x90, 3 + u8::from(version.is_v5())];
            expected.extend(id.to_be_bytes());
            if version.is_v5() {
                expected.push(0);
            }
            expected.push(qos);
            assert_eq!(c.last, expected);
        }
    }
}

// shows: 5.0 MQTT-3.8.4-5, MQTT-3.8.4-6, MQTT-3.9.3-1; 3.1.1 MQTT-3.8.4-4, MQTT-3.8.4-5, MQTT-3.9.3-1
#[tokio::test]
async fn several_filters_are_answered_in_their_order() {
    for version in BOTH {
        let root = unique("t");
        let mut c = connected(version).await;
        let request = subscribe(7, format!("{root}/a"), 2)
            .and(format!("{root}/b"), 0)
            .and(format!("{root}/c"), 1)
            .and(format!("{root}/d/#"), 2)
            .and(format!("{root}/e/+"), 0);
        c.send(request).await;
        c.expect_suback(7, &[2, 0, 1, 2, 0]).await;
        let mut p = connected(version).await;
        for (level, qos) in [("a", 2), ("b", 0), ("c", 1), ("d/x", 2), ("e/x", 0)] {
            p.publish(publish(format!("{root}/{level}"), level).qos2(1))
                .await;
            assert_eq!(c.expect_message(level).await.qos, qos, "{level}");
        }
    }
}

// shows: 5.0 MQTT-3.9.3-1, MQTT-3.8.4-7, MQTT-3.9.3-2; 3.1.1 MQTT-3.9.3-1, MQTT-3.8.4-5, MQTT-3.9.3-2
#[tokio::test]
async fn a_refused_filter_does_not_spoil_the_others() {
    for version in BOTH {
        let root = unique("t");
        let mut c = connected(version).await;
        c.send(
            subscribe(7, format!("{root}/a"), 1)
                .and("denied/x", 1)
                .and(format!("{root}/b"), 0),
        )
        .await;
        let refusal = if version.is_v5() { 0x87 } else { 0x80 };
        c.expect_suback(7, &[1, refusal, 0]).await;
        connected(version)
            .await
            .publish(publish(format!("{root}/b"), "still").qos1(1))
            .await;
        c.expect_message("still").await;
    }
}

// shows: 5.0 MQTT-3.8.4-3; 3.1.1 MQTT-3.8.4-3
#[tokio::test]
async fn the_same_filter_again_replaces_the_subscription() {
    for version in BOTH {
        let topic = unique("t/");
        let mut c = connected(version).await;
        let mut p = connected(version).await;
        for qos in [2, 0, 1] {
            c.subscribe(&topic, qos).await;
            p.publish(publish(&topic, format!("{qos}")).qos2(1)).await;
            assert_eq!(c.expect_message(&format!("{qos}")).await.qos, qos);
            c.expect_nothing().await;
        }
    }
}

// shows: 5.0 MQTT-3.8.4-3, MQTT-3.8.4-4; 3.1.1 MQTT-3.8.4-3
#[tokio::test]
async fn replacing_a_subscription_interrupts_no_delivery() {
    for version in BOTH {
        let topic = unique("t/");
        let mut c = connected(version).await;
        c.subscribe(&topic, 2).await;
        let mut p = connected(version).await;
        p.publish(publish(&topic, "one").qos1(1)).await;
        p.publish(publish(&topic, "two").qos2(1)).await;
        let one = c.expect_publish().await;
        let two = c.expect_publish().await;
        c.subscribe(&topic, 0).await;
        c.acknowledge(&one).await;
        c.acknowledge(&two).await;
        c.expect_nothing().await;
        p.publish(publish(&topic, "three").qos1(1)).await;
        assert_eq!(c.expect_message("three").await.qos, 0);
    }
}

// shows: 5.0 MQTT-3.3.4-2; 3.1.1 MQTT-3.3.5-1
#[tokio::test]
async fn overlapping_subscriptions_deliver_at_the_highest_qos() {
    for version in BOTH {
        for published in 0..=2 {
            let root = unique("t");
            let mut c = connected(version).await;
            c.subscribe(format!("{root}/#"), 0).await;
            c.subscribe(format!("{root}/+"), 2).await;
            c.subscribe(format!("{root}/x"), 1).await;
            connected(version)
                .await
                .publish(publish(format!("{root}/x"), "once").qos(published, 1))
                .await;
            // One copy, or one for each subscription: the best of them has the highest QoS.
            let mut best = 0;
            let mut copies = 0;
            c.send(pingreq()).await;
            loop {
                match c.packet().await {
                    Packet::Publish(seen) => {
                        best = best.max(seen.qos);
                        copies += 1;
                    }
                    Packet::PingResp => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(copies == 1 || copies == 3, "{copies} copies");
            assert_eq!(best, published);
        }
    }
}

// shows: 5.0 MQTT-3.3.4-3, MQTT-3.3.4-4, MQTT-3.3.4-5
#[tokio::test]
async fn identifiers_of_all_matching_subscriptions_accompany_the_message() {
    let root = unique("t");
    let mut c = connected(V5).await;
    c.send(subscribe(1, format!("{root}/#"), 0).with(prop::subscription_id(3)))
        .await;
    c.expect_suback(1, &[0]).await;
    c.send(subscribe(2, format!("{root}/+"), 1).with(prop::subscription_id(268_435_455)))
        .await;
    c.expect_suback(2, &[1]).await;
    c.send(subscribe(3, format!("{root}/x"), 2)).await;
    c.expect_suback(3, &[2]).await;
    c.send(subscribe(4, format!("{root}/other"), 2).with(prop::subscription_id(9)))
        .await;
    c.expect_suback(4, &[2]).await;
    connected(V5)
        .await
        .publish(publish(format!("{root}/x"), "message").qos1(1))
        .await;
    let mut lists = Vec::new();
    c.send(pingreq()).await;
    loop {
        match c.packet().await {
            Packet::Publish(seen) => lists.push(find::subscription_ids(&seen.properties)),
            Packet::PingResp => break,
            other => panic!("{other:?}"),
        }
    }
    lists.sort();
    let one_copy = vec![vec![3, 268_435_455]];
    let three_copies = vec![vec![], vec![3], vec![268_435_455]];
    assert!(lists == one_copy || lists == three_copies, "{lists:?}");
}

// shows: 5.0 MQTT-3.3.4-3
#[tokio::test]
async fn one_identifier_serves_all_filters_of_its_subscribe() {
    let root = unique("t");
    let mut c = connected(V5).await;
    c.send(
        subscribe(1, format!("{root}/a"), 1)
            .and(format!("{root}/b"), 0)
            .with(prop::subscription_id(128)),
    )
    .await;
    c.expect_suback(1, &[1, 0]).await;
    let mut p = connected(V5).await;
    for level in ["a", "b"] {
        p.publish(publish(format!("{root}/{level}"), level).qos1(1))
            .await;
        assert_eq!(
            find::subscription_ids(&c.expect_message(level).await.properties),
            [128]
        );
    }
    // Replacing the subscription replaces its identifier; without one there is none.
    c.send(subscribe(2, format!("{root}/a"), 1).with(prop::subscription_id(16_384)))
        .await;
    c.expect_suback(2, &[1]).await;
    p.publish(publish(format!("{root}/a"), "again").qos1(1))
        .await;
    assert_eq!(
        find::subscription_ids(&c.expect_message("again").await.properties),
        [16_384]
    );
    c.subscribe(format!("{root}/a"), 1).await;
    p.publish(publish(format!("{root}/a"), "bare").qos1(1))
        .await;
    assert!(find::subscription_ids(&c.expect_message("bare").await.properties).is_empty());
}

// Identifiers belong to the session: they survive a reconnect.
// shows: 5.0 MQTT-3.3.4-3
#[tokio::test]
async fn subscription_identifiers_survive_a_reconnect() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    c.send(subscribe(1, &topic, 1).with(prop::subscription_id(77)))
        .await;
    c.expect_suback(1, &[1]).await;
    c.leave().await;
    connected(V5)
        .await
        .publish(publish(&topic, "waiting").qos1(1))
        .await;
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    assert_eq!(
        find::subscription_ids(&c.expect_message("waiting").await.properties),
        [77]
    );
}

// Subscription identifier 0, or more than one of them (3.8.2.1.2).
#[tokio::test]
async fn subscribe_properties_are_checked() {
    let cases = [
        vec![prop::subscription_id(0)],
        vec![prop::subscription_id(1), prop::subscription_id(2)],
        vec![prop::topic_alias(1)],
        vec![prop::session_expiry(1)],
        vec![prop::message_expiry(1)],
        vec![prop::reason_string("no")],
        vec![prop::raw(
            property::SUBSCRIPTION_ID,
            &[0x80, 0x80, 0x80, 0x80, 0x01],
        )],
        vec![prop::raw(property::SUBSCRIPTION_ID, &[0x81, 0x00])],
    ];
    for case in cases {
        let mut request = subscribe(1, "t", 0);
        for property in case {
            request = request.with(property);
        }
        refused(V5, &request.bytes(V5), &PROTOCOL).await;
    }
}

// shows: 5.0 MQTT-3.8.1-1, MQTT-2.1.3-1; 3.1.1 MQTT-3.8.1-1, MQTT-2.2.2-1, MQTT-2.2.2-2
#[tokio::test]
async fn flags_in_the_header_of_subscribe_are_0010() {
    for version in BOTH {
        for first in [0x80, 0x81, 0x83, 0x8A, 0x8F] {
            let mut packet = subscribe(1, "t", 0).bytes(version);
            packet[0] = first;
            refused(version, &packet, &[ReasonCode::MalformedPacket]).await;
        }
    }
}

// shows: 5.0 MQTT-3.8.3-1, MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-4.7.3-2; 3.1.1 MQTT-3.8.3-1, MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-4.7.3-2
#[tokio::test]
async fn filters_are_well_formed_text() {
    let ill_formed: [&[u8]; 5] = [b"\xFF", b"a/\xC3", b"\xED\xA0\x80", b"\xC0\x80", b"a\0b"];
    for version in BOTH {
        for filter in ill_formed {
            let codes = [ReasonCode::MalformedPacket, ReasonCode::TopicFilterInvalid];
            refused(version, &subscribe(1, filter, 0).bytes(version), &codes).await;
        }
    }
}

// shows: 5.0 MQTT-3.8.3-2; 3.1.1 MQTT-3.8.3-3
#[tokio::test]
async fn a_subscribe_without_filters_is_refused() {
    for version in BOTH {
        let body: &[u8] = if version.is_v5() { &[0, 1, 0] } else { &[0, 1] };
        refused(version, &frame(0x82, body), &PROTOCOL).await;
    }
}

// shows: 5.0 MQTT-3.8.3-5; 3.1.1 MQTT-3.8.3-4
#[tokio::test]
async fn reserved_option_bits_and_qos_3_are_malformed() {
    for options in [0x40, 0x80, 0xC1] {
        refused(
            V5,
            &subscribe(1, "t", options).bytes(V5),
            &[ReasonCode::MalformedPacket],
        )
        .await;
    }
    // QoS 3 and Retain Handling 3 are protocol errors by 3.8.3.1.
    for options in [0x03, 0x30, 0x32] {
        refused(V5, &subscribe(1, "t", options).bytes(V5), &PROTOCOL).await;
    }
    for options in [0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        refused(V311, &subscribe(1, "t", options).bytes(V311), &[]).await;
    }
}

// shows: 5.0 MQTT-3.8.3-3
#[tokio::test]
async fn no_local_keeps_own_publications_away() {
    let topic = unique("t/");
    let mut c = connected(V5).await;
    c.subscribe(&topic, 1 | NO_LOCAL).await;
    c.publish(publish(&topic, "own").qos1(1)).await;
    c.expect_nothing().await;
    connected(V5)
        .await
        .publish(publish(&topic, "foreign").qos1(1))
        .await;
    c.expect_message("foreign").await;
    // Without the option own publications come back.
    c.subscribe(&topic, 1).await;
    c.send(publish(&topic, "own").qos1(9)).await;
    let both = [c.packet().await, c.packet().await];
    assert!(
        both.iter()
            .any(|packet| matches!(packet, Packet::Publish(seen) if seen.text() == "own"))
    );
    // No Local concerns the client id, not the connection or the publishing session's filters.
    let mut other = connected(V5).await;
    other.subscribe(&topic, NO_LOCAL).await;
    c.send(publish(&topic, "from the other").qos1(10)).await;
    other.expect_message("from the other").await;
}

// shows: 3.1.1 MQTT-3.8.3-2
#[tokio::test]
async fn wildcard_filters_are_served_or_refused_in_suback() {
    let root = unique("t");
    let mut c = connected(V311).await;
    c.send(subscribe(1, format!("{root}/#"), 1).and(format!("{root}/+"), 1))
        .await;
    match c.packet().await {
        Packet::SubAck(ack) if ack.codes == [1, 1] => {
            connected(V311)
                .await
                .publish(publish(format!("{root}/x"), "seen").qos1(1))
                .await;
            c.expect_message("seen").await;
        }
        Packet::SubAck(ack) => assert_eq!(ack.codes, [0x80, 0x80]),
        other => panic!("{other:?}"),
    }
}

// shows: 5.0 MQTT-4.7.3-1, MQTT-4.7.1-1, MQTT-4.7.1-2; 3.1.1 MQTT-4.7.3-1, MQTT-4.7.1-2, MQTT-4.7.1-3
#[tokio::test]
async fn invalid_filters_are_refused() {
    let filters = [
        "", "a/#/b", "a#", "#a", "a/b#", "##", "#/", "a+", "+a", "a/+b", "a/b+/c", "++", "a/++",
        "+#",
    ];
    for version in BOTH {
        for filter in filters {
            let mut c = connected(version).await;
            c.send(subscribe(1, filter, 0)).await;
            match c.event().await {
                Event::Closed => assert!(!version.is_v5(), "version 5 is told why: {filter:?}"),
                Event::Packet(Packet::SubAck(ack)) => {
                    let refusal = if version.is_v5() { 0x8F } else { 0x80 };
                    assert_eq!(ack.codes, [refusal], "{filter:?}");
                }
                Event::Packet(Packet::Disconnect(disconnect)) => {
                    assert!(
                        [0x81, 0x82, 0x8F].contains(&disconnect.code),
                        "{filter:?}: {disconnect:?}"
                    );
                    c.expect_closed().await;
                }
                Event::Packet(other) => panic!("{filter:?}: {other:?}"),
            }
        }
    }
}

// shows: 5.0 MQTT-3.1.2-29
#[tokio::test]
async fn without_problem_information_no_reasons_are_sent() {
    let broker = Broker::shared().await;
    let mut c = client(V5)
        .with(prop::request_problem_information(0))
        .connect(broker)
        .await;
    c.send(
        subscribe(1, "denied/x", 0)
            .and("a/#/b", 0)
            .and(unique("t/"), 0),
    )
    .await;
    match c.packet().await {
        Packet::SubAck(ack) => assert!(ack.properties.is_empty(), "{ack:?}"),
        // PUBLISH, CONNACK and DISCONNECT are exempt.
        Packet::Disconnect(_) => {
            c = client(V5)
                .with(prop::request_problem_information(0))
                .connect(broker)
                .await;
        }
        other => panic!("{other:?}"),
    }
    c.send(publish("denied/x", "no").qos1(1)).await;
    let ack = c
        .expect_refused_publish(kind::PUBACK, 1, ReasonCode::NotAuthorized)
        .await;
    assert!(ack.properties.is_empty(), "{ack:?}");
    c.send(publish("denied/x", "no").qos2(2)).await;
    let ack = c
        .expect_refused_publish(kind::PUBREC, 2, ReasonCode::NotAuthorized)
        .await;
    assert!(ack.properties.is_empty(), "{ack:?}");
    c.send(pubrel(999)).await;
    assert!(c.expect_pubcomp(999).await.properties.is_empty());
    c.send(unsubscribe(3, "never/subscribed")).await;
    assert!(c.expect_unsuback(3, &[0x11]).await.properties.is_empty());
}

// User properties on SUBSCRIBE and UNSUBSCRIBE are allowed, more than once, and have no effect.
#[tokio::test]
async fn user_properties_on_requests_are_accepted() {
    let topic = unique("t/");
    let mut c = connected(V5).await;
    c.send(
        subscribe(1, &topic, 1)
            .with(prop::user("a", "b"))
            .with(prop::user("a", "b")),
    )
    .await;
    c.expect_suback(1, &[1]).await;
    c.send(
        unsubscribe(2, &topic)
            .with(prop::user("", ""))
            .with(prop::user("x", "y")),
    )
    .await;
    c.expect_unsuback(2, &[0]).await;
}
