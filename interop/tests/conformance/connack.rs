//! CONNACK: when it comes, what stands in it, and what follows.

use crate::prelude::*;

// shows: 5.0 MQTT-3.1.4-5, MQTT-3.2.2-1, MQTT-3.2.2-2, MQTT-3.2.2-8, MQTT-2.2.2-1; 3.1.1 MQTT-3.1.4-4, MQTT-3.2.2-1
#[tokio::test]
async fn a_clean_connect_is_accepted_without_a_session() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let c = client(version).connect(broker).await;
        assert!(!c.connack.session_present);
        // Type and flags, remaining length, acknowledge flags, code; in version 5 a property length follows.
        let head = [c.last[0], c.last[2], c.last[3]];
        assert_eq!(head, [0x20, 0, 0], "{:02x?}", c.last);
        let properties = usize::from(version.is_v5());
        assert!(c.last.len() >= 4 + properties, "{:02x?}", c.last);
        assert_eq!(usize::from(c.last[1]), c.last.len() - 2);
        if !version.is_v5() {
            assert_eq!(c.last, [0x20, 0x02, 0x00, 0x00]);
        }
    }
}

// shows: 5.0 MQTT-3.2.0-1, MQTT-3.2.0-2; 3.1.1 MQTT-3.2.0-1
#[tokio::test]
async fn connack_comes_first_and_once() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = client(version).id(&id).resume().connect(broker).await;
        c.subscribe(&topic, 1).await;
        c.leave().await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "waiting").qos1(1))
            .await;

        // Everything in one go: the answers and the waiting message come after CONNACK.
        let mut burst = client(version).id(&id).resume().packet();
        burst.extend(subscribe(1, unique("t/"), 1).bytes(version));
        burst.extend(publish(&topic, "new").qos1(2).bytes(version));
        burst.extend(pingreq().bytes(version));
        let mut c = Client::open(broker, version).await;
        c.send_raw(&burst).await;
        let connack = c.expect_connack().await;
        assert!(connack.session_present);
        for _ in 0..5 {
            match c.packet().await {
                Packet::ConnAck(_) => panic!("a second CONNACK"),
                Packet::Publish(publish) => c.acknowledge(&publish).await,
                _ => {}
            }
        }
        c.expect_nothing().await;
    }
}

// shows: 5.0 MQTT-3.2.2-3, MQTT-3.1.2-6; 3.1.1 MQTT-3.2.2-2, MQTT-3.2.2-3
#[tokio::test]
async fn session_present_tells_whether_state_was_found() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let id = unique("c");
        let first = client(version).id(&id).resume().connect(broker).await;
        assert!(!first.connack.session_present, "nothing stored yet");
        first.leave().await;
        let second = client(version).id(&id).resume().connect(broker).await;
        assert!(second.connack.session_present, "the stored session");
        second.leave().await;
        let third = client(version).id(&id).connect(broker).await;
        assert!(!third.connack.session_present, "clean");
    }
}

// shows: 5.0 MQTT-3.2.2-6, MQTT-3.2.2-7, MQTT-4.13.2-1; 3.1.1 MQTT-3.2.2-4, MQTT-3.2.2-5
#[tokio::test]
async fn a_refusal_has_no_session_and_closes() {
    let broker = Broker::shared().await;
    let too_long = "i".repeat(40_000);
    for (version, code) in [(V311, 2), (V5, 0x85)] {
        let connack = client(version)
            .id(&too_long)
            .resume()
            .refused(broker, code)
            .await;
        assert!(!connack.session_present);
    }
}

// shows: 5.0 MQTT-3.14.0-1
#[tokio::test]
async fn no_disconnect_comes_before_an_accepting_connack() {
    let broker = Broker::shared().await;
    let too_long = client(V5).id("i".repeat(40_000)).packet();
    let openings: [Vec<u8>; 4] = [
        client(V5).flags(1).packet(),
        client(V5).with(prop::receive_maximum(0)).packet(),
        client(V5)
            .with(prop::authentication_method("nobody-has-this"))
            .packet(),
        [too_long, pingreq().bytes(V5)].concat(),
    ];
    for opening in openings {
        let mut c = Client::open(broker, V5).await;
        c.send_raw(&opening).await;
        let words = c.last_words().await;
        assert_ne!(
            words.first().map(|first| first >> 4),
            Some(kind::DISCONNECT),
            "{words:02x?}"
        );
    }
}

// shows: 5.0 MQTT-3.1.2-28
#[tokio::test]
async fn response_information_comes_only_when_asked_for() {
    let broker = Broker::shared().await;
    for opening in [
        client(V5),
        client(V5).with(prop::request_response_information(0)),
    ] {
        let c = opening.connect(broker).await;
        assert_eq!(
            find::text(&c.connack.properties, property::RESPONSE_INFORMATION),
            None
        );
    }
}

// shows: 5.0 MQTT-3.2.2-19, MQTT-3.2.2-20, MQTT-3.1.2-24
#[tokio::test]
async fn connack_stays_within_the_clients_packet_limit() {
    let broker = Broker::shared().await;
    // A refusal: 5 bytes do, a reason would not fit.
    for limit in [5, 8, 20] {
        let mut c = client(V5)
            .id("i".repeat(40_000))
            .with(prop::maximum_packet_size(limit))
            .start(broker)
            .await;
        let connack = c.expect_connack().await;
        assert_eq!(connack.code, 0x85);
        assert!(
            c.last.len() <= limit as usize,
            "{} bytes: {:02x?}",
            c.last.len(),
            c.last
        );
        c.expect_closed().await;
    }
    let c = client(V5)
        .with(prop::maximum_packet_size(64))
        .connect(broker)
        .await;
    assert!(c.last.len() <= 64, "{} bytes", c.last.len());
}

// Announced limits are limits that make sense (3.2.2.3).
#[tokio::test]
async fn announced_values_are_in_range() {
    let c = client(V5).connect(Broker::shared().await).await;
    let number = |id| find::number(&c.connack.properties, id);
    assert_ne!(number(property::RECEIVE_MAXIMUM), Some(0));
    assert_ne!(number(property::MAXIMUM_PACKET_SIZE), Some(0));
    for flag in [
        property::RETAIN_AVAILABLE,
        property::WILDCARD_AVAILABLE,
        property::SUBSCRIPTION_IDS_AVAILABLE,
        property::SHARED_AVAILABLE,
        property::MAXIMUM_QOS,
    ] {
        assert!(
            matches!(number(flag), None | Some(0 | 1)),
            "property {flag:#04x}"
        );
    }
}
