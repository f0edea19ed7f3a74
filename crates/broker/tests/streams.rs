//! A client with several byte streams: what goes where, in which order, and what happens when one of them ends or
//! stalls. Over streams in memory, where bytes move only when somebody moves them, and over QUIC.

#[path = "../../transport/tests/common/certs.rs"]
#[expect(dead_code, unreachable_pub, reason = "its other users need the rest")]
mod certs;

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use certs::Certs;
use martlet_broker::{
    Broker,
    config::{Config, ListenerPolicy},
    hooks::{Authenticator, Authorizer, ConnectRequest, Decision, Identity, Refusal},
};
use martlet_client::RawConnection;
use martlet_codec::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketBuf, PacketId, Props, Publish, QoS,
    ReasonCode, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Unsubscribe,
    UnsubscribeFiltersBuf, Version,
};
use martlet_transport::{QuicHandle, Stream, StreamSource, connect};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Longest wait for anything. Never a measure: a test that needs it has failed.
const DEADLINE: Duration = Duration::from_mins(1);

/// What a stream in memory holds.
const HELD_BYTES: usize = 4 << 10;

/// Streams in memory, as they are handed in.
struct Incoming(UnboundedReceiver<DuplexStream>);

impl StreamSource<DuplexStream> for Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<DuplexStream>> {
        self.0.poll_recv(cx)
    }
}

/// How a client gets further streams.
enum Opener {
    Memory(UnboundedSender<DuplexStream>),
    Quic(QuicHandle),
}

/// A client with its control stream.
struct Client {
    control: RawConnection,
    opener: Opener,
}

impl Client {
    /// A further stream.
    async fn open(&self) -> RawConnection {
        let connection = match &self.opener {
            Opener::Memory(sender) => {
                let (own, broker) = duplex(HELD_BYTES);
                sender.send(broker).expect("connected");
                RawConnection::over(own)
            }
            Opener::Quic(opener) => RawConnection::over(opener.open().await.expect("allowed")),
        };
        connection.version(Version::V5).limit(DEADLINE)
    }

    async fn connect(&mut self, client_id: &str, clean_start: bool) {
        self.connect_for(client_id, clean_start, 0).await;
    }

    async fn connect_for(&mut self, client_id: &str, clean_start: bool, keep_alive_secs: u16) {
        let mut props = martlet_codec::PropsBuf::new();
        props.push(martlet_codec::Property::SessionExpiry(100));
        let hello = Packet::Connect(Connect {
            version: Version::V5,
            bridge: false,
            clean_start,
            keep_alive_secs,
            props: props.as_props(),
            client_id,
            will: None,
            username: None,
            password: None,
        });
        self.control.send(&hello).await.expect("taken");
        let answer = self.control.receive().await.expect("an answer");
        let Packet::ConnAck(connack) = answer.packet() else {
            panic!("{answer:?}");
        };
        assert_eq!(connack.reason, ReasonCode::Success);
    }
}

/// A broker and a way to it.
struct Ground {
    broker: Broker,
    certs: Option<Certs>,
    url: String,
}

impl Ground {
    fn in_memory(config: Config) -> Self {
        Self {
            broker: Broker::builder().config(config).start().expect("settings"),
            certs: None,
            url: String::new(),
        }
    }

    async fn over_quic(config: Config) -> Self {
        let mut ground = Self::in_memory(config);
        let certs = Certs::new();
        let address = "quic://127.0.0.1:0".parse().expect("an address");
        let options = certs.listener_options();
        let open = ground
            .broker
            .listen_with("quic", &address, &options, ListenerPolicy::default());
        let port = open.await.expect("listening").local_addr.port();
        ground.url = format!("quic://127.0.0.1:{port}");
        ground.certs = Some(certs);
        ground
    }

    async fn stranger(&self) -> Client {
        let Some(certs) = &self.certs else {
            let (own, broker) = duplex(HELD_BYTES);
            let (sender, receiver) = unbounded_channel();
            let source = Box::new(Incoming(receiver));
            self.broker.attach_streams(broker, source, "memory");
            return Client {
                control: RawConnection::over(own).limit(DEADLINE),
                opener: Opener::Memory(sender),
            };
        };
        let address = self.url.parse().expect("an address");
        let stream = connect(&address, &certs.connect_options()).await;
        let stream = stream.expect("reachable");
        let Stream::Quic(quic) = &stream else {
            panic!("not QUIC");
        };
        Client {
            opener: Opener::Quic(quic.handle()),
            control: RawConnection::over(stream).limit(DEADLINE),
        }
    }

    async fn client(&self, client_id: &str) -> Client {
        let mut client = self.stranger().await;
        client.connect(client_id, true).await;
        client
    }
}

/// Runs `act` over streams in memory, then over QUIC.
#[expect(
    clippy::needless_pass_by_value,
    reason = "what is done reads best as the last argument of the call"
)]
fn both(config: &Config, act: impl AsyncFn(&Ground)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        act(&Ground::in_memory(config.clone())).await;
        act(&Ground::over_quic(config.clone()).await).await;
    });
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

fn message<'a>(topic: &'a str, payload: &'a [u8], qos: QoS, packet_id: u16) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        id: PacketId::new(packet_id),
        props: Props::EMPTY,
        payload,
    })
}

fn ack(kind: AckKind, packet_id: u16) -> Packet<'static> {
    Packet::Ack(Ack {
        kind,
        id: id(packet_id),
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    })
}

/// PUBACK or PUBREC of a message that nobody subscribed to.
fn unheard(kind: AckKind, packet_id: u16) -> Packet<'static> {
    Packet::Ack(Ack {
        kind,
        id: id(packet_id),
        reason: ReasonCode::NoMatchingSubscribers,
        props: Props::EMPTY,
    })
}

async fn send(connection: &mut RawConnection, packet: Packet<'_>) {
    connection.send(&packet).await.expect("taken");
}

async fn expect(connection: &mut RawConnection, packet: Packet<'_>) {
    connection.expect(&packet).await.expect("as expected");
}

async fn subscribe(connection: &mut RawConnection, filter: &str, qos: QoS) {
    let mut filters = SubscribeFiltersBuf::new();
    let options = SubscribeOptions {
        qos,
        ..SubscribeOptions::default()
    };
    filters.push(filter, options).expect("short");
    let packet = Packet::Subscribe(Subscribe {
        id: id(9),
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    send(connection, packet).await;
    let answer = connection.receive().await.expect("SUBACK");
    assert!(matches!(answer.packet(), Packet::SubAck(_)), "{answer:?}");
}

/// The next packet, which is a PUBLISH: its topic, payload and identifier.
async fn publication(connection: &mut RawConnection) -> (String, Vec<u8>, u16) {
    let packet: PacketBuf = connection.receive().await.expect("a message");
    let Packet::Publish(publish) = packet.packet() else {
        panic!("{packet:?}");
    };
    let packet_id = publish.id.map_or(0, PacketId::get);
    (
        publish.topic.to_owned(),
        publish.payload.to_vec(),
        packet_id,
    )
}

async fn delivers(connection: &mut RawConnection, topic: &str, payload: &[u8]) -> u16 {
    let (got, bytes, packet_id) = publication(connection).await;
    assert_eq!((got.as_str(), bytes.as_slice()), (topic, payload));
    packet_id
}

#[test]
fn answers_leave_on_the_stream_of_what_they_answer() {
    both(&Config::default(), async |ground| {
        let mut client = ground.client("a").await;
        let (mut one, mut two) = (client.open().await, client.open().await);
        for packet_id in 1..=20 {
            send(&mut one, message("t", b"1", QoS::AtLeastOnce, packet_id)).await;
            send(
                &mut two,
                message("t", b"2", QoS::ExactlyOnce, packet_id + 100),
            )
            .await;
        }
        for packet_id in 1..=20 {
            expect(&mut one, unheard(AckKind::PubAck, packet_id)).await;
            expect(&mut two, unheard(AckKind::PubRec, packet_id + 100)).await;
        }
        // PUBREL may come on any stream, and is answered there.
        send(&mut two, ack(AckKind::PubRel, 101)).await;
        expect(&mut two, ack(AckKind::PubComp, 101)).await;
        send(&mut client.control, ack(AckKind::PubRel, 102)).await;
        expect(&mut client.control, ack(AckKind::PubComp, 102)).await;
        subscribe(&mut one, "a", QoS::AtMostOnce).await;
        let mut filters = UnsubscribeFiltersBuf::new();
        filters.push("a").expect("short");
        let packet = Packet::Unsubscribe(Unsubscribe {
            id: id(3),
            props: Props::EMPTY,
            filters: filters.as_filters(),
        });
        send(&mut two, packet).await;
        let answer = two.receive().await.expect("UNSUBACK");
        assert!(matches!(answer.packet(), Packet::UnsubAck(_)));
        client.control.expect_nothing().await.expect("quiet");
    });
}

#[test]
fn messages_go_out_on_the_stream_that_subscribed() {
    both(&Config::default(), async |ground| {
        let mut client = ground.client("subscriber").await;
        let (mut one, mut two) = (client.open().await, client.open().await);
        subscribe(&mut client.control, "control/#", QoS::ExactlyOnce).await;
        subscribe(&mut one, "one/#", QoS::ExactlyOnce).await;
        subscribe(&mut two, "$share/group/two/+", QoS::ExactlyOnce).await;
        let mut publisher = ground.client("publisher").await;
        let large = vec![b'x'; 5_000];
        for round in 0..3_u16 {
            for (topic, payload) in [
                ("one/a", b"a".as_slice()),
                ("control/a", b"b"),
                ("two/a", &large),
            ] {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    let packet_id = if qos == QoS::AtMostOnce { 0 } else { round + 1 };
                    send(
                        &mut publisher.control,
                        message(topic, payload, qos, packet_id),
                    )
                    .await;
                    let to = match topic {
                        "one/a" => &mut one,
                        "two/a" => &mut two,
                        _ => &mut client.control,
                    };
                    let packet_id = delivers(to, topic, payload).await;
                    if qos == QoS::AtLeastOnce {
                        send(to, ack(AckKind::PubAck, packet_id)).await;
                    }
                    if qos == QoS::ExactlyOnce {
                        send(to, ack(AckKind::PubRec, packet_id)).await;
                        expect(to, ack(AckKind::PubRel, packet_id)).await;
                        send(to, ack(AckKind::PubComp, packet_id)).await;
                        publisher.control.receive().await.expect("PUBACK");
                        publisher.control.receive().await.expect("PUBREC");
                        let release = ack(AckKind::PubRel, round + 1);
                        send(&mut publisher.control, release).await;
                        publisher.control.receive().await.expect("PUBCOMP");
                    }
                }
            }
        }
        // PUBREL leaves on the stream of the PUBLISH, wherever PUBREC came.
        send(
            &mut publisher.control,
            message("one/a", b"z", QoS::ExactlyOnce, 9),
        )
        .await;
        let packet_id = delivers(&mut one, "one/a", b"z").await;
        send(&mut client.control, ack(AckKind::PubRec, packet_id)).await;
        expect(&mut one, ack(AckKind::PubRel, packet_id)).await;
        client.control.expect_nothing().await.expect("quiet");
    });
}

#[test]
fn a_retained_message_follows_suback_on_its_stream() {
    both(&Config::default(), async |ground| {
        let mut client = ground.client("a").await;
        let mut one = client.open().await;
        let Packet::Publish(retained) = message("kept", b"k", QoS::AtLeastOnce, 1) else {
            unreachable!();
        };
        let retained = Packet::Publish(Publish {
            retain: true,
            ..retained
        });
        send(&mut one, retained).await;
        one.receive().await.expect("PUBACK");
        subscribe(&mut one, "kept", QoS::AtMostOnce).await;
        delivers(&mut one, "kept", b"k").await;
        // Subscribed to again on the control stream, the topic moves there.
        subscribe(&mut client.control, "kept", QoS::AtMostOnce).await;
        delivers(&mut client.control, "kept", b"k").await;
    });
}

#[test]
fn what_belongs_on_the_control_stream_ends_the_connection_elsewhere() {
    let connect = Packet::Connect(Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive_secs: 0,
        props: Props::EMPTY,
        client_id: "b",
        will: None,
        username: None,
        password: None,
    });
    let disconnect = Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    });
    for (packet, reason) in [
        (connect, ReasonCode::ProtocolError),
        (disconnect, ReasonCode::ProtocolError),
        (Packet::PingReq, ReasonCode::ProtocolError),
        (Packet::PingResp, ReasonCode::ProtocolError),
    ] {
        both(&Config::default(), async |ground| {
            let mut client = ground.client("a").await;
            let mut one = client.open().await;
            // What stands before it counts, and its answer may still arrive.
            send(&mut one, message("t", b"", QoS::AtLeastOnce, 1)).await;
            send(&mut one, packet).await;
            let last = client.control.receive().await.expect("DISCONNECT");
            let Packet::Disconnect(told) = last.packet() else {
                panic!("{packet:?}: {last:?}");
            };
            assert_eq!(told.reason, reason, "{packet:?}");
            client.control.expect_eof().await.expect("closed");
        });
    }
    both(&Config::default(), async |ground| {
        let mut client = ground.client("a").await;
        let mut one = client.open().await;
        // AUTH, and nonsense.
        for bytes in [b"\xF0\x00".as_slice(), b"\x00\x00", b"\x36\x00"] {
            one.send_bytes(bytes).await.expect("taken");
            let last = client.control.receive().await.expect("DISCONNECT");
            assert!(matches!(last.packet(), Packet::Disconnect(_)), "{last:?}");
            client = ground.client("a").await;
            one = client.open().await;
        }
    });
}

#[test]
fn a_data_stream_is_not_read_before_connack() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let ground = Ground::in_memory(Config::default());
        let mut witness = ground.client("witness").await;
        subscribe(&mut witness.control, "#", QoS::AtMostOnce).await;
        let mut client = ground.stranger().await;
        let mut early = client.open().await;
        send(&mut early, message("early", b"", QoS::AtLeastOnce, 1)).await;
        witness.control.expect_nothing().await.expect("quiet");
        client.connect("late", true).await;
        expect(&mut early, ack(AckKind::PubAck, 1)).await;
        delivers(&mut witness.control, "early", b"").await;
        // Whoever is refused was never read.
        let mut refused = ground.stranger().await;
        let mut early = refused.open().await;
        send(&mut early, message("never", b"", QoS::AtLeastOnce, 1)).await;
        refused
            .control
            .send_bytes(b"\xC0\x00")
            .await
            .expect("taken");
        refused.control.expect_eof().await.expect("closed");
        witness.control.expect_nothing().await.expect("quiet");
    });
}

#[test]
fn a_stream_that_is_not_read_holds_up_no_other() {
    let mut config = Config::default();
    config.limits.inflight_max = 50;
    both(&config, async |ground| {
        let mut client = ground.client("subscriber").await;
        let (mut stuck, mut other) = (client.open().await, client.open().await);
        subscribe(&mut stuck, "stuck", QoS::AtLeastOnce).await;
        subscribe(&mut other, "other", QoS::AtLeastOnce).await;
        subscribe(&mut client.control, "control", QoS::AtLeastOnce).await;
        let mut publisher = ground.client("publisher").await;
        let large = vec![b'x'; 60_000];
        // More than the streams and QUIC's windows hold, less than the window of messages.
        for _ in 0..40 {
            send(
                &mut publisher.control,
                message("stuck", &large, QoS::AtLeastOnce, 1),
            )
            .await;
            publisher.control.receive().await.expect("PUBACK");
        }
        for round in 0..100_u8 {
            for (topic, to) in [("other", &mut other), ("control", &mut client.control)] {
                let payload = [round];
                let packet = message(topic, &payload, QoS::AtLeastOnce, 2);
                publisher.control.send(&packet).await.expect("taken");
                publisher.control.receive().await.expect("PUBACK");
                let packet_id = delivers(to, topic, &[round]).await;
                send(to, ack(AckKind::PubAck, packet_id)).await;
            }
        }
        for _ in 0..40 {
            let (topic, _, packet_id) = publication(&mut stuck).await;
            assert_eq!(topic, "stuck");
            send(&mut stuck, ack(AckKind::PubAck, packet_id)).await;
        }
        client.control.expect_nothing().await.expect("quiet");
    });
}

#[test]
fn a_stream_that_is_not_read_is_not_heard_either_and_the_others_are() {
    both(&Config::default(), async |ground| {
        let mut client = ground.client("a").await;
        let (mut stuck, mut other) = (client.open().await, client.open().await);
        // Answers that nobody reads: the broker stops reading here.
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            let _ = message("t", b"", QoS::AtLeastOnce, 7).encode(Version::V5, &mut bytes);
        }
        let flood = async { while stuck.send_bytes(&bytes).await.is_ok() {} };
        let work = async {
            for packet_id in 1..500 {
                send(&mut other, message("t", b"", QoS::AtLeastOnce, packet_id)).await;
                expect(&mut other, unheard(AckKind::PubAck, packet_id)).await;
                client.control.expect_nothing().await.expect("alive");
            }
        };
        tokio::select! {
            () = flood => panic!("the stream ended"),
            () = work => {}
        }
    });
}

#[test]
fn a_subscription_outlives_its_stream_on_the_control_stream() {
    both(&Config::default(), async |ground| {
        let mut client = ground.client("subscriber").await;
        let mut publisher = ground.client("publisher").await;
        for finished in [true, false] {
            let mut one = client.open().await;
            subscribe(&mut one, "a", QoS::ExactlyOnce).await;
            send(
                &mut publisher.control,
                message("a", b"1", QoS::ExactlyOnce, 1),
            )
            .await;
            publisher.control.receive().await.expect("PUBREC");
            let packet_id = delivers(&mut one, "a", b"1").await;
            if finished {
                one.shutdown().await.expect("open");
                one.expect_eof()
                    .await
                    .expect("the broker ends its side too");
            }
            drop(one);
            // Until the broker has noticed, some may be lost with the stream.
            let mut moved = None;
            while moved.is_none() {
                send(
                    &mut publisher.control,
                    message("a", b"?", QoS::AtMostOnce, 0),
                )
                .await;
                client.control = client.control.limit(Duration::from_millis(10));
                moved = client.control.receive().await.ok();
            }
            client.control = client.control.limit(DEADLINE);
            // Its exchange goes on here, and so do its topics.
            send(&mut client.control, ack(AckKind::PubRec, packet_id)).await;
            let mut release = client.control.receive().await.expect("PUBREL");
            while matches!(release.packet(), Packet::Publish(probe) if probe.payload == b"?") {
                release = client.control.receive().await.expect("PUBREL");
            }
            assert_eq!(release.packet(), ack(AckKind::PubRel, packet_id));
            send(&mut client.control, ack(AckKind::PubComp, packet_id)).await;
            send(&mut publisher.control, ack(AckKind::PubRel, 1)).await;
            publisher.control.receive().await.expect("PUBCOMP");
            send(
                &mut publisher.control,
                message("a", b"2", QoS::AtMostOnce, 0),
            )
            .await;
            delivers(&mut client.control, "a", b"2").await;
        }
    });
}

#[test]
fn there_are_as_many_streams_as_the_settings_say_and_places_are_used_again() {
    let mut config = Config::default();
    config.limits.data_streams_max = 2;
    both(&config, async |ground| {
        let client = ground.client("a").await;
        for packet_id in 1..200 {
            let mut one = client.open().await;
            send(&mut one, message("t", b"", QoS::AtLeastOnce, packet_id)).await;
            expect(&mut one, unheard(AckKind::PubAck, packet_id)).await;
            one.shutdown().await.expect("open");
            one.expect_eof().await.expect("ended");
        }
        if let Opener::Quic(opener) = &client.opener {
            let (_one, _two) = (client.open().await, client.open().await);
            let third = tokio::time::timeout(Duration::from_millis(50), opener.open()).await;
            assert!(third.is_err(), "a third stream");
        }
    });
    config.limits.data_streams_max = 0;
    both(&config, async |ground| {
        let client = ground.client("a").await;
        if let Opener::Quic(opener) = &client.opener {
            let one = tokio::time::timeout(Duration::from_millis(50), opener.open()).await;
            assert!(one.is_err(), "a data stream");
        }
    });
}

#[test]
fn a_resumed_session_begins_on_the_control_stream() {
    both(&Config::default(), async |ground| {
        let client = ground.client("subscriber").await;
        let mut one = client.open().await;
        subscribe(&mut one, "a", QoS::AtLeastOnce).await;
        let mut publisher = ground.client("publisher").await;
        send(
            &mut publisher.control,
            message("a", b"1", QoS::AtLeastOnce, 1),
        )
        .await;
        publisher.control.receive().await.expect("PUBACK");
        let packet_id = delivers(&mut one, "a", b"1").await;
        drop((client, one));
        let mut client = ground.stranger().await;
        client.connect("subscriber", false).await;
        assert_eq!(delivers(&mut client.control, "a", b"1").await, packet_id);
        send(&mut client.control, ack(AckKind::PubAck, packet_id)).await;
        client.control.expect_nothing().await.expect("quiet");
    });
}

#[test]
fn keep_alive_is_the_clients_whichever_stream_it_uses() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let ground = Ground::over_quic(Config::default()).await;
        let mut client = ground.stranger().await;
        client.connect_for("a", true, 10).await;
        let mut one = client.open().await;
        for packet_id in 1..10 {
            tokio::time::sleep(Duration::from_secs(12)).await;
            send(&mut one, message("t", b"", QoS::AtLeastOnce, packet_id)).await;
            expect(&mut one, unheard(AckKind::PubAck, packet_id)).await;
        }
        let last = client.control.receive().await.expect("DISCONNECT");
        let Packet::Disconnect(told) = last.packet() else {
            panic!("{last:?}");
        };
        assert_eq!(told.reason, ReasonCode::KeepAliveTimeout);
        client.control.expect_eof().await.expect("closed");
    });
}

#[test]
fn a_client_that_moves_keeps_all_its_streams() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let ground = Ground::over_quic(Config::default()).await;
        let mut client = ground.client("a").await;
        let mut one = client.open().await;
        subscribe(&mut one, "t", QoS::AtMostOnce).await;
        let mut publisher = ground.client("publisher").await;
        let Opener::Quic(handle) = &client.opener else {
            panic!("not QUIC");
        };
        for round in 0..5_u8 {
            let local = "127.0.0.1:0".parse().expect("an address");
            handle.rebind(local).expect("a free port");
            // The client must be heard from its new address before it can be found there.
            client.control.expect_nothing().await.expect("alive");
            let payload = [round];
            send(
                &mut publisher.control,
                message("t", &payload, QoS::AtMostOnce, 0),
            )
            .await;
            delivers(&mut one, "t", &payload).await;
        }
    });
}

/// Never decides about `never`, and about everything else a moment later.
struct Undecided;

impl Authenticator for Undecided {
    fn authenticate(&self, _request: ConnectRequest) -> Decision<Result<u32, Refusal>> {
        Decision::Ready(Ok(0))
    }
}

impl Authorizer for Undecided {
    fn publish(&self, _who: &Identity, topic: &str, _qos: QoS, _retain: bool) -> Decision<bool> {
        let never = topic == "never";
        Decision::Later(Box::pin(async move {
            tokio::task::yield_now().await;
            if never {
                std::future::pending::<()>().await;
            }
            true
        }))
    }
    fn subscribe(&self, _who: &Identity, _filter: &str, qos: QoS) -> Decision<Option<QoS>> {
        Decision::Ready(Some(qos))
    }
    fn judges_deliveries(&self, _who: &Identity) -> bool {
        false
    }
    fn deliver(&self, _who: &Identity, _topic: &str) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn keep_alive_does_not_count_while_the_control_stream_is_not_read() {
    let access = Arc::new(Undecided);
    let broker = Broker::builder().access(access.clone(), access).start();
    let ground = Ground {
        broker: broker.expect("settings"),
        certs: None,
        url: String::new(),
    };
    let mut client = ground.stranger().await;
    client.connect_for("client", true, 10).await;
    let control = &mut client.control;
    send(control, message("never", b"", QoS::AtLeastOnce, 1)).await;
    let mut one = client.open().await;
    send(&mut one, message("soon", b"", QoS::AtLeastOnce, 2)).await;
    expect(&mut one, unheard(AckKind::PubAck, 2)).await;
    // What shows that it is there is behind the message that waits.
    send(&mut client.control, Packet::PingReq).await;
    tokio::time::sleep(DEADLINE).await;
    send(&mut one, message("soon", b"", QoS::AtLeastOnce, 3)).await;
    expect(&mut one, unheard(AckKind::PubAck, 3)).await;
}
