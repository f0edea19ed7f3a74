//! Retained messages: stored, replaced, cleared, sent to new subscriptions.

use crate::prelude::*;

async fn connected(version: Version) -> Client {
    client(version).connect(Broker::shared().await).await
}

/// What a new subscriber finds on `topic`, marked RETAIN.
async fn retained_on(version: Version, topic: &str) -> Option<Publish> {
    let mut c = connected(version).await;
    c.subscribe(topic, 2).await;
    c.send(pingreq()).await;
    match c.packet().await {
        Packet::PingResp => None,
        Packet::Publish(publish) => {
            assert!(publish.retain, "sent because of a new subscription");
            Some(publish)
        }
        other => panic!("{other:?}"),
    }
}

// shows: 5.0 MQTT-3.3.1-5; 3.1.1 MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-8
#[tokio::test]
async fn a_retained_message_is_stored_and_replaced() {
    for version in BOTH {
        let topic = unique("r/");
        let mut p = connected(version).await;
        assert_eq!(retained_on(version, &topic).await, None);
        for (text, qos) in [("first", 1), ("second", 2), ("third", 0), ("fourth", 1)] {
            p.publish(publish(&topic, text).qos(qos, 1).retain()).await;
            let seen = retained_on(version, &topic)
                .await
                .expect("a retained message");
            assert_eq!((seen.text().as_str(), seen.qos), (text, qos), "{version:?}");
        }
        p.publish(publish(&topic, "").retain()).await;
    }
}

// shows: 3.1.1 MQTT-3.3.1-7
#[tokio::test]
async fn a_retained_qos_0_message_displaces_the_old_one() {
    for version in BOTH {
        let topic = unique("r/");
        let mut p = connected(version).await;
        p.publish(publish(&topic, "old").qos1(1).retain()).await;
        p.publish(publish(&topic, "new").retain()).await;
        if let Some(seen) = retained_on(version, &topic).await {
            assert_eq!(seen.text(), "new");
        }
        p.publish(publish(&topic, "").retain()).await;
    }
}

// shows: 3.1.1 MQTT-3.3.1-6, MQTT-3.3.1-8
#[tokio::test]
async fn a_wildcard_subscription_gets_each_matching_retained_message() {
    for version in BOTH {
        let root = unique("r");
        let mut p = connected(version).await;
        for (level, text) in [("a", "1"), ("a/b", "2"), ("c", "3")] {
            p.publish(publish(format!("{root}/{level}"), text).qos1(1).retain())
                .await;
        }
        p.publish(publish(&root, "0").qos1(1).retain()).await;
        for (filter, expected) in [
            (format!("{root}/#"), vec!["0", "1", "2", "3"]),
            (format!("{root}/+"), vec!["1", "3"]),
            (format!("{root}/+/b"), vec!["2"]),
            (format!("{root}/x"), vec![]),
        ] {
            let mut c = connected(version).await;
            c.subscribe(&filter, 1).await;
            let mut seen = Vec::new();
            for _ in &expected {
                let message = c.expect_publish().await;
                assert!(message.retain);
                seen.push(message.text());
            }
            seen.sort();
            assert_eq!(seen, expected, "{filter}");
            c.expect_nothing().await;
        }
    }
}

// shows: 5.0 MQTT-3.3.1-6, MQTT-3.3.1-7; 3.1.1 MQTT-3.3.1-10, MQTT-3.3.1-11
#[tokio::test]
async fn an_empty_retained_message_is_delivered_and_clears() {
    for version in BOTH {
        let topic = unique("r/");
        let mut p = connected(version).await;
        p.publish(publish(&topic, "stored").qos1(1).retain()).await;
        let mut c = connected(version).await;
        c.subscribe(&topic, 1).await;
        assert!(c.expect_message("stored").await.retain);
        p.publish(publish(&topic, "").qos1(1).retain()).await;
        let seen = c.expect_message("").await;
        assert!(!seen.retain, "an ordinary delivery");
        assert_eq!(retained_on(version, &topic).await, None);
        // Clearing what is not there is no error either.
        p.publish(publish(&topic, "").qos1(1).retain()).await;
        assert_eq!(retained_on(version, &topic).await, None);
    }
}

// shows: 5.0 MQTT-3.3.1-8; 3.1.1 MQTT-3.3.1-12
#[tokio::test]
async fn without_retain_the_stored_message_stays() {
    for version in BOTH {
        let topic = unique("r/");
        let mut p = connected(version).await;
        p.publish(publish(&topic, "passing").qos1(1)).await;
        assert_eq!(retained_on(version, &topic).await, None);
        p.publish(publish(&topic, "stored").qos1(1).retain()).await;
        p.publish(publish(&topic, "passing").qos1(1)).await;
        p.publish(publish(&topic, "").qos1(1)).await;
        assert_eq!(
            retained_on(version, &topic)
                .await
                .expect("a retained message")
                .text(),
            "stored"
        );
        p.publish(publish(&topic, "").retain()).await;
    }
}

// shows: 5.0 MQTT-3.3.1-12; 3.1.1 MQTT-3.3.1-9
#[tokio::test]
async fn an_established_subscription_gets_retain_cleared() {
    for version in BOTH {
        let topic = unique("r/");
        let mut c = connected(version).await;
        c.subscribe(&topic, 1).await;
        let mut p = connected(version).await;
        p.publish(publish(&topic, "now").qos1(1).retain()).await;
        assert!(!c.expect_message("now").await.retain);
        p.publish(publish(&topic, "").retain()).await;
    }
}

// shows: 5.0 MQTT-3.3.1-13, MQTT-3.3.1-12
#[tokio::test]
async fn retain_as_published_keeps_retain() {
    let topic = unique("r/");
    let mut c = connected(V5).await;
    c.subscribe(&topic, 1 | RETAIN_AS_PUBLISHED).await;
    let mut p = connected(V5).await;
    p.publish(publish(&topic, "retained").qos1(1).retain())
        .await;
    assert!(c.expect_message("retained").await.retain);
    p.publish(publish(&topic, "passing").qos1(1)).await;
    assert!(!c.expect_message("passing").await.retain);
    p.publish(publish(&topic, "").qos1(1).retain()).await;
    assert!(c.expect_message("").await.retain);
}

// shows: 5.0 MQTT-3.3.1-9, MQTT-3.8.4-4; 3.1.1 MQTT-3.8.4-3
#[tokio::test]
async fn retain_handling_0_sends_on_every_subscribe() {
    for version in BOTH {
        let topic = unique("r/");
        let mut p = connected(version).await;
        p.publish(publish(&topic, "stored").qos1(1).retain()).await;
        let mut c = connected(version).await;
        for _ in 0..3 {
            c.subscribe(&topic, 1).await;
            assert!(c.expect_message("stored").await.retain);
            c.expect_nothing().await;
        }
        p.publish(publish(&topic, "").retain()).await;
    }
}

// shows: 5.0 MQTT-3.3.1-10
#[tokio::test]
async fn retain_handling_1_sends_to_new_subscriptions_only() {
    let topic = unique("r/");
    let mut p = connected(V5).await;
    p.publish(publish(&topic, "stored").qos1(1).retain()).await;
    let mut c = connected(V5).await;
    c.subscribe(&topic, 1 | RETAIN_IF_NEW).await;
    assert!(c.expect_message("stored").await.retain);
    c.subscribe(&topic, 1 | RETAIN_IF_NEW).await;
    c.expect_nothing().await;
    c.send(unsubscribe(9, &topic)).await;
    c.expect_unsuback(9, &[0]).await;
    c.subscribe(&topic, 1 | RETAIN_IF_NEW).await;
    c.expect_message("stored").await;
    p.publish(publish(&topic, "").retain()).await;
}

// shows: 5.0 MQTT-3.3.1-11
#[tokio::test]
async fn retain_handling_2_sends_nothing() {
    let topic = unique("r/");
    let mut p = connected(V5).await;
    p.publish(publish(&topic, "stored").qos1(1).retain()).await;
    let mut c = connected(V5).await;
    for _ in 0..2 {
        c.subscribe(&topic, 1 | RETAIN_NEVER).await;
        c.expect_nothing().await;
    }
    p.publish(publish(&topic, "live").qos1(1)).await;
    c.expect_message("live").await;
    p.publish(publish(&topic, "").retain()).await;
}

// A retained message goes out at the lower of its QoS and the granted one.
// shows: 5.0 MQTT-3.8.4-8; 3.1.1 MQTT-3.8.4-6
#[tokio::test]
async fn retained_messages_go_out_at_the_granted_qos() {
    for version in BOTH {
        let topic = unique("r/");
        let mut p = connected(version).await;
        p.publish(publish(&topic, "stored").qos2(1).retain()).await;
        for granted in 0..=2 {
            let mut c = connected(version).await;
            c.subscribe(&topic, granted).await;
            assert_eq!(c.expect_message("stored").await.qos, granted);
        }
        p.publish(publish(&topic, "").retain()).await;
    }
}

// No Local concerns live messages as well as retained ones that the client itself stored before.
// shows: 5.0 MQTT-3.8.3-3
#[tokio::test]
async fn no_local_holds_for_retained_publications_too() {
    let topic = unique("r/");
    let mut c = connected(V5).await;
    c.subscribe(&topic, 1 | NO_LOCAL).await;
    c.publish(publish(&topic, "own").qos1(1).retain()).await;
    c.expect_nothing().await;
    let mut other = connected(V5).await;
    other
        .publish(publish(&topic, "foreign").qos1(1).retain())
        .await;
    assert!(!c.expect_message("foreign").await.retain);
    other.publish(publish(&topic, "").retain()).await;
}

// Properties of a retained message, its subscription identifier included, and version 3 subscribers without either.
#[tokio::test]
async fn retained_messages_carry_the_subscription_identifier() {
    let topic = unique("r/");
    let mut p = connected(V5).await;
    p.publish(
        publish(&topic, "stored")
            .qos1(1)
            .retain()
            .with(prop::user("k", "v")),
    )
    .await;
    let mut c = connected(V5).await;
    c.send(subscribe(1, &topic, 1).with(prop::subscription_id(268_435_455)))
        .await;
    c.expect_suback(1, &[1]).await;
    let seen = c.expect_message("stored").await;
    assert_eq!(find::subscription_ids(&seen.properties), [268_435_455]);
    assert_eq!(find::user(&seen.properties), [("k", "v")]);
    let mut old = connected(V311).await;
    old.subscribe(&topic, 1).await;
    let plain = old.expect_message("stored").await;
    assert_eq!(old.last, plain.bytes(V311), "nothing of version 5 in it");
    p.publish(publish(&topic, "").retain()).await;
}
