//! Session state: begun, resumed, kept, taken over, ended.

use crate::prelude::*;

// shows: 5.0 MQTT-3.1.2-4, MQTT-3.1.4-4, MQTT-3.2.2-2; 3.1.1 MQTT-3.1.2-6, MQTT-3.1.4-3, MQTT-3.2.2-1
#[tokio::test]
async fn clean_start_discards_the_stored_session() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = client(version).id(&id).resume().connect(broker).await;
        c.subscribe(&topic, 1).await;
        c.leave().await;
        let mut publisher = client(version).connect(broker).await;
        publisher.publish(publish(&topic, "waiting").qos1(1)).await;

        let mut c = client(version).id(&id).connect(broker).await;
        assert!(!c.connack.session_present);
        c.expect_nothing().await;
        publisher
            .publish(publish(&topic, "to nobody").qos1(1))
            .await;
        c.expect_nothing().await;
    }
}

// shows: 3.1.1 MQTT-3.1.2-6
#[tokio::test]
async fn a_clean_session_is_not_reused() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut c = client(V311).id(&id).connect(broker).await;
    c.subscribe(&topic, 1).await;
    c.leave().await;
    client(V311)
        .connect(broker)
        .await
        .publish(publish(&topic, "to nobody").qos1(1))
        .await;
    let mut c = client(V311).id(&id).resume().connect(broker).await;
    assert!(!c.connack.session_present);
    c.expect_nothing().await;
}

// shows: 5.0 MQTT-3.1.2-5, MQTT-3.1.2-23, MQTT-3.1.4-4, MQTT-4.1.0-1
// shows: 3.1.1 MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-3.1.4-3, MQTT-4.1.0-1
#[tokio::test]
async fn a_stored_session_is_resumed_with_subscriptions_and_messages() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = client(version).id(&id).resume().connect(broker).await;
        c.subscribe(&topic, 2).await;
        c.leave().await;
        let mut publisher = client(version).connect(broker).await;
        publisher.publish(publish(&topic, "one").qos1(1)).await;
        publisher.publish(publish(&topic, "two").qos2(2)).await;

        let mut c = client(version).id(&id).resume().connect(broker).await;
        assert!(c.connack.session_present);
        assert_eq!(c.expect_message("one").await.qos, 1);
        assert_eq!(c.expect_message("two").await.qos, 2);
        publisher.publish(publish(&topic, "three").qos1(3)).await;
        c.expect_message("three").await;
        c.expect_nothing().await;
    }
}

// The same after the network failed instead of a DISCONNECT.
// shows: 5.0 MQTT-3.1.2-23; 3.1.1 MQTT-3.1.2-4
#[tokio::test]
async fn a_session_survives_a_network_failure() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = client(version).id(&id).resume().connect(broker).await;
        c.subscribe(&topic, 1).await;
        c.cut();
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "meanwhile").qos1(1))
            .await;
        let mut c = client(version).id(&id).resume().connect(broker).await;
        assert!(c.connack.session_present);
        c.expect_message("meanwhile").await;
    }
}

// shows: 5.0 MQTT-3.1.2-6; 3.1.1 MQTT-3.1.2-4
#[tokio::test]
async fn without_a_stored_session_a_new_one_is_made() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut c = client(version).id(&id).resume().connect(broker).await;
        assert!(!c.connack.session_present);
        c.subscribe(&topic, 1).await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "hello").qos1(1))
            .await;
        c.expect_message("hello").await;
        c.leave().await;
        assert!(
            client(version)
                .id(&id)
                .resume()
                .connect(broker)
                .await
                .connack
                .session_present
        );
    }
}

// shows: 5.0 MQTT-4.1.0-2, MQTT-4.1.0-1
#[tokio::test]
async fn a_session_ends_when_its_expiry_interval_is_over() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let opening = || client(V5).id(&id).not_clean().with(prop::session_expiry(1));
    let mut c = opening().connect(broker).await;
    c.subscribe(&topic, 1).await;
    // While connected nothing expires.
    sleep(Duration::from_millis(1_600)).await;
    c.expect_nothing().await;
    c.leave().await;
    let c = opening().connect(broker).await;
    assert!(
        c.connack.session_present,
        "the interval counts from the end of the connection"
    );
    c.leave().await;
    sleep(Duration::from_millis(3_200)).await;
    assert!(!opening().connect(broker).await.connack.session_present);
}

// shows: 5.0 MQTT-4.1.0-2
#[tokio::test]
async fn without_an_expiry_interval_the_session_ends_with_the_connection() {
    let broker = Broker::shared().await;
    for properties in [vec![], vec![prop::session_expiry(0)]] {
        let id = unique("c");
        let mut opening = client(V5).id(&id).not_clean();
        for property in properties {
            opening = opening.with(property);
        }
        let mut c = opening.connect(broker).await;
        c.subscribe(unique("t/"), 1).await;
        c.leave().await;
        assert!(
            !client(V5)
                .id(&id)
                .resume()
                .connect(broker)
                .await
                .connack
                .session_present
        );
    }
}

// shows: 3.1.1 MQTT-4.1.0-2, MQTT-4.1.0-1
#[tokio::test]
async fn a_session_lasts_as_long_as_its_connection() {
    let broker = Broker::shared().await;
    let topic = unique("t/");
    let mut c = client(V311).connect(broker).await;
    c.subscribe(&topic, 1).await;
    let mut publisher = client(V311).connect(broker).await;
    for round in 0..3 {
        sleep(Duration::from_millis(300)).await;
        publisher
            .publish(publish(&topic, format!("{round}")).qos1(1))
            .await;
        c.expect_message(&format!("{round}")).await;
    }
}

// A DISCONNECT may change the expiry interval (3.14.2.2.2).
// shows: 5.0 MQTT-4.1.0-2
#[tokio::test]
async fn disconnect_may_shorten_or_lengthen_the_expiry() {
    let broker = Broker::shared().await;
    let id = unique("c");
    let mut c = client(V5)
        .id(&id)
        .not_clean()
        .with(prop::session_expiry(1))
        .connect(broker)
        .await;
    c.send(disconnect().with(prop::session_expiry(100))).await;
    c.expect_closed().await;
    sleep(Duration::from_millis(2_600)).await;
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    assert!(c.connack.session_present, "lengthened");
    c.send(disconnect().with(prop::session_expiry(0))).await;
    c.expect_closed().await;
    let c = client(V5).id(&id).resume().connect(broker).await;
    assert!(!c.connack.session_present, "shortened to nothing");
}

// An expiry of 0 in CONNECT may not become another in DISCONNECT: protocol error (3.14.2.2.2).
#[tokio::test]
async fn disconnect_may_not_turn_an_expiry_of_zero_into_another() {
    let mut c = client(V5).connect(Broker::shared().await).await;
    c.send(disconnect().with(prop::session_expiry(10))).await;
    c.expect_disconnect(ReasonCode::ProtocolError).await;
}

// shows: 5.0 MQTT-3.1.3-2; 3.1.1 MQTT-3.1.3-2
#[tokio::test]
async fn the_client_id_names_the_session() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (one, two, topic) = (unique("c"), unique("c"), unique("t/"));
        let mut c = client(version).id(&one).resume().connect(broker).await;
        c.subscribe(&topic, 1).await;
        c.leave().await;
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "for one").qos1(1))
            .await;

        // Ids differ in one letter, in case, and in length.
        for other in [two, one.to_uppercase(), format!("{one}x")] {
            let mut c = client(version).id(&other).resume().connect(broker).await;
            assert!(!c.connack.session_present, "{other}");
            c.expect_nothing().await;
        }
        client(version)
            .id(&one)
            .resume()
            .connect(broker)
            .await
            .expect_message("for one")
            .await;
    }
}

// shows: 5.0 MQTT-3.1.4-3, MQTT-3.14.4-2; 3.1.1 MQTT-3.1.4-2
#[tokio::test]
async fn a_second_connection_takes_the_session_over() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let (id, topic) = (unique("c"), unique("t/"));
        let mut old = client(version).id(&id).resume().connect(broker).await;
        old.subscribe(&topic, 1).await;
        let mut new = client(version).id(&id).resume().connect(broker).await;
        old.expect_disconnect(ReasonCode::SessionTakenOver).await;
        assert!(new.connack.session_present);
        client(version)
            .connect(broker)
            .await
            .publish(publish(&topic, "for the new one").qos1(1))
            .await;
        new.expect_message("for the new one").await;
    }
}

// shows: 5.0 MQTT-3.1.4-3; 3.1.1 MQTT-3.1.4-2
#[tokio::test]
async fn takeover_works_across_versions_and_with_clean_start() {
    let broker = Broker::shared().await;
    for (first, second) in [(V311, V5), (V5, V311), (V31, V5)] {
        let id = unique("c");
        let mut old = client(first).id(&id).resume().connect(broker).await;
        old.subscribe(unique("t/"), 1).await;
        let mut new = client(second).id(&id).connect(broker).await;
        assert!(!new.connack.session_present, "clean start");
        old.expect_disconnect(ReasonCode::SessionTakenOver).await;
        new.expect_nothing().await;
    }
}

// Each of several takeovers in a row ends exactly the connection before it.
// shows: 5.0 MQTT-3.1.4-3
#[tokio::test]
async fn takeovers_in_a_row_leave_the_last_one() {
    let broker = Broker::shared().await;
    let (id, topic) = (unique("c"), unique("t/"));
    let mut current = client(V5).id(&id).resume().connect(broker).await;
    current.subscribe(&topic, 1).await;
    for _ in 0..5 {
        let next = client(V5).id(&id).resume().connect(broker).await;
        assert!(next.connack.session_present);
        current
            .expect_disconnect(ReasonCode::SessionTakenOver)
            .await;
        current = next;
    }
    client(V5)
        .connect(broker)
        .await
        .publish(publish(&topic, "last").qos1(1))
        .await;
    current.expect_message("last").await;
}

// shows: 3.1.1 MQTT-3.1.2-7
#[tokio::test]
async fn retained_messages_survive_the_session_of_their_publisher() {
    let broker = Broker::shared().await;
    for version in BOTH {
        let topic = unique("t/");
        let mut c = client(version).connect(broker).await;
        c.publish(publish(&topic, "kept").qos1(1).retain()).await;
        let id = c.id.clone();
        c.leave().await;
        client(version).id(id).connect(broker).await.leave().await;
        let mut c = client(version).connect(broker).await;
        c.subscribe(&topic, 0).await;
        c.expect_message("kept").await;
    }
}
