//! What a server may send, read strictly: each deviation is an error that names the statement it breaks.
//!
//! Also written, for the proxy that breaks rules on purpose.

use super::packets::{Ack, Auth, ClientPacket, Disconnect, Publish};
use super::property::{Property, block, read_block};
use super::{Reader, frame, kind};
use crate::Version;

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConnAck {
    /// Session Present.
    pub session_present: bool,
    /// Reason code, or return code before version 5.
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

/// SUBACK or UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Packet identifier.
    pub id: u16,
    /// Properties.
    pub properties: Vec<Property>,
    /// One code per filter; none in an UNSUBACK before version 5.
    pub codes: Vec<u8>,
}

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    ConnAck(ConnAck),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack),
    /// SUBACK.
    SubAck(SubAck),
    /// UNSUBACK.
    UnsubAck(SubAck),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect),
    /// AUTH.
    Auth(Auth),
}

const CONNACK_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const PUBACK_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_CODES: &[u8] = &[0x00, 0x92];
const SUBACK_CODES: &[u8] = &[
    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2,
];
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
/// Codes a server may send in DISCONNECT.
const DISCONNECT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const AUTH_CODES: &[u8] = &[0x00, 0x18];

/// Properties a server may put into a packet of this type.
fn allowed_properties(packet: u8) -> &'static [u8] {
    match packet {
        kind::CONNACK => &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
            0x28, 0x29, 0x2A,
        ],
        kind::PUBLISH => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
        // MQTT-3.14.2-2: no Session Expiry Interval from a server.
        kind::DISCONNECT => &[0x1C, 0x1F, 0x26],
        kind::AUTH => &[0x15, 0x16, 0x1F, 0x26],
        _ => &[0x1F, 0x26],
    }
}

fn properties(
    reader: &mut Reader<'_>,
    packet: u8,
    version: Version,
) -> Result<Vec<Property>, String> {
    if !version.is_v5() {
        return Ok(Vec::new());
    }
    let properties =
        read_block(reader).map_err(|error| format!("MQTT-2.2.2-1: properties: {error}"))?;
    for (index, property) in properties.iter().enumerate() {
        if !allowed_properties(packet).contains(&property.id) {
            let statement = if packet == kind::DISCONNECT {
                "MQTT-3.14.2-2"
            } else {
                "2.2.2.2"
            };
            return Err(format!(
                "{statement}: property {:#04x} in packet type {packet}",
                property.id
            ));
        }
        let repeated = properties[..index]
            .iter()
            .any(|earlier| earlier.id == property.id);
        let many = property.id == 0x26 || (packet == kind::PUBLISH && property.id == 0x0B);
        if repeated && !many {
            return Err(format!(
                "2.2.2.2: property {:#04x} twice in packet type {packet}",
                property.id
            ));
        }
    }
    Ok(properties)
}

fn code_of(allowed: &[u8], code: u8, statement: &str) -> Result<u8, String> {
    if allowed.contains(&code) {
        Ok(code)
    } else {
        Err(format!("{statement}: code {code:#04x} is not in the table"))
    }
}

impl Packet {
    /// Reads one packet of a server.
    ///
    /// # Errors
    /// What is wrong with it and which statement says so.
    pub fn read(first: u8, body: &[u8], version: Version) -> Result<Self, String> {
        let packet = first >> 4;
        let flags = first & 0x0F;
        let expected = if packet == kind::PUBREL { 2 } else { 0 };
        if packet != kind::PUBLISH && flags != expected {
            return Err(format!(
                "MQTT-2.1.3-1 (3.1.1: MQTT-2.2.2-1): flags {flags:#06b} on packet type {packet}"
            ));
        }
        let v5 = version.is_v5();
        let mut reader = Reader::new(body);
        let read = match packet {
            kind::CONNACK => {
                let acknowledge = reader.byte()?;
                if acknowledge & 0xFE != 0 {
                    return Err(format!(
                        "MQTT-3.2.2-1: acknowledge flags {acknowledge:#04x}"
                    ));
                }
                let code = reader.byte()?;
                if v5 {
                    code_of(CONNACK_CODES, code, "MQTT-3.2.2-8")?;
                } else if code > 5 {
                    return Err(format!("3.2.2.3: return code {code}"));
                }
                let session_present = acknowledge == 1;
                if session_present && code != 0 {
                    return Err(
                        "MQTT-3.2.2-6 (3.1.1: MQTT-3.2.2-4): session present in a refusal".into(),
                    );
                }
                Self::ConnAck(ConnAck {
                    session_present,
                    code,
                    properties: properties(&mut reader, packet, version)?,
                })
            }
            kind::PUBLISH => Self::Publish(Self::read_publish(flags, &mut reader, version)?),
            kind::PUBACK | kind::PUBREC | kind::PUBREL | kind::PUBCOMP => {
                let id = reader.packet_id()?;
                let (allowed, statement) = match packet {
                    kind::PUBACK => (PUBACK_CODES, "MQTT-3.4.2-1"),
                    kind::PUBREC => (PUBACK_CODES, "MQTT-3.5.2-1"),
                    kind::PUBREL => (PUBREL_CODES, "MQTT-3.6.2-1"),
                    _ => (PUBREL_CODES, "MQTT-3.7.2-1"),
                };
                let code = if v5 && !reader.is_empty() {
                    code_of(allowed, reader.byte()?, statement)?
                } else {
                    0
                };
                let properties = if v5 && !reader.is_empty() {
                    properties(&mut reader, packet, version)?
                } else {
                    Vec::new()
                };
                Self::Ack(Ack {
                    kind: packet,
                    id,
                    code,
                    properties,
                })
            }
            kind::SUBACK => {
                let id = reader.packet_id()?;
                let properties = properties(&mut reader, packet, version)?;
                let codes = reader.rest().to_vec();
                let allowed: &[u8] = if v5 { SUBACK_CODES } else { &[0, 1, 2, 0x80] };
                for &code in &codes {
                    code_of(allowed, code, "MQTT-3.9.3-2")?;
                }
                Self::SubAck(SubAck {
                    id,
                    properties,
                    codes,
                })
            }
            kind::UNSUBACK => {
                let id = reader.packet_id()?;
                let properties = properties(&mut reader, packet, version)?;
                let codes = if v5 {
                    reader.rest().to_vec()
                } else {
                    Vec::new()
                };
                for &code in &codes {
                    code_of(UNSUBACK_CODES, code, "MQTT-3.11.3-2")?;
                }
                Self::UnsubAck(SubAck {
                    id,
                    properties,
                    codes,
                })
            }
            kind::PINGRESP => Self::PingResp,
            kind::DISCONNECT if v5 => {
                let code = if reader.is_empty() {
                    0
                } else {
                    code_of(DISCONNECT_CODES, reader.byte()?, "MQTT-3.14.2-1")?
                };
                let properties = if reader.is_empty() {
                    Vec::new()
                } else {
                    properties(&mut reader, packet, version)?
                };
                Self::Disconnect(Disconnect { code, properties })
            }
            kind::AUTH if v5 => {
                let code = if reader.is_empty() {
                    0
                } else {
                    code_of(AUTH_CODES, reader.byte()?, "MQTT-3.15.2-1")?
                };
                let properties = if reader.is_empty() {
                    Vec::new()
                } else {
                    properties(&mut reader, packet, version)?
                };
                Self::Auth(Auth { code, properties })
            }
            _ => {
                return Err(format!(
                    "a server does not send packet type {packet} in this version"
                ));
            }
        };
        if !reader.is_empty() {
            return Err(format!(
                "{} bytes too many in packet type {packet}",
                reader.rest().len()
            ));
        }
        Ok(read)
    }

    /// Reads the body of a PUBLISH.
    ///
    /// # Errors
    /// As [`Packet::read`].
    pub fn read_publish(
        flags: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<Publish, String> {
        let (dup, qos, retain) = (flags & 8 != 0, flags >> 1 & 3, flags & 1 != 0);
        if qos == 3 {
            return Err("MQTT-3.3.1-4: QoS 3".into());
        }
        if dup && qos == 0 {
            return Err("MQTT-3.3.1-2: DUP at QoS 0".into());
        }
        let topic = reader.text()?;
        if topic.contains(['+', '#']) {
            return Err(format!("MQTT-3.3.2-2: wildcard in topic name {topic:?}"));
        }
        let id = if qos > 0 {
            Some(reader.packet_id()?)
        } else {
            None
        };
        let properties = properties(reader, kind::PUBLISH, version)?;
        let alias = super::find::number(&properties, super::property::id::TOPIC_ALIAS);
        if alias == Some(0) {
            return Err("MQTT-3.3.2-8: topic alias 0".into());
        }
        if topic.is_empty() && alias.is_none() {
            return Err("MQTT-4.7.3-1: empty topic name".into());
        }
        if super::find::subscription_ids(&properties).contains(&0) {
            return Err("3.3.2.3.8: subscription identifier 0".into());
        }
        Ok(Publish {
            dup,
            qos,
            retain,
            topic: topic.into_bytes(),
            id,
            properties,
            payload: reader.rest().to_vec(),
        })
    }

    /// The bytes of this packet.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let properties = |list: &[Property]| {
            if version.is_v5() {
                block(list)
            } else {
                Vec::new()
            }
        };
        match self {
            Self::ConnAck(connack) => {
                let mut body = vec![u8::from(connack.session_present), connack.code];
                body.extend(properties(&connack.properties));
                frame(0x20, &body)
            }
            Self::Publish(publish) => publish.bytes(version),
            Self::Ack(ack) => ack.bytes(version),
            Self::SubAck(ack) | Self::UnsubAck(ack) => {
                let mut body = ack.id.to_be_bytes().to_vec();
                body.extend(properties(&ack.properties));
                body.extend_from_slice(&ack.codes);
                frame(
                    if matches!(self, Self::SubAck(_)) {
                        0x90
                    } else {
                        0xB0
                    },
                    &body,
                )
            }
            Self::PingResp => vec![0xD0, 0],
            Self::Disconnect(disconnect) => disconnect.bytes(version),
            Self::Auth(auth) => auth.bytes(version),
        }
    }
}
