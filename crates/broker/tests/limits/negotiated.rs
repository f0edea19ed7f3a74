//! Limits that no client can violate: it is granted less than it asked for and told so, or made to wait.

use std::time::Duration;

use martlet_codec::{Connect, Packet, Property, PropsBuf, Publish, QoS, ReasonCode, Will};
use tokio::time::sleep;

use super::ground::{Ground, Told, connect, publish};
use martlet_broker::config::Config;

fn run(set: impl FnOnce(&mut Config), act: impl AsyncFnOnce(Ground)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime
        .expect("runtime")
        .block_on(async { act(Ground::new(set)).await });
}

/// The properties of CONNACK, read by `read`.
async fn announced<T>(
    ground: &Ground,
    connect: &Connect<'_>,
    read: impl FnOnce(martlet_codec::Props<'_>) -> T,
) -> T {
    let mut client = ground.stream();
    client.send(&Packet::Connect(*connect)).await;
    let packet = client.packet().await;
    match packet.packet() {
        Packet::ConnAck(connack) => {
            assert_eq!(connack.reason, ReasonCode::Success);
            read(connack.props)
        }
        other => panic!("{other:?} instead of CONNACK"),
    }
}

#[test]
fn a_longer_keep_alive_is_replaced_and_enforced() {
    let set = |config: &mut Config| config.mqtt.keep_alive_max_secs = 10;
    run(set, async |ground: Ground| {
        for (asked, granted) in [(9, None), (10, None), (11, Some(10)), (0, Some(10))] {
            let connect = Connect {
                keep_alive_secs: asked,
                ..connect()
            };
            let announced =
                announced(&ground, &connect, |props| props.server_keep_alive_secs()).await;
            assert_eq!(announced, granted, "asked for {asked}");
        }
        let mut client = ground.stream();
        client.connect(&connect()).await;
        sleep(Duration::from_secs(14)).await;
        client.send(&Packet::PingReq).await;
        assert_eq!(client.packet().await.packet(), Packet::PingResp);
        sleep(Duration::from_secs(17)).await;
        assert_eq!(
            client.told().await,
            Told::Disconnect(ReasonCode::KeepAliveTimeout)
        );
    });
}

#[test]
fn a_longer_session_expiry_is_replaced() {
    let set = |config: &mut Config| config.mqtt.session_expiry_max_secs = 100;
    run(set, async |ground: Ground| {
        for (asked, granted) in [
            (99, None),
            (100, None),
            (101, Some(100)),
            (u32::MAX, Some(100)),
        ] {
            let props = PropsBuf::new().with(Property::SessionExpiry(asked));
            let connect = Connect {
                props: props.as_props(),
                ..connect()
            };
            let announced = announced(&ground, &connect, |props| props.session_expiry_secs()).await;
            assert_eq!(announced, granted, "asked for {asked}");
        }
    });
}

#[test]
fn a_longer_message_expiry_is_shortened() {
    let set = |config: &mut Config| config.mqtt.message_expiry_max_secs = 100;
    run(set, async |ground: Ground| {
        let mut subscriber = ground.client("s").await;
        subscriber.subscribe("q").await;
        let mut publisher = ground.client("p").await;
        for (asked, granted) in [
            (Some(99), 99),
            (Some(100), 100),
            (Some(101), 100),
            (None, 100),
        ] {
            let props = asked.into_iter().fold(PropsBuf::new(), |props, secs| {
                props.with(Property::MessageExpiry(secs))
            });
            publisher
                .post(&Publish {
                    props: props.as_props(),
                    ..publish("q", QoS::AtMostOnce, b"x")
                })
                .await;
            let packet = subscriber.packet().await;
            let Packet::Publish(got) = packet.packet() else {
                panic!("{packet:?}")
            };
            assert_eq!(
                got.props.message_expiry_secs(),
                Some(granted),
                "asked for {asked:?}"
            );
        }
    });
}

#[test]
fn a_longer_will_delay_is_shortened() {
    let set = |config: &mut Config| config.mqtt.will_delay_max_secs = 100;
    run(set, async |ground: Ground| {
        let mut watcher = ground.client("w").await;
        watcher.subscribe("gone").await;
        for (asked, early, late) in [(50, 45, 55), (100, 95, 105), (1_000, 95, 105)] {
            let mut client = ground.stream();
            let props = PropsBuf::new().with(Property::SessionExpiry(10_000));
            let will_props = PropsBuf::new().with(Property::WillDelay(asked));
            let will = Will {
                qos: QoS::AtMostOnce,
                retain: false,
                props: will_props.as_props(),
                topic: "gone",
                payload: b"will",
            };
            client
                .connect(&Connect {
                    props: props.as_props(),
                    will: Some(will),
                    ..connect()
                })
                .await;
            drop(client);
            sleep(Duration::from_secs(early - 5)).await;
            // Waits five seconds for nothing.
            assert_eq!(watcher.told().await, Told::Nothing, "asked for {asked}");
            sleep(Duration::from_secs(late - early)).await;
            assert_eq!(
                watcher.told().await,
                Told::Messages(vec!["will".into()]),
                "asked for {asked}"
            );
        }
    });
}

#[test]
fn messages_beyond_the_window_wait() {
    let set = |config: &mut Config| config.limits.inflight_max = 2;
    run(set, async |ground: Ground| {
        let mut subscriber = ground.client("s").await;
        subscriber.subscribe("q").await;
        let mut publisher = ground.client("p").await;
        for payload in ["1", "2", "3", "4"] {
            publisher
                .publish(&publish("q", QoS::AtLeastOnce, payload.as_bytes()))
                .await;
        }
        let first = subscriber.packet().await;
        let Packet::Publish(first) = first.packet() else {
            panic!("{first:?}")
        };
        assert_eq!(subscriber.messages().await, ["2"]);
        subscriber.acknowledge(first.id.expect("QoS 1")).await;
        assert_eq!(subscriber.messages().await, ["3"]);
        assert_eq!(ground.counters().dropped(), 0);
    });
}

#[test]
fn topics_beyond_the_outgoing_aliases_are_sent_whole() {
    let set = |config: &mut Config| config.mqtt.topic_alias_outgoing_maximum = 2;
    run(set, async |ground: Ground| {
        let mut subscriber = ground.stream();
        let props = PropsBuf::new().with(Property::TopicAliasMaximum(10));
        subscriber
            .connect(&Connect {
                client_id: "s",
                props: props.as_props(),
                ..connect()
            })
            .await;
        subscriber.subscribe("t/#").await;
        let mut publisher = ground.client("p").await;
        let mut highest = 0;
        for topic in [
            "t/first", "t/second", "t/third", "t/first", "t/second", "t/third",
        ] {
            publisher.post(&publish(topic, QoS::AtMostOnce, b"x")).await;
            let packet = subscriber.packet().await;
            let Packet::Publish(got) = packet.packet() else {
                panic!("{packet:?}")
            };
            highest = highest.max(got.props.topic_alias().unwrap_or(0));
            assert!(
                got.topic == topic || got.props.topic_alias().is_some(),
                "{got:?}"
            );
        }
        assert_eq!(highest, 2);
    });
}

#[test]
fn the_broker_s_own_topics_need_no_room_among_retained_messages() {
    let set = |config: &mut Config| {
        config.sys.interval = Duration::from_secs(1);
        config.limits.retained_messages_max = 1;
    };
    run(set, async |ground: Ground| {
        sleep(Duration::from_secs(3)).await;
        let mut client = ground.client("c").await;
        assert_eq!(
            client.subscribe("$SYS/broker/version").await,
            Told::SubAck(ReasonCode::GrantedQos1)
        );
        assert!(matches!(client.told().await, Told::Messages(_)));
        let retained = Publish {
            retain: true,
            ..publish("t", QoS::AtLeastOnce, b"x")
        };
        assert_eq!(
            client.publish(&retained).await,
            Told::Acked(ReasonCode::NoMatchingSubscribers)
        );
        let further = Publish {
            topic: "u",
            ..retained
        };
        assert_eq!(
            client.publish(&further).await,
            Told::Acked(ReasonCode::QuotaExceeded)
        );
    });
}
