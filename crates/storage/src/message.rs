//! The one stored form of a published message. Deliberately absent: anything about who receives it.

use std::sync::Arc;

use martlet_codec::QoS;

use crate::{MessageId, SessionId, Timestamp};

/// A published message: one shared body (topic, forwardable MQTT 5 properties, payload) and a few
/// copied facts. Cloning costs one reference count; making one costs one allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    body: Arc<[u8]>,
    topic_len: u16,
    props_len: u32,
    head: MessageHead,
}

/// What is known of a message besides its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// Identity in the store; [`MessageId::NONE`] for messages that were never stored.
    pub id: MessageId,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// The session that published it; [`SessionId::NONE`] for the broker itself.
    pub publisher: SessionId,
    /// When the broker received it.
    pub received: Timestamp,
    /// When it may no longer be delivered; `None` where the publisher set no Message Expiry Interval.
    pub expires: Option<Timestamp>,
}

impl Message {
    /// Builds a message from its parts.
    ///
    /// `props` is a validated MQTT 5 property block without Topic Alias, Message Expiry Interval and
    /// Subscription Identifier, which are never forwarded as received.
    ///
    /// `scratch` is cleared and used to gather the body, so that one allocation is enough; hand in the
    /// same one each time. Text longer than a topic name can be (65,535 bytes) is cut: callers pass
    /// validated names only.
    pub fn new(head: MessageHead, topic: &str, props: &[u8], payload: &[u8], scratch: &mut Vec<u8>) -> Self {
        debug_assert!(topic.len() <= usize::from(u16::MAX));
        scratch.clear();
        scratch.extend_from_slice(topic.as_bytes());
        scratch.extend_from_slice(props);
        scratch.extend_from_slice(payload);
        Self { body: Arc::from(scratch.as_slice()), topic_len: topic.len() as u16, props_len: props.len() as u32, head }
    }

    /// What is known besides the body.
    pub fn head(&self) -> &MessageHead {
        &self.head
    }

    /// The topic name.
    pub fn topic(&self) -> &str {
        // The bytes were copied from a `&str`; a failed check would be a bug, and an empty topic matches nothing.
        core::str::from_utf8(&self.body[..usize::from(self.topic_len)]).unwrap_or_default()
    }

    /// The forwardable MQTT 5 property block, without its length.
    pub fn props(&self) -> &[u8] {
        &self.body[usize::from(self.topic_len)..self.payload_start()]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.body[self.payload_start()..]
    }

    /// Where the payload starts in [`Message::body`].
    pub fn payload_start(&self) -> usize {
        usize::from(self.topic_len) + self.props_len as usize
    }

    /// Topic, properties and payload in one piece.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of memory that the body takes; what byte limits count.
    pub fn len_bytes(&self) -> usize {
        self.body.len()
    }

    /// When it may no longer be delivered.
    pub fn expires(&self) -> Option<Timestamp> {
        self.head.expires
    }

    /// Whether its Message Expiry Interval has passed at `now` [MQTT-3.3.2-5].
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.head.expires.is_some_and(|at| at <= now)
    }

    /// The same message under another store identity.
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.head.id = id;
        self
    }
}
