//! CONNECT (section 3.1), the only packet that names its version.
//!
//! Client identifiers are only checked as text: whether an empty or a long one is accepted is the
//! server's policy.

use core::fmt;

use bytes::BufMut;
use nom::number::complete::{be_u16, u8 as byte};

use crate::error::{DecodeError, EncodeError, ErrorKind, Fault, Parsed};
use crate::frame::{Frame, check_first_byte};
use crate::packet::end;
use crate::props::{Props, PropsContext};
use crate::text;
use crate::types::{PacketType, QoS, Version};
use crate::wire::{self, Body};

/// Set in the protocol level by Mosquitto when the client is a bridge (MQTT 3.1 and 3.1.1).
const BRIDGE_BIT: u8 = 0x80;

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// CONNECT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version of the connection from here on.
    pub version: Version,
    /// Mosquitto's bridge bit (0x80 of the protocol level) was set. Not written in MQTT 5.
    pub bridge: bool,
    /// Clean Start of MQTT 5, Clean Session before.
    pub clean_start: bool,
    /// Seconds, 0 for none.
    pub keep_alive_secs: u16,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// May be empty.
    pub client_id: &'a str,
    /// The will message.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password, binary. Neither `Debug` nor `Serialize` show it.
    pub password: Option<&'a [u8]>,
}

/// The will of a [`Connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Will<'a> {
    /// Quality of service.
    pub qos: QoS,
    /// Whether it is published as retained message.
    pub retain: bool,
    /// Empty before MQTT 5.
    pub props: Props<'a>,
    /// A topic name: not empty, no wildcards.
    pub topic: &'a str,
    /// At most 65,535 bytes.
    pub payload: &'a [u8],
}

/// Stands for a secret in `Debug` output.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("bridge", &self.bridge)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_secs", &self.keep_alive_secs)
            .field("props", &self.props)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            // Packets get logged; passwords must not.
            .field("password", &self.password.map(|_| Hidden))
            .finish()
    }
}

impl<'a> Connect<'a> {
    /// A client with a clean start and a keep alive of 60 seconds, without will, user name and properties.
    ///
    /// ```
    /// use martlet_codec::{Connect, Version};
    ///
    /// let connect = Connect { username: Some("ada"), ..Connect::new(Version::V5, "phone") };
    /// # assert_eq!((connect.client_id, connect.clean_start), ("phone", true));
    /// ```
    pub const fn new(version: Version, client_id: &'a str) -> Self {
        Self {
            version,
            bridge: false,
            clean_start: true,
            keep_alive_secs: 60,
            props: Props::EMPTY,
            client_id,
            will: None,
            username: None,
            password: None,
        }
    }

    /// Decodes a CONNECT and learns the version from it.
    ///
    /// # Errors
    /// The rule that the packet breaks; [`ErrorKind::FirstPacketNotConnect`] for another packet,
    /// [`ErrorKind::UnsupportedProtocolVersion`] so that the server can answer in kind.
    pub fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        if frame.packet_type() != Some(PacketType::Connect) {
            return Err(DecodeError::header(ErrorKind::FirstPacketNotConnect));
        }
        check_first_byte(frame.first, None)?;
        Self::parse(frame.body)
            .map(|(_, connect)| connect)
            .map_err(|error| Fault::at(&error, frame.body))
    }

    fn parse(body: &'a [u8]) -> Parsed<'a, Self> {
        let (rest, (version, bridge)) = protocol(body)?;
        let flags_at = rest;
        let (rest, flags) = byte(rest)?;
        check_flags(flags, version).map_err(|kind| Fault::err(kind, flags_at))?;
        let (rest, keep_alive_secs) = be_u16(rest)?;
        let (rest, props) = if version.is_v5() {
            Props::parse(rest, PropsContext::Connect)?
        } else {
            (rest, Props::EMPTY)
        };
        let (rest, client_id) = text::text(rest)?;
        let (rest, will) = if flags & WILL != 0 {
            let (rest, will) = Will::parse(rest, flags, version)?;
            (rest, Some(will))
        } else {
            (rest, None)
        };
        let (rest, username) = credential(rest, flags & USER_NAME != 0, version, text::text)?;
        let (rest, password) = credential(rest, flags & PASSWORD != 0, version, text::binary)?;
        end(rest)?;
        let clean_start = flags & CLEAN_START != 0;
        let connect = Self {
            version,
            bridge,
            clean_start,
            keep_alive_secs,
            props,
            client_id,
            will,
            username,
            password,
        };
        Ok((rest, connect))
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.password.is_some() {
            flags |= PASSWORD;
        }
        if self.username.is_some() {
            flags |= USER_NAME;
        }
        flags
    }
}

/// Protocol name and level: the version, and whether the client is a bridge.
fn protocol(input: &[u8]) -> Parsed<'_, (Version, bool)> {
    let (rest, name) = text::binary(input)?;
    if name != Version::V311.protocol_name() && name != Version::V31.protocol_name() {
        return Err(Fault::err(ErrorKind::UnsupportedProtocolName, input));
    }
    let (after, level) = byte(rest)?;
    let found = Version::from_level(level & !BRIDGE_BIT).filter(|version| {
        let bridge = level & BRIDGE_BIT != 0;
        name == version.protocol_name() && !(bridge && version.is_v5())
    });
    match found {
        Some(version) => Ok((after, (version, level & BRIDGE_BIT != 0))),
        None => Err(Fault::err(
            ErrorKind::UnsupportedProtocolVersion(level),
            rest,
        )),
    }
}

/// The rules of sections 3.1.2.3 to 3.1.2.9.
///
/// MQTT 3.1 reserves bit 0 without a demand, and has will QoS and will retain disregarded where
/// there is no will.
fn check_flags(flags: u8, version: Version) -> Result<(), ErrorKind> {
    let strict = version > Version::V31;
    let will = flags & WILL != 0;
    if strict && flags & RESERVED != 0 {
        return Err(ErrorKind::ConnectReservedFlag);
    }
    match flags >> WILL_QOS_SHIFT & 0b11 {
        3 if will || strict => return Err(ErrorKind::WillQos3),
        1 | 2 if !will && strict => return Err(ErrorKind::WillQosWithoutWill),
        _ => {}
    }
    if strict && !will && flags & WILL_RETAIN != 0 {
        return Err(ErrorKind::WillRetainWithoutWill);
    }
    if !version.is_v5() && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(ErrorKind::PasswordWithoutUserName);
    }
    Ok(())
}

/// A field that its flag announces. In MQTT 3.1 the remaining length takes precedence over the
/// flag (section 3.1 there): what is announced may be missing at the end.
fn credential<'a, T>(
    input: &'a [u8],
    announced: bool,
    version: Version,
    parser: impl Fn(&'a [u8]) -> Parsed<'a, T>,
) -> Parsed<'a, Option<T>> {
    if !announced || (version == Version::V31 && input.is_empty()) {
        return Ok((input, None));
    }
    parser(input).map(|(rest, value)| (rest, Some(value)))
}

impl<'a> Will<'a> {
    fn parse(input: &'a [u8], flags: u8, version: Version) -> Parsed<'a, Self> {
        let (topic_at, props) = if version.is_v5() {
            Props::parse(input, PropsContext::Will)?
        } else {
            (input, Props::EMPTY)
        };
        let (rest, topic) = text::topic_name(topic_at, ErrorKind::WillTopicWildcard)?;
        if topic.is_empty() {
            return Err(Fault::err(ErrorKind::WillTopicEmpty, topic_at));
        }
        let (rest, payload) = text::binary(rest)?;
        let qos = match flags >> WILL_QOS_SHIFT & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        Ok((
            rest,
            Self {
                qos,
                retain: flags & WILL_RETAIN != 0,
                props,
                topic,
                payload,
            },
        ))
    }
}

impl Body for Connect<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Connect as u8) << 4
    }

    fn remaining_len(&self, _: Version) -> Result<u64, EncodeError> {
        let v5 = self.version.is_v5();
        // Name, level, flags, keep alive.
        let mut len = 2 + self.version.protocol_name().len() as u64 + 1 + 1 + 2;
        if v5 {
            len += self.props.block_len();
        }
        len += wire::field_len(self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            if v5 {
                len += will.props.block_len();
            }
            len += wire::field_len(will.topic.as_bytes())? + wire::field_len(will.payload)?;
        }
        if let Some(username) = self.username {
            len += wire::field_len(username.as_bytes())?;
        }
        if let Some(password) = self.password {
            if !v5 && self.username.is_none() {
                return Err(EncodeError::Invalid(ErrorKind::PasswordWithoutUserName));
            }
            len += wire::field_len(password)?;
        }
        Ok(len)
    }

    fn put(&self, remaining: u32, _: Version, dst: &mut impl BufMut) {
        wire::put_header(self.first_byte(), remaining, dst);
        let v5 = self.version.is_v5();
        wire::put_field(self.version.protocol_name(), dst);
        let bridge = if self.bridge && !v5 { BRIDGE_BIT } else { 0 };
        dst.put_slice(&[self.version as u8 | bridge, self.flags()]);
        dst.put_u16(self.keep_alive_secs);
        if v5 {
            self.props.put(dst);
        }
        wire::put_field(self.client_id.as_bytes(), dst);
        if let Some(will) = &self.will {
            if v5 {
                will.props.put(dst);
            }
            wire::put_field(will.topic.as_bytes(), dst);
            wire::put_field(will.payload, dst);
        }
        if let Some(username) = self.username {
            wire::put_field(username.as_bytes(), dst);
        }
        if let Some(password) = self.password {
            wire::put_field(password, dst);
        }
    }
}

wire::encode_methods!(Connect);
