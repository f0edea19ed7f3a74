//! CONNECT: what opens a connection, what is refused, and how.

use crate::prelude::*;

/// Sends these bytes as the first of a connection and expects its end without a CONNACK of success.
async fn refused_opening(bytes: &[u8], version: Version) -> Option<u8> {
    let mut c = Client::open(Broker::shared().await, version).await;
    c.send_raw(bytes).await;
    match c.event().await {
        Event::Closed => None,
        Event::Packet(Packet::ConnAck(connack)) if connack.code != 0 => {
            c.expect_closed().await;
            Some(connack.code)
        }
        other @ Event::Packet(_) => panic!("expected a refusal or a close, got {other:?}"),
    }
}

/// A malformed CONNECT: version 5 may say 0x81 first, version 3.1.1 says nothing.
async fn malformed(bytes: &[u8], version: Version) {
    let code = refused_opening(bytes, version).await;
    let allowed: &[Option<u8>] = if version.is_v5() {
        &[None, Some(0x81)]
    } else {
        &[None]
    };
    assert!(
        allowed.contains(&code),
        "code {code:02x?} for {bytes:02x?} in {version:?}"
    );
}

/// A CONNECT from its parts: flags and everything after the keep alive.
fn connect_with(version: Version, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version as u8, flags, 0, 0];
    if version.is_v5() {
        body.push(0);
    }
    body.extend(payload.concat());
    frame(0x10, &body)
}

// shows: 5.0 MQTT-3.1.0-1, MQTT-4.13.1-1; 3.1.1 MQTT-3.1.0-1, MQTT-4.8.0-1
#[tokio::test]
async fn the_first_packet_has_to_be_connect() {
    for version in BOTH {
        let topic = unique("first/");
        let openings: [Vec<u8>; 4] = [
            pingreq().bytes(version),
            publish(&topic, "x").bytes(version),
            subscribe(1, &topic, 0).bytes(version),
            disconnect().bytes(version),
        ];
        for opening in openings {
            let mut c = Client::open(Broker::shared().await, version).await;
            c.send_raw(&opening).await;
            c.expect_closed().await;
        }
    }
}

// shows: 5.0 MQTT-3.1.0-2, MQTT-3.2.0-2, MQTT-4.13.2-1; 3.1.1 MQTT-3.1.0-2
#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let opening = client(version);
        let packet = opening.packet();
        let mut c = opening.connect(broker).await;
        c.send_raw(&packet).await;
        c.expect_disconnect(ReasonCode::ProtocolError).await;
    }
}

// shows: 5.0 MQTT-3.1.2-1; 3.1.1 MQTT-3.1.2-1
#[tokio::test]
async fn another_protocol_name_is_not_served() {
    let broker = Broker::shared().await;
    for version in BOTH {
        for name in ["MQTTX", "mqtt", "MQT", "HTTP", ""] {
            let mut c = Client::open(broker, version).await;
            c.send_raw(&client(version).protocol_name(name).packet())
                .await;
            let answer = c.last_words().await;
            let allowed: [&[u8]; 3] = [&[], &[0x20, 2, 0, 1], &[0x20, 3, 0, 0x84, 0]];
            assert!(
                allowed.contains(&&answer[..]) || answer.get(3) == Some(&0x84),
                "{name:?}: {answer:02x?}"
            );
        }
    }
}

// shows: 5.0 MQTT-3.1.2-2; 3.1.1 MQTT-3.1.2-2
#[tokio::test]
async fn an_unknown_protocol_level_is_refused() {
    let broker = Broker::shared().await;
    for level in [0, 1, 2, 6, 7, 0x7F] {
        let mut c = Client::open(broker, V311).await;
        // A body that is well-formed in every version, so that only the level is wrong.
        c.send_raw(&client(V311).level(level).packet()).await;
        let answer = c.last_words().await;
        let unacceptable = answer == [0x20, 2, 0, 1];
        let unsupported = answer.first() == Some(&0x20) && answer.get(3) == Some(&0x84);
        assert!(unacceptable || unsupported, "level {level}: {answer:02x?}");
    }
}

// shows: 5.0 MQTT-3.1.2-3; 3.1.1 MQTT-3.1.2-3, MQTT-3.1.4-1, MQTT-3.2.2-6
#[tokio::test]
async fn the_reserved_connect_flag_is_checked() {
    for version in BOTH {
        malformed(&client(version).flags(0x01).packet(), version).await;
    }
}

// shows: 5.0 MQTT-3.1.2-11, MQTT-3.1.2-12, MQTT-3.1.2-13
// shows: 3.1.1 MQTT-3.1.2-13, MQTT-3.1.2-14, MQTT-3.1.2-15, MQTT-3.1.2-11
#[tokio::test]
async fn will_bits_agree_with_each_other() {
    for version in BOTH {
        let qos_without_will = [0x08, 0x10, 0x18];
        let retain_without_will = [0x20];
        for flags in qos_without_will.into_iter().chain(retain_without_will) {
            malformed(&client(version).flags(flags).packet(), version).await;
        }
        malformed(
            &client(version).will(Will::new("w", "x").qos(3)).packet(),
            version,
        )
        .await;
    }
}

// shows: 5.0 MQTT-3.1.2-9, MQTT-3.1.3-3; 3.1.1 MQTT-3.1.2-9, MQTT-3.1.3-3
#[tokio::test]
async fn announced_payload_fields_have_to_be_there() {
    for version in BOTH {
        let no_properties: &[u8] = if version.is_v5() { &[0] } else { &[] };
        // No client id at all.
        malformed(&connect_with(version, 0x02, &[]), version).await;
        // Will flag without topic, without payload.
        malformed(&connect_with(version, 0x06, &[&field(b"c")]), version).await;
        malformed(
            &connect_with(version, 0x06, &[&field(b"c"), no_properties, &field(b"w")]),
            version,
        )
        .await;
        if version.is_v5() {
            // Without will properties the topic's length is taken for theirs.
            malformed(
                &connect_with(version, 0x06, &[&field(b"c"), &field(b"w"), &field(b"p")]),
                version,
            )
            .await;
        }
    }
}

// shows: 5.0 MQTT-3.1.2-16, MQTT-3.1.2-17, MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.4-1
// shows: 3.1.1 MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.2-20, MQTT-3.1.2-21
#[tokio::test]
async fn user_name_and_password_flags_agree_with_the_payload() {
    for version in BOTH {
        let id = unique("c");
        let id = field(id.as_bytes());
        // Flag 0, field there: bytes nobody announced.
        malformed(
            &connect_with(version, 0x02, &[&id, &field(b"user")]),
            version,
        )
        .await;
        malformed(
            &connect_with(version, 0x82, &[&id, &field(b"user"), &field(b"password")]),
            version,
        )
        .await;
        // Flag 1, field not there.
        malformed(&connect_with(version, 0x82, &[&id]), version).await;
        malformed(
            &connect_with(version, 0xC2, &[&id, &field(b"user")]),
            version,
        )
        .await;
    }
}

// shows: 3.1.1 MQTT-3.1.2-22
#[tokio::test]
async fn before_version_5_a_password_needs_a_user_name() {
    malformed(&client(V311).password("secret").packet(), V311).await;
}

// Version 5, 3.1.2.9: a password may come without a user name.
#[tokio::test]
async fn in_version_5_a_password_may_stand_alone() {
    let mut c = client(V5)
        .password("secret")
        .start(Broker::shared().await)
        .await;
    let connack = c.expect_connack().await;
    assert!(
        [0x00, 0x86, 0x87].contains(&connack.code),
        "well-formed, whether welcome or not: {connack:?}"
    );
}

// shows: 5.0 MQTT-3.1.3-4, MQTT-3.1.3-11, MQTT-3.1.3-12, MQTT-1.5.4-1, MQTT-1.5.4-2
// shows: 3.1.1 MQTT-3.1.3-4, MQTT-3.1.3-10, MQTT-3.1.3-11, MQTT-1.5.3-1, MQTT-1.5.3-2
#[tokio::test]
async fn text_in_connect_is_well_formed_utf8() {
    let ill_formed: [&[u8]; 7] = [
        b"a\xC3",        // cut short
        b"\xFF\xFE",     // never in UTF-8
        b"a\x80",        // continuation without a start
        b"\xED\xA0\x80", // surrogate U+D800
        b"\xED\xBF\xBF", // surrogate U+DFFF
        b"\xC0\xAF",     // overlong '/'
        b"a\0b",         // U+0000
    ];
    for version in BOTH {
        for bytes in ill_formed {
            malformed(&client(version).id(bytes).packet(), version).await;
            malformed(
                &client(version).will(Will::new(bytes, "x")).packet(),
                version,
            )
            .await;
            malformed(
                &client(version).user_name(bytes).password("p").packet(),
                version,
            )
            .await;
        }
    }
}

// shows: 5.0 MQTT-1.5.7-1
#[tokio::test]
async fn string_pairs_in_connect_are_well_formed_utf8() {
    let bad_name = prop::raw(property::USER_PROPERTY, b"\0\x01\xFF\0\x01v");
    let bad_value = prop::raw(property::USER_PROPERTY, b"\0\x01n\0\x03\xED\xA0\x80");
    let bad_null = prop::raw(property::USER_PROPERTY, b"\0\x01n\0\x01\0");
    for property in [bad_name, bad_value, bad_null] {
        malformed(&client(V5).with(property).packet(), V5).await;
    }
}

// shows: 5.0 MQTT-3.1.3-5; 3.1.1 MQTT-3.1.3-5
#[tokio::test]
async fn short_alphanumeric_client_ids_are_always_accepted() {
    let broker = Broker::shared().await;
    // A version each, so that the two do not take each other's sessions over.
    for (version, last) in [(V311, 'x'), (V5, 'y')] {
        let ids = [
            format!("{last}"),
            format!("0123456789abcdefghijkl{last}"),
            format!("ABCDEFGHIJKLMNOPQRSTUV{last}"),
            format!("mnopqrstuvwxyzWXYZ{last}"),
        ];
        for id in ids {
            client(version).id(id).connect(broker).await.leave().await;
        }
    }
}

// shows: 5.0 MQTT-3.1.3-6, MQTT-3.1.3-7, MQTT-3.2.2-16
#[tokio::test]
async fn an_empty_client_id_is_assigned_a_unique_one() {
    let broker = Broker::shared().await;
    let mut first = client(V5)
        .id("")
        .with(prop::session_expiry(100))
        .connect(broker)
        .await;
    let second = client(V5).id("").connect(broker).await;
    let assigned = |c: &Client| {
        find::text(&c.connack.properties, property::ASSIGNED_CLIENT_ID).map(str::to_owned)
    };
    let (one, two) = (
        assigned(&first).expect("an assigned id"),
        assigned(&second).expect("an assigned id"),
    );
    assert!(!one.is_empty() && one != two, "{one:?} and {two:?}");
    first.expect_nothing().await;

    // The assigned id counts as if the client had sent it: the session is found under it.
    first.subscribe(unique("t/"), 1).await;
    first.leave().await;
    let again = client(V5).id(&one).resume().connect(broker).await;
    assert!(again.connack.session_present);
    assert_eq!(assigned(&again), None, "nothing was assigned this time");
}

// shows: 3.1.1 MQTT-3.1.3-6
#[tokio::test]
async fn before_version_5_empty_client_ids_with_clean_session_are_distinct_clients() {
    let broker = Broker::shared().await;
    let mut first = client(V311).id("").connect(broker).await;
    let mut second = client(V311).id("").connect(broker).await;
    let topic = unique("t/");
    first.subscribe(&topic, 0).await;
    second.subscribe(&topic, 0).await;
    second
        .publish(publish(unique("elsewhere/"), "x").qos1(1))
        .await;
    client(V311)
        .connect(broker)
        .await
        .publish(publish(&topic, "to both").qos1(1))
        .await;
    first.expect_message("to both").await;
    second.expect_message("to both").await;
}

// shows: 3.1.1 MQTT-3.1.3-7, MQTT-3.1.3-8, MQTT-3.2.2-5
#[tokio::test]
async fn before_version_5_an_empty_client_id_needs_clean_session() {
    client(V311)
        .id("")
        .resume()
        .refused(Broker::shared().await, 2)
        .await;
}

// Version 5, 3.1.3.1: Clean Start 0 goes with an empty client id.
#[tokio::test]
async fn in_version_5_an_empty_client_id_goes_with_any_clean_start() {
    let c = client(V5)
        .id("")
        .not_clean()
        .connect(Broker::shared().await)
        .await;
    assert!(!c.id.is_empty());
    assert!(!c.connack.session_present);
}

// shows: 5.0 MQTT-3.1.3-8, MQTT-3.2.2-7, MQTT-3.1.4-2; 3.1.1 MQTT-3.1.3-9, MQTT-3.2.2-5
#[tokio::test]
async fn a_client_id_that_is_too_long_is_refused() {
    let broker = Broker::shared().await;
    let id = "i".repeat(40_000);
    client(V5).id(&id).refused(broker, 0x85).await;
    client(V311).id(&id).refused(broker, 2).await;
}

// shows: 5.0 MQTT-3.1.4-6; 3.1.1 MQTT-3.1.4-5
#[tokio::test]
async fn nothing_after_a_refused_connect_is_processed() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("t/");
        let mut watcher = client(version).connect(broker).await;
        watcher.subscribe(&topic, 1).await;

        let mut c = Client::open(broker, version).await;
        let mut burst = client(version).id("i".repeat(40_000)).packet();
        burst.extend(publish(&topic, "smuggled").qos1(1).retain().bytes(version));
        c.send_raw(&burst).await;
        let connack = c.expect_connack().await;
        assert_ne!(connack.code, 0);
        c.expect_closed().await;

        watcher.expect_nothing().await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "honest").qos1(1))
            .await;
        watcher.expect_message("honest").await;
    }
}

// Values CONNECT properties may not have, and properties that do not belong there (3.1.2.11, 2.2.2.2).
#[tokio::test]
async fn connect_properties_are_checked() {
    let cases: [(&str, Vec<Property>, u8); 17] = [
        ("receive maximum 0", vec![prop::receive_maximum(0)], 0x82),
        (
            "maximum packet size 0",
            vec![prop::maximum_packet_size(0)],
            0x82,
        ),
        (
            "request response information 2",
            vec![prop::request_response_information(2)],
            0x82,
        ),
        (
            "request problem information 2",
            vec![prop::request_problem_information(2)],
            0x82,
        ),
        (
            "authentication data alone",
            vec![prop::authentication_data(b"x")],
            0x82,
        ),
        (
            "session expiry twice",
            vec![prop::session_expiry(1), prop::session_expiry(1)],
            0x82,
        ),
        (
            "receive maximum twice",
            vec![prop::receive_maximum(1), prop::receive_maximum(1)],
            0x82,
        ),
        (
            "maximum packet size twice",
            vec![prop::maximum_packet_size(99), prop::maximum_packet_size(99)],
            0x82,
        ),
        (
            "alias maximum twice",
            vec![prop::topic_alias_maximum(1), prop::topic_alias_maximum(1)],
            0x82,
        ),
        (
            "problem information twice",
            vec![
                prop::request_problem_information(1),
                prop::request_problem_information(1),
            ],
            0x82,
        ),
        (
            "response information twice",
            vec![
                prop::request_response_information(1),
                prop::request_response_information(1),
            ],
            0x82,
        ),
        ("topic alias in connect", vec![prop::topic_alias(1)], 0x82),
        (
            "assigned client id in connect",
            vec![prop::assigned_client_id("x")],
            0x82,
        ),
        (
            "will delay among connect properties",
            vec![prop::will_delay(1)],
            0x82,
        ),
        (
            "subscription id in connect",
            vec![prop::subscription_id(1)],
            0x82,
        ),
        ("unknown property", vec![prop::raw(0x7E, &[0])], 0x81),
        (
            "value cut short",
            vec![prop::raw(property::SESSION_EXPIRY, &[0, 0])],
            0x81,
        ),
    ];
    for (what, properties, code) in cases {
        let mut opening = client(V5);
        for property in properties {
            opening = opening.with(property);
        }
        let got = opening.dropped(Broker::shared().await).await;
        assert!(
            matches!(got, None | Some(0x81 | 0x82)),
            "{what}: {got:02x?}"
        );
        assert!(
            got.is_none_or(|got| got == code || got == 0x81),
            "{what}: {got:02x?}"
        );
    }
}

// Will properties (3.1.3.2) and values they may not have.
#[tokio::test]
async fn will_properties_are_checked() {
    let cases: [(&str, Vec<Property>); 8] = [
        ("payload format 2", vec![prop::payload_format(2)]),
        (
            "will delay twice",
            vec![prop::will_delay(1), prop::will_delay(2)],
        ),
        (
            "content type twice",
            vec![prop::content_type("a"), prop::content_type("a")],
        ),
        ("session expiry in a will", vec![prop::session_expiry(1)]),
        ("topic alias in a will", vec![prop::topic_alias(1)]),
        (
            "wildcard in the response topic",
            vec![prop::response_topic("a/#")],
        ),
        ("receive maximum in a will", vec![prop::receive_maximum(1)]),
        ("subscription id in a will", vec![prop::subscription_id(1)]),
    ];
    for (what, properties) in cases {
        let mut will = Will::new("w", "x");
        for property in properties {
            will = will.with(property);
        }
        let got = client(V5).will(will).dropped(Broker::shared().await).await;
        assert!(
            matches!(got, None | Some(0x81 | 0x82 | 0x90)),
            "{what}: {got:02x?}"
        );
    }
}

// shows: 5.0 MQTT-2.1.3-1; 3.1.1 MQTT-2.2.2-1, MQTT-2.2.2-2
#[tokio::test]
async fn flags_in_the_header_of_connect_are_zero() {
    for version in BOTH {
        let mut packet = client(version).packet();
        packet[0] = 0x12;
        malformed(&packet, version).await;
    }
}

// shows: 5.0 MQTT-1.5.5-1, MQTT-2.2.2-1
#[tokio::test]
async fn the_property_length_of_connect_is_there_and_in_shortest_form() {
    let body = |properties: &[u8]| {
        let mut body = b"\0\x04MQTT\x05\x02\0\0".to_vec();
        body.extend_from_slice(properties);
        body.extend(field(unique("c").as_bytes()));
        frame(0x10, &body)
    };
    let mut good = Client::open(Broker::shared().await, V5).await;
    good.send_raw(&body(&[0])).await;
    assert_eq!(good.expect_connack().await.code, 0);
    malformed(&body(&[]), V5).await;
    malformed(&body(&[0x80, 0x00]), V5).await;
    malformed(&body(&[0x80, 0x80, 0x80, 0x80, 0x01]), V5).await;
}

// A connection without a CONNECT, whole or in drips, is ended: see `settings`. Many packets in one segment, one packet in many:
// shows: 5.0 MQTT-4.2.0-1; 3.1.1 MQTT-7.1.1-1
#[tokio::test]
async fn packets_are_found_in_a_byte_stream_however_it_is_cut() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("t/");
        let mut c = Client::open(broker, version).await;
        for byte in client(version).packet() {
            c.send_raw(&[byte]).await;
        }
        assert_eq!(c.expect_connack().await.code, 0);
        let burst = [
            subscribe(1, &topic, 1).bytes(version),
            publish(&topic, "one").qos1(2).bytes(version),
            pingreq().bytes(version),
        ];
        c.send_raw(&burst.concat()).await;
        // The server may deliver before it has answered SUBSCRIBE.
        let (mut granted, mut acknowledged, mut delivered, mut answered) =
            (false, false, false, false);
        for _ in 0..4 {
            match c.packet().await {
                Packet::SubAck(ack) => granted = ack.codes == [1],
                Packet::Ack(ack) => acknowledged = ack.id == 2,
                Packet::Publish(publish) => delivered = publish.text() == "one",
                Packet::PingResp => answered = true,
                other => panic!("{other:?}"),
            }
        }
        assert!(granted && acknowledged && delivered && answered);
    }
}
