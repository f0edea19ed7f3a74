//! PUBLISH (section 3.3): the hottest function of the product is [`Publish::decode`].
//!
//! Whether a topic alias is within the announced maximum, and whether a client may send a
//! subscription identifier, is for the session to judge.

use bytes::BufMut;

use crate::error::{DecodeError, EncodeError, ErrorKind, Fault, Parsed};
use crate::frame::{Frame, check_first_byte};
use crate::packet::packet_id;
use crate::props::{Props, PropsContext};
use crate::text;
use crate::types::{PacketId, PacketType, QoS, Version};
use crate::varint;
use crate::wire::{self, Body};

/// PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Publish<'a> {
    /// Whether this is another delivery attempt. Only written above QoS 0 ([MQTT-3.3.1-2]).
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// Valid UTF-8, no wildcards, no U+0000; empty only in version 5 with a topic alias.
    pub topic: &'a str,
    /// `Some` exactly when `qos` is above 0.
    pub id: Option<PacketId>,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// Anything, also nothing.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// A message at QoS 0, not retained, without properties.
    ///
    /// ```
    /// use martlet_codec::{PacketId, Publish, QoS};
    ///
    /// let (qos, id) = (QoS::AtLeastOnce, PacketId::new(1));
    /// let publish = Publish { qos, id, retain: true, ..Publish::new("a/b", b"hi") };
    /// # assert_eq!((publish.topic, publish.payload), ("a/b", &b"hi"[..]));
    /// ```
    pub const fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            id: None,
            props: Props::EMPTY,
            payload,
        }
    }

    /// Decodes a PUBLISH.
    ///
    /// # Errors
    /// The rule that the packet breaks; [`ErrorKind::UnexpectedPacketType`] for another packet.
    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        if check_first_byte(frame.first, Some(version))? != PacketType::Publish {
            return Err(DecodeError::header(ErrorKind::UnexpectedPacketType));
        }
        match Self::parse(frame.first, frame.body, version) {
            Ok((_, publish)) => Ok(publish),
            Err(error) => Err(Fault::at(&error, frame.body)),
        }
    }

    #[inline]
    fn parse(first: u8, body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        let (rest, topic) = text::topic_name(body, ErrorKind::TopicWildcard)?;
        let (qos, (rest, id)) = match first >> 1 & 0b11 {
            0 => (QoS::AtMostOnce, (rest, None)),
            1 => (QoS::AtLeastOnce, packet_id(rest).map(some)?),
            _ => (QoS::ExactlyOnce, packet_id(rest).map(some)?),
        };
        let (payload, props) = if version.is_v5() {
            Props::parse(rest, PropsContext::Publish)?
        } else {
            (rest, Props::EMPTY)
        };
        if topic.is_empty() && props.topic_alias().is_none() {
            let kind = if version.is_v5() {
                ErrorKind::TopicEmptyWithoutAlias
            } else {
                ErrorKind::TopicEmpty
            };
            return Err(Fault::err(kind, body));
        }
        let publish = Self {
            dup: first & 0b1000 != 0,
            qos,
            retain: first & 1 != 0,
            topic,
            id,
            props,
            payload,
        };
        Ok((&[], publish))
    }

    /// Writes everything but the payload, whose length is counted all the same: for those who send
    /// a large payload from where it lies.
    ///
    /// # Errors
    /// As [`Publish::encode`]; `dst` is untouched then.
    #[inline]
    pub fn encode_head(&self, version: Version, dst: &mut impl BufMut) -> Result<(), EncodeError> {
        let size = wire::size(self, version)?;
        if dst.remaining_mut() < size.total - self.payload.len() {
            return Err(EncodeError::NoRoom);
        }
        self.put_head(size.remaining, version, dst);
        Ok(())
    }

    /// Fixed and variable header in as few writes as can be: each checks the room of `dst` anew.
    #[inline]
    fn put_head(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        let (length, taken) = varint::to_bytes(remaining);
        let topic_len = (self.topic.len() as u16).to_be_bytes();
        let mut head = [
            self.first_byte(),
            length[0],
            length[1],
            length[2],
            length[3],
            0,
            0,
        ];
        head[taken + 1] = topic_len[0];
        head[taken + 2] = topic_len[1];
        dst.put_slice(&head[..taken + 3]);
        dst.put_slice(self.topic.as_bytes());

        let id = self.id.filter(|_| self.qos > QoS::AtMostOnce);
        let start = if id.is_some() { 0 } else { 2 };
        let id = id.map_or(0, PacketId::get).to_be_bytes();
        let (length, taken) = varint::to_bytes(self.props.as_bytes().len() as u32);
        let end = if version.is_v5() { 2 + taken } else { 2 };
        let tail = [id[0], id[1], length[0], length[1], length[2], length[3]];
        dst.put_slice(&tail[start..end]);
        if version.is_v5() && !self.props.is_empty() {
            dst.put_slice(self.props.as_bytes());
        }
    }
}

fn some((rest, id): (&[u8], PacketId)) -> (&[u8], Option<PacketId>) {
    (rest, Some(id))
}

impl Body for Publish<'_> {
    #[inline]
    fn first_byte(&self) -> u8 {
        let dup = u8::from(self.dup && self.qos > QoS::AtMostOnce);
        (PacketType::Publish as u8) << 4 | dup << 3 | (self.qos as u8) << 1 | u8::from(self.retain)
    }

    #[inline]
    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        let mut len = wire::field_len(self.topic.as_bytes())? + self.payload.len() as u64;
        if self.qos > QoS::AtMostOnce {
            if self.id.is_none() {
                return Err(EncodeError::MissingPacketId);
            }
            len += 2;
        }
        if version.is_v5() {
            len += self.props.block_len();
        }
        Ok(len)
    }

    #[inline]
    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        self.put_head(remaining, version, dst);
        dst.put_slice(self.payload);
    }
}

wire::encode_methods!(Publish);
