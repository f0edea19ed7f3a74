//! What a client sends, as values with builders. The version decides at the moment of sending whether properties are written.
//!
//! Field lengths are always right here; packets that are wrong in their very shape are written with [`super::frame`].

use super::property::block;
use super::{Property, field, frame, kind};
use crate::Version;

/// A packet a client can send in any version.
pub trait ClientPacket {
    /// Its bytes in `version`.
    fn bytes(&self, version: Version) -> Vec<u8>;
}

/// The last will in a CONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    /// Will topic.
    pub topic: Vec<u8>,
    /// Will payload.
    pub payload: Vec<u8>,
    /// Will QoS.
    pub qos: u8,
    /// Will Retain.
    pub retain: bool,
    /// Will properties.
    pub properties: Vec<Property>,
}

impl Will {
    /// A will at QoS 0, not retained.
    pub fn new(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.as_ref().to_vec(),
            payload: payload.as_ref().to_vec(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }
    /// Sets Will QoS; 3 is possible.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }
    /// Sets Will Retain.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }
    /// Adds a will property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The version it announces.
    pub version: Version,
    /// Protocol name; that of the version unless set.
    pub name: Option<Vec<u8>>,
    /// Protocol level; that of the version unless set.
    pub level: Option<u8>,
    /// Bits that are set in the connect flags besides those that follow from the fields.
    pub flags: u8,
    /// Clean Start or Clean Session.
    pub clean: bool,
    /// Keep Alive in seconds.
    pub keep_alive: u16,
    /// Properties.
    pub properties: Vec<Property>,
    /// Client identifier.
    pub client_id: Vec<u8>,
    /// Will.
    pub will: Option<Will>,
    /// User name.
    pub user_name: Option<Vec<u8>>,
    /// Password.
    pub password: Option<Vec<u8>>,
}

impl Connect {
    /// Clean, keep alive off, nothing optional.
    pub fn new(version: Version, client_id: impl AsRef<[u8]>) -> Self {
        Self {
            version,
            name: None,
            level: None,
            flags: 0,
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            client_id: client_id.as_ref().to_vec(),
            will: None,
            user_name: None,
            password: None,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let default_name: &[u8] = if self.version == Version::V31 {
            b"MQIsdp"
        } else {
            b"MQTT"
        };
        let mut body = field(self.name.as_deref().unwrap_or(default_name));
        body.push(self.level.unwrap_or(self.version as u8));
        let mut flags = self.flags | (u8::from(self.clean) << 1);
        if let Some(will) = &self.will {
            flags |= 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5);
        }
        flags |= u8::from(self.password.is_some()) << 6;
        flags |= u8::from(self.user_name.is_some()) << 7;
        body.push(flags);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version.is_v5() {
            body.extend(block(&self.properties));
        }
        body.extend(field(&self.client_id));
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                body.extend(block(&will.properties));
            }
            body.extend(field(&will.topic));
            body.extend(field(&will.payload));
        }
        for optional in [&self.user_name, &self.password].into_iter().flatten() {
            body.extend(field(optional));
        }
        frame(0x10, &body)
    }
}

/// PUBLISH, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// DUP.
    pub dup: bool,
    /// QoS; 3 is possible.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Topic name.
    pub topic: Vec<u8>,
    /// Packet identifier; written when it is there, whatever the QoS.
    pub id: Option<u16>,
    /// Properties.
    pub properties: Vec<Property>,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A PUBLISH at QoS 0, not retained.
pub fn publish(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        dup: false,
        qos: 0,
        retain: false,
        topic: topic.as_ref().to_vec(),
        id: None,
        properties: Vec::new(),
        payload: payload.as_ref().to_vec(),
    }
}

impl Publish {
    /// QoS 1 with this packet identifier.
    pub fn qos1(mut self, id: u16) -> Self {
        self.qos = 1;
        self.id = Some(id);
        self
    }
    /// QoS 2 with this packet identifier.
    pub fn qos2(mut self, id: u16) -> Self {
        self.qos = 2;
        self.id = Some(id);
        self
    }
    /// The given QoS; the packet identifier is left out at QoS 0.
    pub fn qos(mut self, qos: u8, id: u16) -> Self {
        self.qos = qos;
        self.id = (qos > 0).then_some(id);
        self
    }
    /// Sets RETAIN.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }
    /// Sets DUP.
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
    /// The payload as text, for comparisons.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
    /// The topic as text, for comparisons.
    pub fn topic_text(&self) -> String {
        String::from_utf8_lossy(&self.topic).into_owned()
    }
}

impl ClientPacket for Publish {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = field(&self.topic);
        if let Some(id) = self.id {
            body.extend(id.to_be_bytes());
        }
        if version.is_v5() {
            body.extend(block(&self.properties));
        }
        body.extend_from_slice(&self.payload);
        frame(
            0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain),
            &body,
        )
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// One of [`kind::PUBACK`] to [`kind::PUBCOMP`].
    pub kind: u8,
    /// Packet identifier.
    pub id: u16,
    /// Reason code.
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

impl Ack {
    fn new(kind: u8, id: u16) -> Self {
        Self {
            kind,
            id,
            code: 0,
            properties: Vec::new(),
        }
    }
    /// Sets the reason code.
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

/// PUBACK.
pub fn puback(id: u16) -> Ack {
    Ack::new(kind::PUBACK, id)
}
/// PUBREC.
pub fn pubrec(id: u16) -> Ack {
    Ack::new(kind::PUBREC, id)
}
/// PUBREL.
pub fn pubrel(id: u16) -> Ack {
    Ack::new(kind::PUBREL, id)
}
/// PUBCOMP.
pub fn pubcomp(id: u16) -> Ack {
    Ack::new(kind::PUBCOMP, id)
}

impl ClientPacket for Ack {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = self.id.to_be_bytes().to_vec();
        if version.is_v5() && (self.code != 0 || !self.properties.is_empty()) {
            body.push(self.code);
            if !self.properties.is_empty() {
                body.extend(block(&self.properties));
            }
        }
        frame(
            self.kind << 4 | if self.kind == kind::PUBREL { 2 } else { 0 },
            &body,
        )
    }
}

/// SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// Packet identifier.
    pub id: u16,
    /// Filters and their options.
    pub filters: Vec<(Vec<u8>, u8)>,
    /// Properties.
    pub properties: Vec<Property>,
}

/// Option bit No Local.
pub const NO_LOCAL: u8 = 0x04;
/// Option bit Retain As Published.
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
/// Retain Handling 1: only if the subscription is new.
pub const RETAIN_IF_NEW: u8 = 0x10;
/// Retain Handling 2: never.
pub const RETAIN_NEVER: u8 = 0x20;

/// A SUBSCRIBE with one filter; `options` is the options byte, which is the QoS unless more bits are set.
pub fn subscribe(id: u16, filter: impl AsRef<[u8]>, options: u8) -> Subscribe {
    Subscribe {
        id,
        filters: vec![(filter.as_ref().to_vec(), options)],
        properties: Vec::new(),
    }
}

impl Subscribe {
    /// Adds a filter.
    pub fn and(mut self, filter: impl AsRef<[u8]>, options: u8) -> Self {
        self.filters.push((filter.as_ref().to_vec(), options));
        self
    }
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

impl ClientPacket for Subscribe {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = self.id.to_be_bytes().to_vec();
        if version.is_v5() {
            body.extend(block(&self.properties));
        }
        for (filter, options) in &self.filters {
            body.extend(field(filter));
            body.push(*options);
        }
        frame(0x82, &body)
    }
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Unsubscribe {
    id: u16,
    filters: Vec<Vec<u8>>,
    properties: Vec<Property>,
}

/// An UNSUBSCRIBE with one filter.
pub fn unsubscribe(id: u16, filter: impl AsRef<[u8]>) -> Unsubscribe {
    Unsubscribe {
        id,
        filters: vec![filter.as_ref().to_vec()],
        properties: Vec::new(),
    }
}

impl Unsubscribe {
    /// Adds a filter.
    pub fn and(mut self, filter: impl AsRef<[u8]>) -> Self {
        self.filters.push(filter.as_ref().to_vec());
        self
    }
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

impl ClientPacket for Unsubscribe {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = self.id.to_be_bytes().to_vec();
        if version.is_v5() {
            body.extend(block(&self.properties));
        }
        for filter in &self.filters {
            body.extend(field(filter));
        }
        frame(0xA2, &body)
    }
}

/// PINGREQ.
#[derive(Clone, Copy, Debug)]
pub struct PingReq;

/// PINGREQ.
pub fn pingreq() -> PingReq {
    PingReq
}

impl ClientPacket for PingReq {
    fn bytes(&self, _: Version) -> Vec<u8> {
        vec![0xC0, 0x00]
    }
}

/// DISCONNECT, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Reason code.
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

/// A normal DISCONNECT.
pub fn disconnect() -> Disconnect {
    Disconnect {
        code: 0,
        properties: Vec::new(),
    }
}

impl Disconnect {
    /// Sets the reason code.
    pub fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

impl ClientPacket for Disconnect {
    fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        if version.is_v5() && (self.code != 0 || !self.properties.is_empty()) {
            body.push(self.code);
            if !self.properties.is_empty() {
                body.extend(block(&self.properties));
            }
        }
        frame(0xE0, &body)
    }
}

/// AUTH, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Reason code.
    pub code: u8,
    /// Properties.
    pub properties: Vec<Property>,
}

/// An AUTH with this code.
pub fn auth(code: u8) -> Auth {
    Auth {
        code,
        properties: Vec::new(),
    }
}

impl Auth {
    /// Adds a property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }
}

impl ClientPacket for Auth {
    fn bytes(&self, _: Version) -> Vec<u8> {
        let mut body = vec![self.code];
        body.extend(block(&self.properties));
        frame(0xF0, &body)
    }
}
