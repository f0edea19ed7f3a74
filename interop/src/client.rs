//! The conversation partner: connects, sends, and expects.
//!
//! Every expectation waits at most [`WAIT`] and panics with what came instead. Whatever the server sends is read strictly (see
//! [`crate::wire::server`]), so each conversation checks the wire format as well.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::wire::server::{ConnAck, SubAck};
use crate::wire::{
    Ack, ClientPacket, Connect, Disconnect, Packet, Property, Publish, Will, find, kind, pingreq,
    prop, split,
};
use crate::{ReasonCode, Version};

/// Longest wait for anything.
pub const WAIT: Duration = Duration::from_secs(5);

static COUNTER: AtomicU32 = AtomicU32::new(1);

/// A name nobody else in this run has: letters and digits, at most 23 of them.
pub fn unique(prefix: &str) -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:x}n{number}", std::process::id())
}

/// What the connection brought next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet.
    Packet(Packet),
    /// The end: closed or reset by the server.
    Closed,
}

/// A connection to come.
#[derive(Clone, Debug)]
pub struct Builder {
    connect: Connect,
}

/// A client of this version with a unique client id, Clean Start and no keep alive.
pub fn client(version: Version) -> Builder {
    Builder {
        connect: Connect::new(version, unique("c")),
    }
}

impl Builder {
    /// Sets the client id.
    pub fn id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.connect.client_id = id.as_ref().to_vec();
        self
    }
    /// Clears Clean Start (Clean Session); in version 5 the session also gets an expiry of 1,000 s, so that both versions
    /// mean the same.
    pub fn resume(mut self) -> Self {
        self.connect.clean = false;
        if self.connect.version.is_v5() && find::number(&self.connect.properties, 0x11).is_none() {
            self.connect.properties.push(prop::session_expiry(1_000));
        }
        self
    }
    /// Clears Clean Start and nothing else.
    pub fn not_clean(mut self) -> Self {
        self.connect.clean = false;
        self
    }
    /// Sets Keep Alive in seconds.
    pub fn keep_alive(mut self, secs: u16) -> Self {
        self.connect.keep_alive = secs;
        self
    }
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.connect.properties.push(property);
        self
    }
    /// Sets the will.
    pub fn will(mut self, will: Will) -> Self {
        self.connect.will = Some(will);
        self
    }
    /// Sets the user name.
    pub fn user_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.connect.user_name = Some(name.as_ref().to_vec());
        self
    }
    /// Sets the password.
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.connect.password = Some(password.as_ref().to_vec());
        self
    }
    /// Sets bits of the connect flags besides those that follow from the fields.
    pub fn flags(mut self, flags: u8) -> Self {
        self.connect.flags = flags;
        self
    }
    /// Sets the protocol name.
    pub fn protocol_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.connect.name = Some(name.as_ref().to_vec());
        self
    }
    /// Sets the protocol level byte.
    pub fn level(mut self, level: u8) -> Self {
        self.connect.level = Some(level);
        self
    }
    /// The CONNECT packet.
    pub fn packet(&self) -> Vec<u8> {
        self.connect.bytes()
    }

    /// Opens the connection and sends CONNECT, without looking at the answer.
    pub async fn start(self, broker: &Broker) -> Client {
        let mut client = Client::open(broker, self.connect.version).await;
        client.id = String::from_utf8_lossy(&self.connect.client_id).into_owned();
        client.send_raw(&self.connect.bytes()).await;
        client
    }
    /// Connects and expects to be accepted.
    pub async fn connect(self, broker: &Broker) -> Client {
        let mut client = self.start(broker).await;
        let connack = client.expect_connack().await;
        assert_eq!(connack.code, 0, "refused: {connack:?}");
        if let Some(id) = find::text(&connack.properties, 0x12) {
            id.clone_into(&mut client.id);
        }
        client.connack = connack;
        client
    }
    /// Connects, expects to be refused with `code` and closed; gives the CONNACK.
    pub async fn refused(self, broker: &Broker, code: u8) -> ConnAck {
        let mut client = self.start(broker).await;
        let connack = client.expect_connack().await;
        assert_eq!(connack.code, code, "{connack:?}");
        client.expect_closed().await;
        connack
    }
    /// Connects and expects the connection to end without a CONNACK of success. Gives the code of the CONNACK, if there was one.
    pub async fn dropped(self, broker: &Broker) -> Option<u8> {
        let mut client = self.start(broker).await;
        match client.event().await {
            Event::Closed => None,
            Event::Packet(Packet::ConnAck(connack)) if connack.code != 0 => {
                client.expect_closed().await;
                Some(connack.code)
            }
            other @ Event::Packet(_) => panic!("expected a refusal or a close, got {other:?}"),
        }
    }
}

/// A connection to the broker under test.
#[derive(Debug)]
pub struct Client {
    /// The version spoken.
    pub version: Version,
    /// The client id, an assigned one included.
    pub id: String,
    /// The CONNACK, once there was one.
    pub connack: ConnAck,
    /// The bytes of the packet read last.
    pub last: Vec<u8>,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Opens a connection and sends nothing.
    pub async fn open(broker: &Broker, version: Version) -> Self {
        let stream = timeout(WAIT, TcpStream::connect(broker.address()))
            .await
            .expect("the broker accepts in time")
            .expect("the broker listens");
        stream
            .set_nodelay(true)
            .expect("a socket option of an open socket");
        Self {
            version,
            id: String::new(),
            connack: ConnAck::default(),
            last: Vec::new(),
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends a packet.
    pub async fn send(&mut self, packet: impl ClientPacket) {
        let bytes = packet.bytes(self.version);
        self.send_raw(&bytes).await;
    }

    /// Sends bytes. A server that has closed already is found out by the next expectation.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = timeout(WAIT, self.stream.write_all(bytes))
            .await
            .expect("the broker reads");
    }

    /// Ends the connection without DISCONNECT, as a network failure does.
    pub fn cut(self) {
        // A reset instead of a tidy end: nothing that a client says on purpose.
        let _ = self.stream.set_zero_linger();
    }

    /// Sends DISCONNECT and waits for the end, so that the broker has worked it off.
    pub async fn leave(mut self) {
        self.send(crate::wire::disconnect()).await;
        self.expect_closed().await;
    }

    /// The next packet or the end.
    pub async fn event(&mut self) -> Event {
        timeout(WAIT, self.event_unbounded())
            .await
            .expect("nothing came within 5 s, not even the end of the connection")
    }

    /// The next packet or the end, `None` if `limit` passes before.
    pub async fn event_within(&mut self, limit: Duration) -> Option<Event> {
        timeout(limit, self.event_unbounded()).await.ok()
    }

    async fn event_unbounded(&mut self) -> Event {
        loop {
            if let Some(span) =
                split(&self.buffer).unwrap_or_else(|error| panic!("{error}: {:02x?}", self.buffer))
            {
                let rest = self.buffer.split_off(span.end);
                self.last = std::mem::replace(&mut self.buffer, rest);
                let packet = Packet::read(span.first, &self.last[span.header..], self.version)
                    .unwrap_or_else(|error| panic!("{error}: {:02x?}", self.last));
                return Event::Packet(packet);
            }
            self.buffer.reserve(16 * 1024);
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                assert!(
                    self.buffer.is_empty(),
                    "closed in mid-packet: {:02x?}",
                    self.buffer
                );
                return Event::Closed;
            }
        }
    }

    /// Everything the server still sends, as bytes, until the connection ends.
    pub async fn last_words(mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let reading = timeout(WAIT, async {
            while let Ok(count @ 1..) = self.stream.read_buf(&mut bytes).await {
                assert!(count < 1 << 20, "endless last words");
            }
        });
        reading
            .await
            .expect("the server did not close the connection within 5 s");
        bytes
    }

    /// The next packet.
    pub async fn packet(&mut self) -> Packet {
        match self.event().await {
            Event::Packet(packet) => packet,
            Event::Closed => panic!("the server closed the connection"),
        }
    }

    /// Expects CONNACK.
    pub async fn expect_connack(&mut self) -> ConnAck {
        match self.packet().await {
            Packet::ConnAck(connack) => connack,
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    /// Expects a PUBLISH.
    pub async fn expect_publish(&mut self) -> Publish {
        match self.packet().await {
            Packet::Publish(publish) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// Expects a PUBLISH with this payload and acknowledges it as far as its QoS demands.
    pub async fn expect_message(&mut self, payload: &str) -> Publish {
        let publish = self.expect_publish().await;
        assert_eq!(publish.text(), payload, "on topic {}", publish.topic_text());
        self.acknowledge(&publish).await;
        publish
    }

    /// Answers a PUBLISH as its QoS demands, the whole exchange.
    pub async fn acknowledge(&mut self, publish: &Publish) {
        match (publish.qos, publish.id) {
            (1, Some(id)) => self.send(crate::wire::puback(id)).await,
            (2, Some(id)) => {
                self.send(crate::wire::pubrec(id)).await;
                self.expect_pubrel(id).await;
                self.send(crate::wire::pubcomp(id)).await;
            }
            _ => {}
        }
    }

    async fn expect_ack(&mut self, kind: u8, id: u16) -> Ack {
        match self.packet().await {
            Packet::Ack(ack) if ack.kind == kind => {
                assert_eq!(ack.id, id, "packet identifier of {ack:?}");
                ack
            }
            other => panic!("expected packet type {kind}, got {other:?}"),
        }
    }

    /// Expects PUBACK for `id` with a code of success.
    pub async fn expect_puback(&mut self, id: u16) -> Ack {
        let ack = self.expect_ack(kind::PUBACK, id).await;
        assert!(ack.code < 0x80, "{ack:?}");
        ack
    }
    /// Expects PUBREC for `id` with a code of success.
    pub async fn expect_pubrec(&mut self, id: u16) -> Ack {
        let ack = self.expect_ack(kind::PUBREC, id).await;
        assert!(ack.code < 0x80, "{ack:?}");
        ack
    }
    /// Expects PUBREL for `id`.
    pub async fn expect_pubrel(&mut self, id: u16) -> Ack {
        self.expect_ack(kind::PUBREL, id).await
    }
    /// Expects PUBCOMP for `id`.
    pub async fn expect_pubcomp(&mut self, id: u16) -> Ack {
        self.expect_ack(kind::PUBCOMP, id).await
    }
    /// Expects PUBACK or PUBREC for `id` with this code.
    pub async fn expect_refused_publish(&mut self, kind: u8, id: u16, code: ReasonCode) -> Ack {
        let ack = self.expect_ack(kind, id).await;
        assert_eq!(ack.code, code as u8, "{ack:?}");
        ack
    }

    /// Expects SUBACK for `id` with exactly these codes.
    pub async fn expect_suback(&mut self, id: u16, codes: &[u8]) -> SubAck {
        match self.packet().await {
            Packet::SubAck(ack) => {
                assert_eq!((ack.id, ack.codes.as_slice()), (id, codes), "{ack:?}");
                ack
            }
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    /// Expects UNSUBACK for `id` with exactly these codes (none are compared before version 5).
    pub async fn expect_unsuback(&mut self, id: u16, codes: &[u8]) -> SubAck {
        match self.packet().await {
            Packet::UnsubAck(ack) => {
                let codes = if self.version.is_v5() { codes } else { &[] };
                assert_eq!((ack.id, ack.codes.as_slice()), (id, codes), "{ack:?}");
                ack
            }
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }

    /// Expects PINGRESP.
    pub async fn expect_pingresp(&mut self) {
        let packet = self.packet().await;
        assert_eq!(packet, Packet::PingResp);
    }

    /// Expects the server's DISCONNECT with this code and the end of the connection. Before version 5, just the end.
    pub async fn expect_disconnect(&mut self, code: ReasonCode) -> Option<Disconnect> {
        if !self.version.is_v5() {
            self.expect_closed().await;
            return None;
        }
        match self.packet().await {
            Packet::Disconnect(disconnect) => {
                assert_eq!(disconnect.code, code as u8, "{disconnect:?}");
                self.expect_closed().await;
                Some(disconnect)
            }
            other => panic!("expected DISCONNECT, got {other:?}"),
        }
    }

    /// Expects the end of the connection and no packet before it.
    pub async fn expect_closed(&mut self) {
        match self.event().await {
            Event::Closed => {}
            Event::Packet(other) => panic!("expected the end of the connection, got {other:?}"),
        }
    }

    /// Expects that nothing is under way: a PINGREQ is answered before anything else comes.
    pub async fn expect_nothing(&mut self) {
        self.send(pingreq()).await;
        match self.packet().await {
            Packet::PingResp => {}
            other => panic!("expected nothing, got {other:?}"),
        }
    }

    /// Subscribes to one filter and expects the QoS in `options` to be granted.
    pub async fn subscribe(&mut self, filter: impl AsRef<[u8]>, options: u8) {
        self.send(crate::wire::subscribe(60_001, filter, options))
            .await;
        self.expect_suback(60_001, &[options & 3]).await;
    }

    /// Publishes and waits until the broker owns the message; a QoS 0 message is followed by a ping.
    pub async fn publish(&mut self, mut publish: Publish) {
        const ID: u16 = 60_002;
        publish.id = (publish.qos > 0).then_some(publish.id.unwrap_or(ID));
        let (qos, id) = (publish.qos, publish.id.unwrap_or(ID));
        self.send(publish).await;
        match qos {
            0 => self.expect_nothing().await,
            1 => {
                self.expect_puback(id).await;
            }
            _ => {
                self.expect_pubrec(id).await;
                self.send(crate::wire::pubrel(id)).await;
                self.expect_pubcomp(id).await;
            }
        }
    }
}
