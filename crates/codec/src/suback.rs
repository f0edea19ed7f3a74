//! SUBACK and UNSUBACK (sections 3.9 and 3.11): a code for each filter of the request.

use bytes::BufMut;

use crate::error::{EncodeError, ErrorKind, Fault, Parsed};
use crate::packet::packet_id;
use crate::props::{Props, PropsContext};
use crate::reason::{ReasonCode, ReasonTable};
use crate::types::{PacketId, PacketType, Version};
use crate::wire::{self, Body};

/// SUBACK and UNSUBACK codes, raw; `iter` yields reason codes (MQTT 3: 0x00, 0x01, 0x02, 0x80).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReasonCodes<'a> {
    raw: &'a [u8],
}

impl<'a> ReasonCodes<'a> {
    /// No codes: the UNSUBACK of MQTT 3.
    pub const EMPTY: ReasonCodes<'static> = ReasonCodes { raw: &[] };

    /// Each byte must be a reason code, else `None`.
    pub fn new(codes: &'a [u8]) -> Option<Self> {
        codes
            .iter()
            .all(|code| ReasonCode::from_u8(*code).is_some())
            .then_some(Self { raw: codes })
    }

    /// The codes in the order of the filters of the request.
    pub fn iter(&self) -> ReasonCodesIter<'a> {
        ReasonCodesIter {
            rest: self.raw.iter(),
        }
    }

    /// How many codes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The bytes as the packet carries them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    fn parse(input: &'a [u8], check: impl Fn(u8) -> Result<(), ErrorKind>) -> Parsed<'a, Self> {
        for (index, &code) in input.iter().enumerate() {
            check(code).map_err(|kind| Fault::err(kind, &input[index..]))?;
        }
        Ok((&[], Self { raw: input }))
    }
}

impl core::fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

wire::into_iter!(ReasonCodes, ReasonCodesIter, ReasonCode);

/// Iterates over [`ReasonCodes`].
#[derive(Clone, Debug)]
pub struct ReasonCodesIter<'a> {
    rest: core::slice::Iter<'a, u8>,
}

impl Iterator for ReasonCodesIter<'_> {
    type Item = ReasonCode;

    fn next(&mut self) -> Option<ReasonCode> {
        ReasonCode::from_u8(*self.rest.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }
}

impl ExactSizeIterator for ReasonCodesIter<'_> {}

/// SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE ([MQTT-2.2.1-6]).
    pub id: PacketId,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// At least one. Every error is written as 0x80 before MQTT 5 ([MQTT-3.9.3-2] of 3.1.1).
    pub codes: ReasonCodes<'a>,
}

/// UNSUBACK. MQTT 3 carries no codes: `codes` is empty and ignored there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct UnsubAck<'a> {
    /// The identifier of the UNSUBSCRIBE ([MQTT-2.2.1-6]).
    pub id: PacketId,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// At least one in MQTT 5.
    pub codes: ReasonCodes<'a>,
}

/// The error of MQTT 3 for a filter that was refused.
const FAILURE: u8 = ReasonCode::UnspecifiedError as u8;

impl<'a> SubAck<'a> {
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        let (rest, id) = packet_id(body)?;
        let (codes_at, props) = if version.is_v5() {
            Props::parse(rest, PropsContext::SubAck)?
        } else {
            (rest, Props::EMPTY)
        };
        let (rest, codes) = ReasonCodes::parse(codes_at, |code| match code {
            0x00..=0x02 | FAILURE => Ok(()),
            _ if version.is_v5() => ReasonTable::SubAck.check(code).map(drop),
            _ => Err(ErrorKind::SubAckReasonCode(code)),
        })?;
        if codes.is_empty() {
            return Err(Fault::err(ErrorKind::SubAckWithoutCodes, codes_at));
        }
        Ok((rest, Self { id, props, codes }))
    }
}

impl Body for SubAck<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::SubAck as u8) << 4
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        if self.codes.is_empty() {
            return Err(EncodeError::Invalid(ErrorKind::SubAckWithoutCodes));
        }
        let props = if version.is_v5() {
            self.props.block_len()
        } else {
            0
        };
        Ok(2 + props + self.codes.len() as u64)
    }

    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        dst.put_u16(self.id.get());
        if version.is_v5() {
            self.props.put(dst);
            dst.put_slice(self.codes.raw);
        } else {
            for &code in self.codes.raw {
                dst.put_u8(code.min(FAILURE));
            }
        }
    }
}

wire::encode_methods!(SubAck);

impl<'a> UnsubAck<'a> {
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        if !version.is_v5() && body.len() != 2 {
            return Err(Fault::err(ErrorKind::FixedLength, body));
        }
        let (rest, id) = packet_id(body)?;
        if !version.is_v5() {
            return Ok((
                rest,
                Self {
                    id,
                    props: Props::EMPTY,
                    codes: ReasonCodes::EMPTY,
                },
            ));
        }
        let (codes_at, props) = Props::parse(rest, PropsContext::UnsubAck)?;
        let (rest, codes) =
            ReasonCodes::parse(codes_at, |code| ReasonTable::UnsubAck.check(code).map(drop))?;
        if codes.is_empty() {
            return Err(Fault::err(ErrorKind::UnsubAckWithoutCodes, codes_at));
        }
        Ok((rest, Self { id, props, codes }))
    }
}

impl Body for UnsubAck<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::UnsubAck as u8) << 4
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        if !version.is_v5() {
            return Ok(2);
        }
        if self.codes.is_empty() {
            return Err(EncodeError::Invalid(ErrorKind::UnsubAckWithoutCodes));
        }
        Ok(2 + self.props.block_len() + self.codes.len() as u64)
    }

    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        dst.put_u16(self.id.get());
        if version.is_v5() {
            self.props.put(dst);
            dst.put_slice(self.codes.raw);
        }
    }
}

wire::encode_methods!(UnsubAck);
