//! A small blocking client on this codec alone: connects with MQTT 5, subscribes, publishes one
//! message at QoS 2, completes the exchange in both directions, and disconnects.
//!
//! `cargo run -p martlet-codec --example client -- 127.0.0.1:1883`
//!
//! It shows the codec, not a client for daily use: it waits for one answer after the other and
//! gives up at the first surprise.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use martlet_codec::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketBuf, PacketId, Property, Props, PropsBuf,
    Publish, QoS, ReasonCode, Split, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Version,
    split,
};

const TOPIC: &str = "martlet/example";
const PAYLOAD: &[u8] = b"hello from the codec";
const SUBSCRIBE_ID: PacketId = PacketId::new(1).unwrap();
const PUBLISH_ID: PacketId = PacketId::new(2).unwrap();

/// Largest packet accepted, and announced to the server.
const PACKET_BYTES_MAX: u32 = 64 * 1024;

/// A server that stays silent for so long has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream of packets over a stream of bytes.
struct Connection {
    stream: TcpStream,
    /// Bytes received and not yet taken as a packet.
    received: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    fn send<'a>(&mut self, packet: impl Into<Packet<'a>>) -> Result<(), Box<dyn Error>> {
        let mut bytes = Vec::new();
        packet.into().encode(Version::V5, &mut bytes)?;
        self.stream.write_all(&bytes)?;
        Ok(())
    }

    /// The next packet, owned because the buffer goes on.
    fn receive(&mut self) -> Result<PacketBuf, Box<dyn Error>> {
        loop {
            match split(&self.received, PACKET_BYTES_MAX)? {
                Split::Frame(frame) => {
                    let rest = self.received.split_off(frame.len);
                    let packet = std::mem::replace(&mut self.received, rest);
                    return Ok(PacketBuf::decode(packet.into(), Version::V5)?);
                }
                Split::Partial { .. } => {
                    let mut chunk = [0; 4096];
                    match self.stream.read(&mut chunk)? {
                        0 => return Err("the server closed the connection".into()),
                        len => self.received.extend_from_slice(&chunk[..len]),
                    }
                }
            }
        }
    }
}

fn connect(connection: &mut Connection) -> Result<(), Box<dyn Error>> {
    let props = PropsBuf::new()
        .with(Property::MaximumPacketSize(PACKET_BYTES_MAX))
        .with(Property::UserProperty("library", "martlet-codec"));
    connection.send(Connect {
        props: props.as_props(),
        ..Connect::new(Version::V5, "")
    })?;
    match connection.receive()?.packet() {
        Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
            say(format_args!(
                "connected as {:?}",
                connack.props.assigned_client_id()
            ));
            Ok(())
        }
        Packet::ConnAck(connack) => {
            let why = connack.props.reason_string().unwrap_or_default();
            Err(format!("refused: {} {why}", connack.reason).into())
        }
        other => Err(format!("not a CONNACK: {other:?}").into()),
    }
}

fn subscribe(connection: &mut Connection) -> Result<(), Box<dyn Error>> {
    let mut filters = SubscribeFiltersBuf::new();
    filters.push(TOPIC, SubscribeOptions::qos(QoS::ExactlyOnce))?;
    let filters = filters.as_filters();
    connection.send(Subscribe {
        id: SUBSCRIBE_ID,
        props: Props::EMPTY,
        filters,
    })?;
    match connection.receive()?.packet() {
        Packet::SubAck(suback)
            if suback.id == SUBSCRIBE_ID && suback.codes.iter().eq([ReasonCode::GrantedQos2]) =>
        {
            say(format_args!("subscribed to {TOPIC}"));
            Ok(())
        }
        other => Err(format!("not a SUBACK that grants QoS 2: {other:?}").into()),
    }
}

/// Publishes, and takes part in two exchanges at once: ours as sender, and that of the same
/// message as its receiver. Their packets come in any order.
fn publish(connection: &mut Connection) -> Result<(), Box<dyn Error>> {
    connection.send(Publish {
        qos: QoS::ExactlyOnce,
        id: Some(PUBLISH_ID),
        ..Publish::new(TOPIC, PAYLOAD)
    })?;
    let mut sent = false;
    let mut received = false;
    while !(sent && received) {
        let packet = connection.receive()?;
        match packet.packet() {
            Packet::Ack(Ack {
                kind: AckKind::PubRec,
                id: PUBLISH_ID,
                reason,
                ..
            }) => {
                if reason.is_error() {
                    return Err(format!("publish refused: {reason}").into());
                }
                connection.send(Ack::new(AckKind::PubRel, PUBLISH_ID))?;
            }
            Packet::Ack(Ack {
                kind: AckKind::PubComp,
                id: PUBLISH_ID,
                ..
            }) => {
                say(format_args!("published at QoS 2"));
                sent = true;
            }
            Packet::Publish(Publish {
                id: Some(id),
                topic: TOPIC,
                payload: PAYLOAD,
                ..
            }) => {
                say(format_args!("received it as packet {id}"));
                connection.send(Ack::new(AckKind::PubRec, id))?;
            }
            Packet::Ack(Ack {
                kind: AckKind::PubRel,
                id,
                ..
            }) => {
                connection.send(Ack::new(AckKind::PubComp, id))?;
                received = true;
            }
            other => return Err(format!("unexpected: {other:?}").into()),
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this program talks to people")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:1883".to_owned());
    let mut connection = Connection::open(&address)?;
    connect(&mut connection)?;
    subscribe(&mut connection)?;
    publish(&mut connection)?;
    connection.send(Disconnect::new(ReasonCode::Success))?;
    say(format_args!("done"));
    Ok(())
}
