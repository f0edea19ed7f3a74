//! A broker on in-memory streams, and packets in a word or two.

use std::sync::Arc;

use martlet_broker::{Broker, Builder, config::Config};
use martlet_client::RawConnection;
use martlet_codec::{
    Ack, AckKind, ConnAck, Connect, Packet, PacketBuf, PacketId, Props, Publish, QoS, ReasonCode,
    ReasonCodes, RetainHandling, SubAck, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Version,
};
use martlet_storage::ManualCommitter;

/// Large enough that no test fills it by accident.
const PIPE_BYTES: usize = 1 << 20;

pub(crate) fn quiet() -> Config {
    let mut config = Config::default();
    config.sys.interval = std::time::Duration::ZERO;
    config
}

pub(crate) fn builder() -> Builder {
    Broker::builder().config(quiet()).seed(7)
}

/// A broker whose batches are committed when the test says so.
pub(crate) fn with_store() -> (Broker, Arc<ManualCommitter>) {
    let committer = Arc::new(ManualCommitter::default());
    let broker = builder()
        .committer(committer.clone())
        .start()
        .expect("sound settings");
    (broker, committer)
}

pub(crate) fn open(broker: &Broker, version: Version) -> RawConnection {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    broker.attach(theirs, "test");
    RawConnection::over(ours).version(version)
}

pub(crate) fn connect_packet(client_id: &str, version: Version, clean_start: bool) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    }
}

pub(crate) async fn send(client: &mut RawConnection, packet: Packet<'_>) {
    client.send(&packet).await.expect("the broker reads");
}

/// Connects with MQTT 3.1.1; the session stays when `clean` is false.
pub(crate) async fn connected(broker: &Broker, client_id: &str, clean: bool) -> RawConnection {
    let mut client = open(broker, Version::V311);
    send(
        &mut client,
        Packet::Connect(connect_packet(client_id, Version::V311, clean)),
    )
    .await;
    expect_connack(&mut client, false).await;
    client
}

pub(crate) async fn expect_connack(client: &mut RawConnection, session_present: bool) {
    let connack = ConnAck {
        session_present,
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    };
    client
        .expect(&Packet::ConnAck(connack))
        .await
        .expect("CONNACK");
}

pub(crate) fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

pub(crate) async fn send_subscribe(
    client: &mut RawConnection,
    packet_id: u16,
    filter: &str,
    qos: QoS,
) {
    let mut filters = SubscribeFiltersBuf::new();
    let options = SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAlways,
    };
    filters.push(filter, options).expect("a short filter");
    let filters = filters.as_filters();
    send(
        client,
        Packet::Subscribe(Subscribe {
            id: id(packet_id),
            props: Props::EMPTY,
            filters,
        }),
    )
    .await;
}

pub(crate) async fn expect_suback(client: &mut RawConnection, packet_id: u16, qos: QoS) {
    let codes = [qos as u8];
    let codes = ReasonCodes::new(&codes).expect("a QoS is a reason code");
    client
        .expect(&Packet::SubAck(SubAck {
            id: id(packet_id),
            props: Props::EMPTY,
            codes,
        }))
        .await
        .expect("SUBACK");
}

pub(crate) async fn subscribed(client: &mut RawConnection, filter: &str, qos: QoS) {
    send_subscribe(client, 1, filter, qos).await;
    expect_suback(client, 1, qos).await;
}

pub(crate) fn publish<'a>(
    topic: &'a str,
    payload: &'a str,
    qos: QoS,
    packet_id: u16,
) -> Packet<'a> {
    let id = if qos == QoS::AtMostOnce {
        None
    } else {
        PacketId::new(packet_id)
    };
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        id,
        props: Props::EMPTY,
        payload: payload.as_bytes(),
    })
}

pub(crate) fn ack(kind: AckKind, packet_id: u16) -> Packet<'static> {
    Packet::Ack(Ack {
        kind,
        id: id(packet_id),
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    })
}

pub(crate) async fn expect_ack(client: &mut RawConnection, kind: AckKind, packet_id: u16) {
    client
        .expect(&ack(kind, packet_id))
        .await
        .expect("an acknowledgement");
}

/// The payload of the next packet, which must be a PUBLISH.
pub(crate) async fn payload(client: &mut RawConnection) -> String {
    let packet: PacketBuf = client.receive().await.expect("a packet");
    match packet.packet() {
        Packet::Publish(publish) => String::from_utf8_lossy(publish.payload).into_owned(),
        other => panic!("expected PUBLISH, got {other:?}"),
    }
}

/// The broker has nothing more for this client: what PINGREQ brings next is its answer.
pub(crate) async fn expect_silence(client: &mut RawConnection) {
    send(client, Packet::PingReq).await;
    client
        .expect(&Packet::PingResp)
        .await
        .expect("nothing but the answer to PINGREQ");
}
