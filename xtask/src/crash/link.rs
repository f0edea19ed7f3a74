//! One MQTT connection over TCP: packets in, packets out, and how it ends.
//!
//! Blocking, one thread each: a harness that is killed with its broker has nothing to gain from a runtime. Deliberately
//! absent: what packets mean; the clients know.

use super::scene::{Kind, Scene};
use martlet_codec::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketId, Property, Props, PropsBuf, Publish, QoS,
    ReasonCode, Split, Subscribe, SubscribeFiltersBuf, SubscribeOptions, Unsubscribe,
    UnsubscribeFiltersBuf, Version, Will, split,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long one read waits: what a client does besides reading is never later than this.
const READ_WAIT: Duration = Duration::from_millis(4);
/// How long a write or a CONNACK may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 64 * 1024;
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// The connection is over: the broker is dead, or said something it must not (which has been reported).
#[derive(Debug)]
pub(super) struct Over;

/// Who a client is across connections.
pub(super) struct Identity {
    pub(super) client_id: String,
    pub(super) version: Version,
    /// Receive Maximum, MQTT 5 only.
    pub(super) receive_maximum: u16,
    /// Whether its session ends with the connection.
    pub(super) clean: bool,
    /// Whether a CONNACK has said that the session exists: from then on it must.
    pub(super) acknowledged: bool,
}

impl Identity {
    pub(super) fn new(client_id: String, version: Version) -> Self {
        Self {
            client_id,
            version,
            receive_maximum: u16::MAX,
            clean: false,
            acknowledged: false,
        }
    }
}

/// What is written next, and in which version.
pub(super) struct Out {
    bytes: Vec<u8>,
    version: Version,
}

impl Out {
    fn put(&mut self, packet: &Packet<'_>) {
        if packet.encode(self.version, &mut self.bytes).is_err() {
            unreachable!("the harness sends nothing that its version cannot express");
        }
    }

    pub(super) fn ack(&mut self, kind: AckKind, id: PacketId) {
        self.put(&Packet::Ack(Ack::new(kind, id)));
    }

    pub(super) fn publish(&mut self, publish: Publish<'_>) {
        self.put(&Packet::Publish(publish));
    }

    pub(super) fn subscribe(&mut self, id: PacketId, filter: &str, qos: QoS) {
        let mut filters = SubscribeFiltersBuf::new();
        if filters.push(filter, SubscribeOptions::qos(qos)).is_ok() {
            self.put(&Packet::Subscribe(Subscribe {
                id,
                props: Props::EMPTY,
                filters: filters.as_filters(),
            }));
        }
    }

    pub(super) fn unsubscribe(&mut self, id: PacketId, filter: &str) {
        let mut filters = UnsubscribeFiltersBuf::new();
        if filters.push(filter).is_ok() {
            self.put(&Packet::Unsubscribe(Unsubscribe {
                id,
                props: Props::EMPTY,
                filters: filters.as_filters(),
            }));
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.put(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    }
}

/// A connection after its CONNACK.
pub(super) struct Link<'a> {
    scene: &'a Scene,
    name: String,
    stream: TcpStream,
    input: Vec<u8>,
    pub(super) out: Out,
}

impl<'a> Link<'a> {
    /// Connects and waits for CONNACK. Tells whether the broker had the session. A session that was acknowledged and is
    /// gone is reported.
    pub(super) fn open(
        scene: &'a Scene,
        identity: &mut Identity,
        will: Option<Will<'_>>,
    ) -> Result<(Self, bool), Over> {
        let address = SocketAddr::from(([127, 0, 0, 1], scene.port));
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|_| Over)?;
        let mut link = Self {
            scene,
            name: identity.client_id.clone(),
            stream,
            input: Vec::new(),
            out: Out {
                bytes: Vec::new(),
                version: identity.version,
            },
        };
        let set = link.stream.set_nodelay(true).is_ok()
            && link.stream.set_read_timeout(Some(READ_WAIT)).is_ok()
            && link.stream.set_write_timeout(Some(PATIENCE)).is_ok();
        if !set {
            return Err(Over);
        }
        let mut props = PropsBuf::new();
        if identity.version.is_v5() {
            if !identity.clean {
                props.push(Property::SessionExpiry(86_400));
            }
            if identity.receive_maximum < u16::MAX {
                props.push(Property::ReceiveMaximum(identity.receive_maximum));
            }
        }
        link.out.put(&Packet::Connect(Connect {
            version: identity.version,
            bridge: false,
            clean_start: identity.clean,
            keep_alive_secs: 0,
            props: props.as_props(),
            client_id: &identity.client_id,
            will,
            username: None,
            password: None,
        }));
        let begin = Instant::now();
        let mut answer = None;
        while answer.is_none() {
            if begin.elapsed() > PATIENCE {
                return Err(link.report("no CONNACK in time"));
            }
            // One packet at a time: what follows CONNACK is for the client.
            link.read(1, &mut |packet, _| match packet {
                Packet::ConnAck(found) if found.reason == ReasonCode::Success => {
                    answer = Some(found.session_present);
                    Ok(())
                }
                other => Err(format!("instead of a CONNACK: {other:?}")),
            })?;
        }
        let present = answer == Some(true);
        if identity.acknowledged && !identity.clean && !present {
            scene.ledger.find(
                Kind::Session,
                format!("{}: its acknowledged session is gone", identity.client_id),
            );
        }
        identity.acknowledged = true;
        Ok((link, present))
    }

    /// Reports something the broker must not do; ends the connection.
    pub(super) fn report(&self, what: &str) -> Over {
        self.scene
            .ledger
            .find(Kind::Protocol, format!("{}: {what}", self.name));
        Over
    }

    pub(super) fn flush(&mut self) -> Result<(), Over> {
        if self.out.bytes.is_empty() {
            return Ok(());
        }
        let written = self.stream.write_all(&self.out.bytes);
        self.out.bytes.clear();
        written.map_err(|error| self.ended(&error.to_string()))
    }

    /// Writes what is waiting, reads what has come, shows at most `most` packets. Returns how many.
    pub(super) fn read(
        &mut self,
        most: usize,
        show: &mut dyn FnMut(Packet<'_>, &mut Out) -> Result<(), String>,
    ) -> Result<usize, Over> {
        self.flush()?;
        let mut shown = self.show(most, show)?;
        if shown > 0 {
            return Ok(shown);
        }
        let start = self.input.len();
        self.input.resize(start + READ_BYTES, 0);
        let read = self.stream.read(&mut self.input[start..]);
        self.input
            .truncate(start + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => return Err(self.ended("end of stream")),
            Ok(_) => shown = self.show(most, show)?,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(self.ended(&error.to_string())),
        }
        Ok(shown)
    }

    fn show(
        &mut self,
        most: usize,
        show: &mut dyn FnMut(Packet<'_>, &mut Out) -> Result<(), String>,
    ) -> Result<usize, Over> {
        let mut at = 0;
        let mut shown = 0;
        let mut wrong = None;
        while shown < most && wrong.is_none() {
            let frame = match split(&self.input[at..], PACKET_BYTES_MAX) {
                Ok(Split::Frame(frame)) => frame,
                Ok(Split::Partial { .. }) => break,
                Err(error) => {
                    wrong = Some(error.to_string());
                    break;
                }
            };
            wrong = match Packet::decode(frame, self.out.version) {
                Ok(packet) => show(packet, &mut self.out).err(),
                Err(error) => Some(error.to_string()),
            };
            at += frame.len;
            shown += 1;
        }
        self.input.drain(..at);
        match wrong {
            Some(what) => Err(self.report(&what)),
            None => Ok(shown),
        }
    }

    /// The broker closed the connection, which only a killed one may.
    fn ended(&self, how: &str) -> Over {
        if !self.scene.is_killed() {
            // The harness marks the kill before it kills; give a broker that died by itself its own words.
            self.report(&format!("the broker ended the connection ({how})"));
        }
        Over
    }

    /// Reads until the broker closes the connection, as it must after a DISCONNECT.
    pub(super) fn until_closed(mut self) {
        if self.flush().is_err() {
            return;
        }
        let begin = Instant::now();
        let mut buffer = [0; 4096];
        while begin.elapsed() < PATIENCE {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
        }
    }
}
