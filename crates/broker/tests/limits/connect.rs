//! Limits that a connection meets before it is a client.

use std::time::Duration;

use martlet_broker::counters::Limit;
use martlet_codec::{Connect, Packet, Property, Props, PropsBuf, QoS, ReasonCode, Version, Will};
use tokio::time::sleep;

use super::{
    Row,
    ground::{Ground, Told, connect},
};

const ACCEPTED: Told = Told::ConnAck(ReasonCode::Success);

fn bytes_of(connect: &Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Packet::Connect(*connect)
        .encode(connect.version, &mut bytes)
        .expect("encodes");
    bytes
}

/// Sends a CONNECT of exactly `len` bytes.
async fn connect_of_len(ground: &mut Ground, len: usize) -> Told {
    let padded = |fill: usize| -> Vec<u8> {
        let text = "x".repeat(fill);
        let props = PropsBuf::new().with(Property::UserProperty("", &text));
        bytes_of(&Connect {
            props: props.as_props(),
            ..connect()
        })
    };
    let bytes = padded(len - padded(0).len());
    // A padding above 127 bytes makes length fields grow.
    let bytes = if bytes.len() > len {
        padded(len - padded(0).len() - (bytes.len() - len))
    } else {
        bytes
    };
    assert_eq!(bytes.len(), len);
    let mut client = ground.stream();
    client.send_bytes(&bytes).await;
    let told = client.told().await;
    ground.kept.push(client);
    told
}

/// Sends a CONNECT byte by byte, spread over `time`.
async fn drip(ground: &Ground, time: Duration) -> Told {
    let bytes = bytes_of(&connect());
    let mut client = ground.stream();
    for byte in &bytes {
        sleep(time / bytes.len() as u32).await;
        client.send_bytes(&[*byte]).await;
    }
    client.told().await
}

async fn with_client_id(ground: &mut Ground, len: usize) -> Told {
    ground
        .try_client(&Connect {
            client_id: &"x".repeat(len),
            ..connect()
        })
        .await
}

async fn with_will(ground: &mut Ground, will: Will<'_>) -> Told {
    ground
        .try_client(&Connect {
            will: Some(will),
            ..connect()
        })
        .await
}

fn will(topic: &str) -> Will<'_> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        props: Props::EMPTY,
        topic,
        payload: b"gone",
    }
}

async fn with_user_properties(ground: &mut Ground, in_connect: usize, in_will: usize) -> Told {
    let fill = |count| {
        (0..count).fold(PropsBuf::new(), |props, _| {
            props.with(Property::UserProperty("k", "v"))
        })
    };
    let (props, will_props) = (fill(in_connect), fill(in_will));
    let will = Will {
        props: will_props.as_props(),
        ..will("w")
    };
    ground
        .try_client(&Connect {
            props: props.as_props(),
            will: Some(will),
            ..connect()
        })
        .await
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            limit: Limit::ConnectionsMax,
            what: "",
            set: |config| config.limits.connections_max = 2,
            within: |ground| {
                Box::pin(async {
                    ground
                        .try_client(&Connect {
                            client_id: "a",
                            ..connect()
                        })
                        .await;
                    ground
                        .try_client(&Connect {
                            client_id: "b",
                            ..connect()
                        })
                        .await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { ground.try_client(&connect()).await }),
            beyond_told: Told::Closed,
        },
        Row {
            limit: Limit::SessionsMax,
            what: "",
            set: |config| config.limits.sessions_max = 2,
            within: |ground| {
                Box::pin(async {
                    ground.client("a").await.leave().await;
                    ground.client("b").await.leave().await;
                    // A session that exists is no new one.
                    ground
                        .try_client(&Connect {
                            client_id: "a",
                            ..connect()
                        })
                        .await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { ground.try_client(&connect()).await }),
            beyond_told: Told::ConnAck(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::ConnectTimeout,
            what: "with bytes dripping in",
            set: |config| config.limits.connect_timeout = Duration::from_secs(5),
            within: |ground| Box::pin(async { drip(ground, Duration::from_millis(4_900)).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { drip(ground, Duration::from_millis(5_500)).await }),
            beyond_told: Told::Closed,
        },
        Row {
            limit: Limit::ConnectTimeout,
            what: "in silence",
            set: |config| config.limits.connect_timeout = Duration::from_secs(3),
            within: |ground| {
                Box::pin(async {
                    sleep(Duration::from_millis(2_900)).await;
                    ground.try_client(&connect()).await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { ground.stream().told().await }),
            beyond_told: Told::Closed,
        },
        Row {
            limit: Limit::ConnectPacketSizeMax,
            what: "",
            set: |config| config.limits.connect_packet_size_max = 100,
            within: |ground| Box::pin(async { connect_of_len(ground, 100).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { connect_of_len(ground, 101).await }),
            beyond_told: Told::ConnAck(ReasonCode::PacketTooLarge),
        },
        Row {
            limit: Limit::ClientIdBytesMax,
            what: "",
            set: |config| config.limits.client_id_bytes_max = 30,
            within: |ground| Box::pin(async { with_client_id(ground, 30).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { with_client_id(ground, 31).await }),
            beyond_told: Told::ConnAck(ReasonCode::ClientIdentifierNotValid),
        },
        Row {
            limit: Limit::UserPropertiesMax,
            what: "in CONNECT",
            set: |config| config.limits.user_properties_max = 2,
            within: |ground| Box::pin(async { with_user_properties(ground, 2, 2).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { with_user_properties(ground, 3, 0).await }),
            beyond_told: Told::ConnAck(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::UserPropertiesMax,
            what: "in a will",
            set: |config| config.limits.user_properties_max = 2,
            within: |ground| Box::pin(async { with_user_properties(ground, 0, 2).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { with_user_properties(ground, 0, 3).await }),
            beyond_told: Told::ConnAck(ReasonCode::QuotaExceeded),
        },
        Row {
            limit: Limit::TopicLevelsMax,
            what: "in a will",
            set: |config| config.limits.topic_levels_max = 3,
            within: |ground| Box::pin(async { with_will(ground, will("a/b/c")).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { with_will(ground, will("a/b/c/")).await }),
            beyond_told: Told::ConnAck(ReasonCode::TopicNameInvalid),
        },
        Row {
            limit: Limit::TopicBytesMax,
            what: "in a will",
            set: |config| config.limits.topic_bytes_max = 10,
            within: |ground| Box::pin(async { with_will(ground, will("0123456789")).await }),
            within_told: ACCEPTED,
            beyond: |ground| Box::pin(async { with_will(ground, will("0123456789x")).await }),
            beyond_told: Told::ConnAck(ReasonCode::TopicNameInvalid),
        },
        Row {
            limit: Limit::MaximumQos,
            what: "in a will",
            set: |config| config.mqtt.maximum_qos = QoS::AtLeastOnce,
            within: |ground| {
                Box::pin(async {
                    with_will(
                        ground,
                        Will {
                            qos: QoS::AtLeastOnce,
                            ..will("w")
                        },
                    )
                    .await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| {
                Box::pin(async {
                    with_will(
                        ground,
                        Will {
                            qos: QoS::ExactlyOnce,
                            ..will("w")
                        },
                    )
                    .await
                })
            },
            beyond_told: Told::ConnAck(ReasonCode::QosNotSupported),
        },
        Row {
            limit: Limit::RetainAvailable,
            what: "in a will",
            set: |config| config.mqtt.retain_available = false,
            within: |ground| Box::pin(async { with_will(ground, will("w")).await }),
            within_told: ACCEPTED,
            beyond: |ground| {
                Box::pin(async {
                    with_will(
                        ground,
                        Will {
                            retain: true,
                            ..will("w")
                        },
                    )
                    .await
                })
            },
            beyond_told: Told::ConnAck(ReasonCode::RetainNotSupported),
        },
        Row {
            limit: Limit::MinimumProtocolLevel,
            what: "3.1.1",
            set: |config| config.mqtt.minimum_protocol_level = 4,
            within: |ground| {
                Box::pin(async {
                    ground
                        .try_client(&Connect {
                            version: Version::V311,
                            ..connect()
                        })
                        .await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| {
                Box::pin(async {
                    ground
                        .try_client(&Connect {
                            version: Version::V31,
                            ..connect()
                        })
                        .await
                })
            },
            beyond_told: Told::ConnAck(ReasonCode::UnsupportedProtocolVersion),
        },
        Row {
            limit: Limit::MinimumProtocolLevel,
            what: "5",
            set: |config| config.mqtt.minimum_protocol_level = 5,
            within: |ground| Box::pin(async { ground.try_client(&connect()).await }),
            within_told: ACCEPTED,
            beyond: |ground| {
                Box::pin(async {
                    ground
                        .try_client(&Connect {
                            version: Version::V311,
                            ..connect()
                        })
                        .await
                })
            },
            beyond_told: Told::ConnAck(ReasonCode::UnsupportedProtocolVersion),
        },
        #[cfg(target_os = "linux")]
        Row {
            limit: Limit::MemoryHighWater,
            what: "",
            set: |config| config.limits.memory_high_water = u64::MAX,
            within: |ground| {
                Box::pin(async {
                    sleep(Duration::from_secs(3)).await;
                    ground.try_client(&connect()).await
                })
            },
            within_told: ACCEPTED,
            beyond: |ground| {
                Box::pin(async {
                    ground.reload(|config| config.limits.memory_high_water = 1);
                    sleep(Duration::from_secs(3)).await;
                    ground
                        .try_client(&Connect {
                            client_id: "d",
                            ..connect()
                        })
                        .await
                })
            },
            beyond_told: Told::ConnAck(ReasonCode::QuotaExceeded),
        },
    ]
}
