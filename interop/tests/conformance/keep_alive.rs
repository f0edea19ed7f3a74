//! Keep alive.

use crate::prelude::*;

// shows: 5.0 MQTT-3.1.2-22, MQTT-3.2.2-22; 3.1.1 MQTT-3.1.2-24
#[tokio::test]
async fn silence_of_one_and_a_half_periods_ends_the_connection() {
    let broker = Broker::shared().await;
    let conversation = async |version: Version| {
        let topic = unique("w/");
        let mut watcher = client(version).connect(broker).await;
        watcher.subscribe(&topic, 1).await;
        let opening = client(version)
            .keep_alive(1)
            .will(Will::new(&topic, "silent").qos(1));
        let before = Instant::now();
        let mut c = opening.connect(broker).await;
        assert_eq!(
            find::number(&c.connack.properties, property::SERVER_KEEP_ALIVE).unwrap_or(1),
            1
        );
        c.expect_disconnect(ReasonCode::KeepAliveTimeout).await;
        assert!(
            before.elapsed() >= Duration::from_millis(1_490),
            "after {:?}",
            before.elapsed()
        );
        // As if the network had failed: the will is published.
        watcher.expect_message("silent").await;
    };
    tokio::join!(conversation(V311), conversation(V5));
}

// shows: 5.0 MQTT-3.1.2-22; 3.1.1 MQTT-3.1.2-24
#[tokio::test]
async fn any_packet_keeps_the_connection_alive() {
    let broker = Broker::shared().await;
    let conversation = async |version: Version| {
        let mut c = client(version).keep_alive(1).connect(broker).await;
        let topic = unique("t/");
        for round in 0..5 {
            sleep(Duration::from_millis(700)).await;
            match round {
                0 => c.expect_nothing().await,
                1 => c.publish(publish(&topic, "x").qos1(1)).await,
                2 => c.subscribe(&topic, 0).await,
                // Without an answer from the server.
                _ => c.send(publish(unique("elsewhere/"), "x")).await,
            }
        }
        c.expect_nothing().await;
    };
    tokio::join!(conversation(V311), conversation(V5));
}

// What the server sends does not count: only the client's packets do.
// shows: 5.0 MQTT-3.1.2-22; 3.1.1 MQTT-3.1.2-24
#[tokio::test]
async fn deliveries_do_not_keep_the_connection_alive() {
    let broker = Broker::shared().await;
    let topic = unique("t/");
    let mut c = client(V5).keep_alive(1).connect(broker).await;
    c.subscribe(&topic, 0).await;
    let mut p = client(V5).connect(broker).await;
    let ended = async {
        loop {
            match c.event().await {
                Event::Packet(Packet::Publish(_)) => {}
                Event::Packet(Packet::Disconnect(disconnect)) => {
                    break assert_eq!(disconnect.code, 0x8D);
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let publishing = async {
        loop {
            p.publish(publish(&topic, "x")).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = publishing => {}
        () = sleep(WAIT) => panic!("the connection is still open"),
    }
}

// Keep alive 0 turns the mechanism off (3.1.2.10), unless the server gives another value.
#[tokio::test]
async fn keep_alive_0_means_no_limit() {
    let broker = Broker::shared().await;
    let conversation = async |version: Version| {
        let mut c = client(version).keep_alive(0).connect(broker).await;
        sleep(Duration::from_millis(2_500)).await;
        c.expect_nothing().await;
    };
    tokio::join!(conversation(V311), conversation(V5));
}
