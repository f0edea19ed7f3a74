//! DISCONNECT and PINGREQ.

use crate::prelude::*;

async fn connected(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

// shows: 5.0 MQTT-3.12.4-1, MQTT-2.1.3-1, MQTT-1.5.5-1; 3.1.1 MQTT-3.12.4-1, MQTT-2.2.2-1
#[tokio::test]
async fn pingreq_is_answered_by_pingresp() {
    for version in BOTH {
        let mut c = connected(version).await;
        for _ in 0..3 {
            c.send(pingreq()).await;
            c.expect_pingresp().await;
            assert_eq!(c.last, [0xD0, 0x00]);
        }
    }
}

// shows: 5.0 MQTT-3.14.4-1
#[tokio::test]
async fn after_a_clients_disconnect_nothing_is_sent_and_nothing_processed() {
    for version in BOTH {
        let topic = unique("t/");
        let mut watcher = connected(version).await;
        watcher.subscribe(&topic, 1).await;
        let mut c = connected(version).await;
        c.subscribe(&topic, 1).await;
        let burst = [
            disconnect().bytes(version),
            pingreq().bytes(version),
            publish(&topic, "too late").qos1(1).bytes(version),
        ];
        c.send_raw(&burst.concat()).await;
        c.expect_closed().await;
        connected(version)
            .await
            .publish(publish(&topic, "in time").qos1(1))
            .await;
        watcher.expect_message("in time").await;
    }
}

// shows: 5.0 MQTT-3.14.2-1
#[tokio::test]
async fn every_code_of_a_clients_disconnect_is_accepted() {
    for code in [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    ] {
        let mut c = connected(V5).await;
        c.send(
            disconnect()
                .code(code)
                .with(prop::reason_string("because"))
                .with(prop::user("a", "b")),
        )
        .await;
        c.expect_closed().await;
    }
}

// shows: 5.0 MQTT-3.14.2-2, MQTT-3.14.2-1
#[tokio::test]
async fn a_servers_disconnect_carries_no_session_expiry() {
    let broker = Broker::shared().await;
    // The strict reader refuses a session expiry interval in any DISCONNECT; here are two different ones.
    let id = unique("c");
    let mut old = client(V5).id(&id).resume().connect(broker).await;
    let _new = client(V5).id(&id).resume().connect(broker).await;
    let taken_over = old
        .expect_disconnect(ReasonCode::SessionTakenOver)
        .await
        .expect("version 5");
    assert_eq!(
        find::number(&taken_over.properties, property::SESSION_EXPIRY),
        None
    );
    let mut c = client(V5)
        .with(prop::session_expiry(50))
        .connect(broker)
        .await;
    c.send_raw(&frame(0x36, b"\0\x01t\0\x01\0x")).await;
    let malformed = c
        .expect_disconnect(ReasonCode::MalformedPacket)
        .await
        .expect("version 5");
    assert_eq!(
        find::number(&malformed.properties, property::SESSION_EXPIRY),
        None
    );
}
