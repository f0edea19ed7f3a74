//! Zero-copy MQTT 3.1, 3.1.1 and 5.0: frame splitting, borrowed packets, exact-size encoders.
//!
//! API CONTRACT (names and signatures are fixed, bodies are to be written and split into modules).
#![no_std]
#![allow(missing_docs, unused_variables, clippy::all, clippy::pedantic, clippy::unimplemented)]
extern crate alloc;
use alloc::vec::Vec;
use bytes::{BufMut, Bytes};
use core::num::NonZeroU16;

/// Largest remaining length the wire can express.
pub const MAX_REMAINING_LENGTH: u32 = 268_435_455;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version { V31 = 3, V311 = 4, V5 = 5 }
impl Version { pub fn is_v5(self) -> bool { self == Self::V5 } }

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS { #[default] AtMostOnce = 0, AtLeastOnce = 1, ExactlyOnce = 2 }
impl QoS { pub fn from_bits(bits: u8) -> Option<Self> { unimplemented!() } }

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);
impl PacketId {
    pub fn new(id: u16) -> Option<Self> { NonZeroU16::new(id).map(Self) }
    pub fn get(self) -> u16 { self.0.get() }
}

/// Every reason code of MQTT 5 (section 2.4). 0x00 is Success, Normal disconnection and Granted QoS 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonCode {
    Success = 0x00, GrantedQos1 = 0x01, GrantedQos2 = 0x02, DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10, NoSubscriptionExisted = 0x11, ContinueAuthentication = 0x18, ReAuthenticate = 0x19,
    UnspecifiedError = 0x80, MalformedPacket = 0x81, ProtocolError = 0x82, ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84, ClientIdentifierNotValid = 0x85, BadUserNameOrPassword = 0x86, NotAuthorized = 0x87,
    ServerUnavailable = 0x88, ServerBusy = 0x89, Banned = 0x8A, ServerShuttingDown = 0x8B, BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D, SessionTakenOver = 0x8E, TopicFilterInvalid = 0x8F, TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91, PacketIdentifierNotFound = 0x92, ReceiveMaximumExceeded = 0x93, TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95, MessageRateTooHigh = 0x96, QuotaExceeded = 0x97, AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99, RetainNotSupported = 0x9A, QosNotSupported = 0x9B, UseAnotherServer = 0x9C, ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E, ConnectionRateExceeded = 0x9F, MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1, WildcardSubscriptionsNotSupported = 0xA2,
}
impl ReasonCode {
    pub fn from_u8(code: u8) -> Option<Self> { unimplemented!() }
    pub fn is_error(self) -> bool { self as u8 >= 0x80 }
    /// The MQTT 3 CONNACK return code (0 to 5), `None` where MQTT 3 has none and the connection is just closed.
    pub fn connect_return_code(self) -> Option<u8> { unimplemented!() }
}

/// One complete packet as it lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> { pub first: u8, pub body: &'a [u8], /** Length with fixed header. */ pub len: usize }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split<'a> {
    Frame(Frame<'a>),
    /// At least `need` bytes in all (counted from the start of `input`) are wanted before another call can succeed.
    Partial { need: usize },
}
/// Splits the first packet off `input`; `max_packet` bounds the whole packet, header included (`PacketTooLarge`),
/// judged on the header, before the body arrived.
pub fn split(input: &[u8], max_packet: u32) -> Result<Split<'_>, DecodeError> { unimplemented!() }

/// A broken rule and where (offset in the packet body).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError { pub kind: ErrorKind, pub offset: usize }
impl DecodeError {
    pub fn reason_code(&self) -> ReasonCode { self.kind.reason_code() }
    pub fn statement(&self) -> &'static str { self.kind.statement() }
}
impl core::fmt::Display for DecodeError { fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { unimplemented!() } }
impl core::error::Error for DecodeError {}

/// One variant per rule of the wire format (many more to come).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    PacketTooLarge,
    /// CONNECT with a protocol level nobody knows; the byte as received.
    UnsupportedProtocolVersion(u8),
    UnsupportedProtocolName,
}
impl ErrorKind {
    pub fn reason_code(self) -> ReasonCode { unimplemented!() }
    /// The numbered statement it follows, as `MQTT-2.1.3-1`, or a section like `2.2.2.2`.
    pub fn statement(self) -> &'static str { unimplemented!() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>), ConnAck(ConnAck<'a>), Publish(Publish<'a>), Ack(Ack<'a>), Subscribe(Subscribe<'a>), SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>), UnsubAck(UnsubAck<'a>), PingReq, PingResp, Disconnect(Disconnect<'a>), Auth(Auth<'a>),
}
impl<'a> Packet<'a> {
    /// `version` is the one the CONNECT of this connection named; CONNECT itself carries its own.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> { unimplemented!() }
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> { unimplemented!() }
    pub fn encode(&self, version: Version, dst: &mut impl BufMut) -> Result<(), EncodeError> { unimplemented!() }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError { TooLarge, NoReturnCode, /** String above 65,535 bytes. */ StringTooLong, NotInThisVersion, MissingPacketId }
impl core::fmt::Display for EncodeError { fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { unimplemented!() } }
impl core::error::Error for EncodeError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// Mosquitto's bridge bit (0x80 of the protocol level) was set.
    pub bridge: bool,
    pub clean_start: bool, pub keep_alive_secs: u16, pub props: Props<'a>, pub client_id: &'a str, pub will: Option<Will<'a>>,
    pub username: Option<&'a str>, pub password: Option<&'a [u8]>,
}
impl<'a> Connect<'a> { pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> { unimplemented!() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> { pub qos: QoS, pub retain: bool, pub props: Props<'a>, pub topic: &'a str, pub payload: &'a [u8] }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> { pub session_present: bool, pub reason: ReasonCode, pub props: Props<'a> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool, pub qos: QoS, pub retain: bool,
    /// Valid UTF-8, no wildcards, no U+0000; empty only in version 5 with a topic alias.
    pub topic: &'a str,
    /// `Some` exactly when `qos` is above 0.
    pub id: Option<PacketId>, pub props: Props<'a>, pub payload: &'a [u8],
}
impl<'a> Publish<'a> { pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> { unimplemented!() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AckKind { PubAck, PubRec, PubRel, PubComp }
/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> { pub kind: AckKind, pub id: PacketId, pub reason: ReasonCode, pub props: Props<'a> }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling { SendAlways = 0, SendIfNew = 1, DoNotSend = 2 }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeOptions { pub qos: QoS, pub no_local: bool, pub retain_as_published: bool, pub retain_handling: RetainHandling }
impl SubscribeOptions { pub fn to_u8(self) -> u8 { unimplemented!() } pub fn from_u8(bits: u8) -> Option<Self> { unimplemented!() } }
/// Validated raw `(filter, options)*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilters<'a> { raw: &'a [u8] }
impl<'a> SubscribeFilters<'a> { pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscribeOptions)> + 'a { let r = self.raw; core::iter::empty() } pub fn len(&self) -> usize { unimplemented!() } }
/// Builds [`SubscribeFilters`].
#[derive(Clone, Debug, Default)]
pub struct SubscribeFiltersBuf { raw: Vec<u8> }
impl SubscribeFiltersBuf { pub fn new() -> Self { unimplemented!() } pub fn push(&mut self, filter: &str, options: SubscribeOptions) -> Result<(), EncodeError> { unimplemented!() } pub fn as_filters(&self) -> SubscribeFilters<'_> { unimplemented!() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> { pub id: PacketId, pub props: Props<'a>, pub filters: SubscribeFilters<'a> }
/// SUBACK and UNSUBACK codes, raw; `iter` yields reason codes (MQTT 3: 0x00, 0x01, 0x02, 0x80).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCodes<'a> { raw: &'a [u8] }
impl<'a> ReasonCodes<'a> { /** Each byte must be a reason code. */ pub fn new(codes: &'a [u8]) -> Option<Self> { unimplemented!() } pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + 'a { let r = self.raw; core::iter::empty() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> { pub id: PacketId, pub props: Props<'a>, pub codes: ReasonCodes<'a> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a> { raw: &'a [u8] }
impl<'a> UnsubscribeFilters<'a> { pub fn iter(&self) -> impl Iterator<Item = &'a str> + 'a { let r = self.raw; core::iter::empty() } }
#[derive(Clone, Debug, Default)]
pub struct UnsubscribeFiltersBuf { raw: Vec<u8> }
impl UnsubscribeFiltersBuf { pub fn new() -> Self { unimplemented!() } pub fn push(&mut self, filter: &str) -> Result<(), EncodeError> { unimplemented!() } pub fn as_filters(&self) -> UnsubscribeFilters<'_> { unimplemented!() } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> { pub id: PacketId, pub props: Props<'a>, pub filters: UnsubscribeFilters<'a> }
/// MQTT 3 carries no codes: `codes` is empty and ignored there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> { pub id: PacketId, pub props: Props<'a>, pub codes: ReasonCodes<'a> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> { pub reason: ReasonCode, pub props: Props<'a> }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> { pub reason: ReasonCode, pub props: Props<'a> }

/// A validated property block without its length: raw bytes, decoded on demand. Empty for MQTT 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Props<'a> { raw: &'a [u8] }
impl<'a> Props<'a> {
    pub const EMPTY: Props<'static> = Props { raw: &[] };
    pub fn as_bytes(&self) -> &'a [u8] { self.raw }
    pub fn is_empty(&self) -> bool { self.raw.is_empty() }
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + 'a { let r = self.raw; core::iter::empty() }
    pub fn payload_format_indicator(&self) -> Option<u8> { unimplemented!() }
    pub fn message_expiry_secs(&self) -> Option<u32> { unimplemented!() }
    pub fn content_type(&self) -> Option<&'a str> { unimplemented!() }
    pub fn response_topic(&self) -> Option<&'a str> { unimplemented!() }
    pub fn correlation_data(&self) -> Option<&'a [u8]> { unimplemented!() }
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + 'a { let r = self.raw; core::iter::empty() }
    pub fn session_expiry_secs(&self) -> Option<u32> { unimplemented!() }
    pub fn assigned_client_id(&self) -> Option<&'a str> { unimplemented!() }
    pub fn server_keep_alive_secs(&self) -> Option<u16> { unimplemented!() }
    pub fn authentication_method(&self) -> Option<&'a str> { unimplemented!() }
    pub fn authentication_data(&self) -> Option<&'a [u8]> { unimplemented!() }
    pub fn request_problem_information(&self) -> Option<bool> { unimplemented!() }
    pub fn will_delay_secs(&self) -> Option<u32> { unimplemented!() }
    pub fn request_response_information(&self) -> Option<bool> { unimplemented!() }
    pub fn response_information(&self) -> Option<&'a str> { unimplemented!() }
    pub fn server_reference(&self) -> Option<&'a str> { unimplemented!() }
    pub fn reason_string(&self) -> Option<&'a str> { unimplemented!() }
    pub fn receive_maximum(&self) -> Option<u16> { unimplemented!() }
    pub fn topic_alias_maximum(&self) -> Option<u16> { unimplemented!() }
    pub fn topic_alias(&self) -> Option<u16> { unimplemented!() }
    pub fn maximum_qos(&self) -> Option<QoS> { unimplemented!() }
    pub fn retain_available(&self) -> Option<bool> { unimplemented!() }
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + 'a { let r = self.raw; core::iter::empty() }
    pub fn maximum_packet_size(&self) -> Option<u32> { unimplemented!() }
    pub fn wildcard_subscription_available(&self) -> Option<bool> { unimplemented!() }
    pub fn subscription_ids_available(&self) -> Option<bool> { unimplemented!() }
    pub fn shared_subscription_available(&self) -> Option<bool> { unimplemented!() }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    PayloadFormatIndicator(u8), MessageExpiry(u32), ContentType(&'a str), ResponseTopic(&'a str), CorrelationData(&'a [u8]),
    SubscriptionId(u32), SessionExpiry(u32), AssignedClientId(&'a str), ServerKeepAlive(u16), AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]), RequestProblemInformation(bool), WillDelay(u32), RequestResponseInformation(bool),
    ResponseInformation(&'a str), ServerReference(&'a str), ReasonString(&'a str), ReceiveMaximum(u16), TopicAliasMaximum(u16),
    TopicAlias(u16), MaximumQos(QoS), RetainAvailable(bool), UserProperty(&'a str, &'a str), MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool), SubscriptionIdsAvailable(bool), SharedSubscriptionAvailable(bool),
}
impl Property<'_> { /** Identifier byte plus value. */ pub fn encoded_len(&self) -> usize { unimplemented!() } pub fn encode(&self, dst: &mut impl BufMut) { unimplemented!() } }
/// Builds a property block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropsBuf { raw: Vec<u8> }
impl PropsBuf { pub fn new() -> Self { Self::default() } pub fn push(&mut self, property: Property<'_>) -> &mut Self { unimplemented!() } pub fn with(self, property: Property<'_>) -> Self { unimplemented!() } pub fn as_props(&self) -> Props<'_> { Props { raw: &self.raw } } pub fn clear(&mut self) { self.raw.clear(); } }

/// A packet that owns its bytes: a validated frame and its version. `packet()` decodes it again (tens of nanoseconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketBuf { version: Version, frame: Bytes }
impl PacketBuf {
    pub fn decode(frame: Bytes, version: Version) -> Result<Self, DecodeError> { unimplemented!() }
    pub fn from_packet(packet: &Packet<'_>, version: Version) -> Result<Self, EncodeError> { unimplemented!() }
    pub fn packet(&self) -> Packet<'_> { unimplemented!() }
    pub fn version(&self) -> Version { self.version }
    pub fn as_bytes(&self) -> &Bytes { &self.frame }
}
/// Variable byte integers (1.5.5).
pub mod varint {
    /// Bytes that `value` takes (1 to 4); values above 268,435,455 are a caller's bug.
    pub const fn len(value: u32) -> usize { match value { 0..=127 => 1, 128..=16_383 => 2, 16_384..=2_097_151 => 3, _ => 4 } }
    pub fn put(value: u32, dst: &mut impl bytes::BufMut) { unimplemented!() }
}
