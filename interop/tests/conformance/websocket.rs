//! MQTT over WebSocket.

use crate::prelude::*;
use martlet_interop::websocket::{WebSocket, masked, opcode};

async fn opened() -> Option<WebSocket> {
    let websocket = WebSocket::open(Broker::shared().await, Some("mqtt")).await?;
    assert_eq!(websocket.status(), 101, "{}", websocket.response);
    Some(websocket)
}

async fn connected(version: Version) -> Option<WebSocket> {
    let mut websocket = opened().await?;
    websocket.send(&client(version).packet()).await;
    let connack = websocket.packet(version).await;
    assert!(
        matches!(connack, Packet::ConnAck(ref connack) if connack.code == 0),
        "{connack:?}"
    );
    Some(websocket)
}

// shows: 5.0 MQTT-6.0.0-4; 3.1.1 MQTT-6.0.0-4
#[tokio::test]
async fn the_subprotocol_mqtt_is_selected() {
    for offer in ["mqtt", "mqttv3.1, mqtt", "chat, mqtt", "mqtt, chat"] {
        let Some(websocket) = WebSocket::open(Broker::shared().await, Some(offer)).await else {
            return;
        };
        assert_eq!(websocket.status(), 101, "{offer}: {}", websocket.response);
        let selected = websocket.header("sec-websocket-protocol");
        let allowed: &[_] = if offer.contains("mqttv3.1") {
            &[Some("mqtt"), Some("mqttv3.1")]
        } else {
            &[Some("mqtt")]
        };
        assert!(
            allowed.contains(&selected),
            "{offer}: {}",
            websocket.response
        );
        // RFC 6455, 4.2.2: the answer to the key of RFC 6455's own example.
        assert_eq!(
            websocket.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
    }
}

// MQTT 3.1 clients know the subprotocol as `mqttv3.1`.
#[tokio::test]
async fn the_old_subprotocol_is_selected_when_it_is_all_there_is() {
    let Some(mut websocket) = WebSocket::open(Broker::shared().await, Some("mqttv3.1")).await
    else {
        return;
    };
    assert_eq!(
        websocket.header("sec-websocket-protocol"),
        Some("mqttv3.1"),
        "{}",
        websocket.response
    );
    websocket.send(&client(V31).packet()).await;
    assert!(matches!(websocket.packet(V31).await, Packet::ConnAck(connack) if connack.code == 0));
}

// shows: 5.0 MQTT-6.0.0-1; 3.1.1 MQTT-6.0.0-1
#[tokio::test]
async fn mqtt_travels_in_binary_frames() {
    for version in BOTH {
        let Some(mut websocket) = opened().await else {
            return;
        };
        websocket.send(&client(version).packet()).await;
        let frame = websocket.frame().await.expect("a CONNACK");
        assert_eq!(frame.opcode, opcode::BINARY);
        assert_eq!(frame.payload.first(), Some(&0x20));
        websocket.send(&pingreq().bytes(version)).await;
        let frame = websocket.frame().await.expect("a PINGRESP");
        assert_eq!(
            (frame.opcode, frame.payload),
            (opcode::BINARY, vec![0xD0, 0x00])
        );
    }
}

// shows: 5.0 MQTT-6.0.0-1; 3.1.1 MQTT-6.0.0-1
#[tokio::test]
async fn a_text_frame_closes_the_connection() {
    for version in BOTH {
        let Some(mut websocket) = connected(version).await else {
            return;
        };
        websocket
            .send_frame(true, opcode::TEXT, &pingreq().bytes(version))
            .await;
        while let Some(frame) = websocket.frame().await {
            assert_ne!(
                frame.payload,
                [0xD0, 0x00],
                "the text frame was understood as MQTT"
            );
        }
    }
    // As the very first frame, too.
    let Some(mut websocket) = opened().await else {
        return;
    };
    websocket
        .send_frame(true, opcode::TEXT, &client(V311).packet())
        .await;
    while let Some(frame) = websocket.frame().await {
        assert_eq!(frame.opcode, opcode::CLOSE);
    }
}

// shows: 5.0 MQTT-6.0.0-2; 3.1.1 MQTT-6.0.0-2
#[tokio::test]
async fn frames_and_packets_need_not_align() {
    for version in BOTH {
        // A byte per frame.
        let Some(mut websocket) = opened().await else {
            return;
        };
        for byte in client(version).packet() {
            websocket.send(&[byte]).await;
        }
        assert!(matches!(
            websocket.packet(version).await,
            Packet::ConnAck(_)
        ));
        // Several packets in a frame, the last one cut by the frame boundary; an empty frame in between.
        let topic = unique("t/");
        let subscription = subscribe(1, &topic, 1).bytes(version);
        let message = publish(&topic, "over the web").qos1(2).bytes(version);
        let ping = pingreq().bytes(version);
        let (head, tail) = message.split_at(5);
        websocket
            .send(&[&subscription[..], &ping, head].concat())
            .await;
        websocket.send(&[]).await;
        websocket.send(&[tail, &ping].concat()).await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(match websocket.packet(version).await {
                Packet::SubAck(_) => "suback",
                Packet::PingResp => "pingresp",
                Packet::Ack(_) => "puback",
                Packet::Publish(message) if message.text() == "over the web" => "publish",
                other => panic!("{other:?}"),
            });
        }
        seen.sort_unstable();
        assert_eq!(
            seen,
            ["pingresp", "pingresp", "puback", "publish", "suback"]
        );
    }
}

// A message in several WebSocket fragments, with a ping between them (RFC 6455, 5.4 and 5.5).
// shows: 5.0 MQTT-6.0.0-2; 3.1.1 MQTT-6.0.0-2
#[tokio::test]
async fn fragmented_messages_and_pings_between_are_understood() {
    for version in BOTH {
        let Some(mut websocket) = opened().await else {
            return;
        };
        let packet = client(version).packet();
        let (head, tail) = packet.split_at(7);
        let mut bytes = masked(false, opcode::BINARY, head);
        bytes.extend(masked(true, opcode::PING, b"are you there"));
        bytes.extend(masked(true, opcode::CONTINUATION, tail));
        websocket.send_raw(&bytes).await;
        let (mut pong, mut connack) = (false, false);
        while !(pong && connack) {
            let frame = websocket.frame().await.expect("an answer");
            match frame.opcode {
                opcode::PONG => {
                    assert_eq!(frame.payload, b"are you there");
                    pong = true;
                }
                opcode::BINARY => {
                    assert_eq!(frame.payload.first(), Some(&0x20));
                    connack = true;
                }
                other => panic!("opcode {other}"),
            }
        }
    }
}

// Large messages, in one frame with an extended length and back again.
#[tokio::test]
async fn large_messages_pass() {
    for version in BOTH {
        let Some(mut websocket) = connected(version).await else {
            return;
        };
        let topic = unique("t/");
        websocket
            .send(&subscribe(1, &topic, 0).bytes(version))
            .await;
        assert!(matches!(websocket.packet(version).await, Packet::SubAck(_)));
        for length in [125, 126, 65_535, 65_536, 200_000] {
            let payload = vec![b'w'; length];
            websocket
                .send(&publish(&topic, &payload).bytes(version))
                .await;
            match websocket.packet(version).await {
                Packet::Publish(seen) => assert_eq!(seen.payload.len(), length),
                other => panic!("{other:?}"),
            }
        }
    }
}

// A close frame ends the connection; the will is published, as no DISCONNECT was sent.
#[tokio::test]
async fn a_close_frame_is_no_disconnect() {
    let broker = Broker::shared().await;
    let topic = unique("w/");
    let mut watcher = client(V5).connect(broker).await;
    watcher.subscribe(&topic, 1).await;
    let Some(mut websocket) = opened().await else {
        return;
    };
    websocket
        .send(&client(V5).will(Will::new(&topic, "closed").qos(1)).packet())
        .await;
    assert!(matches!(websocket.packet(V5).await, Packet::ConnAck(_)));
    websocket
        .send_frame(true, opcode::CLOSE, &[0x03, 0xE8])
        .await;
    websocket.expect_closed().await;
    watcher.expect_message("closed").await;
}

// RFC 6455, 5.1: a client masks; a server ends the connection of one that does not.
#[tokio::test]
async fn unmasked_frames_are_refused() {
    let Some(mut websocket) = opened().await else {
        return;
    };
    let packet = client(V5).packet();
    let mut bytes = vec![0x82, packet.len() as u8];
    bytes.extend(packet);
    websocket.send_raw(&bytes).await;
    while let Some(frame) = websocket.frame().await {
        assert_eq!(frame.opcode, opcode::CLOSE, "{frame:?}");
    }
}

// Malformed MQTT over WebSocket gets its reason code, as over TCP.
#[tokio::test]
async fn protocol_errors_are_told_over_websocket() {
    let Some(mut websocket) = connected(V5).await else {
        return;
    };
    websocket.send(&frame(0x36, b"\0\x01t\0\x01\0x")).await;
    assert!(
        matches!(websocket.packet(V5).await, Packet::Disconnect(disconnect) if disconnect.code == 0x81)
    );
    websocket.expect_closed().await;
}
