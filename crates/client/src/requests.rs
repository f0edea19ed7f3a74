//! What a handle asks of the background task: packets, encoded and checked by the caller.

use crate::error::Error;
use crate::handshake::ServerInfo;
use crate::message::{PublishOutcome, PublishRequest};
use martlet_codec::{
    Disconnect, EncodeError, Packet, PacketId, PropsBuf, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFiltersBuf, SubscribeOptions, Unsubscribe, UnsubscribeFiltersBuf, Version,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// A request to the background task.
#[derive(Debug)]
pub(crate) enum Command {
    /// A packet that has no answer.
    Send(Vec<u8>),
    /// A PUBLISH above QoS 0.
    Publish {
        packet: Numbered,
        qos: QoS,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<PublishOutcome>,
    },
    /// SUBSCRIBE or UNSUBSCRIBE.
    Filters {
        packet: Numbered,
        /// How many filters, hence how many codes in the answer.
        count: usize,
        permit: OwnedSemaphorePermit,
        reply: oneshot::Sender<Vec<ReasonCode>>,
    },
    /// The end, after everything before it; with a DISCONNECT packet or by just hanging up.
    Disconnect {
        packet: Vec<u8>,
        reply: oneshot::Sender<()>,
    },
    /// The end, now.
    Abort,
}

/// An encoded packet whose identifier is set when it is sent.
#[derive(Debug)]
pub(crate) struct Numbered {
    bytes: Vec<u8>,
    id_at: usize,
}

/// Holds the place of the identifier while a packet is encoded and checked.
fn placeholder() -> Result<PacketId, EncodeError> {
    PacketId::new(1).ok_or(EncodeError::MissingPacketId)
}

impl Numbered {
    /// `before_id` bytes of the body stand before the identifier.
    fn new(bytes: Vec<u8>, before_id: usize) -> Self {
        // The remaining length ends with the first byte below 0x80.
        let length_bytes = bytes[1..].iter().take_while(|byte| **byte >= 0x80).count() + 1;
        Self {
            id_at: 1 + length_bytes + before_id,
            bytes,
        }
    }

    pub(crate) fn with_id(mut self, id: u16) -> Vec<u8> {
        self.bytes[self.id_at..self.id_at + 2].copy_from_slice(&id.to_be_bytes());
        self.bytes
    }
}

/// Encodes a packet and checks it against all rules of the wire and the server's size limit.
fn encode(packet: &Packet<'_>, server: &ServerInfo) -> Result<Vec<u8>, Error> {
    let version = server.version();
    let len = packet.encoded_len(version)?;
    let max = server.packet_bytes_max();
    if len > max as usize {
        return Err(Error::TooLarge { bytes: len, max });
    }
    let mut bytes = Vec::with_capacity(len);
    packet.encode(version, &mut bytes)?;
    let frame = crate::frames::as_frame(&bytes).and_then(|frame| Packet::decode(frame, version));
    frame.map_err(|error| EncodeError::Invalid(error.kind))?;
    Ok(bytes)
}

/// What the server cannot do is not asked of it.
pub(crate) fn check_publish(request: &PublishRequest, server: &ServerInfo) -> Result<(), Error> {
    if request.qos > server.qos_max() {
        return Err(Error::QosNotSupported(server.qos_max()));
    }
    if request.retain && !server.retain_available() {
        return Err(Error::RetainNotSupported);
    }
    if request.props.as_props().topic_alias().is_some() {
        return Err(Error::TopicAlias);
    }
    Ok(())
}

fn publish_packet(request: &PublishRequest, id: Option<PacketId>) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos: request.qos,
        retain: request.retain,
        topic: &request.topic,
        id,
        props: request.props.as_props(),
        payload: &request.payload,
    })
}

/// A PUBLISH with QoS 0.
pub(crate) fn publish_qos0(
    request: &PublishRequest,
    server: &ServerInfo,
) -> Result<Vec<u8>, Error> {
    encode(&publish_packet(request, None), server)
}

/// A PUBLISH with QoS 1 or 2.
pub(crate) fn publish(request: &PublishRequest, server: &ServerInfo) -> Result<Numbered, Error> {
    let bytes = encode(&publish_packet(request, Some(placeholder()?)), server)?;
    Ok(Numbered::new(bytes, 2 + request.topic.len()))
}

/// A SUBSCRIBE, and the number of its filters.
pub(crate) fn subscribe<F: AsRef<str>>(
    filters: impl IntoIterator<Item = (F, SubscribeOptions)>,
    props: &PropsBuf,
    server: &ServerInfo,
) -> Result<(Numbered, usize), Error> {
    let mut buf = SubscribeFiltersBuf::new();
    for (filter, options) in filters {
        buf.push(filter.as_ref(), options)?;
    }
    let filters = buf.as_filters();
    if filters.is_empty() {
        return Err(Error::NoFilters);
    }
    let packet = Packet::Subscribe(Subscribe {
        id: placeholder()?,
        props: props.as_props(),
        filters,
    });
    let numbered = Numbered::new(encode(&packet, server)?, 0);
    Ok((numbered, filters.len()))
}

/// An UNSUBSCRIBE, and the number of its filters.
pub(crate) fn unsubscribe<F: AsRef<str>>(
    filters: impl IntoIterator<Item = F>,
    props: &PropsBuf,
    server: &ServerInfo,
) -> Result<(Numbered, usize), Error> {
    let mut buf = UnsubscribeFiltersBuf::new();
    for filter in filters {
        buf.push(filter.as_ref())?;
    }
    let filters = buf.as_filters();
    if filters.is_empty() {
        return Err(Error::NoFilters);
    }
    let packet = Packet::Unsubscribe(Unsubscribe {
        id: placeholder()?,
        props: props.as_props(),
        filters,
    });
    let numbered = Numbered::new(encode(&packet, server)?, 0);
    Ok((numbered, filters.len()))
}

/// A DISCONNECT; empty where only hanging up says it: MQTT 3 knows no goodbye but the normal one.
pub(crate) fn disconnect(
    reason: ReasonCode,
    props: &PropsBuf,
    server: &ServerInfo,
) -> Result<Vec<u8>, Error> {
    if !server.version().is_v5() && reason != ReasonCode::Success {
        return Ok(Vec::new());
    }
    let packet = Packet::Disconnect(Disconnect {
        reason,
        props: props.as_props(),
    });
    encode(&packet, server)
}

/// The normal goodbye.
pub(crate) fn goodbye(version: Version, reason: ReasonCode, out: &mut impl bytes::BufMut) {
    let written = Packet::Disconnect(Disconnect::new(reason)).encode(version, out);
    debug_assert!(
        written.is_ok(),
        "a DISCONNECT without properties: {written:?}"
    );
}
