//! MQTT 5 properties (section 2.2.2): validated once, kept as bytes, read on demand.
//!
//! A [`Props`] is a view of bytes that were checked at decode; nothing is allocated, and a lookup is
//! one walk over the block. Blocks are short: every property but two appears at most once, and those
//! two are bounded by [`MAX_REPEATED_PROPERTIES`].

mod build;
mod property;
mod validate;

use bytes::BufMut;

pub use build::PropsBuf;
pub use property::Property;
pub use validate::{MAX_REPEATED_PROPERTIES, PropsContext};

use crate::error::{DecodeError, Parsed};
use crate::text;
use crate::types::QoS;
use crate::varint;

/// Property identifiers (table 2-4). All are below 128, so that one byte holds each.
pub mod id {
    #![allow(
        missing_docs,
        reason = "the names are those of the specification's table"
    )]

    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// A validated property block without its length: raw bytes, decoded on demand. Empty for MQTT 3.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Props<'a> {
    raw: &'a [u8],
}

impl<'a> Props<'a> {
    /// No properties.
    pub const EMPTY: Props<'static> = Props { raw: &[] };

    /// The block without its length, as it is sent.
    #[inline]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether there are no properties.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Takes back bytes that came from [`Props::as_bytes`] or [`Props::segments`], say out of a
    /// store, without another check. Bytes from elsewhere do no harm here, but what is read from
    /// them ends at the first broken property, and a receiver will refuse them.
    #[inline]
    pub const fn from_trusted(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Checks a block without its length.
    ///
    /// # Errors
    /// The rule that the block breaks, with the offset in `raw`.
    pub fn validate(raw: &'a [u8], context: PropsContext) -> Result<Self, DecodeError> {
        validate::check(raw, context)
            .map_err(|fault| crate::error::Fault::at(&nom::Err::Error(fault), raw))?;
        Ok(Self { raw })
    }

    /// Reads length and properties of a packet.
    #[inline]
    pub(crate) fn parse(input: &'a [u8], context: PropsContext) -> Parsed<'a, Self> {
        match input {
            // Most packets have none.
            [0, rest @ ..] => Ok((rest, Props::EMPTY)),
            _ => validate::block(input, context).map(|(rest, raw)| (rest, Self { raw })),
        }
    }

    /// Bytes with the length. The sum is checked by the packet, so a block above what the length
    /// can express ends in [`crate::EncodeError::TooLarge`].
    #[inline]
    pub(crate) fn block_len(&self) -> u64 {
        let len = self.raw.len() as u64;
        varint::len(len.min(u64::from(varint::MAX)) as u32) as u64 + len
    }

    /// Writes length and properties.
    #[inline]
    pub(crate) fn put(&self, dst: &mut impl BufMut) {
        varint::put(self.raw.len() as u32, dst);
        dst.put_slice(self.raw);
    }

    /// The properties in order.
    #[inline]
    pub fn iter(&self) -> PropsIter<'a> {
        PropsIter { rest: self.raw }
    }

    /// The properties in order as identifier (see [`id`]) and bytes, the identifier included: what a
    /// server passes on without looking into it.
    #[inline]
    pub fn segments(&self) -> Segments<'a> {
        Segments { rest: self.raw }
    }

    /// The values of one property, as bytes.
    #[inline]
    fn values(&self, wanted: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.segments()
            .filter(move |(id, _)| *id == wanted)
            .map(|(_, bytes)| &bytes[1..])
    }

    #[inline]
    fn byte(&self, wanted: u8) -> Option<u8> {
        self.values(wanted).next()?.first().copied()
    }

    #[inline]
    fn flag(&self, wanted: u8) -> Option<bool> {
        self.byte(wanted).map(|byte| byte != 0)
    }

    #[inline]
    fn u16(&self, wanted: u8) -> Option<u16> {
        self.values(wanted)
            .next()?
            .try_into()
            .ok()
            .map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&self, wanted: u8) -> Option<u32> {
        self.values(wanted)
            .next()?
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    }

    #[inline]
    fn text(&self, wanted: u8) -> Option<&'a str> {
        self.values(wanted)
            .next()
            .and_then(|value| text::text(value).ok())
            .map(|(_, text)| text)
    }

    #[inline]
    fn binary(&self, wanted: u8) -> Option<&'a [u8]> {
        self.values(wanted).next()?.get(2..)
    }

    /// Payload Format Indicator (0x01): 1 if the payload is UTF-8.
    pub fn payload_format_indicator(&self) -> Option<u8> {
        self.byte(id::PAYLOAD_FORMAT_INDICATOR)
    }

    /// Message Expiry Interval (0x02) in seconds.
    pub fn message_expiry_secs(&self) -> Option<u32> {
        self.u32(id::MESSAGE_EXPIRY)
    }

    /// Content Type (0x03).
    pub fn content_type(&self) -> Option<&'a str> {
        self.text(id::CONTENT_TYPE)
    }

    /// Response Topic (0x08): a topic name.
    pub fn response_topic(&self) -> Option<&'a str> {
        self.text(id::RESPONSE_TOPIC)
    }

    /// Correlation Data (0x09).
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.binary(id::CORRELATION_DATA)
    }

    /// Subscription Identifiers (0x0B), 1 to 268,435,455, in order. One at most in SUBSCRIBE.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.values(id::SUBSCRIPTION_ID)
            .filter_map(|value| varint::read(value).ok())
            .map(|(id, _)| id)
    }

    /// Session Expiry Interval (0x11) in seconds; `u32::MAX` is never.
    pub fn session_expiry_secs(&self) -> Option<u32> {
        self.u32(id::SESSION_EXPIRY)
    }

    /// Assigned Client Identifier (0x12).
    pub fn assigned_client_id(&self) -> Option<&'a str> {
        self.text(id::ASSIGNED_CLIENT_ID)
    }

    /// Server Keep Alive (0x13) in seconds.
    pub fn server_keep_alive_secs(&self) -> Option<u16> {
        self.u16(id::SERVER_KEEP_ALIVE)
    }

    /// Authentication Method (0x15).
    pub fn authentication_method(&self) -> Option<&'a str> {
        self.text(id::AUTHENTICATION_METHOD)
    }

    /// Authentication Data (0x16).
    pub fn authentication_data(&self) -> Option<&'a [u8]> {
        self.binary(id::AUTHENTICATION_DATA)
    }

    /// Request Problem Information (0x17).
    pub fn request_problem_information(&self) -> Option<bool> {
        self.flag(id::REQUEST_PROBLEM_INFORMATION)
    }

    /// Will Delay Interval (0x18) in seconds.
    pub fn will_delay_secs(&self) -> Option<u32> {
        self.u32(id::WILL_DELAY)
    }

    /// Request Response Information (0x19).
    pub fn request_response_information(&self) -> Option<bool> {
        self.flag(id::REQUEST_RESPONSE_INFORMATION)
    }

    /// Response Information (0x1A).
    pub fn response_information(&self) -> Option<&'a str> {
        self.text(id::RESPONSE_INFORMATION)
    }

    /// Server Reference (0x1C).
    pub fn server_reference(&self) -> Option<&'a str> {
        self.text(id::SERVER_REFERENCE)
    }

    /// Reason String (0x1F).
    pub fn reason_string(&self) -> Option<&'a str> {
        self.text(id::REASON_STRING)
    }

    /// Receive Maximum (0x21), 1 to 65,535.
    pub fn receive_maximum(&self) -> Option<u16> {
        self.u16(id::RECEIVE_MAXIMUM)
    }

    /// Topic Alias Maximum (0x22).
    pub fn topic_alias_maximum(&self) -> Option<u16> {
        self.u16(id::TOPIC_ALIAS_MAXIMUM)
    }

    /// Topic Alias (0x23), 1 to 65,535.
    #[inline]
    pub fn topic_alias(&self) -> Option<u16> {
        self.u16(id::TOPIC_ALIAS)
    }

    /// Maximum QoS (0x24): 0 or 1; 2 is expressed by its absence.
    pub fn maximum_qos(&self) -> Option<QoS> {
        self.byte(id::MAXIMUM_QOS).and_then(QoS::from_bits)
    }

    /// Retain Available (0x25).
    pub fn retain_available(&self) -> Option<bool> {
        self.flag(id::RETAIN_AVAILABLE)
    }

    /// User Properties (0x26), name and value, in order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.values(id::USER_PROPERTY).filter_map(|value| {
            let (rest, name) = text::text(value).ok()?;
            let (_, value) = text::text(rest).ok()?;
            Some((name, value))
        })
    }

    /// Maximum Packet Size (0x27) in bytes, not 0.
    pub fn maximum_packet_size(&self) -> Option<u32> {
        self.u32(id::MAXIMUM_PACKET_SIZE)
    }

    /// Wildcard Subscription Available (0x28).
    pub fn wildcard_subscription_available(&self) -> Option<bool> {
        self.flag(id::WILDCARD_SUBSCRIPTION_AVAILABLE)
    }

    /// Subscription Identifier Available (0x29).
    pub fn subscription_ids_available(&self) -> Option<bool> {
        self.flag(id::SUBSCRIPTION_IDS_AVAILABLE)
    }

    /// Shared Subscription Available (0x2A).
    pub fn shared_subscription_available(&self) -> Option<bool> {
        self.flag(id::SHARED_SUBSCRIPTION_AVAILABLE)
    }
}

impl core::fmt::Debug for Props<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

crate::wire::into_iter!(Props, PropsIter, Property<'a>);

/// Iterates over the properties of a [`Props`].
#[derive(Clone, Debug)]
pub struct PropsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for PropsIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (rest, property) = property::parse(self.rest).ok()?;
        self.rest = rest;
        Some(property)
    }
}

/// Iterates over identifiers and bytes, see [`Props::segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&id, value) = self.rest.split_first()?;
        let len = 1 + property::value_len(id, value)?;
        let (segment, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some((id, segment))
    }
}
