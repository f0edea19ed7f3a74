//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7): one shape, four packet types.

use bytes::BufMut;
use nom::number::complete::u8 as byte;

use crate::error::{EncodeError, ErrorKind, Fault, Parsed};
use crate::packet::{end, packet_id};
use crate::props::{Props, PropsContext};
use crate::reason::{ReasonCode, ReasonTable};
use crate::types::{PacketId, PacketType, Version};
use crate::wire::{self, Body};

/// Which acknowledgement an [`Ack`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AckKind {
    /// The answer to a QoS 1 PUBLISH.
    PubAck,
    /// The first answer to a QoS 2 PUBLISH.
    PubRec,
    /// The answer to PUBREC.
    PubRel,
    /// The answer to PUBREL.
    PubComp,
}

impl AckKind {
    /// The packet type.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }

    const fn table(self) -> ReasonTable {
        match self {
            Self::PubAck => ReasonTable::PubAck,
            Self::PubRec => ReasonTable::PubRec,
            Self::PubRel => ReasonTable::PubRel,
            Self::PubComp => ReasonTable::PubComp,
        }
    }
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
///
/// Before MQTT 5 there is only the packet identifier: `reason` and `props` are not written, and
/// decode as Success and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Ack<'a> {
    /// Which of the four.
    pub kind: AckKind,
    /// The identifier of the PUBLISH it belongs to ([MQTT-2.2.1-5]).
    pub id: PacketId,
    /// How it went.
    pub reason: ReasonCode,
    /// Reason string and user properties.
    pub props: Props<'a>,
}

impl Ack<'static> {
    /// An acknowledgement with reason Success.
    #[inline]
    pub const fn new(kind: AckKind, id: PacketId) -> Self {
        Self {
            kind,
            id,
            reason: ReasonCode::Success,
            props: Props::EMPTY,
        }
    }
}

impl<'a> Ack<'a> {
    #[inline]
    pub(crate) fn parse(kind: AckKind, body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        if !version.is_v5() && body.len() != 2 {
            return Err(Fault::err(ErrorKind::FixedLength, body));
        }
        let (rest, id) = packet_id(body)?;
        // Remaining length 2: reason Success, no properties (3.4.2.1 and its like).
        if rest.is_empty() {
            return Ok((
                rest,
                Self {
                    kind,
                    id,
                    reason: ReasonCode::Success,
                    props: Props::EMPTY,
                },
            ));
        }
        let (after, code) = byte(rest)?;
        let reason = kind
            .table()
            .check(code)
            .map_err(|error| Fault::err(error, rest))?;
        // Remaining length 3: no properties (3.4.2.2.1).
        let (after, props) = if after.is_empty() {
            (after, Props::EMPTY)
        } else {
            Props::parse(after, PropsContext::Ack)?
        };
        end(after)?;
        Ok((
            after,
            Self {
                kind,
                id,
                reason,
                props,
            },
        ))
    }
}

impl Body for Ack<'_> {
    #[inline]
    fn first_byte(&self) -> u8 {
        let flags = if self.kind == AckKind::PubRel {
            0b0010
        } else {
            0
        };
        (self.kind.packet_type() as u8) << 4 | flags
    }

    #[inline]
    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        Ok(match (version.is_v5(), self.props.is_empty()) {
            (false, _) => 2,
            (true, true) if self.reason == ReasonCode::Success => 2,
            (true, true) => 3,
            (true, false) => 3 + self.props.block_len(),
        })
    }

    #[inline]
    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        dst.put_u16(self.id.get());
        if !version.is_v5() {
            return;
        }
        if self.reason != ReasonCode::Success || !self.props.is_empty() {
            dst.put_u8(self.reason as u8);
        }
        if !self.props.is_empty() {
            self.props.put(dst);
        }
    }
}

wire::encode_methods!(Ack);
