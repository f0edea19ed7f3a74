//! Enhanced authentication, as a broker without any method has to treat it.

use crate::prelude::*;

// shows: 5.0 MQTT-4.12.0-1
#[tokio::test]
async fn an_unknown_method_is_refused() {
    let broker = Broker::shared().await;
    for with_data in [false, true] {
        let mut opening = client(V5).with(prop::authentication_method("nobody-has-this"));
        if with_data {
            opening = opening.with(prop::authentication_data(&[0, 1, 0xFF]));
        }
        let code = opening.dropped(broker).await;
        assert!(matches!(code, None | Some(0x8C | 0x87)), "{code:02x?}");
    }
}

// shows: 5.0 MQTT-4.12.0-6
#[tokio::test]
async fn without_a_method_the_server_sends_no_auth_and_names_none() {
    let c = client(V5)
        .user_name("someone")
        .connect(Broker::shared().await)
        .await;
    assert_eq!(
        find::text(&c.connack.properties, property::AUTHENTICATION_METHOD),
        None
    );
    assert_eq!(
        find::binary(&c.connack.properties, property::AUTHENTICATION_DATA),
        None
    );
}

// shows: 5.0 MQTT-4.12.0-7, MQTT-3.15.2-1
#[tokio::test]
async fn auth_without_a_method_ends_the_connection() {
    for code in [0x00, 0x18, 0x19, 0x01, 0x80] {
        let mut c = client(V5).connect(Broker::shared().await).await;
        c.send(auth(code)).await;
        match c.packet().await {
            Packet::Disconnect(disconnect) => {
                assert!([0x81, 0x82].contains(&disconnect.code), "{disconnect:?}");
            }
            other => panic!("{other:?}"),
        }
        c.expect_closed().await;
    }
}

// AUTH before CONNECT, and method or data twice (3.15, 2.2.2.2).
// shows: 5.0 MQTT-3.1.0-1
#[tokio::test]
async fn auth_does_not_open_a_connection() {
    let broker = Broker::shared().await;
    let mut c = Client::open(broker, V5).await;
    c.send(auth(0x18).with(prop::authentication_method("m")))
        .await;
    c.expect_closed().await;
    let twice = client(V5)
        .with(prop::authentication_method("m"))
        .with(prop::authentication_method("m"));
    let code = twice.dropped(broker).await;
    assert!(matches!(code, None | Some(0x81 | 0x82)), "{code:02x?}");
}
