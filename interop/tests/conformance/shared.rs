//! Shared subscriptions.

use crate::prelude::*;

/// A member of `$share/<group>/<topic>` with a session that stays.
async fn member(group: &str, topic: &str, qos: u8) -> Client {
    let mut c = client(V5).resume().connect(Broker::shared().await).await;
    c.subscribe(format!("$share/{group}/{topic}"), qos).await;
    c
}

async fn publisher() -> Client {
    client(V5).connect(Broker::shared().await).await
}

/// How many PUBLISH packets are under way to this client; each is acknowledged.
async fn count(c: &mut Client) -> Vec<Publish> {
    let mut seen = Vec::new();
    c.send(pingreq()).await;
    loop {
        match c.packet().await {
            Packet::Publish(publish) => {
                if let (1, Some(id)) = (publish.qos, publish.id) {
                    c.send(puback(id)).await;
                }
                seen.push(publish);
            }
            Packet::PingResp => return seen,
            other => panic!("{other:?}"),
        }
    }
}

// 4.8.2: each message goes to exactly one member; other groups and ordinary subscribers get their own.
// shows: 5.0 MQTT-4.8.2-1, MQTT-4.8.2-2
#[tokio::test]
async fn each_message_goes_to_one_member_of_each_group() {
    let (group, topic) = (unique("g"), unique("t/"));
    let mut members = [
        member(&group, &topic, 1).await,
        member(&group, &topic, 1).await,
        member(&group, &topic, 1).await,
    ];
    let mut other_group = member(&unique("h"), &topic, 1).await;
    let mut ordinary = publisher().await;
    ordinary.subscribe(&topic, 1).await;
    let mut p = publisher().await;
    for number in 0..15 {
        p.publish(publish(&topic, format!("{number:02}")).qos1(1))
            .await;
    }
    let expected: Vec<String> = (0..15).map(|number| format!("{number:02}")).collect();
    let mut texts = Vec::new();
    for c in &mut members {
        let seen = count(c).await;
        assert!(!seen.is_empty(), "each member gets a share");
        assert!(seen.iter().all(|message| message.topic_text() == topic));
        texts.extend(seen.iter().map(Publish::text));
    }
    texts.sort();
    assert_eq!(texts, expected);
    for c in [&mut other_group, &mut ordinary] {
        assert_eq!(count(c).await.len(), 15);
    }
}

// The same with MQTT 3.1.1 members.
#[tokio::test]
async fn version_3_clients_share_too() {
    let (group, topic) = (unique("g"), unique("t/"));
    let broker = Broker::shared().await;
    let mut old = client(V311).connect(broker).await;
    old.subscribe(format!("$share/{group}/{topic}"), 1).await;
    let mut new = member(&group, &topic, 1).await;
    let mut p = publisher().await;
    for number in 0..10 {
        p.publish(publish(&topic, format!("{number}")).qos1(1))
            .await;
    }
    let (one, two) = (count(&mut old).await.len(), count(&mut new).await.len());
    assert_eq!(one + two, 10);
    assert!(one > 0 && two > 0, "{one} and {two}");
}

// shows: 5.0 MQTT-4.8.2-1, MQTT-4.8.2-2
#[tokio::test]
async fn malformed_shared_filters_are_refused() {
    let broker = Broker::shared().await;
    for filter in [
        "$share//t",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share/g+/t",
        "$share/g#/t",
        "$share/+/t",
        "$share/#",
        "$share/a#b/t",
        "$share/g/a/#/b",
        "$share/g/a+",
    ] {
        let mut c = client(V5).connect(broker).await;
        c.send(subscribe(1, filter, 0)).await;
        match c.packet().await {
            Packet::SubAck(ack) => assert_eq!(ack.codes, [0x8F], "{filter}"),
            Packet::Disconnect(disconnect) => assert!(
                [0x81, 0x82, 0x8F].contains(&disconnect.code),
                "{filter}: {disconnect:?}"
            ),
            other => panic!("{filter}: {other:?}"),
        }
    }
}

// shows: 5.0 MQTT-3.8.3-4
#[tokio::test]
async fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let mut c = publisher().await;
    c.send(subscribe(
        1,
        format!("$share/g/{}", unique("t/")),
        1 | NO_LOCAL,
    ))
    .await;
    c.expect_disconnect(ReasonCode::ProtocolError).await;
}

// shows: 5.0 MQTT-4.8.2-3
#[tokio::test]
async fn each_member_gets_messages_at_its_own_qos() {
    let (group, topic) = (unique("g"), unique("t/"));
    let mut low = member(&group, &topic, 0).await;
    let mut high = member(&group, &topic, 1).await;
    let mut p = publisher().await;
    for number in 0..10 {
        p.publish(publish(&topic, format!("{number}")).qos2(1))
            .await;
    }
    let (zero, one) = (count(&mut low).await, count(&mut high).await);
    assert_eq!(zero.len() + one.len(), 10);
    assert!(!zero.is_empty() && zero.iter().all(|message| message.qos == 0));
    assert!(!one.is_empty() && one.iter().all(|message| message.qos == 1));
}

// shows: 5.0 MQTT-4.8.2-4
#[tokio::test]
async fn a_qos_2_delivery_is_completed_with_its_member() {
    let broker = Broker::shared().await;
    let (group, topic) = (unique("g"), unique("t/"));
    let mut chosen = member(&group, &topic, 2).await;
    publisher()
        .await
        .publish(publish(&topic, "mine").qos2(1))
        .await;
    let first = chosen.expect_publish().await;
    let mut other = member(&group, &topic, 2).await;
    let id = chosen.id.clone();
    chosen.cut();
    other.expect_nothing().await;
    let mut chosen = client(V5).id(&id).resume().connect(broker).await;
    let again = chosen.expect_message("mine").await;
    assert_eq!((again.id, again.dup), (first.id, true));
    other.expect_nothing().await;
}

// shows: 5.0 MQTT-4.8.2-5
#[tokio::test]
async fn a_qos_2_delivery_dies_with_its_members_session() {
    let broker = Broker::shared().await;
    let (group, topic) = (unique("g"), unique("t/"));
    let mut chosen = member(&group, &topic, 2).await;
    publisher()
        .await
        .publish(publish(&topic, "lost").qos2(1))
        .await;
    chosen.expect_publish().await;
    let mut other = member(&group, &topic, 2).await;
    let id = chosen.id.clone();
    chosen.cut();
    client(V5).id(&id).connect(broker).await.leave().await;
    other.expect_nothing().await;
    publisher()
        .await
        .publish(publish(&topic, "next").qos2(1))
        .await;
    other.expect_message("next").await;
}

// shows: 5.0 MQTT-4.8.2-6
#[tokio::test]
async fn a_refused_delivery_goes_to_nobody_else() {
    let (group, topic) = (unique("g"), unique("t/"));
    let mut chosen = member(&group, &topic, 2).await;
    let mut p = publisher().await;
    p.publish(publish(&topic, "one").qos1(1)).await;
    p.publish(publish(&topic, "two").qos2(1)).await;
    let one = chosen.expect_publish().await.id.expect("QoS 1");
    let two = chosen.expect_publish().await.id.expect("QoS 2");
    let mut other = member(&group, &topic, 2).await;
    chosen.send(puback(one).code(0x83)).await;
    chosen.send(pubrec(two).code(0x83)).await;
    chosen.expect_nothing().await;
    other.expect_nothing().await;
    let id = chosen.id.clone();
    chosen.cut();
    client(V5)
        .id(&id)
        .resume()
        .connect(Broker::shared().await)
        .await
        .expect_nothing()
        .await;
    other.expect_nothing().await;
}

// 4.8.2: retained messages are not sent to a shared subscription when it is made.
#[tokio::test]
async fn no_retained_messages_for_shared_subscriptions() {
    let topic = unique("t/");
    let mut p = publisher().await;
    p.publish(publish(&topic, "stored").qos1(1).retain()).await;
    let mut c = member(&unique("g"), &topic, 1).await;
    c.expect_nothing().await;
    p.publish(publish(&topic, "").qos1(1).retain()).await;
    c.expect_message("").await;
}

// A member that leaves, by UNSUBSCRIBE or by ending its session, leaves its share to the others.
#[tokio::test]
async fn members_that_leave_get_nothing_more() {
    let (group, topic) = (unique("g"), unique("t/"));
    let mut stays = member(&group, &topic, 1).await;
    let mut leaves = member(&group, &topic, 1).await;
    let filter = format!("$share/{group}/{topic}");
    leaves.send(unsubscribe(4, &filter)).await;
    leaves.expect_unsuback(4, &[0]).await;
    let mut p = publisher().await;
    for number in 0..4 {
        p.publish(publish(&topic, format!("{number}")).qos1(1))
            .await;
    }
    assert_eq!(count(&mut stays).await.len(), 4);
    leaves.expect_nothing().await;
}

// Members that are away are passed over while another is there.
#[tokio::test]
async fn members_that_are_away_are_passed_over() {
    let (group, topic) = (unique("g"), unique("t/"));
    let mut stays = member(&group, &topic, 1).await;
    member(&group, &topic, 1).await.leave().await;
    let mut p = publisher().await;
    for number in 0..4 {
        p.publish(publish(&topic, format!("{number}")).qos1(1))
            .await;
    }
    assert_eq!(count(&mut stays).await.len(), 4);
}

// The subscription identifier of the shared subscription accompanies the message.
// shows: 5.0 MQTT-3.3.4-3
#[tokio::test]
async fn shared_subscriptions_have_identifiers_too() {
    let topic = unique("t/");
    let mut c = publisher().await;
    c.send(
        subscribe(1, format!("$share/{}/{topic}", unique("g")), 1).with(prop::subscription_id(5)),
    )
    .await;
    c.expect_suback(1, &[1]).await;
    publisher()
        .await
        .publish(publish(&topic, "message").qos1(1))
        .await;
    assert_eq!(
        find::subscription_ids(&c.expect_message("message").await.properties),
        [5]
    );
}
