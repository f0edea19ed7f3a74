//! Limits on what a connected client sends.

use martlet_broker::counters::Limit;
use martlet_codec::{Connect, Property, PropsBuf, Publish, QoS, ReasonCode, Version};

use super::{
    Row,
    ground::{Client, Ground, Told, connect, publish},
};

/// Nobody subscribes in these tests.
const TAKEN: Told = Told::Acked(ReasonCode::NoMatchingSubscribers);

/// A client of its own for one packet; kept, so that its end does not disturb.
async fn once(ground: &mut Ground, packet: Publish<'_>) -> Told {
    let mut client = ground.client("p").await;
    let told = client.publish(&packet).await;
    ground.kept.push(client);
    told
}

async fn at_qos1(ground: &mut Ground, topic: &str) -> Told {
    once(ground, publish(topic, QoS::AtLeastOnce, b"x")).await
}

async fn subscribe(ground: &mut Ground, filter: &str) -> Told {
    let mut client = ground.client("s").await;
    let told = client.subscribe(filter).await;
    ground.kept.push(client);
    told
}

async fn subscribe_with_id(ground: &mut Ground, id: Option<u32>) -> Told {
    let mut client = ground.client("s").await;
    let props = id.into_iter().fold(PropsBuf::new(), |props, id| {
        props.with(Property::SubscriptionId(id))
    });
    let told = client.subscribe_with("a", props.as_props()).await;
    ground.kept.push(client);
    told
}

async fn old_client(ground: &Ground) -> Client {
    let mut client = ground.stream();
    let told = client
        .connect(&Connect {
            version: Version::V311,
            client_id: "old",
            ..connect()
        })
        .await;
    assert_eq!(told, Told::ConnAck(ReasonCode::Success));
    client
}

/// A QoS 1 PUBLISH of `len` bytes on the wire.
async fn of_len(ground: &mut Ground, len: usize) -> Told {
    // Fixed header 2, topic 2 + 1, packet id 2, property length 1.
    let payload = vec![b'x'; len - 8];
    once(ground, publish("t", QoS::AtLeastOnce, &payload)).await
}

async fn with_alias(ground: &mut Ground, alias: u16) -> Told {
    let props = PropsBuf::new().with(Property::TopicAlias(alias));
    once(
        ground,
        Publish {
            props: props.as_props(),
            ..publish("t", QoS::AtLeastOnce, b"x")
        },
    )
    .await
}

async fn with_user_properties(ground: &mut Ground, count: usize) -> Told {
    let props = (0..count).fold(PropsBuf::new(), |props, _| {
        props.with(Property::UserProperty("k", "v"))
    });
    once(
        ground,
        Publish {
            props: props.as_props(),
            ..publish("t", QoS::AtLeastOnce, b"x")
        },
    )
    .await
}

/// Retains at `topic` with a body of topic and payload of `bytes` bytes in all.
async fn retain(ground: &mut Ground, topic: &str, bytes: usize) -> Told {
    let payload = vec![b'x'; bytes - topic.len()];
    once(
        ground,
        Publish {
            retain: true,
            ..publish(topic, QoS::AtLeastOnce, &payload)
        },
    )
    .await
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            limit: Limit::TopicLevelsMax,
            what: "in PUBLISH",
            set: |config| config.limits.topic_levels_max = 3,
            within: |ground| Box::pin(async { at_qos1(ground, "a/b/c").await }),
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { at_qos1(ground, "a/b/c/d").await }),
            beyond_told: Told::Acked(ReasonCode::TopicNameInvalid),
        },
        Row {
            limit: Limit::TopicLevelsMax,
            what: "in PUBLISH of version 3, which is acknowledged all the same [MQTT-3.3.5-2]",
            set: |config| config.limits.topic_levels_max = 3,
            within: |ground| {
                Box::pin(async {
                    old_client(ground)
                        .await
                        .publish(&publish("a/b/c", QoS::AtLeastOnce, b""))
                        .await
                })
            },
            within_told: Told::Acked(ReasonCode::Success),
            beyond: |ground| {
                Box::pin(async {
                    old_client(ground)
                        .await
                        .publish(&publish("a/b/c/d", QoS::AtLeastOnce, b""))
                        .await
                })
            },
            beyond_told: Told::Acked(ReasonCode::Success),
        },
        Row {
            limit: Limit::TopicLevelsMax,
            what: "in SUBSCRIBE",
            set: |config| config.limits.topic_levels_max = 3,
            within: |ground| Box::pin(async { subscribe(ground, "a/+/#").await }),
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| Box::pin(async { subscribe(ground, "a/+/c/#").await }),
            beyond_told: Told::SubAck(ReasonCode::TopicFilterInvalid),
        },
        Row {
            limit: Limit::TopicBytesMax,
            what: "in PUBLISH",
            set: |config| config.limits.topic_bytes_max = 10,
            within: |ground| Box::pin(async { at_qos1(ground, "0123456789").await }),
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { at_qos1(ground, "0123456789x").await }),
            beyond_told: Told::Acked(ReasonCode::TopicNameInvalid),
        },
        Row {
            limit: Limit::TopicBytesMax,
            what: "in SUBSCRIBE",
            set: |config| config.limits.topic_bytes_max = 10,
            within: |ground| Box::pin(async { subscribe(ground, "01234567/#").await }),
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| Box::pin(async { subscribe(ground, "012345678/#").await }),
            beyond_told: Told::SubAck(ReasonCode::TopicFilterInvalid),
        },
        Row {
            limit: Limit::UserPropertiesMax,
            what: "in PUBLISH",
            set: |config| config.limits.user_properties_max = 2,
            within: |ground| Box::pin(async { with_user_properties(ground, 2).await }),
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { with_user_properties(ground, 3).await }),
            beyond_told: Told::Disconnect(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::UserPropertiesMax,
            what: "in SUBSCRIBE",
            set: |config| config.limits.user_properties_max = 0,
            within: |ground| Box::pin(async { subscribe(ground, "a").await }),
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| {
                Box::pin(async {
                    let props = PropsBuf::new().with(Property::UserProperty("k", "v"));
                    ground
                        .client("s")
                        .await
                        .subscribe_with("a", props.as_props())
                        .await
                })
            },
            beyond_told: Told::Disconnect(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::MaximumQos,
            what: "in PUBLISH",
            set: |config| config.mqtt.maximum_qos = QoS::AtLeastOnce,
            within: |ground| Box::pin(async { at_qos1(ground, "t").await }),
            within_told: TAKEN,
            beyond: |ground| {
                Box::pin(async { once(ground, publish("t", QoS::ExactlyOnce, b"x")).await })
            },
            beyond_told: Told::Disconnect(ReasonCode::QosNotSupported),
        },
        Row {
            limit: Limit::RetainAvailable,
            what: "in PUBLISH",
            set: |config| config.mqtt.retain_available = false,
            within: |ground| Box::pin(async { at_qos1(ground, "t").await }),
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { retain(ground, "t", 2).await }),
            beyond_told: Told::Disconnect(ReasonCode::RetainNotSupported),
        },
        Row {
            limit: Limit::WildcardSubscriptionAvailable,
            what: "",
            set: |config| config.mqtt.wildcard_subscription_available = false,
            within: |ground| Box::pin(async { subscribe(ground, "a/b").await }),
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| Box::pin(async { subscribe(ground, "a/+").await }),
            beyond_told: Told::SubAck(ReasonCode::WildcardSubscriptionsNotSupported),
        },
        Row {
            limit: Limit::SharedSubscriptionAvailable,
            what: "",
            set: |config| config.mqtt.shared_subscription_available = false,
            within: |ground| Box::pin(async { subscribe(ground, "a").await }),
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| Box::pin(async { subscribe(ground, "$share/g/a").await }),
            beyond_told: Told::SubAck(ReasonCode::SharedSubscriptionsNotSupported),
        },
        Row {
            limit: Limit::SubscriptionIdentifierAvailable,
            what: "",
            set: |config| config.mqtt.subscription_identifier_available = false,
            within: |ground| Box::pin(async { subscribe_with_id(ground, None).await }),
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| Box::pin(async { subscribe_with_id(ground, Some(1)).await }),
            beyond_told: Told::Disconnect(ReasonCode::SubscriptionIdentifiersNotSupported),
        },
        Row {
            limit: Limit::SubscriptionsPerClientMax,
            what: "",
            set: |config| config.limits.subscriptions_per_client_max = 2,
            within: |ground| {
                Box::pin(async {
                    let mut client = ground.client("s").await;
                    client.subscribe("a").await;
                    client.subscribe("b").await;
                    // One that exists is no further one.
                    let told = client.subscribe("a").await;
                    ground.kept.push(client);
                    told
                })
            },
            within_told: Told::SubAck(ReasonCode::GrantedQos1),
            beyond: |ground| Box::pin(async { ground.kept[0].subscribe("c").await }),
            beyond_told: Told::SubAck(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::ReceiveMaximum,
            what: "",
            set: |config| config.mqtt.receive_maximum = 2,
            within: |ground| {
                Box::pin(async {
                    let mut client = ground.client("p").await;
                    client.publish(&publish("t", QoS::ExactlyOnce, b"1")).await;
                    let told = client.publish(&publish("t", QoS::ExactlyOnce, b"2")).await;
                    ground.kept.push(client);
                    told
                })
            },
            within_told: TAKEN,
            beyond: |ground| {
                Box::pin(async {
                    ground.kept[0]
                        .publish(&publish("t", QoS::AtLeastOnce, b"3"))
                        .await
                })
            },
            beyond_told: Told::Disconnect(ReasonCode::ReceiveMaximumExceeded),
        },
        Row {
            limit: Limit::MaximumPacketSize,
            what: "",
            set: |config| config.mqtt.maximum_packet_size = 64,
            within: |ground| Box::pin(async { of_len(ground, 64).await }),
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { of_len(ground, 65).await }),
            beyond_told: Told::Disconnect(ReasonCode::PacketTooLarge),
        },
        Row {
            limit: Limit::MaximumPacketSize,
            what: "in version 3, which has no word for it",
            set: |config| config.mqtt.maximum_packet_size = 64,
            within: |ground| {
                Box::pin(async {
                    old_client(ground)
                        .await
                        .publish(&publish("t", QoS::AtLeastOnce, &[0; 57]))
                        .await
                })
            },
            within_told: Told::Acked(ReasonCode::Success),
            beyond: |ground| {
                Box::pin(async {
                    old_client(ground)
                        .await
                        .publish(&publish("t", QoS::AtLeastOnce, &[0; 58]))
                        .await
                })
            },
            beyond_told: Told::Closed,
        },
        Row {
            limit: Limit::TopicAliasMaximum,
            what: "",
            set: |config| config.mqtt.topic_alias_maximum = 2,
            within: |ground| Box::pin(async { with_alias(ground, 2).await }),
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { with_alias(ground, 3).await }),
            beyond_told: Told::Disconnect(ReasonCode::TopicAliasInvalid),
        },
        Row {
            limit: Limit::RetainedMessagesMax,
            what: "",
            set: |config| config.limits.retained_messages_max = 2,
            within: |ground| {
                Box::pin(async {
                    retain(ground, "a", 10).await;
                    retain(ground, "b", 10).await;
                    // A topic that has one is replaced.
                    retain(ground, "a", 20).await
                })
            },
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { retain(ground, "c", 10).await }),
            beyond_told: Told::Acked(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::RetainedBytesMax,
            what: "",
            set: |config| config.limits.retained_bytes_max = 100,
            within: |ground| {
                Box::pin(async {
                    retain(ground, "a", 60).await;
                    retain(ground, "b", 30).await;
                    retain(ground, "b", 40).await
                })
            },
            within_told: TAKEN,
            beyond: |ground| Box::pin(async { retain(ground, "b", 41).await }),
            beyond_told: Told::Acked(ReasonCode::QuotaExceeded),
        },
    ]
}
