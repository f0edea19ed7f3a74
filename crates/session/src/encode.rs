//! Writing PUBLISH and PUBREL for one receiver. Deliberately absent: any choice of what to send.
//!
//! The codec encodes whole packets from a property block; here the properties come in two parts (those
//! of this receiver, then those shared by all), and the payload may go by reference.

use martlet_codec::{MAX_REMAINING_LENGTH, PacketId, QoS, varint};

/// Identifiers of the properties that depend on the receiver (MQTT 5, section 2.2.2.2).
const MESSAGE_EXPIRY: u8 = 0x02;
const SUBSCRIPTION_ID: u8 = 0x0B;
const TOPIC_ALIAS: u8 = 0x23;

const PUBLISH: u8 = 0x30;
const RETAIN: u8 = 0x01;
/// The DUP flag in the first byte of a PUBLISH.
pub(crate) const DUP: u8 = 0x08;

/// The first byte of a PUBLISH.
#[inline]
pub(crate) fn first_byte(qos: QoS, retain: bool, dup: bool) -> u8 {
    PUBLISH | (qos as u8) << 1 | if retain { RETAIN } else { 0 } | if dup { DUP } else { 0 }
}

/// Everything of a PUBLISH but the payload itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishHead<'a> {
    pub(crate) v5: bool,
    pub(crate) first: u8,
    /// Empty where an established alias stands for it.
    pub(crate) topic: &'a str,
    pub(crate) id: Option<PacketId>,
    /// Seconds left; ignored for MQTT 3, like all that follow.
    pub(crate) expiry_secs: Option<u32>,
    pub(crate) alias: Option<u16>,
    pub(crate) subscription_ids: &'a [u32],
    /// The forwardable block.
    pub(crate) props: &'a [u8],
    pub(crate) payload_len: usize,
}

/// Exact sizes of a PUBLISH.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishLen {
    props: u32,
    remaining: u32,
    /// The whole packet, payload included.
    pub(crate) packet: usize,
    /// What [`PublishHead::write`] writes.
    pub(crate) head: usize,
}

impl PublishHead<'_> {
    /// The exact sizes; `None` where the packet is larger than `packet_bytes_max` or than the wire can express.
    pub(crate) fn measure(&self, packet_bytes_max: u32) -> Option<PublishLen> {
        let mut remaining = 2 + self.topic.len() + self.payload_len;
        if self.id.is_some() {
            remaining += 2;
        }
        let mut props = 0;
        if self.v5 {
            props = self.props.len();
            if self.expiry_secs.is_some() {
                props += 5;
            }
            if self.alias.is_some() {
                props += 3;
            }
            for id in self.subscription_ids {
                props += 1 + varint::len(*id);
            }
            if props > MAX_REMAINING_LENGTH as usize {
                return None;
            }
            remaining += varint::len(props as u32) + props;
        }
        if remaining > MAX_REMAINING_LENGTH as usize {
            return None;
        }
        let packet = 1 + varint::len(remaining as u32) + remaining;
        if packet > packet_bytes_max as usize {
            return None;
        }
        let head = packet - self.payload_len;
        Some(PublishLen {
            props: props as u32,
            remaining: remaining as u32,
            packet,
            head,
        })
    }

    /// Appends the packet up to its payload. Returns where the packet identifier stands, counted from the
    /// start of the packet; 0 without one.
    pub(crate) fn write(&self, len: PublishLen, dst: &mut Vec<u8>) -> usize {
        let start = dst.len();
        dst.push(self.first);
        put_varint(len.remaining, dst);
        dst.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        dst.extend_from_slice(self.topic.as_bytes());
        let mut id_at = 0;
        if let Some(id) = self.id {
            id_at = dst.len() - start;
            dst.extend_from_slice(&id.get().to_be_bytes());
        }
        if self.v5 {
            put_varint(len.props, dst);
            if let Some(secs) = self.expiry_secs {
                dst.push(MESSAGE_EXPIRY);
                dst.extend_from_slice(&secs.to_be_bytes());
            }
            if let Some(alias) = self.alias {
                dst.push(TOPIC_ALIAS);
                dst.extend_from_slice(&alias.to_be_bytes());
            }
            for id in self.subscription_ids {
                dst.push(SUBSCRIPTION_ID);
                put_varint(*id, dst);
            }
            dst.extend_from_slice(self.props);
        }
        debug_assert_eq!(dst.len() - start, len.head);
        id_at
    }
}

/// Variable byte integer (section 1.5.5); callers checked the range.
#[inline]
fn put_varint(mut value: u32, dst: &mut Vec<u8>) {
    while value > 0x7F {
        dst.push(value as u8 | 0x80);
        value >>= 7;
    }
    dst.push(value as u8);
}

/// Appends a PUBREL that says success.
pub(crate) fn pubrel(id: PacketId, dst: &mut Vec<u8>) {
    let [high, low] = id.get().to_be_bytes();
    dst.extend_from_slice(&[0x62, 2, high, low]);
}

/// Appends a PUBREL for an identifier that is not in use; MQTT 3 has no way to say that.
pub(crate) fn pubrel_unknown(v5: bool, id: PacketId, dst: &mut Vec<u8>) {
    let [high, low] = id.get().to_be_bytes();
    if v5 {
        dst.extend_from_slice(&[0x62, 3, high, low, 0x92]);
    } else {
        dst.extend_from_slice(&[0x62, 2, high, low]);
    }
}
