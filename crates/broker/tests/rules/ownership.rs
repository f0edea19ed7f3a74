//! One owner per session: takeover, parked connections, storms (architecture rule 6).

use std::{future::pending, sync::Arc};

use martlet_broker::{
    Broker,
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Identity, Refusal},
};
use martlet_client::RawConnection;
use martlet_codec::{AckKind, Connect, Packet, Property, PropsBuf, QoS, ReasonCode, Version};

use crate::ground::{
    builder, connect_packet, connected, expect_ack, expect_connack, expect_silence, open, payload,
    publish, quiet, send, send_subscribe, subscribed, with_store,
};

/// Decides at once, except about topics that say otherwise.
struct Moody;

impl Authenticator for Moody {
    fn authenticate(&self, _request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        Decision::Ready(Ok(0))
    }
}

impl Authorizer for Moody {
    fn publish(&self, _who: &Identity, topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        match topic {
            "never" => Decision::Later(Box::pin(pending())),
            "soon" => Decision::Later(Box::pin(async {
                tokio::task::yield_now().await;
                true
            })),
            "refused soon" => Decision::Later(Box::pin(async { false })),
            _ => Decision::Ready(true),
        }
    }

    fn subscribe(&self, _who: &Identity, filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        match filter {
            "soon" => Decision::Later(Box::pin(async move { Some(qos) })),
            _ => Decision::Ready(Some(qos)),
        }
    }

    fn judges_deliveries(&self, _who: &Identity) -> bool {
        false
    }

    fn deliver(&self, _who: &Identity, _topic: &str) -> bool {
        true
    }
}

fn moody() -> Broker {
    builder()
        .access(Arc::new(Moody), Arc::new(Moody))
        .start()
        .expect("sound settings")
}

#[tokio::test]
async fn a_decision_that_comes_later_keeps_the_order() {
    let broker = moody();
    let mut subscriber = connected(&broker, "s", true).await;
    subscribed(&mut subscriber, "soon", QoS::AtLeastOnce).await;
    let mut publisher = connected(&broker, "p", true).await;
    for (topic, packet_id) in [
        ("soon", 1),
        ("at once", 2),
        ("refused soon", 3),
        ("soon", 4),
    ] {
        send(
            &mut publisher,
            publish(topic, topic, QoS::AtLeastOnce, packet_id),
        )
        .await;
    }
    for packet_id in 1..=4 {
        expect_ack(&mut publisher, AckKind::PubAck, packet_id).await;
    }
    assert_eq!(payload(&mut subscriber).await, "soon");
    assert_eq!(payload(&mut subscriber).await, "soon");
}

#[tokio::test]
async fn a_connection_that_waits_for_a_decision_can_be_taken_over() {
    let broker = moody();
    let mut old = connected(&broker, "same", false).await;
    send(&mut old, publish("never", "x", QoS::AtLeastOnce, 1)).await;
    let mut new = open(&broker, Version::V311);
    send(
        &mut new,
        Packet::Connect(connect_packet("same", Version::V311, false)),
    )
    .await;
    expect_connack(&mut new, true).await;
    old.expect_eof()
        .await
        .expect("MQTT 3 is closed without a word");
    expect_silence(&mut new).await;
}

#[tokio::test]
async fn version_5_is_told_before_the_newcomer_is_admitted() {
    let broker = builder().start().expect("sound settings");
    let mut old = open(&broker, Version::V5);
    send(
        &mut old,
        Packet::Connect(connect_packet("same", Version::V5, true)),
    )
    .await;
    old.receive().await.expect("CONNACK");
    let mut new = open(&broker, Version::V5);
    send(
        &mut new,
        Packet::Connect(connect_packet("same", Version::V5, true)),
    )
    .await;
    new.receive().await.expect("CONNACK");
    let farewell = old.receive().await.expect("DISCONNECT");
    assert!(
        matches!(farewell.packet(), Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::SessionTakenOver)
    );
    old.expect_eof().await.expect("closed");
}

#[tokio::test]
async fn of_many_newcomers_at_once_exactly_one_stays_and_it_is_heard() {
    let broker = builder().start().expect("sound settings");
    let newcomers: Vec<_> = (0..50)
        .map(|_| {
            let mut client = open(&broker, Version::V311);
            tokio::spawn(async move {
                send(
                    &mut client,
                    Packet::Connect(connect_packet("same", Version::V311, false)),
                )
                .await;
                client.receive().await.expect("CONNACK");
                send(&mut client, Packet::PingReq).await;
                let stays = client.receive().await.is_ok();
                (client, stays)
            })
        })
        .collect();
    let mut clients = Vec::new();
    for newcomer in newcomers {
        clients.push(newcomer.await.expect("no panic").0);
    }
    for _ in 0..1_000 {
        if broker.clients_connected() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(broker.clients_connected(), 1);
    let mut answers = 0;
    for client in &mut clients {
        if client.send(&Packet::PingReq).await.is_ok() {
            while let Ok(packet) = client.receive().await {
                answers += usize::from(matches!(packet.packet(), Packet::PingResp));
                if client.expect_nothing().await.is_ok() {
                    break;
                }
            }
        }
    }
    assert!(answers >= 1, "the one that stayed answers");
}

#[tokio::test]
async fn a_client_id_of_another_user_opens_no_session() {
    let mut config = quiet();
    config.anonymous.allow = Some(true);
    let broker = Broker::builder()
        .config(config)
        .access(Arc::new(Moody), Arc::new(Moody))
        .start()
        .expect("sound settings");
    let mut first = open(&broker, Version::V311);
    let mut connect = connect_packet("device", Version::V311, false);
    connect.username = Some("alice");
    send(&mut first, Packet::Connect(connect)).await;
    expect_connack(&mut first, false).await;
    drop(first);
    let mut second = open(&broker, Version::V311);
    connect.username = Some("mallory");
    send(&mut second, Packet::Connect(connect)).await;
    expect_connack(&mut second, false).await;
}

#[tokio::test]
async fn who_is_taken_over_before_connack_hears_nothing_before_connack() {
    let (broker, committer) = with_store();
    let expiring = PropsBuf::new().with(Property::SessionExpiry(3_600));
    let lasting = Connect {
        props: expiring.as_props(),
        ..connect_packet("contested", Version::V5, false)
    };
    let mut first = open(&broker, Version::V5);
    send(&mut first, Packet::Connect(lasting)).await;
    while committer.pending() == 0 {
        tokio::task::yield_now().await;
    }
    // Its session is made and not yet committed when the second one comes.
    let mut second = open(&broker, Version::V5);
    send(&mut second, Packet::Connect(lasting)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    committer.commit_all();
    // It may also be closed without a word.
    if let Ok(packet) = first.receive().await {
        let first = packet.packet();
        assert!(
            matches!(first, Packet::ConnAck(_)),
            "{first:?} before CONNACK [MQTT-3.14.0-1]"
        );
    }
}

#[tokio::test]
async fn acknowledgements_that_are_lost_at_the_end_take_later_ones_with_them() {
    let broker = builder().start().expect("sound settings");
    let (ours, theirs) = tokio::io::duplex(64);
    broker.attach(theirs, "narrow");
    let mut client = RawConnection::over(ours).version(Version::V311);
    send(
        &mut client,
        Packet::Connect(connect_packet("narrow", Version::V311, true)),
    )
    .await;
    expect_connack(&mut client, false).await;
    subscribed(&mut client, "x", QoS::AtMostOnce).await;
    // More than the pipe holds: from here on the broker's output waits.
    send(
        &mut client,
        publish("x", &"-".repeat(300), QoS::AtMostOnce, 0),
    )
    .await;
    send(&mut client, publish("y", "", QoS::AtLeastOnce, 1)).await;
    send_subscribe(&mut client, 2, "z", QoS::AtMostOnce).await;
    send(&mut client, publish("y", "", QoS::AtLeastOnce, 3)).await;
    let disconnect = martlet_codec::Disconnect::new(ReasonCode::Success);
    send(&mut client, Packet::Disconnect(disconnect)).await;
    let mut acknowledged = Vec::new();
    while let Ok(packet) = client.receive().await {
        if let Packet::Ack(ack) = packet.packet() {
            acknowledged.push(ack.id.get());
        }
    }
    assert!(
        matches!(acknowledged.as_slice(), [] | [1] | [1, 3]),
        "in the order of receipt [MQTT-4.6.0-2]: {acknowledged:?}"
    );
}
