//! The beginning and the end of a connection.

use crate::support::{ALL_VERSIONS, ack, connected, end, publish, simple};
use martlet_client::codec::{
    AckKind, ConnAck, Connect, Disconnect, Packet, Property, Props, PropsBuf, QoS, ReasonCode,
    Version,
};
use martlet_client::{
    Client, ConnectError, ConnectOptions, Disconnected, Error, PublishRequest, RawConnection,
    RawError, WillMessage,
};
use std::time::Duration;
use tokio::io::duplex;

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
        (b"HTTP/1.1 400 Bad Request\r\n", true, "ws:// address"),
        (b"\x02HTTP/1.1", true, "proper MQTT"),
        (b"\x15\x03\x03\x00\x02\x02\x32", true, "tls:// address"),
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
