//! What can be wrong: one [`ErrorKind`] per rule of the wire format, and what cannot be encoded.
//!
//! Each kind knows the MQTT 5 reason code to answer with and the statement it follows. Nothing here
//! decides whether an answer is sent; that depends on the version and the state of a connection.

use core::fmt;

use nom::error::{FromExternalError, ParseError};

use crate::reason::ReasonCode;

/// A broken rule, and where it was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The rule.
    pub kind: ErrorKind,
    /// Bytes from the start of the packet body (0 for the fixed header) to the field that broke it.
    pub offset: usize,
}

impl DecodeError {
    /// A broken rule of the fixed header, or of the packet as a whole.
    #[cold]
    pub(crate) fn header(kind: ErrorKind) -> Self {
        Self { kind, offset: 0 }
    }

    /// The reason code that a DISCONNECT or CONNACK of MQTT 5 gives for this error.
    pub fn reason_code(&self) -> ReasonCode {
        self.kind.reason_code()
    }

    /// The statement of the specification, see [`ErrorKind::statement`].
    pub fn statement(&self) -> &'static str {
        self.kind.statement()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [{}], byte {} of the packet body",
            self.kind,
            self.statement(),
            self.offset
        )
    }
}

impl core::error::Error for DecodeError {}

/// The error of our nom parsers: a rule, and how much input was left at the field that broke it.
///
/// nom hands a parser the rest of the input, not its start, so the offset from the start is only
/// known at the end, in [`Fault::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: ErrorKind,
    rest: usize,
}

/// Result of a parser over a packet body.
pub(crate) type Parsed<'a, T> = nom::IResult<&'a [u8], T, Fault>;

impl Fault {
    #[cold]
    pub(crate) fn new(kind: ErrorKind, rest: &[u8]) -> Self {
        Self {
            kind,
            rest: rest.len(),
        }
    }

    /// The same as nom's recoverable error, for the `Err` of a [`Parsed`].
    #[cold]
    pub(crate) fn err(kind: ErrorKind, rest: &[u8]) -> nom::Err<Self> {
        nom::Err::Error(Self::new(kind, rest))
    }

    /// The same fault seen from an input that goes on with `after`.
    #[cold]
    pub(crate) fn before(self, after: &[u8]) -> Self {
        Self {
            rest: self.rest + after.len(),
            ..self
        }
    }

    /// Places the fault in `body`, whose parser returned `error`.
    #[cold]
    pub(crate) fn at(error: &nom::Err<Self>, body: &[u8]) -> DecodeError {
        match error {
            nom::Err::Error(fault) | nom::Err::Failure(fault) => DecodeError {
                kind: fault.kind,
                offset: body.len().saturating_sub(fault.rest),
            },
            // `complete` parsers never ask for more; if one did, the body would be too short.
            nom::Err::Incomplete(_) => DecodeError {
                kind: ErrorKind::Truncated,
                offset: body.len(),
            },
        }
    }
}

impl ParseError<&[u8]> for Fault {
    // The only nom parsers in use take bytes, and fail only for want of them.
    fn from_error_kind(input: &[u8], _: nom::error::ErrorKind) -> Self {
        Self::new(ErrorKind::Truncated, input)
    }

    fn append(_: &[u8], _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }
}

impl FromExternalError<&[u8], ErrorKind> for Fault {
    fn from_external_error(input: &[u8], _: nom::error::ErrorKind, kind: ErrorKind) -> Self {
        Self::new(kind, input)
    }
}

/// Declares the rules: variants without and with the offending byte, each with its reason code,
/// statement and text.
macro_rules! rules {
    (
        plain { $( $(#[$doc:meta])* $name:ident: $reason:ident, $statement:literal, $text:literal; )* }
        with_byte { $( $(#[$bdoc:meta])* $bname:ident: $breason:ident, $bstatement:literal, $btext:literal; )* }
    ) => {
        /// One variant per rule of the wire format.
        ///
        /// A variant with a value holds the offending byte as received.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $( $(#[$doc])* $name, )*
            $( $(#[$bdoc])* $bname(u8), )*
        }

        impl ErrorKind {
            /// The names of all variants, in order of declaration.
            pub const NAMES: &'static [&'static str] = &[$( stringify!($name), )* $( stringify!($bname), )*];

            /// The reason code that MQTT 5 gives for this rule.
            pub const fn reason_code(self) -> ReasonCode {
                match self {
                    $( Self::$name => ReasonCode::$reason, )*
                    $( Self::$bname(_) => ReasonCode::$breason, )*
                }
            }

            /// The numbered statement it follows, as `MQTT-2.1.3-1`, or a section like `2.2.2.2`
            /// where the rule has no number. Of MQTT 5.0 where it has the rule, else of 3.1.1.
            pub const fn statement(self) -> &'static str {
                match self {
                    $( Self::$name => $statement, )*
                    $( Self::$bname(_) => $bstatement, )*
                }
            }

            /// The name of the variant: stable, for logs and counters.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$name => stringify!($name), )*
                    $( Self::$bname(_) => stringify!($bname), )*
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $( Self::$name => $text, )*
                    $( Self::$bname(_) => $btext, )*
                }
            }

            /// The offending byte, for the variants that keep it.
            pub const fn value(self) -> Option<u8> {
                match self {
                    $( Self::$bname(value) => Some(value), )*
                    _ => None,
                }
            }
        }
    };
}

rules! {
    plain {
        // Fixed header.
        /// The packet is larger than the receiver said it accepts.
        PacketTooLarge: PacketTooLarge, "MQTT-3.2.2-15", "packet is larger than the limit";
        /// The remaining length goes on after its fourth byte.
        RemainingLengthTooLong: MalformedPacket, "2.1.4", "remaining length has more than four bytes";
        /// The remaining length is written with more bytes than it needs.
        RemainingLengthNotMinimal: MalformedPacket, "MQTT-1.5.5-1", "remaining length is not written in its shortest form";
        /// Packet type 0.
        ReservedPacketType: MalformedPacket, "2.1.2", "packet type 0 is reserved";
        /// AUTH on a connection that does not speak MQTT 5.
        AuthNotInThisVersion: MalformedPacket, "2.1.2", "packet type 15 (AUTH) exists in MQTT 5 only";
        /// The first packet of a connection is not CONNECT.
        FirstPacketNotConnect: ProtocolError, "MQTT-3.1.0-1", "first packet is not CONNECT";
        /// A packet of another type than the one asked for.
        UnexpectedPacketType: ProtocolError, "2.1.2", "packet is of another type than expected";
        /// Reserved bits in the first byte, packet types without a rule of their own.
        ReservedHeaderFlags: MalformedPacket, "MQTT-2.1.3-1", "reserved flags of the fixed header have the wrong value";
        /// Reserved bits in the first byte of PUBREL.
        PubRelHeaderFlags: MalformedPacket, "MQTT-3.6.1-1", "header flags of PUBREL are not 0010";
        /// Reserved bits in the first byte of SUBSCRIBE.
        SubscribeHeaderFlags: MalformedPacket, "MQTT-3.8.1-1", "header flags of SUBSCRIBE are not 0010";
        /// Reserved bits in the first byte of UNSUBSCRIBE.
        UnsubscribeHeaderFlags: MalformedPacket, "MQTT-3.10.1-1", "header flags of UNSUBSCRIBE are not 0010";
        /// Reserved bits in the first byte of DISCONNECT.
        DisconnectHeaderFlags: MalformedPacket, "MQTT-3.14.1-1", "header flags of DISCONNECT are not 0000";
        /// Reserved bits in the first byte of AUTH.
        AuthHeaderFlags: MalformedPacket, "MQTT-3.15.1-1", "header flags of AUTH are not 0000";
        /// PUBLISH with both QoS bits.
        PublishQos3: MalformedPacket, "MQTT-3.3.1-4", "both QoS bits of PUBLISH are set";
        /// PUBLISH with DUP at QoS 0.
        DupWithQos0: MalformedPacket, "MQTT-3.3.1-2", "DUP is set on a QoS 0 PUBLISH";

        // Shape of the body.
        /// A field reaches beyond the end of the packet.
        Truncated: MalformedPacket, "1.2", "packet ends inside a field";
        /// Bytes are left after the last field.
        TrailingBytes: MalformedPacket, "2.1.4", "bytes are left after the last field";
        /// A packet of fixed size has another one.
        FixedLength: MalformedPacket, "2.1.4", "packet of fixed size has another remaining length";
        /// Packet identifier 0.
        PacketIdZero: ProtocolError, "MQTT-2.2.1-3", "packet identifier is zero";

        // Text.
        /// Bytes that are no UTF-8.
        Utf8IllFormed: MalformedPacket, "MQTT-1.5.4-1", "text is not well-formed UTF-8";
        /// A character in more bytes than it needs.
        Utf8Overlong: MalformedPacket, "MQTT-1.5.4-1", "text has an overlong UTF-8 sequence";
        /// An encoded surrogate, U+D800 to U+DFFF.
        Utf8Surrogate: MalformedPacket, "MQTT-1.5.4-1", "text has an encoded surrogate";
        /// The character U+0000.
        Utf8Nul: MalformedPacket, "MQTT-1.5.4-2", "text contains U+0000";

        // CONNECT.
        /// A protocol name other than `MQTT` and `MQIsdp`.
        UnsupportedProtocolName: UnsupportedProtocolVersion, "MQTT-3.1.2-1", "protocol name is neither MQTT nor MQIsdp";
        /// Bit 0 of the connect flags.
        ConnectReservedFlag: MalformedPacket, "MQTT-3.1.2-3", "reserved connect flag is set";
        /// Will QoS without a will.
        WillQosWithoutWill: MalformedPacket, "MQTT-3.1.2-11", "will QoS is set without the will flag";
        /// Will QoS 3.
        WillQos3: MalformedPacket, "MQTT-3.1.2-12", "will QoS is 3";
        /// Will retain without a will.
        WillRetainWithoutWill: MalformedPacket, "MQTT-3.1.2-13", "will retain is set without the will flag";
        /// Password flag without user name flag, which only MQTT 5 allows.
        PasswordWithoutUserName: MalformedPacket, "MQTT-3.1.2-22", "password without user name before MQTT 5";
        /// `+` or `#` in the will topic.
        WillTopicWildcard: TopicNameInvalid, "MQTT-4.7.0-1", "will topic contains a wildcard";
        /// A will topic of no characters.
        WillTopicEmpty: TopicNameInvalid, "MQTT-4.7.3-1", "will topic is empty";

        // CONNACK.
        /// Bits 7 to 1 of the acknowledge flags.
        ConnAckReservedFlags: MalformedPacket, "MQTT-3.2.2-1", "reserved acknowledge flags of CONNACK are set";
        /// Session present in a CONNACK that refuses.
        SessionPresentWithError: ProtocolError, "MQTT-3.2.2-6", "session present in a CONNACK that refuses";

        // PUBLISH.
        /// `+` or `#` in the topic name.
        TopicWildcard: TopicNameInvalid, "MQTT-3.3.2-2", "topic name contains a wildcard";
        /// A topic name of no characters, before MQTT 5.
        TopicEmpty: TopicNameInvalid, "MQTT-4.7.3-1", "topic name is empty";
        /// A topic name of no characters, and no alias instead.
        TopicEmptyWithoutAlias: ProtocolError, "3.3.2.1", "topic name is empty and there is no topic alias";

        // SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.
        /// SUBSCRIBE without a filter.
        SubscribeWithoutFilters: ProtocolError, "MQTT-3.8.3-2", "SUBSCRIBE has no filter";
        /// A subscription with QoS 3.
        SubscribeQos3: ProtocolError, "3.8.3.1", "subscription asks for QoS 3";
        /// Reserved bits in subscription options.
        SubscribeReservedBits: MalformedPacket, "MQTT-3.8.3-5", "reserved bits of subscription options are set";
        /// Retain handling 3.
        RetainHandling3: ProtocolError, "3.8.3.1", "retain handling is 3";
        /// UNSUBSCRIBE without a filter.
        UnsubscribeWithoutFilters: ProtocolError, "MQTT-3.10.3-2", "UNSUBSCRIBE has no filter";
        /// SUBACK without a reason code.
        SubAckWithoutCodes: ProtocolError, "MQTT-3.8.4-6", "SUBACK has no reason code";
        /// UNSUBACK of MQTT 5 without a reason code.
        UnsubAckWithoutCodes: ProtocolError, "MQTT-3.11.3-2", "UNSUBACK has no reason code";

        // Properties.
        /// The property length goes on after its fourth byte.
        PropertyLengthTooLong: MalformedPacket, "1.5.5", "property length has more than four bytes";
        /// The property length is written with more bytes than it needs.
        PropertyLengthNotMinimal: MalformedPacket, "MQTT-1.5.5-1", "property length is not written in its shortest form";
        /// The property length reaches beyond the packet.
        PropertyLengthExceedsPacket: MalformedPacket, "2.2.2.1", "property length reaches beyond the packet";
        /// A property identifier goes on after its fourth byte.
        PropertyIdTooLong: MalformedPacket, "1.5.5", "property identifier has more than four bytes";
        /// A property identifier is written with more bytes than it needs.
        PropertyIdNotMinimal: MalformedPacket, "MQTT-1.5.5-1", "property identifier is not written in its shortest form";
        /// A property value reaches beyond the properties.
        PropertyTruncated: MalformedPacket, "2.2.2.2", "property value reaches beyond the property length";
        /// More than [`crate::MAX_REPEATED_PROPERTIES`] user properties or subscription identifiers.
        TooManyProperties: QuotaExceeded, "2.2.2", "too many properties";
        /// A subscription identifier goes on after its fourth byte.
        SubscriptionIdTooLong: MalformedPacket, "1.5.5", "subscription identifier has more than four bytes";
        /// A subscription identifier is written with more bytes than it needs.
        SubscriptionIdNotMinimal: MalformedPacket, "MQTT-1.5.5-1", "subscription identifier is not written in its shortest form";
        /// Subscription identifier 0.
        SubscriptionIdZero: ProtocolError, "3.8.2.1.2", "subscription identifier is zero";
        /// Receive Maximum 0.
        ReceiveMaximumZero: ProtocolError, "3.1.2.11.3", "receive maximum is zero";
        /// Maximum Packet Size 0.
        MaximumPacketSizeZero: ProtocolError, "3.1.2.11.4", "maximum packet size is zero";
        /// Topic Alias 0.
        TopicAliasZero: TopicAliasInvalid, "MQTT-3.3.2-8", "topic alias is zero";
        /// `+` or `#` in the response topic.
        ResponseTopicWildcard: ProtocolError, "MQTT-3.3.2-14", "response topic contains a wildcard";
        /// A response topic of no characters.
        ResponseTopicEmpty: ProtocolError, "MQTT-4.7.3-1", "response topic is empty";
        /// Authentication Data without Authentication Method.
        AuthenticationDataWithoutMethod: ProtocolError, "3.1.2.11.10", "authentication data without authentication method";
        /// AUTH without Authentication Method.
        AuthenticationMethodMissing: ProtocolError, "3.15.2.2.2", "AUTH has no authentication method";
    }
    with_byte {
        /// CONNECT with a protocol level nobody knows; the byte as received.
        UnsupportedProtocolVersion: UnsupportedProtocolVersion, "MQTT-3.1.2-2", "protocol level is not supported";
        /// A property identifier that does not exist (its first byte).
        UnknownProperty: MalformedPacket, "2.2.2.2", "property does not exist";
        /// A property which this packet must not have; its identifier.
        PropertyNotAllowed: MalformedPacket, "2.2.2.2", "property is not allowed in this packet";
        /// A property which a will must not have; its identifier.
        PropertyNotAllowedInWill: MalformedPacket, "3.1.3.2", "property is not allowed in a will";
        /// A property given twice; its identifier.
        PropertyTwice: ProtocolError, "2.2.2.2", "property is given twice";
        /// A property that is 0 or 1 has another value; its identifier.
        PropertyNotBoolean: ProtocolError, "2.2.2.2", "value of a property is neither 0 nor 1";
        /// Payload Format Indicator above 1.
        PayloadFormatIndicatorValue: ProtocolError, "3.3.2.3.2", "payload format indicator is neither 0 nor 1";
        /// Maximum QoS above 1.
        MaximumQosValue: ProtocolError, "3.2.2.3.4", "maximum QoS is neither 0 nor 1";
        /// A code that CONNACK does not have.
        ConnAckReasonCode: ProtocolError, "MQTT-3.2.2-8", "code is not one of CONNACK";
        /// A code that PUBACK does not have.
        PubAckReasonCode: ProtocolError, "MQTT-3.4.2-1", "code is not one of PUBACK";
        /// A code that PUBREC does not have.
        PubRecReasonCode: ProtocolError, "MQTT-3.5.2-1", "code is not one of PUBREC";
        /// A code that PUBREL does not have.
        PubRelReasonCode: ProtocolError, "MQTT-3.6.2-1", "code is not one of PUBREL";
        /// A code that PUBCOMP does not have.
        PubCompReasonCode: ProtocolError, "MQTT-3.7.2-1", "code is not one of PUBCOMP";
        /// A code that SUBACK does not have.
        SubAckReasonCode: ProtocolError, "MQTT-3.9.3-2", "code is not one of SUBACK";
        /// A code that UNSUBACK does not have.
        UnsubAckReasonCode: ProtocolError, "MQTT-3.11.3-2", "code is not one of UNSUBACK";
        /// A code that DISCONNECT does not have.
        DisconnectReasonCode: ProtocolError, "MQTT-3.14.2-1", "code is not one of DISCONNECT";
        /// A code that AUTH does not have.
        AuthReasonCode: ProtocolError, "MQTT-3.15.2-1", "code is not one of AUTH";
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self.value() {
            Some(value) => write!(f, " (0x{value:02X})"),
            None => Ok(()),
        }
    }
}

/// Why a packet cannot be encoded. Nothing has been written then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The remaining length would exceed [`crate::MAX_REMAINING_LENGTH`].
    TooLarge,
    /// A CONNACK of MQTT 3 whose reason has no return code there; the connection is just closed.
    NoReturnCode,
    /// A string or binary field above 65,535 bytes.
    StringTooLong,
    /// The packet does not exist in this version.
    NotInThisVersion,
    /// A PUBLISH above QoS 0 without a packet identifier.
    MissingPacketId,
    /// The destination has less room than `encoded_len` bytes.
    NoRoom,
    /// A value that the wire cannot carry, such as a subscription identifier above 268,435,455.
    ValueOutOfRange,
    /// The packet breaks a rule of the wire format. Encoders notice missing filters and codes;
    /// [`crate::PacketBuf::from_packet`] checks everything.
    Invalid(ErrorKind),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "packet is larger than the wire format can express",
            Self::NoReturnCode => "MQTT 3 has no CONNACK return code for this reason",
            Self::StringTooLong => "field is longer than 65,535 bytes",
            Self::NotInThisVersion => "packet does not exist in this version of MQTT",
            Self::MissingPacketId => "PUBLISH above QoS 0 has no packet identifier",
            Self::NoRoom => "destination has not enough room for the packet",
            Self::ValueOutOfRange => "value is outside the range that the wire can carry",
            Self::Invalid(kind) => return write!(f, "packet would be invalid: {kind}"),
        })
    }
}

impl core::error::Error for EncodeError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn every_kind_cites_a_statement_or_a_section() {
        for kind in [
            ErrorKind::Truncated,
            ErrorKind::PropertyTwice(0x11),
            ErrorKind::UnsupportedProtocolVersion(9),
        ] {
            let statement = kind.statement();
            assert!(
                statement.starts_with("MQTT-")
                    || statement.starts_with(|c: char| c.is_ascii_digit()),
                "{statement}"
            );
            assert!(kind.reason_code().is_error());
        }
    }

    #[test]
    fn errors_say_what_where_and_which_rule() {
        let error = DecodeError {
            kind: ErrorKind::PropertyTwice(0x11),
            offset: 12,
        };
        assert_eq!(
            error.to_string(),
            "property is given twice (0x11) [2.2.2.2], byte 12 of the packet body"
        );
        let error = DecodeError {
            kind: ErrorKind::TopicWildcard,
            offset: 0,
        };
        assert_eq!(
            error.to_string(),
            "topic name contains a wildcard [MQTT-3.3.2-2], byte 0 of the packet body"
        );
    }
}
