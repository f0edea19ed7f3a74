//! Reason codes of MQTT 5 (section 2.4), which packets may carry which, and their MQTT 3 counterparts.

use crate::error::ErrorKind;

/// Declares the reason codes once: name, value and text.
macro_rules! reason_codes {
    ($( $(#[$doc:meta])* $name:ident = $value:literal, $text:literal; )*) => {
        /// Every reason code of MQTT 5 (section 2.4).
        ///
        /// Value 0x00 is Success, Normal disconnection and Granted QoS 0.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(into = "u8", try_from = "u8"))]
        #[repr(u8)]
        pub enum ReasonCode {
            $( $(#[$doc])* $name = $value, )*
        }

        impl ReasonCode {
            /// All reason codes, by value.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The code with this value, `None` if the specification has none.
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $( $value => Some(Self::$name), )*
                    _ => None,
                }
            }

            /// The name that the specification gives it, in lower case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$name => $text, )*
                }
            }
        }
    };
}

reason_codes! {
    /// Success, Normal disconnection, Granted QoS 0.
    Success = 0x00, "success";
    /// Granted QoS 1.
    GrantedQos1 = 0x01, "granted QoS 1";
    /// Granted QoS 2.
    GrantedQos2 = 0x02, "granted QoS 2";
    /// Disconnect with Will Message.
    DisconnectWithWill = 0x04, "disconnect with will message";
    /// No matching subscribers.
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    /// No subscription existed.
    NoSubscriptionExisted = 0x11, "no subscription existed";
    /// Continue authentication.
    ContinueAuthentication = 0x18, "continue authentication";
    /// Re-authenticate.
    ReAuthenticate = 0x19, "re-authenticate";
    /// Unspecified error.
    UnspecifiedError = 0x80, "unspecified error";
    /// Malformed packet.
    MalformedPacket = 0x81, "malformed packet";
    /// Protocol error.
    ProtocolError = 0x82, "protocol error";
    /// Implementation specific error.
    ImplementationSpecificError = 0x83, "implementation specific error";
    /// Unsupported protocol version.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    /// Client identifier not valid.
    ClientIdentifierNotValid = 0x85, "client identifier not valid";
    /// Bad user name or password.
    BadUserNameOrPassword = 0x86, "bad user name or password";
    /// Not authorized.
    NotAuthorized = 0x87, "not authorized";
    /// Server unavailable.
    ServerUnavailable = 0x88, "server unavailable";
    /// Server busy.
    ServerBusy = 0x89, "server busy";
    /// Banned.
    Banned = 0x8A, "banned";
    /// Server shutting down.
    ServerShuttingDown = 0x8B, "server shutting down";
    /// Bad authentication method.
    BadAuthenticationMethod = 0x8C, "bad authentication method";
    /// Keep alive timeout.
    KeepAliveTimeout = 0x8D, "keep alive timeout";
    /// Session taken over.
    SessionTakenOver = 0x8E, "session taken over";
    /// Topic filter invalid.
    TopicFilterInvalid = 0x8F, "topic filter invalid";
    /// Topic name invalid.
    TopicNameInvalid = 0x90, "topic name invalid";
    /// Packet identifier in use.
    PacketIdentifierInUse = 0x91, "packet identifier in use";
    /// Packet identifier not found.
    PacketIdentifierNotFound = 0x92, "packet identifier not found";
    /// Receive maximum exceeded.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    /// Topic alias invalid.
    TopicAliasInvalid = 0x94, "topic alias invalid";
    /// Packet too large.
    PacketTooLarge = 0x95, "packet too large";
    /// Message rate too high.
    MessageRateTooHigh = 0x96, "message rate too high";
    /// Quota exceeded.
    QuotaExceeded = 0x97, "quota exceeded";
    /// Administrative action.
    AdministrativeAction = 0x98, "administrative action";
    /// Payload format invalid.
    PayloadFormatInvalid = 0x99, "payload format invalid";
    /// Retain not supported.
    RetainNotSupported = 0x9A, "retain not supported";
    /// QoS not supported.
    QosNotSupported = 0x9B, "QoS not supported";
    /// Use another server.
    UseAnotherServer = 0x9C, "use another server";
    /// Server moved.
    ServerMoved = 0x9D, "server moved";
    /// Shared subscriptions not supported.
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported";
    /// Connection rate exceeded.
    ConnectionRateExceeded = 0x9F, "connection rate exceeded";
    /// Maximum connect time.
    MaximumConnectTime = 0xA0, "maximum connect time";
    /// Subscription identifiers not supported.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported";
    /// Wildcard subscriptions not supported.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// 0x80 and above: whatever was asked for did not happen.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The MQTT 3 CONNACK return code (0 to 5), `None` where MQTT 3 has none and the connection is
    /// just closed ([MQTT-3.2.2-6] of 3.1.1).
    pub const fn connect_return_code(self) -> Option<u8> {
        match self {
            Self::Success => Some(0),
            Self::UnsupportedProtocolVersion => Some(1),
            Self::ClientIdentifierNotValid => Some(2),
            Self::ServerUnavailable
            | Self::ServerBusy
            | Self::QuotaExceeded
            | Self::ServerShuttingDown
            | Self::ConnectionRateExceeded
            | Self::UseAnotherServer
            | Self::ServerMoved => Some(3),
            Self::BadUserNameOrPassword => Some(4),
            Self::NotAuthorized | Self::Banned => Some(5),
            _ => None,
        }
    }

    /// The reason that a return code of an MQTT 3 CONNACK (0 to 5) stands for.
    pub const fn from_connect_return_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedProtocolVersion),
            2 => Some(Self::ClientIdentifierNotValid),
            3 => Some(Self::ServerUnavailable),
            4 => Some(Self::BadUserNameOrPassword),
            5 => Some(Self::NotAuthorized),
            _ => None,
        }
    }
}

impl core::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} (0x{:02X})", self.as_str(), *self as u8)
    }
}

impl From<ReasonCode> for u8 {
    fn from(code: ReasonCode) -> Self {
        code as Self
    }
}

impl TryFrom<u8> for ReasonCode {
    type Error = UnknownReasonCode;

    fn try_from(code: u8) -> Result<Self, UnknownReasonCode> {
        Self::from_u8(code).ok_or(UnknownReasonCode(code))
    }
}

/// A byte that is no reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReasonCode(pub u8);

impl core::fmt::Display for UnknownReasonCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "0x{:02X} is not a reason code", self.0)
    }
}

impl core::error::Error for UnknownReasonCode {}

/// The packets that carry a reason code, each with a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReasonTable {
    ConnAck,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    SubAck,
    UnsubAck,
    Disconnect,
    Auth,
}

impl ReasonTable {
    /// The code with this value, if the packet may carry it.
    #[inline]
    pub(crate) const fn check(self, code: u8) -> Result<ReasonCode, ErrorKind> {
        match ReasonCode::from_u8(code) {
            Some(reason) if self.has(code) => Ok(reason),
            _ => Err(self.error(code)),
        }
    }

    /// Section 2.4 and the table of each packet. Both directions: DISCONNECT has the codes of
    /// either side, SUBACK those of every version.
    const fn has(self, code: u8) -> bool {
        match self {
            Self::ConnAck => matches!(
                code,
                0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F
            ),
            Self::PubAck | Self::PubRec => {
                matches!(
                    code,
                    0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
                )
            }
            Self::PubRel | Self::PubComp => matches!(code, 0x00 | 0x92),
            Self::SubAck => matches!(
                code,
                0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
            ),
            Self::UnsubAck => matches!(code, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            Self::Disconnect => matches!(
                code,
                0x00 | 0x04
                    | 0x80..=0x83
                    | 0x87
                    | 0x89
                    | 0x8B..=0x90
                    | 0x93..=0x9F
                    | 0xA0..=0xA2
            ),
            Self::Auth => matches!(code, 0x00 | 0x18 | 0x19),
        }
    }

    #[cold]
    const fn error(self, code: u8) -> ErrorKind {
        match self {
            Self::ConnAck => ErrorKind::ConnAckReasonCode(code),
            Self::PubAck => ErrorKind::PubAckReasonCode(code),
            Self::PubRec => ErrorKind::PubRecReasonCode(code),
            Self::PubRel => ErrorKind::PubRelReasonCode(code),
            Self::PubComp => ErrorKind::PubCompReasonCode(code),
            Self::SubAck => ErrorKind::SubAckReasonCode(code),
            Self::UnsubAck => ErrorKind::UnsubAckReasonCode(code),
            Self::Disconnect => ErrorKind::DisconnectReasonCode(code),
            Self::Auth => ErrorKind::AuthReasonCode(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_codes_agree() {
        let mut known = 0;
        for value in 0..=u8::MAX {
            if let Some(code) = ReasonCode::from_u8(value) {
                assert_eq!(code as u8, value);
                known += 1;
            }
        }
        assert_eq!(known, ReasonCode::ALL.len());
        assert_eq!(known, 43);
    }

    #[test]
    fn return_codes_of_mqtt_3_map_both_ways() {
        for code in 0..=5 {
            let reason = ReasonCode::from_connect_return_code(code).unwrap();
            assert_eq!(reason.connect_return_code(), Some(code));
        }
        assert_eq!(ReasonCode::from_connect_return_code(6), None);
        assert_eq!(ReasonCode::ServerMoved.connect_return_code(), Some(3));
        assert_eq!(ReasonCode::Banned.connect_return_code(), Some(5));
        assert_eq!(ReasonCode::MalformedPacket.connect_return_code(), None);
    }

    #[test]
    fn tables_have_as_many_codes_as_the_specification_lists() {
        let count = |table: ReasonTable| {
            (0..=u8::MAX)
                .filter(|code| table.check(*code).is_ok())
                .count()
        };
        assert_eq!(count(ReasonTable::ConnAck), 22);
        assert_eq!(count(ReasonTable::PubAck), 9);
        assert_eq!(count(ReasonTable::PubRec), 9);
        assert_eq!(count(ReasonTable::PubRel), 2);
        assert_eq!(count(ReasonTable::PubComp), 2);
        assert_eq!(count(ReasonTable::SubAck), 12);
        assert_eq!(count(ReasonTable::UnsubAck), 7);
        // 29 in the table of section 3.14.2.1, and 0x8C which section 2.4 adds.
        assert_eq!(count(ReasonTable::Disconnect), 30);
        assert_eq!(count(ReasonTable::Auth), 3);
    }
}
