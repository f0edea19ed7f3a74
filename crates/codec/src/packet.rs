//! [`Packet`]: any packet, and what the parsers of several packets share.

use bytes::BufMut;
use nom::number::complete::be_u16;

use crate::ack::{Ack, AckKind};
use crate::connack::ConnAck;
use crate::connect::Connect;
use crate::disconnect::{Auth, Disconnect};
use crate::error::{DecodeError, EncodeError, ErrorKind, Fault, Parsed};
use crate::frame::{Frame, check_first_byte};
use crate::publish::Publish;
use crate::suback::{SubAck, UnsubAck};
use crate::subscribe::{Subscribe, Unsubscribe};
use crate::types::{PacketId, PacketType, Version};

/// Any MQTT packet, borrowed from the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Connect<'a>),
    /// CONNACK.
    ConnAck(ConnAck<'a>),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack<'a>),
    /// SUBSCRIBE.
    Subscribe(Subscribe<'a>),
    /// SUBACK.
    SubAck(SubAck<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK.
    UnsubAck(UnsubAck<'a>),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect<'a>),
    /// AUTH.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes any packet. `version` is the one the CONNECT of this connection named; CONNECT
    /// itself carries its own. Nothing is allocated.
    ///
    /// # Errors
    /// The rule that the packet breaks.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        let body = frame.body;
        let ack = |kind| Ack::parse(kind, body, version).map(|(_, ack)| Packet::Ack(ack));
        let parsed = match check_first_byte(frame.first, Some(version))? {
            PacketType::Publish => return Publish::decode(frame, version).map(Packet::Publish),
            PacketType::Connect => return Connect::decode(frame).map(Packet::Connect),
            PacketType::ConnAck => ConnAck::parse(body, version).map(|(_, p)| Packet::ConnAck(p)),
            PacketType::PubAck => ack(AckKind::PubAck),
            PacketType::PubRec => ack(AckKind::PubRec),
            PacketType::PubRel => ack(AckKind::PubRel),
            PacketType::PubComp => ack(AckKind::PubComp),
            PacketType::Subscribe => {
                Subscribe::parse(body, version).map(|(_, p)| Packet::Subscribe(p))
            }
            PacketType::SubAck => SubAck::parse(body, version).map(|(_, p)| Packet::SubAck(p)),
            PacketType::Unsubscribe => {
                Unsubscribe::parse(body, version).map(|(_, p)| Packet::Unsubscribe(p))
            }
            PacketType::UnsubAck => {
                UnsubAck::parse(body, version).map(|(_, p)| Packet::UnsubAck(p))
            }
            PacketType::PingReq | PacketType::PingResp if !body.is_empty() => {
                Err(Fault::err(ErrorKind::FixedLength, body))
            }
            PacketType::PingReq => Ok(Packet::PingReq),
            PacketType::PingResp => Ok(Packet::PingResp),
            PacketType::Disconnect => {
                Disconnect::parse(body, version).map(|(_, p)| Packet::Disconnect(p))
            }
            PacketType::Auth => Auth::parse(body).map(|(_, p)| Packet::Auth(p)),
        };
        parsed.map_err(|error| Fault::at(&error, body))
    }

    /// Bytes that [`Packet::encode`] writes, fixed header included.
    ///
    /// # Errors
    /// What cannot be expressed in `version`, see [`EncodeError`].
    #[inline]
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        match self {
            Self::Connect(packet) => packet.encoded_len(version),
            Self::ConnAck(packet) => packet.encoded_len(version),
            Self::Publish(packet) => packet.encoded_len(version),
            Self::Ack(packet) => packet.encoded_len(version),
            Self::Subscribe(packet) => packet.encoded_len(version),
            Self::SubAck(packet) => packet.encoded_len(version),
            Self::Unsubscribe(packet) => packet.encoded_len(version),
            Self::UnsubAck(packet) => packet.encoded_len(version),
            Self::PingReq | Self::PingResp => Ok(2),
            Self::Disconnect(packet) => packet.encoded_len(version),
            Self::Auth(packet) => packet.encoded_len(version),
        }
    }

    /// Writes the packet, once and without going back. CONNECT is written in its own version.
    ///
    /// What a version does not have (properties and reason codes before MQTT 5) is left out. Topic
    /// names, filters and property values are the caller's to keep valid.
    ///
    /// # Errors
    /// What cannot be expressed in `version`, see [`EncodeError`]; `dst` is untouched then.
    #[inline]
    pub fn encode(&self, version: Version, dst: &mut impl BufMut) -> Result<(), EncodeError> {
        match self {
            Self::Connect(packet) => packet.encode(version, dst),
            Self::ConnAck(packet) => packet.encode(version, dst),
            Self::Publish(packet) => packet.encode(version, dst),
            Self::Ack(packet) => packet.encode(version, dst),
            Self::Subscribe(packet) => packet.encode(version, dst),
            Self::SubAck(packet) => packet.encode(version, dst),
            Self::Unsubscribe(packet) => packet.encode(version, dst),
            Self::UnsubAck(packet) => packet.encode(version, dst),
            Self::PingReq | Self::PingResp => {
                if dst.remaining_mut() < 2 {
                    return Err(EncodeError::NoRoom);
                }
                dst.put_slice(&[(self.packet_type() as u8) << 4, 0]);
                Ok(())
            }
            Self::Disconnect(packet) => packet.encode(version, dst),
            Self::Auth(packet) => packet.encode(version, dst),
        }
    }

    /// The type of this packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::Ack(ack) => ack.kind.packet_type(),
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// `From` for each packet that has fields.
macro_rules! from_packets {
    ($($packet:ident)*) => {
        $(
            impl<'a> From<$packet<'a>> for Packet<'a> {
                fn from(packet: $packet<'a>) -> Self {
                    Self::$packet(packet)
                }
            }
        )*
    };
}
from_packets!(Connect ConnAck Publish Ack Subscribe SubAck Unsubscribe UnsubAck Disconnect Auth);

/// A packet identifier: not zero.
#[inline]
pub(crate) fn packet_id(input: &[u8]) -> Parsed<'_, PacketId> {
    let (rest, id) = be_u16(input)?;
    match PacketId::new(id) {
        Some(id) => Ok((rest, id)),
        None => Err(Fault::err(ErrorKind::PacketIdZero, input)),
    }
}

/// Nothing may be left.
#[inline]
pub(crate) fn end(rest: &[u8]) -> Result<(), nom::Err<Fault>> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Fault::err(ErrorKind::TrailingBytes, rest))
    }
}
