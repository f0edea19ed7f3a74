//! MQTT 5 properties: written as asked, read strictly.

use super::{Reader, field, varint};

/// A property with its identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The identifier byte.
    pub id: u8,
    /// The value, in the wire type it is written with.
    pub value: Value,
}

/// The wire types of property values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One byte.
    Byte(u8),
    /// Two bytes.
    U16(u16),
    /// Four bytes.
    U32(u32),
    /// A variable byte integer.
    Var(u32),
    /// UTF-8 text.
    Text(String),
    /// Length and bytes.
    Binary(Vec<u8>),
    /// A pair of texts.
    Pair(String, String),
    /// Written as it is, to be wrong on purpose; never read.
    Raw(Vec<u8>),
}

impl Property {
    /// Identifier and value as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.id];
        match &self.value {
            Value::Byte(value) => out.push(*value),
            Value::U16(value) => out.extend(value.to_be_bytes()),
            Value::U32(value) => out.extend(value.to_be_bytes()),
            Value::Var(value) => out.extend(varint(*value as usize)),
            Value::Text(text) => out.extend(field(text.as_bytes())),
            Value::Binary(bytes) => out.extend(field(bytes)),
            Value::Pair(name, value) => {
                out.extend(field(name.as_bytes()));
                out.extend(field(value.as_bytes()));
            }
            Value::Raw(bytes) => out.extend_from_slice(bytes),
        }
        out
    }
}

/// Length and properties.
pub fn block(properties: &[Property]) -> Vec<u8> {
    let body: Vec<u8> = properties.iter().flat_map(Property::bytes).collect();
    let mut out = varint(body.len());
    out.extend(body);
    out
}

/// Reads length and properties.
///
/// # Errors
/// An unknown identifier, a value that is not of its type, or a length that does not fit.
pub fn read_block(reader: &mut Reader<'_>) -> Result<Vec<Property>, String> {
    let length = reader.varint()?;
    let mut inner = Reader::new(reader.take(length as usize)?);
    let mut properties = Vec::new();
    while !inner.is_empty() {
        let id = inner.byte()?;
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Byte(inner.byte()?),
            0x13 | 0x21 | 0x22 | 0x23 => Value::U16(inner.u16()?),
            0x02 | 0x11 | 0x18 | 0x27 => Value::U32(inner.u32()?),
            0x0B => Value::Var(inner.varint()?),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(inner.text()?),
            0x09 | 0x16 => Value::Binary(inner.binary()?.to_vec()),
            0x26 => Value::Pair(inner.text()?, inner.text()?),
            _ => return Err(format!("unknown property {id:#04x}")),
        };
        properties.push(Property { id, value });
    }
    Ok(properties)
}

/// Finds properties in a list by what they mean.
pub mod find {
    use super::{Property, Value};

    fn first(properties: &[Property], id: u8) -> Option<&Value> {
        properties
            .iter()
            .find(|property| property.id == id)
            .map(|property| &property.value)
    }

    /// The number in property `id`.
    pub fn number(properties: &[Property], id: u8) -> Option<u32> {
        match first(properties, id)? {
            Value::Byte(value) => Some(u32::from(*value)),
            Value::U16(value) => Some(u32::from(*value)),
            Value::U32(value) | Value::Var(value) => Some(*value),
            _ => None,
        }
    }

    /// The text in property `id`.
    pub fn text(properties: &[Property], id: u8) -> Option<&str> {
        match first(properties, id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes in property `id`.
    pub fn binary(properties: &[Property], id: u8) -> Option<&[u8]> {
        match first(properties, id)? {
            Value::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// All user properties in order.
    pub fn user(properties: &[Property]) -> Vec<(&str, &str)> {
        properties
            .iter()
            .filter_map(|property| match &property.value {
                Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }

    /// All subscription identifiers, sorted.
    pub fn subscription_ids(properties: &[Property]) -> Vec<u32> {
        let mut ids: Vec<u32> = properties
            .iter()
            .filter_map(|property| match property.value {
                Value::Var(id) => Some(id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }
}

/// Identifiers of properties.
pub mod id {
    /// Payload Format Indicator
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    /// Message Expiry Interval
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    /// Content Type
    pub const CONTENT_TYPE: u8 = 0x03;
    /// Response Topic
    pub const RESPONSE_TOPIC: u8 = 0x08;
    /// Correlation Data
    pub const CORRELATION_DATA: u8 = 0x09;
    /// Subscription Identifier
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    /// Session Expiry Interval
    pub const SESSION_EXPIRY: u8 = 0x11;
    /// Assigned Client Identifier
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    /// Server Keep Alive
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    /// Authentication Method
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    /// Authentication Data
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    /// Request Problem Information
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    /// Will Delay Interval
    pub const WILL_DELAY: u8 = 0x18;
    /// Request Response Information
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    /// Response Information
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    /// Server Reference
    pub const SERVER_REFERENCE: u8 = 0x1C;
    /// Reason String
    pub const REASON_STRING: u8 = 0x1F;
    /// Receive Maximum
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    /// Topic Alias Maximum
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    /// Topic Alias
    pub const TOPIC_ALIAS: u8 = 0x23;
    /// Maximum QoS
    pub const MAXIMUM_QOS: u8 = 0x24;
    /// Retain Available
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    /// User Property
    pub const USER_PROPERTY: u8 = 0x26;
    /// Maximum Packet Size
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    /// Wildcard Subscription Available
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    /// Subscription Identifiers Available
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    /// Shared Subscription Available
    pub const SHARED_AVAILABLE: u8 = 0x2A;
}

/// Properties as clients write them.
pub mod prop {
    use super::{Property, Value, id};

    /// Any identifier with any bytes.
    pub fn raw(id: u8, bytes: &[u8]) -> Property {
        Property {
            id,
            value: Value::Raw(bytes.to_vec()),
        }
    }
    /// Payload Format Indicator.
    pub fn payload_format(value: u8) -> Property {
        Property {
            id: id::PAYLOAD_FORMAT,
            value: Value::Byte(value),
        }
    }
    /// Message Expiry Interval in seconds.
    pub fn message_expiry(secs: u32) -> Property {
        Property {
            id: id::MESSAGE_EXPIRY,
            value: Value::U32(secs),
        }
    }
    /// Content Type.
    pub fn content_type(text: &str) -> Property {
        Property {
            id: id::CONTENT_TYPE,
            value: Value::Text(text.into()),
        }
    }
    /// Response Topic.
    pub fn response_topic(topic: &str) -> Property {
        Property {
            id: id::RESPONSE_TOPIC,
            value: Value::Text(topic.into()),
        }
    }
    /// Correlation Data.
    pub fn correlation_data(bytes: &[u8]) -> Property {
        Property {
            id: id::CORRELATION_DATA,
            value: Value::Binary(bytes.to_vec()),
        }
    }
    /// Subscription Identifier.
    pub fn subscription_id(value: u32) -> Property {
        Property {
            id: id::SUBSCRIPTION_ID,
            value: Value::Var(value),
        }
    }
    /// Session Expiry Interval in seconds.
    pub fn session_expiry(secs: u32) -> Property {
        Property {
            id: id::SESSION_EXPIRY,
            value: Value::U32(secs),
        }
    }
    /// Authentication Method.
    pub fn authentication_method(name: &str) -> Property {
        Property {
            id: id::AUTHENTICATION_METHOD,
            value: Value::Text(name.into()),
        }
    }
    /// Authentication Data.
    pub fn authentication_data(bytes: &[u8]) -> Property {
        Property {
            id: id::AUTHENTICATION_DATA,
            value: Value::Binary(bytes.to_vec()),
        }
    }
    /// Request Problem Information.
    pub fn request_problem_information(value: u8) -> Property {
        Property {
            id: id::REQUEST_PROBLEM_INFORMATION,
            value: Value::Byte(value),
        }
    }
    /// Will Delay Interval in seconds.
    pub fn will_delay(secs: u32) -> Property {
        Property {
            id: id::WILL_DELAY,
            value: Value::U32(secs),
        }
    }
    /// Request Response Information.
    pub fn request_response_information(value: u8) -> Property {
        Property {
            id: id::REQUEST_RESPONSE_INFORMATION,
            value: Value::Byte(value),
        }
    }
    /// Reason String.
    pub fn reason_string(text: &str) -> Property {
        Property {
            id: id::REASON_STRING,
            value: Value::Text(text.into()),
        }
    }
    /// Receive Maximum.
    pub fn receive_maximum(value: u16) -> Property {
        Property {
            id: id::RECEIVE_MAXIMUM,
            value: Value::U16(value),
        }
    }
    /// Topic Alias Maximum.
    pub fn topic_alias_maximum(value: u16) -> Property {
        Property {
            id: id::TOPIC_ALIAS_MAXIMUM,
            value: Value::U16(value),
        }
    }
    /// Topic Alias.
    pub fn topic_alias(value: u16) -> Property {
        Property {
            id: id::TOPIC_ALIAS,
            value: Value::U16(value),
        }
    }
    /// User Property.
    pub fn user(name: &str, value: &str) -> Property {
        Property {
            id: id::USER_PROPERTY,
            value: Value::Pair(name.into(), value.into()),
        }
    }
    /// Maximum Packet Size in bytes.
    pub fn maximum_packet_size(bytes: u32) -> Property {
        Property {
            id: id::MAXIMUM_PACKET_SIZE,
            value: Value::U32(bytes),
        }
    }
    /// Assigned Client Identifier; only a server may send it.
    pub fn assigned_client_id(text: &str) -> Property {
        Property {
            id: id::ASSIGNED_CLIENT_ID,
            value: Value::Text(text.into()),
        }
    }
    /// Server Keep Alive in seconds; only a server may send it.
    pub fn server_keep_alive(secs: u16) -> Property {
        Property {
            id: id::SERVER_KEEP_ALIVE,
            value: Value::U16(secs),
        }
    }
    /// Server Reference; only a server may send it.
    pub fn server_reference(text: &str) -> Property {
        Property {
            id: id::SERVER_REFERENCE,
            value: Value::Text(text.into()),
        }
    }
}
