//! The client against a server that a test plays by hand.

use bytes::Bytes;
use martlet_client::codec::{
    Ack, AckKind, ConnAck, Connect, Disconnect, Packet, PacketId, Property, Props, PropsBuf,
    Publish, QoS, ReasonCode, ReasonCodes, RetainHandling, SubAck, SubscribeOptions, UnsubAck,
    Version,
};
use martlet_client::{
    Client, ConnectError, ConnectOptions, Disconnected, Error, Event, Events, PublishRequest,
    RawConnection, RawError, WillMessage,
};
use std::time::Duration;
use tokio::io::duplex;

const ALL_VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn ack(kind: AckKind, number: u16) -> Packet<'static> {
    Packet::Ack(Ack::new(kind, id(number)))
}

fn ack_with(kind: AckKind, number: u16, reason: ReasonCode) -> Packet<'static> {
    Packet::Ack(Ack {
        reason,
        ..Ack::new(kind, id(number))
    })
}

fn accept(props: &PropsBuf) -> Packet<'_> {
    Packet::ConnAck(ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        props: props.as_props(),
    })
}

fn publish(topic: &'static str, qos: QoS, number: u16) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        id: PacketId::new(number),
        props: Props::EMPTY,
        payload: b"payload",
    }
}

/// A client that the server has accepted with `props`, and the server.
async fn connected(options: ConnectOptions, props: PropsBuf) -> (Client, Events, RawConnection) {
    let (near, far) = duplex(1 << 20);
    let mut server = RawConnection::over(far);
    let serve = async {
        let connect = server.receive().await.unwrap();
        assert!(matches!(connect.packet(), Packet::Connect(_)));
        server.send(&accept(&props)).await.unwrap();
    };
    let (client, ()) = tokio::join!(Client::connect_over(near, options), serve);
    let (client, events) = client.unwrap();
    (client, events, server)
}

async fn simple(version: Version) -> (Client, Events, RawConnection) {
    let options = ConnectOptions::default().version(version).client_id("c");
    connected(options, PropsBuf::new()).await
}

async fn message(events: &mut Events) -> martlet_client::ReceivedMessage {
    match events.next().await {
        Some(Event::Message(message)) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

async fn end(events: &mut Events) -> Disconnected {
    match events.next().await {
        Some(Event::Disconnected(cause)) => {
            assert!(events.next().await.is_none(), "nothing follows the end");
            cause
        }
        other => panic!("expected the end, got {other:?}"),
    }
}

#[tokio::test]
async fn connect_says_what_was_asked_for() {
    let (near, far) = duplex(1 << 16);
    let mut server = RawConnection::over(far);
    let options = ConnectOptions::default()
        .client_id("me")
        .clean_start(false)
        .keep_alive_secs(7)
        .username("user")
        .password("secret")
        .will(
            WillMessage::new("will", "gone")
                .qos(QoS::AtLeastOnce)
                .retain(true)
                .props(PropsBuf::new().with(Property::WillDelay(5))),
        )
        .props(PropsBuf::new().with(Property::SessionExpiry(100)))
        .receive_maximum(10)
        .topic_alias_maximum(3)
        .max_packet_bytes(1000);
    let client = tokio::spawn(Client::connect_over(near, options));
    let packet = server.receive().await.unwrap();
    let Packet::Connect(connect) = packet.packet() else {
        panic!("{packet:?}");
    };
    let will = connect.will.expect("a will");
    assert_eq!((will.topic, will.payload), ("will", &b"gone"[..]));
    assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
    assert_eq!(will.props.will_delay_secs(), Some(5));
    let mut props = PropsBuf::new();
    props
        .push(Property::SessionExpiry(100))
        .push(Property::ReceiveMaximum(10))
        .push(Property::TopicAliasMaximum(3))
        .push(Property::MaximumPacketSize(1000));
    let expected = Connect {
        version: Version::V5,
        bridge: false,
        clean_start: false,
        keep_alive_secs: 7,
        props: props.as_props(),
        client_id: "me",
        will: Some(will),
        username: Some("user"),
        password: Some(b"secret"),
    };
    assert_eq!(connect, expected);

    let mut props = PropsBuf::new();
    props
        .push(Property::AssignedClientId("you"))
        .push(Property::ServerKeepAlive(9))
        .push(Property::ReceiveMaximum(5));
    let answer = Packet::ConnAck(ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        props: props.as_props(),
    });
    server.send(&answer).await.unwrap();
    let (client, _events) = client.await.unwrap().unwrap();
    assert!(client.server().session_present());
    assert_eq!(client.server().client_id(), "you");
    assert_eq!(client.server().keep_alive_secs(), 9);
    assert_eq!(client.server().inflight_max(), 5);
}

#[tokio::test]
async fn refusals_say_why() {
    let mut props = PropsBuf::new();
    props.push(Property::ReasonString("come back with a ticket"));
    for version in ALL_VERSIONS {
        let (near, far) = duplex(1 << 16);
        let mut server = RawConnection::over(far);
        let options = ConnectOptions::default().version(version).client_id("c");
        let client = tokio::spawn(Client::connect_over(near, options));
        server.receive().await.unwrap();
        let refusal = Packet::ConnAck(ConnAck {
            session_present: false,
            reason: ReasonCode::NotAuthorized,
            props: if version.is_v5() {
                props.as_props()
            } else {
                Props::EMPTY
            },
        });
        server.send(&refusal).await.unwrap();
        let error = client.await.unwrap().expect_err("refused");
        let said = match version {
            Version::V5 => ": come back with a ticket",
            _ => "",
        };
        assert_eq!(
            error.to_string(),
            format!(
                "the server refused the connection: {}{said}",
                ReasonCode::NotAuthorized
            )
        );
        let ConnectError::Refused { reason, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(reason, ReasonCode::NotAuthorized, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_do_not_answer_properly() {
    // what the server sends | whether it closes then | error
    for (bytes, closes, hint) in [
        (&b""[..], true, "closed the connection instead"),
        (b"", false, "no answer within 3 s"),
        (b"\x20", false, "no answer within 3 s"),
        (b"\xD0\x00", false, "PINGRESP instead of CONNACK"),
        (b"HTTP/1.1 400 Bad Request\r\n", true, "proper MQTT"),
        (b"\x20\x02\x00\x00", false, "proper MQTT"),
    ] {
        let (near, far) = duplex(1 << 16);
        let mut server = RawConnection::over(far);
        let options = ConnectOptions::default().connect_timeout(Duration::from_secs(3));
        let client = tokio::spawn(Client::connect_over(near, options));
        server.receive().await.unwrap();
        server.send_bytes(bytes).await.unwrap();
        if closes {
            server.shutdown().await.unwrap();
        }
        let error = client.await.unwrap().expect_err(hint).to_string();
        assert!(error.contains(hint), "{bytes:?}: {error}");
    }
    let (near, _far) = duplex(1 << 16);
    let options = ConnectOptions::default()
        .version(Version::V311)
        .username("x".repeat(70_000));
    let error = Client::connect_over(near, options)
        .await
        .expect_err("too long");
    assert!(error.to_string().starts_with("invalid options"), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let options = ConnectOptions::new(address.into());
    let error = Client::connect(options).await.expect_err("closed port");
    assert!(
        error.to_string().contains("nothing listens there"),
        "{error}"
    );
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

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

#[tokio::test]
async fn messages_arrive_and_are_acknowledged() {
    for version in ALL_VERSIONS {
        let (_client, mut events, mut server) = simple(version).await;
        for (qos, number) in [
            (QoS::AtMostOnce, 0),
            (QoS::AtLeastOnce, 7),
            (QoS::ExactlyOnce, 7),
        ] {
            let sent = publish("a/b", qos, number);
            server.send(&Packet::Publish(sent)).await.unwrap();
            let got = message(&mut events).await;
            assert_eq!((got.topic.as_str(), got.qos), ("a/b", qos));
            assert_eq!(got.payload, Bytes::from_static(b"payload"));
            assert!(!got.dup && !got.retain && got.props.is_empty());
            match qos {
                QoS::AtMostOnce => {}
                QoS::AtLeastOnce => server.expect(&ack(AckKind::PubAck, 7)).await.unwrap(),
                QoS::ExactlyOnce => {
                    server.expect(&ack(AckKind::PubRec, 7)).await.unwrap();
                    server.send(&ack(AckKind::PubRel, 7)).await.unwrap();
                    server.expect(&ack(AckKind::PubComp, 7)).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_qos2_message_is_delivered_once() {
    let (_client, mut events, mut server) = simple(Version::V5).await;
    let first = publish("first", QoS::ExactlyOnce, 3);
    server.send(&Packet::Publish(first)).await.unwrap();
    let again = Publish { dup: true, ..first };
    server.send(&Packet::Publish(again)).await.unwrap();
    server.expect(&ack(AckKind::PubRec, 3)).await.unwrap();
    server.expect(&ack(AckKind::PubRec, 3)).await.unwrap();
    server.send(&ack(AckKind::PubRel, 3)).await.unwrap();
    server.expect(&ack(AckKind::PubComp, 3)).await.unwrap();
    // Once released, the identifier stands for a new message.
    let second = publish("second", QoS::ExactlyOnce, 3);
    server.send(&Packet::Publish(second)).await.unwrap();
    assert_eq!(message(&mut events).await.topic, "first");
    assert_eq!(message(&mut events).await.topic, "second");
    server.expect(&ack(AckKind::PubRec, 3)).await.unwrap();
}

#[tokio::test]
async fn answers_to_what_is_unknown() {
    let unknown = ReasonCode::PacketIdentifierNotFound;
    for (version, reason) in [(Version::V311, ReasonCode::Success), (Version::V5, unknown)] {
        let (_client, _events, mut server) = simple(version).await;
        server.send(&ack(AckKind::PubRel, 9)).await.unwrap();
        server
            .expect(&ack_with(AckKind::PubComp, 9, reason))
            .await
            .unwrap();
        server.send(&ack(AckKind::PubRec, 9)).await.unwrap();
        server
            .expect(&ack_with(AckKind::PubRel, 9, reason))
            .await
            .unwrap();
        // These call for nothing.
        server.send(&ack(AckKind::PubAck, 9)).await.unwrap();
        server.send(&ack(AckKind::PubComp, 9)).await.unwrap();
        server.send(&ack(AckKind::PubRel, 10)).await.unwrap();
        server
            .expect(&ack_with(AckKind::PubComp, 10, reason))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn topic_aliases_are_resolved() {
    let options = ConnectOptions::default().topic_alias_maximum(2);
    let (_client, mut events, mut server) = connected(options, PropsBuf::new()).await;
    for (topic, alias, resolved) in [
        ("a", 1, "a"),
        ("", 1, "a"),
        ("b", 2, "b"),
        ("", 1, "a"),
        ("c", 1, "c"),
        ("", 1, "c"),
        ("", 2, "b"),
    ] {
        let mut props = PropsBuf::new();
        props
            .push(Property::UserProperty("k", "v"))
            .push(Property::TopicAlias(alias));
        let sent = Publish {
            topic,
            props: props.as_props(),
            ..publish("", QoS::AtMostOnce, 0)
        };
        server.send(&Packet::Publish(sent)).await.unwrap();
        let got = message(&mut events).await;
        assert_eq!(got.topic, resolved);
        let expected = PropsBuf::new().with(Property::UserProperty("k", "v"));
        assert_eq!(got.props, expected);
    }
}

#[tokio::test]
async fn broken_rules_of_the_server_are_told_and_end_the_connection() {
    let alias = |alias| PropsBuf::new().with(Property::TopicAlias(alias));
    let with = |topic, props: &PropsBuf| {
        let mut bytes = Vec::new();
        let sent = Publish {
            topic,
            props: props.as_props(),
            ..publish("", QoS::AtMostOnce, 0)
        };
        Packet::Publish(sent)
            .encode(Version::V5, &mut bytes)
            .unwrap();
        bytes
    };
    let qos2 = |number| {
        let mut bytes = Vec::new();
        let sent = publish("a", QoS::ExactlyOnce, number);
        Packet::Publish(sent)
            .encode(Version::V5, &mut bytes)
            .unwrap();
        bytes
    };
    for (bytes, reason) in [
        (with("a", &alias(3)), ReasonCode::TopicAliasInvalid),
        (with("", &alias(1)), ReasonCode::ProtocolError),
        (
            [qos2(1), qos2(2), qos2(3)].concat(),
            ReasonCode::ReceiveMaximumExceeded,
        ),
        (b"\xC0\x00".to_vec(), ReasonCode::ProtocolError),
        (b"\xF0\x02\x18\x00".to_vec(), ReasonCode::ProtocolError),
        (b"\x30\x00".to_vec(), ReasonCode::MalformedPacket),
        (b"\x30\xFF\xFF\x7F".to_vec(), ReasonCode::PacketTooLarge),
    ] {
        let options = ConnectOptions::default()
            .topic_alias_maximum(2)
            .receive_maximum(2)
            .max_packet_bytes(1000);
        let (client, mut events, mut server) = connected(options, PropsBuf::new()).await;
        server.send_bytes(&bytes).await.unwrap();
        let told = loop {
            let packet = server.receive().await.unwrap();
            if let Packet::Disconnect(disconnect) = packet.packet() {
                break disconnect.reason;
            }
        };
        assert_eq!(told, reason, "{bytes:02x?}");
        server.expect_eof().await.unwrap();
        drop(server);
        let cause = loop {
            match events.next().await {
                Some(Event::Message(_)) => {}
                Some(Event::Disconnected(cause)) => break cause,
                None => panic!("no cause"),
            }
        };
        assert!(
            matches!(
                cause,
                Disconnected::Protocol { .. } | Disconnected::Decode(_)
            ),
            "{cause:?}"
        );
        let error = client.publish(PublishRequest::new("a", "")).await;
        assert!(matches!(error, Err(Error::Disconnected(_))), "{error:?}");
    }
}

#[tokio::test]
async fn the_servers_goodbye_reaches_everybody() {
    let (client, mut events, mut server) = simple(Version::V5).await;
    let request = PublishRequest::new("a", "").qos(QoS::AtLeastOnce);
    let waiting = client.publish(request);
    let serve = async {
        server.receive().await.unwrap();
        let mut props = PropsBuf::new();
        props
            .push(Property::ReasonString("maintenance"))
            .push(Property::ServerReference("other:1883"));
        let goodbye = Packet::Disconnect(Disconnect {
            reason: ReasonCode::ServerMoved,
            props: props.as_props(),
        });
        server.send(&goodbye).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(waiting, serve);
    for cause in [
        match outcome {
            Err(Error::Disconnected(cause)) => cause,
            other => panic!("{other:?}"),
        },
        end(&mut events).await,
    ] {
        let Disconnected::Server {
            reason,
            reason_string,
            server_reference,
        } = &cause
        else {
            panic!("{cause:?}");
        };
        assert_eq!(*reason, ReasonCode::ServerMoved);
        assert_eq!(reason_string.as_deref(), Some("maintenance"));
        assert_eq!(server_reference.as_deref(), Some("other:1883"));
    }
}

#[tokio::test]
async fn a_silent_close_by_the_server() {
    let (client, mut events, server) = simple(Version::V311).await;
    drop(server);
    assert!(matches!(end(&mut events).await, Disconnected::Closed));
    let error = client.disconnect(ReasonCode::Success).await;
    assert!(
        matches!(error, Err(Error::Disconnected(Disconnected::Closed))),
        "{error:?}"
    );
}

#[tokio::test]
async fn saying_goodbye() {
    for (version, reason, said) in [
        (Version::V311, ReasonCode::Success, true),
        (Version::V311, ReasonCode::DisconnectWithWill, false),
        (Version::V5, ReasonCode::Success, true),
        (Version::V5, ReasonCode::DisconnectWithWill, true),
    ] {
        let (client, mut events, mut server) = simple(version).await;
        client
            .publish(PublishRequest::new("a", "payload"))
            .await
            .unwrap();
        let serve = async {
            let before = publish("a", QoS::AtMostOnce, 0);
            server.expect(&Packet::Publish(before)).await.unwrap();
            if said {
                let goodbye = Packet::Disconnect(Disconnect::new(reason));
                server.expect(&goodbye).await.unwrap();
            }
            server.expect_eof().await.unwrap();
            drop(server);
        };
        let (done, ()) = tokio::join!(client.disconnect(reason), serve);
        done.unwrap();
        assert!(matches!(end(&mut events).await, Disconnected::Local));
    }
}

#[tokio::test]
async fn dropping_everything_says_goodbye_and_aborting_does_not() {
    let (client, events, mut server) = simple(Version::V5).await;
    drop(client);
    // As long as somebody listens, the connection goes on.
    let sent = publish("a", QoS::AtLeastOnce, 1);
    server.send(&Packet::Publish(sent)).await.unwrap();
    server.expect(&ack(AckKind::PubAck, 1)).await.unwrap();
    drop(events);
    let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
    server.expect(&goodbye).await.unwrap();
    server.expect_eof().await.unwrap();

    let (client, mut events, mut server) = simple(Version::V5).await;
    client.abort().await;
    server.expect_eof().await.unwrap();
    assert!(matches!(end(&mut events).await, Disconnected::Local));
}

#[tokio::test]
async fn without_listeners_messages_are_still_acknowledged() {
    let (client, events, mut server) = simple(Version::V5).await;
    drop(events);
    for number in 1..=1000 {
        let sent = publish("a", QoS::AtLeastOnce, number);
        server.send(&Packet::Publish(sent)).await.unwrap();
        server.expect(&ack(AckKind::PubAck, number)).await.unwrap();
    }
    client.publish(PublishRequest::new("a", "")).await.unwrap();
}

#[tokio::test]
async fn a_full_event_queue_stops_reading_and_nothing_is_lost() {
    let options = ConnectOptions::default().event_queue_max(3);
    let (client, mut events, mut server) = connected(options, PropsBuf::new()).await;
    let send = tokio::spawn(async move {
        for number in 1..=100 {
            let sent = publish("a", QoS::AtLeastOnce, number);
            server.send(&Packet::Publish(sent)).await.unwrap();
        }
        server
    });
    let mut server = send.await.unwrap();
    // Sending still works meanwhile.
    client
        .publish(PublishRequest::new("out", ""))
        .await
        .unwrap();
    let mut acknowledged = 0;
    loop {
        let packet = server.receive().await.unwrap();
        match packet.packet() {
            Packet::Ack(_) => acknowledged += 1,
            Packet::Publish(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged <= 4, "three in the queue, one in hand");
    for _ in 1..=100 {
        message(&mut events).await;
    }
    for number in acknowledged + 1..=100 {
        server.expect(&ack(AckKind::PubAck, number)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alive_pings_and_gives_up() {
    let options = ConnectOptions::default().keep_alive_secs(4);
    let (_client, mut events, server) = connected(options, PropsBuf::new()).await;
    let mut server = server.limit(Duration::from_mins(1));
    for _ in 0..3 {
        server.expect(&Packet::PingReq).await.unwrap();
        server.send(&Packet::PingResp).await.unwrap();
    }
    server.expect(&Packet::PingReq).await.unwrap();
    let goodbye = Packet::Disconnect(Disconnect::new(ReasonCode::KeepAliveTimeout));
    server.expect(&goodbye).await.unwrap();
    server.expect_eof().await.unwrap();
    drop(server);
    assert!(matches!(end(&mut events).await, Disconnected::KeepAlive(4)));
}

#[tokio::test(start_paused = true)]
async fn no_keep_alive_no_pings() {
    let props = PropsBuf::new().with(Property::ServerKeepAlive(0));
    let options = ConnectOptions::default().keep_alive_secs(4);
    let (_client, _events, server) = connected(options, props).await;
    let mut server = server.limit(Duration::from_hours(1));
    let silence = server.receive().await.expect_err("nothing to say");
    assert!(matches!(silence, RawError::Timeout(_)), "{silence:?}");
}

#[tokio::test]
async fn large_messages_both_ways() {
    let (client, mut events, mut server) = simple(Version::V5).await;
    let payload: Bytes = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = Packet::Publish(Publish {
        payload: &payload,
        ..publish("a", QoS::AtLeastOnce, 1)
    });
    let (sent, got) = tokio::join!(server.send(&sent), message(&mut events));
    sent.unwrap();
    assert!(got.payload == payload);
    server.expect(&ack(AckKind::PubAck, 1)).await.unwrap();
    let (outcome, packet) = tokio::join!(
        client.publish(PublishRequest::new("b", payload.clone())),
        server.receive()
    );
    outcome.unwrap();
    let packet = packet.unwrap();
    assert!(matches!(packet.packet(), Packet::Publish(publish) if publish.payload == payload));
}
