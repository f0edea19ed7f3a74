//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 and 3.10): lists of filters, kept as validated bytes.
//!
//! Filters are checked as text only. Whether one is a valid topic filter, and whether No Local
//! stands on a shared one, is for those who know filters.

use alloc::vec::Vec;

use bytes::BufMut;
use nom::number::complete::u8 as byte;

use crate::error::{EncodeError, ErrorKind, Fault, Parsed};
use crate::packet::packet_id;
use crate::props::{Props, PropsContext};
use crate::text;
use crate::types::{OutOfRange, PacketId, PacketType, QoS, Version};
use crate::wire::{self, Body};

/// What happens to retained messages when a subscription is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u8", try_from = "u8"))]
#[repr(u8)]
pub enum RetainHandling {
    /// They are sent.
    #[default]
    SendAlways = 0,
    /// They are sent if the subscription did not exist.
    SendIfNew = 1,
    /// They are not sent.
    DoNotSend = 2,
}

impl From<RetainHandling> for u8 {
    fn from(handling: RetainHandling) -> Self {
        handling as Self
    }
}

impl TryFrom<u8> for RetainHandling {
    type Error = OutOfRange;

    fn try_from(bits: u8) -> Result<Self, OutOfRange> {
        match bits {
            0 => Ok(Self::SendAlways),
            1 => Ok(Self::SendIfNew),
            2 => Ok(Self::DoNotSend),
            _ => Err(OutOfRange(bits)),
        }
    }
}

/// The options of one subscription (3.8.3.1). Before MQTT 5 there is only the QoS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SubscribeOptions {
    /// The highest QoS wanted.
    pub qos: QoS,
    /// Messages of this client are not sent back to it.
    pub no_local: bool,
    /// The RETAIN flag is kept as it was published.
    pub retain_as_published: bool,
    /// Whether retained messages are sent.
    pub retain_handling: RetainHandling,
}

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED_V5: u8 = 0b1100_0000;
const RESERVED_V3: u8 = 0b1111_1100;
const QOS_MASK: u8 = 0b11;

impl SubscribeOptions {
    /// Only a QoS: the options of MQTT 3.
    pub const fn qos(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        }
    }

    /// The byte that MQTT 5 sends.
    pub const fn to_u8(self) -> u8 {
        let mut bits = self.qos as u8 | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
        if self.no_local {
            bits |= NO_LOCAL;
        }
        if self.retain_as_published {
            bits |= RETAIN_AS_PUBLISHED;
        }
        bits
    }

    /// Reads the byte of MQTT 5; `None` for QoS 3, retain handling 3 and reserved bits.
    pub fn from_u8(bits: u8) -> Option<Self> {
        if bits & RESERVED_V5 != 0 {
            return None;
        }
        Some(Self {
            qos: QoS::from_bits(bits & QOS_MASK)?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling: RetainHandling::try_from(bits >> RETAIN_HANDLING_SHIFT & 0b11).ok()?,
        })
    }

    fn check(bits: u8, version: Version) -> Result<(), ErrorKind> {
        let reserved = if version.is_v5() {
            RESERVED_V5
        } else {
            RESERVED_V3
        };
        if bits & reserved != 0 {
            Err(ErrorKind::SubscribeReservedBits)
        } else if bits & QOS_MASK == 3 {
            Err(ErrorKind::SubscribeQos3)
        } else if bits >> RETAIN_HANDLING_SHIFT == 3 {
            Err(ErrorKind::RetainHandling3)
        } else {
            Ok(())
        }
    }
}

/// The filters of a SUBSCRIBE: validated raw `(filter, options)*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubscribeFilters<'a> {
    raw: &'a [u8],
    count: usize,
}

impl<'a> SubscribeFilters<'a> {
    /// Filters and options in order.
    pub fn iter(&self) -> SubscribeFiltersIter<'a> {
        SubscribeFiltersIter {
            rest: self.raw,
            left: self.count,
        }
    }

    /// How many filters.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never true for a decoded packet ([MQTT-3.8.3-2]).
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn parse(input: &'a [u8], version: Version) -> Parsed<'a, Self> {
        let mut rest = input;
        let mut count = 0;
        while !rest.is_empty() {
            let (options_at, _) = text::text(rest)?;
            let (after, options) = byte(options_at)?;
            SubscribeOptions::check(options, version)
                .map_err(|kind| Fault::err(kind, options_at))?;
            rest = after;
            count += 1;
        }
        if count == 0 {
            return Err(Fault::err(ErrorKind::SubscribeWithoutFilters, rest));
        }
        Ok((rest, Self { raw: input, count }))
    }
}

impl core::fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

wire::into_iter!(
    SubscribeFilters,
    SubscribeFiltersIter,
    (&'a str, SubscribeOptions)
);

/// Iterates over [`SubscribeFilters`].
#[derive(Clone, Debug)]
pub struct SubscribeFiltersIter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for SubscribeFiltersIter<'a> {
    type Item = (&'a str, SubscribeOptions);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, filter) = text::text(self.rest).ok()?;
        let (&options, rest) = rest.split_first()?;
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        Some((filter, SubscribeOptions::from_u8(options)?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for SubscribeFiltersIter<'_> {}

/// Builds [`SubscribeFilters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeFiltersBuf {
    raw: Vec<u8>,
    count: usize,
}

impl SubscribeFiltersBuf {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a filter.
    ///
    /// # Errors
    /// [`EncodeError::StringTooLong`] for a filter above 65,535 bytes.
    pub fn push(&mut self, filter: &str, options: SubscribeOptions) -> Result<(), EncodeError> {
        wire::field_len(filter.as_bytes())?;
        wire::put_field(filter.as_bytes(), &mut self.raw);
        self.raw.push(options.to_u8());
        self.count += 1;
        Ok(())
    }

    /// The list as a packet holds it.
    pub fn as_filters(&self) -> SubscribeFilters<'_> {
        SubscribeFilters {
            raw: &self.raw,
            count: self.count,
        }
    }
}

/// SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Subscribe<'a> {
    /// The identifier that SUBACK repeats.
    pub id: PacketId,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// At least one.
    pub filters: SubscribeFilters<'a>,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        let (rest, id) = packet_id(body)?;
        let (rest, props) = if version.is_v5() {
            Props::parse(rest, PropsContext::Subscribe)?
        } else {
            (rest, Props::EMPTY)
        };
        let (rest, filters) = SubscribeFilters::parse(rest, version)?;
        Ok((rest, Self { id, props, filters }))
    }
}

impl Body for Subscribe<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Subscribe as u8) << 4 | 0b0010
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Invalid(ErrorKind::SubscribeWithoutFilters));
        }
        let props = if version.is_v5() {
            self.props.block_len()
        } else {
            0
        };
        Ok(2 + props + self.filters.raw.len() as u64)
    }

    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        dst.put_u16(self.id.get());
        if version.is_v5() {
            self.props.put(dst);
            dst.put_slice(self.filters.raw);
            return;
        }
        // The list may come from an MQTT 5 packet or a builder; MQTT 3 reserves all but the QoS.
        for (filter, options) in self.filters {
            wire::put_field(filter.as_bytes(), dst);
            dst.put_u8(options.qos as u8);
        }
    }
}

wire::encode_methods!(Subscribe);

/// The filters of an UNSUBSCRIBE: validated raw `filter*`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> {
    raw: &'a [u8],
    count: usize,
}

impl<'a> UnsubscribeFilters<'a> {
    /// The filters in order.
    pub fn iter(&self) -> UnsubscribeFiltersIter<'a> {
        UnsubscribeFiltersIter {
            rest: self.raw,
            left: self.count,
        }
    }

    /// How many filters.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Never true for a decoded packet ([MQTT-3.10.3-2]).
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn parse(input: &'a [u8]) -> Parsed<'a, Self> {
        let mut rest = input;
        let mut count = 0;
        while !rest.is_empty() {
            (rest, _) = text::text(rest)?;
            count += 1;
        }
        if count == 0 {
            return Err(Fault::err(ErrorKind::UnsubscribeWithoutFilters, rest));
        }
        Ok((rest, Self { raw: input, count }))
    }
}

impl core::fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

wire::into_iter!(UnsubscribeFilters, UnsubscribeFiltersIter, &'a str);

/// Iterates over [`UnsubscribeFilters`].
#[derive(Clone, Debug)]
pub struct UnsubscribeFiltersIter<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for UnsubscribeFiltersIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, filter) = text::text(self.rest).ok()?;
        self.rest = rest;
        self.left = self.left.saturating_sub(1);
        Some(filter)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for UnsubscribeFiltersIter<'_> {}

/// Builds [`UnsubscribeFilters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnsubscribeFiltersBuf {
    raw: Vec<u8>,
    count: usize,
}

impl UnsubscribeFiltersBuf {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a filter.
    ///
    /// # Errors
    /// [`EncodeError::StringTooLong`] for a filter above 65,535 bytes.
    pub fn push(&mut self, filter: &str) -> Result<(), EncodeError> {
        wire::field_len(filter.as_bytes())?;
        wire::put_field(filter.as_bytes(), &mut self.raw);
        self.count += 1;
        Ok(())
    }

    /// The list as a packet holds it.
    pub fn as_filters(&self) -> UnsubscribeFilters<'_> {
        UnsubscribeFilters {
            raw: &self.raw,
            count: self.count,
        }
    }
}

/// UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Unsubscribe<'a> {
    /// The identifier that UNSUBACK repeats.
    pub id: PacketId,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// At least one.
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn parse(body: &'a [u8], version: Version) -> Parsed<'a, Self> {
        let (rest, id) = packet_id(body)?;
        let (rest, props) = if version.is_v5() {
            Props::parse(rest, PropsContext::Unsubscribe)?
        } else {
            (rest, Props::EMPTY)
        };
        let (rest, filters) = UnsubscribeFilters::parse(rest)?;
        Ok((rest, Self { id, props, filters }))
    }
}

impl Body for Unsubscribe<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Unsubscribe as u8) << 4 | 0b0010
    }

    fn remaining_len(&self, version: Version) -> Result<u64, EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Invalid(ErrorKind::UnsubscribeWithoutFilters));
        }
        let props = if version.is_v5() {
            self.props.block_len()
        } else {
            0
        };
        Ok(2 + props + self.filters.raw.len() as u64)
    }

    fn put(&self, remaining: u32, version: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        dst.put_u16(self.id.get());
        if version.is_v5() {
            self.props.put(dst);
        }
        dst.put_slice(self.filters.raw);
    }
}

wire::encode_methods!(Unsubscribe);
