//! Fuzz target: one client with a control stream and data streams, over streams in memory.
//!
//! The input says which packet goes out on which stream, and when a stream ends. After each step a naive model knows what
//! every stream must have carried: answers on the stream of what they answer, messages on the stream that subscribed last,
//! on the control stream when that one is over, everything in order; and whatever has no business on a data stream ends the
//! connection. At the end the rest of the input goes to one of the streams as it is, which must end nothing but the
//! connection.
#![no_main]

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use martlet_broker::Broker;
use martlet_codec::{
    Ack, AckKind, Connect, Packet, PacketId, Props, Publish, QoS, ReasonCode, Split, Subscribe,
    SubscribeFiltersBuf, SubscribeOptions, Unsubscribe, UnsubscribeFiltersBuf, Version, split,
};
use martlet_transport::StreamSource;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Streams of the client, the control stream included.
const STREAMS: usize = 4;
const TOPICS: [&str; 3] = ["a", "b/c", "b/d"];
const STEPS_MAX: usize = 60;
/// More than a step makes anybody write.
const HELD_BYTES: usize = 64 << 10;
/// Turns of the runtime without a byte after which nothing more is to come.
const QUIET_TURNS: usize = 12;

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(data));
});

struct Incoming(UnboundedReceiver<DuplexStream>);

impl StreamSource<DuplexStream> for Incoming {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<DuplexStream>> {
        self.0.poll_recv(cx)
    }
}

/// What a packet from the broker was, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// First byte and identifier.
    Answer(u8, u16),
    Message(usize, u8),
    Disconnect,
    Other(u8),
}

/// A stream, and what must have come on it.
#[derive(Default)]
struct Stream {
    io: Option<DuplexStream>,
    unread: Vec<u8>,
    answers: VecDeque<Seen>,
    messages: VecDeque<Seen>,
    ended: bool,
}

struct Client {
    streams: [Stream; STREAMS],
    opener: UnboundedSender<DuplexStream>,
    /// On which stream each topic was subscribed to.
    subscribed: [Option<usize>; TOPICS.len()],
    packet_id: u16,
}

impl Client {
    /// The stream `at`, opened when it is needed; the control stream where it cannot be used.
    fn usable(&mut self, at: usize) -> usize {
        let stream = &mut self.streams[at];
        if stream.io.is_none() {
            let (own, broker) = duplex(HELD_BYTES);
            *stream = Stream {
                io: Some(own),
                ..Stream::default()
            };
            if self.opener.send(broker).is_err() {
                return 0;
            }
        }
        at
    }

    async fn send(&mut self, at: usize, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes).expect("proper");
        self.send_bytes(at, &bytes).await;
    }

    async fn send_bytes(&mut self, at: usize, bytes: &[u8]) {
        if let Some(io) = &mut self.streams[at].io {
            // A stream that the broker has ended takes nothing, which is seen when it is read.
            let _ = io.write_all(bytes).await;
        }
    }

    fn next_id(&mut self) -> PacketId {
        self.packet_id += 1;
        PacketId::new(self.packet_id).expect("not zero")
    }

    /// Lets the broker come to rest and takes what it wrote.
    async fn settle(&mut self) -> [Vec<Seen>; STREAMS] {
        let mut seen: [Vec<Seen>; STREAMS] = Default::default();
        let mut quiet = 0;
        while quiet < QUIET_TURNS {
            quiet += 1;
            tokio::task::yield_now().await;
            for at in 0..STREAMS {
                if self.read(at) {
                    quiet = 0;
                }
                while let Some((packet, acknowledgement)) = self.packet(at) {
                    seen[at].push(packet);
                    if let Some(id) = acknowledgement {
                        // On the stream of the message or on the control stream: both will do.
                        let to = if id.get() % 2 == 0 { at } else { 0 };
                        self.send(to, &ack(AckKind::PubAck, id)).await;
                    }
                }
            }
        }
        seen
    }

    /// Reads what is there; whether anything was.
    fn read(&mut self, at: usize) -> bool {
        let stream = &mut self.streams[at];
        let Some(io) = &mut stream.io else {
            return false;
        };
        let mut bytes = [0; 4096];
        let mut buf = ReadBuf::new(&mut bytes);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(io).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                stream.unread.extend_from_slice(buf.filled());
                true
            }
            Poll::Ready(_) => !std::mem::replace(&mut stream.ended, true),
            Poll::Pending => false,
        }
    }

    /// The next whole packet, and the identifier to acknowledge.
    fn packet(&mut self, at: usize) -> Option<(Seen, Option<PacketId>)> {
        let stream = &mut self.streams[at];
        let Split::Frame(frame) = split(&stream.unread, u32::MAX).expect("whole packets") else {
            return None;
        };
        let packet = Packet::decode(frame, Version::V5).expect("proper packets");
        let seen = match packet {
            Packet::Publish(publish) => {
                let topic = TOPICS.iter().position(|topic| *topic == publish.topic);
                let topic = topic.expect("a topic that was published to");
                let seen = Seen::Message(topic, publish.payload[0]);
                (seen, publish.id)
            }
            Packet::Ack(ack) => (Seen::Answer(frame.first, ack.id.get()), None),
            Packet::SubAck(suback) => (Seen::Answer(frame.first, suback.id.get()), None),
            Packet::UnsubAck(unsuback) => (Seen::Answer(frame.first, unsuback.id.get()), None),
            Packet::Disconnect(_) => (Seen::Disconnect, None),
            _ => (Seen::Other(frame.first), None),
        };
        let len = frame.len;
        stream.unread.drain(..len);
        Some(seen)
    }

    /// Compares what came with what had to come. Answers and messages each have their order.
    async fn check(&mut self) {
        let seen = self.settle().await;
        for (at, (stream, seen)) in self.streams.iter_mut().zip(seen).enumerate() {
            for packet in seen {
                let expected = match packet {
                    Seen::Message(..) => stream.messages.pop_front(),
                    _ => stream.answers.pop_front(),
                };
                assert_eq!(expected.as_ref(), Some(&packet), "on stream {at}");
            }
            assert!(
                stream.answers.is_empty(),
                "stream {at}: {:?}",
                stream.answers
            );
            assert!(
                stream.messages.is_empty(),
                "stream {at}: {:?}",
                stream.messages
            );
        }
    }
}

fn ack(kind: AckKind, id: PacketId) -> Packet<'static> {
    Packet::Ack(Ack {
        kind,
        id,
        reason: ReasonCode::Success,
        props: Props::EMPTY,
    })
}

async fn run(data: &[u8]) {
    let broker = Broker::builder().start().expect("the defaults make sense");
    let (control, theirs) = duplex(HELD_BYTES);
    let (opener, incoming) = unbounded_channel();
    broker.attach_streams(theirs, Box::new(Incoming(incoming)), "fuzz");
    let mut client = Client {
        streams: Default::default(),
        opener,
        subscribed: [None; TOPICS.len()],
        packet_id: 0,
    };
    client.streams[0].io = Some(control);
    client
        .send(
            0,
            &Packet::Connect(Connect {
                version: Version::V5,
                bridge: false,
                clean_start: true,
                keep_alive_secs: 0,
                props: Props::EMPTY,
                client_id: "fuzz",
                will: None,
                username: None,
                password: None,
            }),
        )
        .await;
    let connack = client.settle().await;
    assert_eq!(connack[0], [Seen::Other(0x20)]);

    let mut input = data.iter();
    for _ in 0..STEPS_MAX {
        let Some(&step) = input.next() else {
            break;
        };
        let at = client.usable(usize::from(step) % STREAMS);
        let topic = usize::from(step >> 2) % TOPICS.len();
        match step >> 4 {
            0..=7 => publish(&mut client, at, topic, step).await,
            8..=10 => subscribe(&mut client, at, topic).await,
            11 => unsubscribe(&mut client, at, topic).await,
            12 | 13 if at != 0 => {
                // The client ends a stream; the broker ends its side, and its subscriptions go on elsewhere.
                if let Some(io) = &mut client.streams[at].io {
                    let _ = io.shutdown().await;
                }
                client.check().await;
                assert!(client.streams[at].ended, "stream {at} goes on");
                client.streams[at] = Stream::default();
                for subscribed in client.subscribed.iter_mut().flatten() {
                    if *subscribed == at {
                        *subscribed = 0;
                    }
                }
            }
            14 if at != 0 => {
                let kind = [0x10, 0xC0, 0xE0, 0xF0][usize::from(step >> 2) % 4];
                client.send_bytes(at, &[kind, 0]).await;
                client.streams[0].answers.push_back(Seen::Disconnect);
                client.check().await;
                return;
            }
            15 => break,
            _ => {}
        }
        client.check().await;
    }
    // Whatever the rest is, it ends at most the connection.
    let rest: Vec<u8> = input.copied().collect();
    if let Some((&at, bytes)) = rest.split_first() {
        let at = client.usable(usize::from(at) % STREAMS);
        client
            .send_bytes(at, &bytes[..bytes.len().min(HELD_BYTES / 2)])
            .await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn publish(client: &mut Client, at: usize, topic: usize, step: u8) {
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(step >> 4) % 3];
    let id = (qos > QoS::AtMostOnce).then(|| client.next_id());
    let packet = Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: TOPICS[topic],
        id,
        props: Props::EMPTY,
        payload: &[step],
    });
    client.send(at, &packet).await;
    if let Some(to) = client.subscribed[topic] {
        client.streams[to]
            .messages
            .push_back(Seen::Message(topic, step));
    }
    let Some(id) = id else { return };
    let first = if qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
    client.streams[at]
        .answers
        .push_back(Seen::Answer(first, id.get()));
    if qos == QoS::ExactlyOnce {
        client.check().await;
        // PUBREL may come on any stream, and is answered there.
        let at = client.usable(usize::from(step >> 3) % STREAMS);
        client.send(at, &ack(AckKind::PubRel, id)).await;
        client.streams[at]
            .answers
            .push_back(Seen::Answer(0x70, id.get()));
    }
}

async fn subscribe(client: &mut Client, at: usize, topic: usize) {
    let mut filters = SubscribeFiltersBuf::new();
    let options = SubscribeOptions {
        qos: QoS::AtLeastOnce,
        ..SubscribeOptions::default()
    };
    filters.push(TOPICS[topic], options).expect("short");
    let id = client.next_id();
    let packet = Packet::Subscribe(Subscribe {
        id,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    client.send(at, &packet).await;
    client.streams[at]
        .answers
        .push_back(Seen::Answer(0x90, id.get()));
    client.subscribed[topic] = Some(at);
}

async fn unsubscribe(client: &mut Client, at: usize, topic: usize) {
    let mut filters = UnsubscribeFiltersBuf::new();
    filters.push(TOPICS[topic]).expect("short");
    let id = client.next_id();
    let packet = Packet::Unsubscribe(Unsubscribe {
        id,
        props: Props::EMPTY,
        filters: filters.as_filters(),
    });
    client.send(at, &packet).await;
    client.streams[at]
        .answers
        .push_back(Seen::Answer(0xB0, id.get()));
    client.subscribed[topic] = None;
}
