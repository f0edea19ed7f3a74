//! One property: its value, how it is read and written.

use bytes::BufMut;
use nom::number::complete::{be_u16, be_u32, u8 as byte};

use super::id;
use crate::error::{EncodeError, ErrorKind, Fault, Parsed};
use crate::text;
use crate::types::QoS;
use crate::varint;

/// A property of MQTT 5. Intervals are in seconds, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Property<'a> {
    /// 0x01: 1 if the payload is UTF-8, else 0.
    PayloadFormatIndicator(u8),
    /// 0x02.
    MessageExpiry(u32),
    /// 0x03.
    ContentType(&'a str),
    /// 0x08: a topic name.
    ResponseTopic(&'a str),
    /// 0x09.
    CorrelationData(&'a [u8]),
    /// 0x0B: 1 to 268,435,455.
    SubscriptionId(u32),
    /// 0x11: `u32::MAX` is never.
    SessionExpiry(u32),
    /// 0x12.
    AssignedClientId(&'a str),
    /// 0x13.
    ServerKeepAlive(u16),
    /// 0x15.
    AuthenticationMethod(&'a str),
    /// 0x16.
    AuthenticationData(&'a [u8]),
    /// 0x17.
    RequestProblemInformation(bool),
    /// 0x18.
    WillDelay(u32),
    /// 0x19.
    RequestResponseInformation(bool),
    /// 0x1A.
    ResponseInformation(&'a str),
    /// 0x1C.
    ServerReference(&'a str),
    /// 0x1F.
    ReasonString(&'a str),
    /// 0x21: not 0.
    ReceiveMaximum(u16),
    /// 0x22.
    TopicAliasMaximum(u16),
    /// 0x23: not 0.
    TopicAlias(u16),
    /// 0x24: QoS 0 or 1; QoS 2 is expressed by leaving the property out.
    MaximumQos(QoS),
    /// 0x25.
    RetainAvailable(bool),
    /// 0x26: name and value.
    UserProperty(&'a str, &'a str),
    /// 0x27: not 0.
    MaximumPacketSize(u32),
    /// 0x28.
    WildcardSubscriptionAvailable(bool),
    /// 0x29.
    SubscriptionIdsAvailable(bool),
    /// 0x2A.
    SharedSubscriptionAvailable(bool),
}

/// A value as the wire knows it.
enum Value<'a> {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Varint(u32),
    Field(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

impl<'a> Property<'a> {
    /// The identifier, see [`id`].
    pub const fn id(&self) -> u8 {
        match self {
            Self::PayloadFormatIndicator(_) => id::PAYLOAD_FORMAT_INDICATOR,
            Self::MessageExpiry(_) => id::MESSAGE_EXPIRY,
            Self::ContentType(_) => id::CONTENT_TYPE,
            Self::ResponseTopic(_) => id::RESPONSE_TOPIC,
            Self::CorrelationData(_) => id::CORRELATION_DATA,
            Self::SubscriptionId(_) => id::SUBSCRIPTION_ID,
            Self::SessionExpiry(_) => id::SESSION_EXPIRY,
            Self::AssignedClientId(_) => id::ASSIGNED_CLIENT_ID,
            Self::ServerKeepAlive(_) => id::SERVER_KEEP_ALIVE,
            Self::AuthenticationMethod(_) => id::AUTHENTICATION_METHOD,
            Self::AuthenticationData(_) => id::AUTHENTICATION_DATA,
            Self::RequestProblemInformation(_) => id::REQUEST_PROBLEM_INFORMATION,
            Self::WillDelay(_) => id::WILL_DELAY,
            Self::RequestResponseInformation(_) => id::REQUEST_RESPONSE_INFORMATION,
            Self::ResponseInformation(_) => id::RESPONSE_INFORMATION,
            Self::ServerReference(_) => id::SERVER_REFERENCE,
            Self::ReasonString(_) => id::REASON_STRING,
            Self::ReceiveMaximum(_) => id::RECEIVE_MAXIMUM,
            Self::TopicAliasMaximum(_) => id::TOPIC_ALIAS_MAXIMUM,
            Self::TopicAlias(_) => id::TOPIC_ALIAS,
            Self::MaximumQos(_) => id::MAXIMUM_QOS,
            Self::RetainAvailable(_) => id::RETAIN_AVAILABLE,
            Self::UserProperty(..) => id::USER_PROPERTY,
            Self::MaximumPacketSize(_) => id::MAXIMUM_PACKET_SIZE,
            Self::WildcardSubscriptionAvailable(_) => id::WILDCARD_SUBSCRIPTION_AVAILABLE,
            Self::SubscriptionIdsAvailable(_) => id::SUBSCRIPTION_IDS_AVAILABLE,
            Self::SharedSubscriptionAvailable(_) => id::SHARED_SUBSCRIPTION_AVAILABLE,
        }
    }

    fn value(&self) -> Value<'a> {
        match *self {
            Self::PayloadFormatIndicator(value) => Value::Byte(value),
            Self::MaximumQos(value) => Value::Byte(value as u8),
            Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdsAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => Value::Byte(u8::from(value)),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => Value::TwoBytes(value),
            Self::MessageExpiry(value)
            | Self::SessionExpiry(value)
            | Self::WillDelay(value)
            | Self::MaximumPacketSize(value) => Value::FourBytes(value),
            Self::SubscriptionId(value) => Value::Varint(value),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientId(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => Value::Field(text.as_bytes()),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => Value::Field(bytes),
            Self::UserProperty(name, value) => Value::Pair(name.as_bytes(), value.as_bytes()),
        }
    }

    /// Whether the wire can carry the value. Values that the protocol forbids, like a topic alias
    /// of 0, can be carried; a text above 65,535 bytes and a subscription identifier above
    /// 268,435,455 cannot.
    ///
    /// # Errors
    /// [`EncodeError::StringTooLong`], [`EncodeError::ValueOutOfRange`].
    pub fn check(&self) -> Result<(), EncodeError> {
        let long = |field: &[u8]| field.len() > usize::from(u16::MAX);
        match self.value() {
            Value::Field(field) if long(field) => Err(EncodeError::StringTooLong),
            Value::Pair(name, value) if long(name) || long(value) => {
                Err(EncodeError::StringTooLong)
            }
            Value::Varint(value) if value > varint::MAX => Err(EncodeError::ValueOutOfRange),
            _ => Ok(()),
        }
    }

    /// Identifier byte plus value; 0 for a value that the wire cannot carry (see [`Property::check`]).
    pub fn encoded_len(&self) -> usize {
        if self.check().is_err() {
            return 0;
        }
        1 + match self.value() {
            Value::Byte(_) => 1,
            Value::TwoBytes(_) => 2,
            Value::FourBytes(_) => 4,
            Value::Varint(value) => varint::len(value),
            Value::Field(field) => 2 + field.len(),
            Value::Pair(name, value) => 4 + name.len() + value.len(),
        }
    }

    /// Writes identifier and value: exactly [`Property::encoded_len`] bytes, so nothing for a value
    /// that the wire cannot carry.
    ///
    /// # Panics
    /// If `dst` has less room than that.
    pub fn encode(&self, dst: &mut impl BufMut) {
        if self.check().is_err() {
            return;
        }
        dst.put_u8(self.id());
        match self.value() {
            Value::Byte(value) => dst.put_u8(value),
            Value::TwoBytes(value) => dst.put_u16(value),
            Value::FourBytes(value) => dst.put_u32(value),
            Value::Varint(value) => varint::put(value, dst),
            Value::Field(field) => crate::wire::put_field(field, dst),
            Value::Pair(name, value) => {
                crate::wire::put_field(name, dst);
                crate::wire::put_field(value, dst);
            }
        }
    }
}

/// Bytes of a value, judged by its own lengths; `None` if the identifier is unknown or the value
/// is cut off.
#[inline]
pub(super) fn value_len(id: u8, value: &[u8]) -> Option<usize> {
    let field = |at: usize| -> Option<usize> {
        let length = value.get(at..)?.first_chunk::<2>()?;
        Some(at + 2 + usize::from(u16::from_be_bytes(*length)))
    };
    match id {
        id::PAYLOAD_FORMAT_INDICATOR
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_IDS_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => Some(1),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
            Some(2)
        }
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::MAXIMUM_PACKET_SIZE => {
            Some(4)
        }
        id::SUBSCRIPTION_ID => varint::read(value).ok().map(|(_, taken)| taken),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA
        | id::ASSIGNED_CLIENT_ID
        | id::AUTHENTICATION_METHOD
        | id::AUTHENTICATION_DATA
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => field(0),
        id::USER_PROPERTY => field(field(0)?),
        _ => None,
    }
}

/// Reads one property and checks its value. A value cut off is [`ErrorKind::Truncated`].
#[inline]
pub(super) fn parse(input: &[u8]) -> Parsed<'_, Property<'_>> {
    let (at, id) = byte(input)?;
    match id {
        id::PAYLOAD_FORMAT_INDICATOR => match byte(at)? {
            (rest, value @ (0 | 1)) => Ok((rest, Property::PayloadFormatIndicator(value))),
            (_, value) => Err(Fault::err(
                ErrorKind::PayloadFormatIndicatorValue(value),
                at,
            )),
        },
        id::MAXIMUM_QOS => match byte(at)? {
            (rest, 0) => Ok((rest, Property::MaximumQos(QoS::AtMostOnce))),
            (rest, 1) => Ok((rest, Property::MaximumQos(QoS::AtLeastOnce))),
            (_, value) => Err(Fault::err(ErrorKind::MaximumQosValue(value), at)),
        },
        id::REQUEST_PROBLEM_INFORMATION => boolean(id, at, Property::RequestProblemInformation),
        id::REQUEST_RESPONSE_INFORMATION => boolean(id, at, Property::RequestResponseInformation),
        id::RETAIN_AVAILABLE => boolean(id, at, Property::RetainAvailable),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => {
            boolean(id, at, Property::WildcardSubscriptionAvailable)
        }
        id::SUBSCRIPTION_IDS_AVAILABLE => boolean(id, at, Property::SubscriptionIdsAvailable),
        id::SHARED_SUBSCRIPTION_AVAILABLE => boolean(id, at, Property::SharedSubscriptionAvailable),
        id::SERVER_KEEP_ALIVE => map(be_u16(at), Property::ServerKeepAlive),
        id::TOPIC_ALIAS_MAXIMUM => map(be_u16(at), Property::TopicAliasMaximum),
        id::RECEIVE_MAXIMUM => match be_u16(at)? {
            (_, 0) => Err(Fault::err(ErrorKind::ReceiveMaximumZero, at)),
            (rest, value) => Ok((rest, Property::ReceiveMaximum(value))),
        },
        id::TOPIC_ALIAS => match be_u16(at)? {
            (_, 0) => Err(Fault::err(ErrorKind::TopicAliasZero, at)),
            (rest, value) => Ok((rest, Property::TopicAlias(value))),
        },
        id::MESSAGE_EXPIRY => map(be_u32(at), Property::MessageExpiry),
        id::SESSION_EXPIRY => map(be_u32(at), Property::SessionExpiry),
        id::WILL_DELAY => map(be_u32(at), Property::WillDelay),
        id::MAXIMUM_PACKET_SIZE => match be_u32(at)? {
            (_, 0) => Err(Fault::err(ErrorKind::MaximumPacketSizeZero, at)),
            (rest, value) => Ok((rest, Property::MaximumPacketSize(value))),
        },
        id::SUBSCRIPTION_ID => {
            let too_long = ErrorKind::SubscriptionIdTooLong;
            match varint::parse(at, too_long, ErrorKind::SubscriptionIdNotMinimal)? {
                (_, 0) => Err(Fault::err(ErrorKind::SubscriptionIdZero, at)),
                (rest, value) => Ok((rest, Property::SubscriptionId(value))),
            }
        }
        id::CONTENT_TYPE => map(text::text(at), Property::ContentType),
        id::RESPONSE_TOPIC => match text::topic_name(at, ErrorKind::ResponseTopicWildcard)? {
            (_, "") => Err(Fault::err(ErrorKind::ResponseTopicEmpty, at)),
            (rest, topic) => Ok((rest, Property::ResponseTopic(topic))),
        },
        id::ASSIGNED_CLIENT_ID => map(text::text(at), Property::AssignedClientId),
        id::AUTHENTICATION_METHOD => map(text::text(at), Property::AuthenticationMethod),
        id::RESPONSE_INFORMATION => map(text::text(at), Property::ResponseInformation),
        id::SERVER_REFERENCE => map(text::text(at), Property::ServerReference),
        id::REASON_STRING => map(text::text(at), Property::ReasonString),
        id::CORRELATION_DATA => map(text::binary(at), Property::CorrelationData),
        id::AUTHENTICATION_DATA => map(text::binary(at), Property::AuthenticationData),
        id::USER_PROPERTY => {
            let (rest, name) = text::text(at)?;
            let (rest, value) = text::text(rest)?;
            Ok((rest, Property::UserProperty(name, value)))
        }
        _ => Err(Fault::err(unknown(input, id), input)),
    }
}

#[inline]
fn map<'a, T>(
    parsed: Parsed<'a, T>,
    property: impl Fn(T) -> Property<'a>,
) -> Parsed<'a, Property<'a>> {
    parsed.map(|(rest, value)| (rest, property(value)))
}

#[inline]
fn boolean<'a>(
    id: u8,
    at: &'a [u8],
    property: impl Fn(bool) -> Property<'a>,
) -> Parsed<'a, Property<'a>> {
    match byte(at)? {
        (rest, 0) => Ok((rest, property(false))),
        (rest, 1) => Ok((rest, property(true))),
        _ => Err(Fault::err(ErrorKind::PropertyNotBoolean(id), at)),
    }
}

/// An identifier is a variable byte integer too, though no known one needs a second byte.
#[cold]
pub(super) fn unknown(input: &[u8], id: u8) -> ErrorKind {
    match varint::read(input) {
        Ok(_) => ErrorKind::UnknownProperty(id),
        Err(varint::VarintError::Incomplete) => ErrorKind::PropertyTruncated,
        Err(varint::VarintError::TooLong) => ErrorKind::PropertyIdTooLong,
        Err(varint::VarintError::NotMinimal) => ErrorKind::PropertyIdNotMinimal,
    }
}
