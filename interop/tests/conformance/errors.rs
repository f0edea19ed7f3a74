//! Malformed packets and protocol errors, and what becomes of the connection.

use crate::prelude::*;

async fn connected(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

/// Sends bytes on a new connection and expects its end with one of these codes.
async fn ends(version: Version, bytes: &[u8], codes: &[u8]) {
    let mut c = connected(version).await;
    c.send_raw(bytes).await;
    if version.is_v5() {
        match c.packet().await {
            Packet::Disconnect(disconnect) => assert!(
                codes.contains(&disconnect.code),
                "{disconnect:?} for {bytes:02x?}"
            ),
            other => panic!("expected DISCONNECT, got {other:?} for {bytes:02x?}"),
        }
    }
    c.expect_closed().await;
}

const MALFORMED: [u8; 1] = [0x81];
const EITHER: [u8; 2] = [0x81, 0x82];

// shows: 5.0 MQTT-2.1.3-1, MQTT-3.6.1-1, MQTT-3.14.1-1, MQTT-3.15.1-1, MQTT-4.13.1-1
// shows: 3.1.1 MQTT-2.2.2-1, MQTT-2.2.2-2, MQTT-3.6.1-1, MQTT-3.14.1-1, MQTT-4.8.0-1
#[tokio::test]
async fn header_flags_have_their_fixed_values() {
    for version in BOTH {
        let mut wrong = vec![
            // PUBACK, PUBREC, PUBCOMP, PINGREQ, DISCONNECT with any bit.
            frame(0x42, &[0, 1]),
            frame(0x51, &[0, 1]),
            frame(0x74, &[0, 1]),
            frame(0xC1, &[]),
            frame(0xE1, &[]),
            frame(0xE8, &[]),
            // PUBREL without its 0010.
            frame(0x60, &[0, 1]),
            frame(0x63, &[0, 1]),
            frame(0x6A, &[0, 1]),
        ];
        if version.is_v5() {
            wrong.push(frame(0xF1, &[0x18, 0]));
            wrong.push(frame(0xE4, &[0, 0]));
        }
        for packet in wrong {
            ends(version, &packet, &MALFORMED).await;
        }
    }
}

// Packets only a server sends, and packet type 0 (2.1.2).
// shows: 5.0 MQTT-4.13.1-1; 3.1.1 MQTT-4.8.0-1
#[tokio::test]
async fn packets_of_a_server_are_refused() {
    for version in BOTH {
        let mut wrong = vec![
            frame(0x00, &[]),
            frame(0x20, &[0, 0]),
            frame(0x90, &[0, 1, 0]),
            frame(0xB0, &[0, 1]),
            frame(0xD0, &[]),
        ];
        if !version.is_v5() {
            wrong.push(frame(0xF0, &[]));
        }
        for packet in wrong {
            ends(version, &packet, &EITHER).await;
        }
    }
}

// shows: 5.0 MQTT-1.5.5-1, MQTT-4.13.1-1
#[tokio::test]
async fn variable_byte_integers_are_in_shortest_form() {
    for version in BOTH {
        // A remaining length with a fifth byte, on the header alone.
        ends(version, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF], &[0x81, 0x95]).await;
    }
    // Property lengths with a superfluous byte.
    ends(V5, &frame(0x30, b"\0\x01t\x80\x00x"), &MALFORMED).await;
    ends(V5, &frame(0x82, b"\0\x01\x80\x00\0\x01t\0"), &MALFORMED).await;
    ends(V5, &frame(0xE0, b"\0\x80\x00"), &MALFORMED).await;
    // A remaining length with a superfluous byte.
    ends(V5, &[0xC0, 0x80, 0x00], &MALFORMED).await;
}

// Bodies that are too short, too long, or lie about a length within (4.13).
// shows: 5.0 MQTT-4.13.1-1, MQTT-2.2.2-1; 3.1.1 MQTT-4.8.0-1
#[tokio::test]
async fn bodies_have_the_length_their_contents_say() {
    for version in BOTH {
        let mut wrong = vec![
            frame(0x30, &[]),
            frame(0x30, &[0]),
            frame(0x30, b"\0\x05abc"),
            frame(0x32, b"\0\x01t\0"),
            frame(0x40, &[]),
            frame(0x40, &[0]),
            frame(0x62, &[1]),
            frame(0x82, &[0]),
            frame(0x82, b"\0\x01\0\0\x01t"),
            frame(0xA2, b"\0\x01\0\0\x09t"),
            frame(0xC0, &[0]),
        ];
        if version.is_v5() {
            wrong.extend([
                // PUBLISH without its property length, properties that end in mid-value or run over the packet.
                frame(0x30, b"\0\x01t"),
                frame(0x30, b"\0\x01t\x03\x02\0\0"),
                frame(0x30, b"\0\x01t\x09\x01\x01"),
                // Bytes after the properties of an acknowledgement.
                frame(0x40, b"\0\x01\0\0x"),
                frame(0xE0, b"\0\0x"),
                // SUBSCRIBE without its property length cannot be told from a wrong one.
                frame(0x82, b"\0\x01"),
            ]);
        } else {
            wrong.extend([
                frame(0x40, &[0, 1, 0]),
                frame(0x62, &[0, 1, 0]),
                frame(0xE0, &[0]),
            ]);
        }
        for packet in wrong {
            ends(version, &packet, &EITHER).await;
        }
    }
}

// shows: 5.0 MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1, MQTT-3.14.2-1
#[tokio::test]
async fn codes_beyond_their_tables_are_refused() {
    for code in [0x01, 0x03, 0x7F, 0x92, 0x8E, 0xFF] {
        ends(V5, &frame(0x40, &[0, 1, code]), &EITHER).await;
        ends(V5, &frame(0x50, &[0, 1, code]), &EITHER).await;
    }
    for code in [0x01, 0x10, 0x80, 0x91, 0xFF] {
        ends(V5, &frame(0x62, &[0, 1, code]), &EITHER).await;
        ends(V5, &frame(0x70, &[0, 1, code]), &EITHER).await;
    }
    for code in [0x01, 0x02, 0x18, 0x84, 0x91, 0xFE] {
        ends(V5, &frame(0xE0, &[code]), &EITHER).await;
    }
}

// Properties in acknowledgements and DISCONNECT: only their own, and a reason string once.
#[tokio::test]
async fn properties_of_acknowledgements_are_checked() {
    let twice = [prop::reason_string("a"), prop::reason_string("b")];
    let cases: [Vec<Property>; 4] = [
        twice.to_vec(),
        vec![prop::topic_alias(1)],
        vec![prop::session_expiry(1)],
        vec![prop::subscription_id(1)],
    ];
    for case in cases {
        let block = properties::block(&case);
        for (first, head) in [
            (0x40, &[0, 1, 0][..]),
            (0x50, &[0, 1, 0]),
            (0x62, &[0, 1, 0]),
            (0x70, &[0, 1, 0]),
        ] {
            ends(V5, &frame(first, &[head, &block].concat()), &EITHER).await;
        }
        if !case.contains(&prop::session_expiry(1)) {
            ends(V5, &frame(0xE0, &[&[0][..], &block].concat()), &EITHER).await;
        }
    }
    let twice = properties::block(&[prop::session_expiry(0), prop::session_expiry(0)]);
    ends(V5, &frame(0xE0, &[&[0][..], &twice].concat()), &EITHER).await;
    // A server reference comes from servers.
    let reference = properties::block(&[prop::server_reference("elsewhere")]);
    ends(V5, &frame(0xE0, &[&[0][..], &reference].concat()), &EITHER).await;
}

// shows: 5.0 MQTT-4.13.2-1, MQTT-3.14.4-1, MQTT-3.14.4-2
#[tokio::test]
async fn a_servers_disconnect_is_its_last_word() {
    let mut c = connected(V5).await;
    // A malformed packet in the middle: what comes before is answered, what comes after is not.
    let burst = [
        pingreq().bytes(V5),
        frame(0x36, b"\0\x01t\0\x01\0x"),
        pingreq().bytes(V5),
        publish(unique("t/"), "x").qos1(1).bytes(V5),
    ];
    c.send_raw(&burst.concat()).await;
    c.expect_pingresp().await;
    c.expect_disconnect(ReasonCode::MalformedPacket).await;
}

// One client's mistakes do not touch another.
// shows: 3.1.1 MQTT-4.8.0-1
#[tokio::test]
async fn mistakes_stay_with_the_client_that_makes_them() {
    for version in BOTH {
        let topic = unique("t/");
        let mut bystander = connected(version).await;
        bystander.subscribe(&topic, 1).await;
        for bytes in [
            frame(0x36, b"\0\x01t\0\x01x"),
            frame(0x00, &[]),
            vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF],
        ] {
            let mut c = connected(version).await;
            c.subscribe(&topic, 1).await;
            c.send_raw(&bytes).await;
            let _ = c.last_words().await;
        }
        connected(version)
            .await
            .publish(publish(&topic, "fine").qos1(1))
            .await;
        bystander.expect_message("fine").await;
        bystander.expect_nothing().await;
    }
}
