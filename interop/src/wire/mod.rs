//! MQTT bytes as values: what clients send ([`packets`]), what the server may send ([`server`]), and the pieces of both.
//!
//! Everything can be written wrongly on purpose; nothing is read leniently. Shared state, sockets and time are elsewhere.

pub mod lenient;
pub mod packets;
pub mod property;
pub mod server;

pub use packets::{
    Ack, Auth, ClientPacket, Connect, Disconnect, NO_LOCAL, Publish, RETAIN_AS_PUBLISHED,
    RETAIN_IF_NEW, RETAIN_NEVER, Subscribe, Unsubscribe, Will, auth, disconnect, pingreq, puback,
    pubcomp, publish, pubrec, pubrel, subscribe, unsubscribe,
};
pub use property::{Property, Value, find, prop};
pub use server::Packet;

/// Packet types as they stand in the high half of the first byte.
pub mod kind {
    /// CONNECT
    pub const CONNECT: u8 = 1;
    /// CONNACK
    pub const CONNACK: u8 = 2;
    /// PUBLISH
    pub const PUBLISH: u8 = 3;
    /// PUBACK
    pub const PUBACK: u8 = 4;
    /// PUBREC
    pub const PUBREC: u8 = 5;
    /// PUBREL
    pub const PUBREL: u8 = 6;
    /// PUBCOMP
    pub const PUBCOMP: u8 = 7;
    /// SUBSCRIBE
    pub const SUBSCRIBE: u8 = 8;
    /// SUBACK
    pub const SUBACK: u8 = 9;
    /// UNSUBSCRIBE
    pub const UNSUBSCRIBE: u8 = 10;
    /// UNSUBACK
    pub const UNSUBACK: u8 = 11;
    /// PINGREQ
    pub const PINGREQ: u8 = 12;
    /// PINGRESP
    pub const PINGRESP: u8 = 13;
    /// DISCONNECT
    pub const DISCONNECT: u8 = 14;
    /// AUTH
    pub const AUTH: u8 = 15;
}

/// The shortest variable byte integer for `value` (at most 268,435,455).
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4);
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// `first`, the remaining length, `body`.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(varint(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// Two bytes of length and the bytes, whatever they are.
pub fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a field has at most 65,535 bytes");
    let mut out = length.to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// One packet at the head of a buffer: its first byte, where the body begins and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u8,
    /// Bytes of the fixed header, 2 to 5.
    pub header: usize,
    /// Bytes of the whole packet.
    pub end: usize,
}

/// Finds the first whole packet in `input`; `None` while it is incomplete.
///
/// # Errors
/// A remaining length that is longer than needed [MQTT-1.5.5-1] or has more than four bytes.
pub fn split(input: &[u8]) -> Result<Option<Span>, String> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let mut length = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if index > 0 && byte == 0 {
                return Err(
                    "MQTT-1.5.5-1: the remaining length is not in its shortest form".into(),
                );
            }
            let header = index + 2;
            let end = header + length;
            return Ok((input.len() >= end).then_some(Span { first, header, end }));
        }
    }
    if rest.len() >= 4 {
        return Err("the remaining length has more than four bytes".into());
    }
    Ok(None)
}

/// Reads fields off the front of a packet body, strictly.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if self.rest.len() < count {
            return Err(format!("{count} bytes wanted, {} left", self.rest.len()));
        }
        let (head, tail) = self.rest.split_at(count);
        self.rest = tail;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// Two bytes, big endian.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u16(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Four bytes, big endian.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A packet identifier.
    ///
    /// # Errors
    /// It is zero, or fewer than two bytes are left.
    pub fn packet_id(&mut self) -> Result<u16, String> {
        match self.u16()? {
            0 => Err("MQTT-2.2.1-4 (3.1.1: MQTT-2.3.1-4): packet identifier zero".into()),
            id => Ok(id),
        }
    }

    /// A variable byte integer.
    ///
    /// # Errors
    /// It is longer than needed or than four bytes, or incomplete.
    pub fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                if index > 0 && byte == 0 {
                    return Err(
                        "MQTT-1.5.5-1: a variable byte integer is not in its shortest form".into(),
                    );
                }
                return Ok(value);
            }
        }
        Err("a variable byte integer has more than four bytes".into())
    }

    /// Length and bytes.
    ///
    /// # Errors
    /// Fewer are left than announced.
    pub fn binary(&mut self) -> Result<&'a [u8], String> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// Length and UTF-8 text.
    ///
    /// # Errors
    /// It is not UTF-8 [MQTT-1.5.4-1] or contains U+0000 [MQTT-1.5.4-2].
    pub fn text(&mut self) -> Result<String, String> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|error| format!("MQTT-1.5.4-1: {error}"))?;
        if text.contains('\0') {
            return Err("MQTT-1.5.4-2: U+0000 in text".into());
        }
        Ok(text.to_owned())
    }
}
