//! What the client asks of the server.

use crate::support::{ALL_VERSIONS, ack, connected, end, id, publish, simple};
use martlet_client::codec::{
    Ack, AckKind, Disconnect, Packet, Property, Props, PropsBuf, Publish, QoS, ReasonCode,
    ReasonCodes, RetainHandling, SubAck, SubscribeOptions, UnsubAck, Version,
};
use martlet_client::{ConnectOptions, Disconnected, Error, PublishRequest};

#[tokio::test]
async fn publishing_in_every_version_and_quality() {
    for version in ALL_VERSIONS {
        let (client, _events, mut server) = simple(version).await;
        let request = PublishRequest::new("a/b", "payload").retain(true);

        client.publish(request.clone()).await.unwrap();
        let sent = Publish {
            retain: true,
            ..publish("a/b", QoS::AtMostOnce, 0)
        };
        server.expect(&Packet::Publish(sent)).await.unwrap();

        let serve = async {
            let sent = Publish {
                retain: true,
                ..publish("a/b", QoS::AtLeastOnce, 1)
            };
            server.expect(&Packet::Publish(sent)).await.unwrap();
            server.send(&ack(AckKind::PubAck, 1)).await.unwrap();
        };
        let request1 = request.clone().qos(QoS::AtLeastOnce);
        let (outcome, ()) = tokio::join!(client.publish(request1), serve);
        assert_eq!(outcome.unwrap().reason, ReasonCode::Success);

        let serve = async {
            let sent = Publish {
                retain: true,
                ..publish("a/b", QoS::ExactlyOnce, 2)
            };
            server.expect(&Packet::Publish(sent)).await.unwrap();
            server.send(&ack(AckKind::PubRec, 2)).await.unwrap();
            server.expect(&ack(AckKind::PubRel, 2)).await.unwrap();
            server.send(&ack(AckKind::PubComp, 2)).await.unwrap();
        };
        let request2 = request.clone().qos(QoS::ExactlyOnce);
        let (outcome, ()) = tokio::join!(client.publish(request2), serve);
        assert_eq!(outcome.unwrap().reason, ReasonCode::Success);
    }
}

#[tokio::test]
async fn outcomes_carry_the_servers_reason() {
    let (client, _events, mut server) = simple(Version::V5).await;
    let mut props = PropsBuf::new();
    props.push(Property::ReasonString("no room"));
    // quality | what the server answers | outcome
    let refused = ReasonCode::QuotaExceeded;
    for (number, qos, kind, reason) in [
        (1, QoS::AtLeastOnce, AckKind::PubAck, refused),
        (
            2,
            QoS::AtLeastOnce,
            AckKind::PubAck,
            ReasonCode::NoMatchingSubscribers,
        ),
        (3, QoS::ExactlyOnce, AckKind::PubRec, refused),
    ] {
        let serve = async {
            server.receive().await.unwrap();
            let answer = Packet::Ack(Ack {
                kind,
                id: id(number),
                reason,
                props: props.as_props(),
            });
            server.send(&answer).await.unwrap();
        };
        let request = PublishRequest::new("a", "").qos(qos);
        let (outcome, ()) = tokio::join!(client.publish(request), serve);
        let outcome = outcome.unwrap();
        assert_eq!(outcome.reason, reason);
        assert_eq!(outcome.reason_string.as_deref(), Some("no room"));
    }
    // The refused QoS 2 exchange is over: no PUBREL, and its place is free again.
    client.publish(PublishRequest::new("a", "")).await.unwrap();
    let next = server.receive().await.unwrap();
    assert!(matches!(next.packet(), Packet::Publish(_)), "{next:?}");
}

#[tokio::test]
async fn the_servers_receive_maximum_is_honoured() {
    let props = PropsBuf::new().with(Property::ReceiveMaximum(2));
    let (client, _events, mut server) = connected(ConnectOptions::default(), props).await;
    let publishers: Vec<_> = (0..6)
        .map(|n| {
            let client = client.clone();
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][n % 2];
            let request = PublishRequest::new(format!("t/{n}"), "").qos(qos);
            tokio::spawn(async move { client.publish(request).await })
        })
        .collect();
    let mut done = 0;
    let mut held = Vec::new();
    while done < 6 {
        while held.len() < 2 && done + held.len() < 6 {
            let packet = server.receive().await.unwrap();
            let Packet::Publish(publish) = packet.packet() else {
                panic!("{packet:?}");
            };
            held.push((publish.id.unwrap(), publish.qos));
        }
        // Other requests are not held up by a full window.
        client.publish(PublishRequest::new("q0", "")).await.unwrap();
        let next = server.receive().await.unwrap();
        assert!(
            matches!(next.packet(), Packet::Publish(publish) if publish.topic == "q0"),
            "no third message while two are under way: {next:?}"
        );
        let (id, qos) = held.remove(0);
        if qos == QoS::ExactlyOnce {
            server.send(&ack(AckKind::PubRec, id.get())).await.unwrap();
            server
                .expect(&ack(AckKind::PubRel, id.get()))
                .await
                .unwrap();
            server.send(&ack(AckKind::PubComp, id.get())).await.unwrap();
        } else {
            server.send(&ack(AckKind::PubAck, id.get())).await.unwrap();
        }
        done += 1;
    }
    for publisher in publishers {
        publisher.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_the_server_cannot_do_is_not_asked_of_it() {
    let mut props = PropsBuf::new();
    props
        .push(Property::MaximumQos(QoS::AtLeastOnce))
        .push(Property::RetainAvailable(false))
        .push(Property::MaximumPacketSize(30));
    let (client, _events, mut server) = connected(ConnectOptions::default(), props).await;
    let request = || PublishRequest::new("a", "b");
    for (request, hint) in [
        (request().qos(QoS::ExactlyOnce), "QoS 1 at most"),
        (request().retain(true), "retained"),
        (
            PublishRequest::new("a", vec![0; 26]),
            "packet of 32 bytes, the server accepts 30",
        ),
        (PublishRequest::new("a/#", ""), "invalid request"),
        (PublishRequest::new("", ""), "invalid request"),
        (
            request().props(PropsBuf::new().with(Property::TopicAlias(1))),
            "aliases",
        ),
        (
            request().props(PropsBuf::new().with(Property::WillDelay(1))),
            "invalid request",
        ),
    ] {
        let error = client.publish(request).await.expect_err(hint).to_string();
        assert!(error.contains(hint), "{error}");
    }
    let none: [(&str, SubscribeOptions); 0] = [];
    let error = client.subscribe(none).await.expect_err("no filters");
    assert!(matches!(error, Error::NoFilters));
    // None of it reached the server, and 30 bytes are fine.
    client
        .publish(PublishRequest::new("a", vec![0; 24]))
        .await
        .unwrap();
    let packet = server.receive().await.unwrap();
    assert_eq!(packet.as_bytes().len(), 30);
}

#[tokio::test]
async fn subscribing_and_unsubscribing() {
    for version in ALL_VERSIONS {
        let (client, _events, mut server) = simple(version).await;
        let options = SubscribeOptions {
            no_local: version.is_v5(),
            retain_handling: RetainHandling::SendAlways,
            ..SubscribeOptions::qos(QoS::ExactlyOnce)
        };
        let serve = async {
            let packet = server.receive().await.unwrap();
            let Packet::Subscribe(subscribe) = packet.packet() else {
                panic!("{packet:?}");
            };
            let filters: Vec<_> = subscribe.filters.iter().collect();
            assert_eq!(
                filters,
                [("a/#", options), ("b", SubscribeOptions::default())]
            );
            let answer = Packet::SubAck(SubAck {
                id: subscribe.id,
                props: Props::EMPTY,
                codes: ReasonCodes::new(&[0x02, 0x80]).unwrap(),
            });
            server.send(&answer).await.unwrap();
            let packet = server.receive().await.unwrap();
            let Packet::Unsubscribe(unsubscribe) = packet.packet() else {
                panic!("{packet:?}");
            };
            let filters: Vec<_> = unsubscribe.filters.iter().collect();
            assert_eq!(filters, ["a/#", "c"]);
            let answer = Packet::UnsubAck(UnsubAck {
                id: unsubscribe.id,
                props: Props::EMPTY,
                codes: ReasonCodes::new(&[0x00, 0x11]).unwrap(),
            });
            server.send(&answer).await.unwrap();
        };
        let requests = async {
            let codes = client
                .subscribe([("a/#", options), ("b", SubscribeOptions::default())])
                .await
                .unwrap();
            assert_eq!(
                codes,
                [ReasonCode::GrantedQos2, ReasonCode::UnspecifiedError]
            );
            let codes = client.unsubscribe(["a/#", "c"]).await.unwrap();
            let second = match version {
                Version::V5 => ReasonCode::NoSubscriptionExisted,
                _ => ReasonCode::Success,
            };
            assert_eq!(codes, [ReasonCode::Success, second]);
        };
        tokio::join!(serve, requests);
    }
}

#[tokio::test]
async fn a_suback_with_a_missing_code_breaks_the_protocol() {
    let (client, mut events, mut server) = simple(Version::V5).await;
    let serve = async {
        server.receive().await.unwrap();
        let answer = Packet::SubAck(SubAck {
            id: id(1),
            props: Props::EMPTY,
            codes: ReasonCodes::new(&[0x02]).unwrap(),
        });
        server.send(&answer).await.unwrap();
        let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::ProtocolError));
        server.expect(&goodbye).await.unwrap();
        server.expect_eof().await.unwrap();
        drop(server);
    };
    let filters = ["a", "b"].map(|filter| (filter, SubscribeOptions::default()));
    let (codes, ()) = tokio::join!(client.subscribe(filters), serve);
    let error = codes.expect_err("the connection ended");
    assert!(
        matches!(error, Error::Disconnected(Disconnected::Protocol { .. })),
        "{error:?}"
    );
    assert!(matches!(
        end(&mut events).await,
        Disconnected::Protocol { .. }
    ));
}
