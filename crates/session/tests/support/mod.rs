//! A session with everything it needs, and what a client would read, in words.
#![allow(dead_code, reason = "each test file uses its part")]

use martlet_codec::{AckKind, Packet, PacketId, QoS, ReasonCode, Split, Version};
use martlet_session::{
    AckError, Acked, Delivery, DropReason, Effects, FanOut, Link, Offered, OutBuf, Outbound,
    OutboundLimits, Publication,
};
use martlet_storage::{MessageHead, MessageId, SessionId, StoreOp, Timestamp};

pub(crate) const SESSION: SessionId = SessionId::new(1);
pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(crate) fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

pub(crate) fn v3() -> Link {
    Link {
        version: Version::V311,
        receive_maximum: u16::MAX,
        packet_bytes_max: u32::MAX,
        topic_alias_maximum: 0,
    }
}

pub(crate) fn v5() -> Link {
    Link {
        version: Version::V5,
        ..v3()
    }
}

/// A message to be offered; the fields that tests care about.
#[derive(Clone, Debug)]
pub(crate) struct Msg {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) props: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) granted: QoS,
    pub(crate) retain: bool,
    pub(crate) received: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) ids: Vec<u32>,
    pub(crate) store_id: u64,
    pub(crate) share: Option<u64>,
    /// The only receiver is told so.
    pub(crate) for_one: bool,
}

/// A message named by its payload, at `qos`, on a topic of its own.
pub(crate) fn msg(name: &str, qos: QoS) -> Msg {
    Msg {
        topic: format!("topic/{name}"),
        payload: name.as_bytes().to_vec(),
        props: Vec::new(),
        qos,
        granted: QoS::ExactlyOnce,
        retain: false,
        received: at(0),
        expires: None,
        ids: Vec::new(),
        store_id: 0,
        share: None,
        for_one: false,
    }
}

/// A PUBLISH as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) id: Option<u16>,
    pub(crate) expiry: Option<u32>,
    pub(crate) alias: Option<u16>,
    pub(crate) ids: Vec<u32>,
    pub(crate) len: usize,
}

/// A packet as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Publish(Publish),
    PubRel(u16, ReasonCode),
}

/// A session under test.
pub(crate) struct Peer {
    pub(crate) now: Timestamp,
    pub(crate) half: Outbound,
    pub(crate) out: OutBuf,
    pub(crate) fx: Effects,
    pub(crate) fan_out: FanOut,
    version: Version,
}

impl Peer {
    pub(crate) fn new(limits: OutboundLimits) -> Self {
        Self {
            now: at(1_000),
            half: Outbound::new(SESSION, limits, false),
            out: OutBuf::new(),
            fx: Effects::default(),
            fan_out: FanOut::default(),
            version: Version::V5,
        }
    }

    pub(crate) fn durable(limits: OutboundLimits) -> Self {
        Self {
            half: Outbound::new(SESSION, limits, true),
            ..Self::new(OutboundLimits::default())
        }
    }

    pub(crate) fn online(limits: OutboundLimits, link: Link) -> Self {
        let mut peer = Self::new(limits);
        peer.connect(link);
        peer
    }

    pub(crate) fn connect(&mut self, link: Link) {
        self.version = link.version;
        self.out.reset();
        self.half
            .connect(self.now, link, &mut self.out, &mut self.fx);
        self.check();
    }

    pub(crate) fn disconnect(&mut self) {
        self.half.disconnect();
        self.out.reset();
        self.check();
    }

    pub(crate) fn offer(&mut self, msg: &Msg) -> Offered {
        let head = MessageHead {
            id: MessageId::new(msg.store_id),
            qos: msg.qos,
            retain: false,
            publisher: SessionId::NONE,
            received: msg.received,
            expires: msg.expires,
        };
        let mut publication = Publication::new(
            head,
            &msg.topic,
            &msg.props,
            &msg.payload,
            &mut self.fan_out,
        );
        if msg.for_one {
            publication.expect_one();
        }
        let delivery = Delivery {
            qos: msg.granted,
            retain: msg.retain,
            subscription_ids: &msg.ids,
        };
        let (half, out, fx) = (&mut self.half, &mut self.out, &mut self.fx);
        let offered = match msg.share {
            None => half.offer(self.now, &mut publication, delivery, out, fx),
            Some(share) => half.offer_shared(self.now, &mut publication, delivery, share, out, fx),
        };
        self.check();
        offered
    }

    /// Offers several messages at one QoS.
    pub(crate) fn offer_all(&mut self, names: &str, qos: QoS) {
        for name in names.split(' ') {
            self.offer(&msg(name, qos));
        }
    }

    pub(crate) fn ack(&mut self, kind: AckKind, packet_id: u16) -> Result<Acked, AckError> {
        self.ack_with(kind, packet_id, ReasonCode::Success)
    }

    pub(crate) fn ack_with(
        &mut self,
        kind: AckKind,
        packet_id: u16,
        reason: ReasonCode,
    ) -> Result<Acked, AckError> {
        let acked = self.half.acknowledge(
            self.now,
            kind,
            id(packet_id),
            reason,
            &mut self.out,
            &mut self.fx,
        );
        self.check();
        acked
    }

    /// Returns whether anything was appended.
    pub(crate) fn pump(&mut self) -> bool {
        let before = self.out.len();
        self.half.pump(self.now, &mut self.out, &mut self.fx);
        self.check();
        self.out.len() != before
    }

    /// The client reads everything; the socket is empty afterwards.
    pub(crate) fn read(&mut self) -> Vec<Got> {
        let mut chunk = self.out.take(Vec::new());
        let mut bytes = Vec::new();
        let len = chunk.len();
        while !chunk.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let filled = chunk.slices(&mut slices);
            let before = bytes.len();
            for slice in &slices[..filled] {
                bytes.extend_from_slice(slice);
            }
            chunk.advance(bytes.len() - before);
        }
        self.out.written(len);
        decode_all(&bytes, self.version)
    }

    /// [`Peer::read`] in short: `name`, `name#id` or `name#id!` for DUP, `rel#id`.
    pub(crate) fn read_names(&mut self) -> String {
        let names: Vec<String> = self
            .read()
            .into_iter()
            .map(|got| match got {
                Got::Publish(publish) => {
                    let name = String::from_utf8_lossy(&publish.payload).into_owned();
                    let id = publish.id.map(|id| format!("#{id}")).unwrap_or_default();
                    format!("{name}{id}{}", if publish.dup { "!" } else { "" })
                }
                Got::PubRel(id, ReasonCode::Success) => format!("rel#{id}"),
                Got::PubRel(id, reason) => format!("rel#{id}={:#04x}", reason as u8),
            })
            .collect();
        names.join(" ")
    }

    /// The only PUBLISH that waits to be read.
    pub(crate) fn read_one(&mut self) -> Publish {
        match self.read().as_slice() {
            [Got::Publish(publish)] => publish.clone(),
            other => panic!("not one PUBLISH: {other:?}"),
        }
    }

    /// Reports of dropped messages since the last call, by name.
    pub(crate) fn dropped(&mut self) -> Vec<(String, DropReason)> {
        self.fx
            .dropped
            .drain(..)
            .map(|(message, reason)| {
                (
                    String::from_utf8_lossy(message.payload()).into_owned(),
                    reason,
                )
            })
            .collect()
    }

    /// Operations since the last call.
    pub(crate) fn ops(&mut self) -> Vec<StoreOp> {
        std::mem::take(&mut self.fx.ops)
    }

    fn check(&self) {
        assert_eq!(self.half.check(), Ok(()));
    }
}

pub(crate) fn decode_all(mut bytes: &[u8], version: Version) -> Vec<Got> {
    let mut got = Vec::new();
    while !bytes.is_empty() {
        let Ok(Split::Frame(frame)) = martlet_codec::split(bytes, u32::MAX) else {
            panic!("not a packet: {bytes:?}");
        };
        bytes = &bytes[frame.len..];
        got.push(
            match Packet::decode(frame, version).expect("a packet that decodes") {
                Packet::Publish(publish) => Got::Publish(Publish {
                    topic: publish.topic.to_owned(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos,
                    dup: publish.dup,
                    retain: publish.retain,
                    id: publish.id.map(PacketId::get),
                    expiry: publish.props.message_expiry_secs(),
                    alias: publish.props.topic_alias(),
                    ids: publish.props.subscription_ids().collect(),
                    len: frame.len,
                }),
                Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                    Got::PubRel(ack.id.get(), ack.reason)
                }
                other => panic!("unexpected {other:?}"),
            },
        );
    }
    got
}
