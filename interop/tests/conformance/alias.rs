//! Topic aliases, both ways.

use crate::prelude::*;

async fn connected() -> Client {
    client(V5).connect(Broker::shared().await).await
}

fn alias_maximum(c: &Client) -> u16 {
    find::number(&c.connack.properties, property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) as u16
}

// shows: 5.0 MQTT-3.3.2-12
#[tokio::test]
async fn the_server_accepts_every_alias_up_to_its_maximum() {
    let root = unique("t");
    let mut c = connected().await;
    c.subscribe(format!("{root}/#"), 0).await;
    let mut p = connected().await;
    let maximum = alias_maximum(&p);
    for alias in 1..=maximum.min(100) {
        p.publish(publish(format!("{root}/{alias}"), "named").with(prop::topic_alias(alias)))
            .await;
        assert_eq!(
            c.expect_message("named").await.topic_text(),
            format!("{root}/{alias}")
        );
    }
    for alias in (1..=maximum.min(100)).rev() {
        p.publish(
            publish("", "aliased")
                .qos1(1)
                .with(prop::topic_alias(alias)),
        )
        .await;
        assert_eq!(
            c.expect_message("aliased").await.topic_text(),
            format!("{root}/{alias}")
        );
    }
    if maximum > 0 {
        // The highest one, and a new meaning for an old one.
        p.publish(publish(format!("{root}/new"), "renamed").with(prop::topic_alias(maximum)))
            .await;
        c.expect_message("renamed").await;
        p.publish(publish("", "again").with(prop::topic_alias(maximum)))
            .await;
        let seen = c.expect_message("again").await;
        assert_eq!(seen.topic_text(), format!("{root}/new"));
        assert_eq!(
            find::number(&seen.properties, property::TOPIC_ALIAS),
            None,
            "an alias is not passed on"
        );
    }
}

// shows: 5.0 MQTT-3.3.2-8
#[tokio::test]
async fn alias_0_is_refused() {
    let mut c = connected().await;
    c.send(publish(unique("t/"), "x").with(prop::topic_alias(0)))
        .await;
    c.expect_disconnect(ReasonCode::TopicAliasInvalid).await;
}

// 3.3.2.3.4: above the server's maximum, 0x94.
#[tokio::test]
async fn an_alias_above_the_maximum_is_refused() {
    let mut c = connected().await;
    let Some(above) = alias_maximum(&c).checked_add(1) else {
        return;
    };
    c.send(
        publish(unique("t/"), "x")
            .qos1(1)
            .with(prop::topic_alias(above)),
    )
    .await;
    c.expect_disconnect(ReasonCode::TopicAliasInvalid).await;
}

// 3.3.2.3.4: an alias nobody defined is a protocol error.
#[tokio::test]
async fn an_unknown_alias_is_refused() {
    let mut c = connected().await;
    c.send(publish("", "x").with(prop::topic_alias(1))).await;
    match c.packet().await {
        Packet::Disconnect(disconnect) => {
            assert!([0x82, 0x94].contains(&disconnect.code), "{disconnect:?}");
        }
        other => panic!("{other:?}"),
    }
    c.expect_closed().await;
}

// shows: 5.0 MQTT-3.3.2-7
#[tokio::test]
async fn aliases_end_with_the_connection() {
    let broker = Broker::shared().await;
    let id = unique("c");
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    if alias_maximum(&c) == 0 {
        return;
    }
    c.publish(publish(unique("t/"), "x").with(prop::topic_alias(1)))
        .await;
    c.publish(publish("", "x").with(prop::topic_alias(1))).await;
    c.leave().await;
    let mut c = client(V5).id(&id).resume().connect(broker).await;
    assert!(c.connack.session_present);
    c.send(publish("", "x").with(prop::topic_alias(1))).await;
    match c.packet().await {
        Packet::Disconnect(disconnect) => {
            assert!([0x82, 0x94].contains(&disconnect.code), "{disconnect:?}");
        }
        other => panic!("{other:?}"),
    }
}

// shows: 5.0 MQTT-3.1.2-27
#[tokio::test]
async fn without_a_maximum_the_server_sends_no_alias() {
    let broker = Broker::shared().await;
    for opening in [client(V5), client(V5).with(prop::topic_alias_maximum(0))] {
        let topic = unique("t/");
        let mut c = opening.connect(broker).await;
        c.subscribe(&topic, 2).await;
        let mut p = connected().await;
        for qos in [0, 1, 2, 0] {
            p.publish(publish(&topic, "x").qos(qos, 1)).await;
            let seen = c.expect_message("x").await;
            assert_eq!(find::number(&seen.properties, property::TOPIC_ALIAS), None);
            assert_eq!(seen.topic_text(), topic);
        }
    }
}

// shows: 5.0 MQTT-3.1.2-26, MQTT-3.3.2-11, MQTT-3.3.2-8
#[tokio::test]
async fn the_server_stays_within_the_clients_alias_maximum() {
    let root = unique("t");
    let mut c = client(V5)
        .with(prop::topic_alias_maximum(2))
        .connect(Broker::shared().await)
        .await;
    c.subscribe(format!("{root}/#"), 1).await;
    let mut p = connected().await;
    let mut known: [Option<String>; 3] = [None, None, None];
    for round in 0..3 {
        for level in ["a", "b", "c", "d"] {
            let topic = format!("{root}/{level}");
            p.publish(publish(&topic, "x").qos(round % 2, 1)).await;
            let seen = c.expect_message("x").await;
            let alias = find::number(&seen.properties, property::TOPIC_ALIAS);
            let name = match alias {
                Some(alias @ 1..=2) if seen.topic.is_empty() => known[alias as usize].clone(),
                Some(alias @ 1..=2) => {
                    known[alias as usize] = Some(seen.topic_text());
                    Some(seen.topic_text())
                }
                Some(alias) => panic!("alias {alias} of at most 2"),
                None => Some(seen.topic_text()),
            };
            assert_eq!(name, Some(topic), "round {round}");
        }
    }
}
