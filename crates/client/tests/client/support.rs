//! A server that a test plays by hand, and the packets it says.

use martlet_client::codec::{
    Ack, AckKind, ConnAck, Packet, PacketId, Props, PropsBuf, Publish, QoS, ReasonCode, Version,
};
use martlet_client::{
    Client, ConnectOptions, Disconnected, Event, Events, RawConnection, ReceivedMessage,
};
use tokio::io::duplex;

pub(crate) const ALL_VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

pub(crate) fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

pub(crate) fn ack(kind: AckKind, number: u16) -> Packet<'static> {
    Packet::Ack(Ack::new(kind, id(number)))
}

pub(crate) fn ack_with(kind: AckKind, number: u16, reason: ReasonCode) -> Packet<'static> {
    Packet::Ack(Ack {
        reason,
        ..Ack::new(kind, id(number))
    })
}

pub(crate) fn accept(props: &PropsBuf) -> Packet<'_> {
    Packet::ConnAck(ConnAck {
        session_present: false,
        reason: ReasonCode::Success,
        props: props.as_props(),
    })
}

pub(crate) fn publish(topic: &'static str, qos: QoS, number: u16) -> Publish<'static> {
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
pub(crate) async fn connected(
    options: ConnectOptions,
    props: PropsBuf,
) -> (Client, Events, RawConnection) {
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

pub(crate) async fn simple(version: Version) -> (Client, Events, RawConnection) {
    let options = ConnectOptions::default().version(version).client_id("c");
    connected(options, PropsBuf::new()).await
}

pub(crate) async fn message(events: &mut Events) -> ReceivedMessage {
    match events.next().await {
        Some(Event::Message(message)) => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

pub(crate) async fn end(events: &mut Events) -> Disconnected {
    match events.next().await {
        Some(Event::Disconnected(cause)) => {
            assert!(events.next().await.is_none(), "nothing follows the end");
            cause
        }
        other => panic!("expected the end, got {other:?}"),
    }
}
