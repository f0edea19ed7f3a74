//! The one stored form of a published message. Deliberately absent: anything about who receives it.

use std::fmt;
use std::sync::Arc;

use martlet_codec::QoS;

use crate::record::{RecordError, VERSION};
use crate::{MessageId, SessionId, Timestamp};

/// A published message: one shared block of head, topic, forwardable MQTT 5 properties and payload.
///
/// Two words wide, so that queues of thousands stay small. Cloning costs one reference count; making
/// one costs one allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// [`Message::HEAD_LEN`] bytes of head, then the body. The head lives in the block because a
    /// queue entry of two words is worth more than the nanosecond that reading it back costs.
    block: Arc<[u8]>,
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

/// Buffers above this many bytes are not kept for the next message.
const SCRATCH_KEPT_BYTES: usize = 64 * 1024;

const RETAIN_BIT: u8 = 0b0000_0100;
const EXPIRES_BIT: u8 = 0b0000_1000;

impl Message {
    /// Bytes of the block that hold the head: version, flags, topic length, properties length, identity,
    /// publisher, time of receipt, time of expiry.
    const HEAD_LEN: usize = 40;

    /// Builds a message from its parts.
    ///
    /// `props` is a validated MQTT 5 property block without Topic Alias, Message Expiry Interval and
    /// Subscription Identifier, which are never forwarded as received.
    ///
    /// `scratch` is cleared and used to gather the block, so that one allocation is enough; hand in the
    /// same one each time. Text longer than a topic name can be (65,535 bytes) makes a message without a
    /// topic, which nobody can receive: callers pass validated names only.
    pub fn new(
        head: MessageHead,
        topic: &str,
        props: &[u8],
        payload: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Self {
        debug_assert!(u16::try_from(topic.len()).is_ok());
        debug_assert!(u32::try_from(props.len()).is_ok());
        let topic = if u16::try_from(topic.len()).is_ok() {
            topic
        } else {
            ""
        };
        let props = if u32::try_from(props.len()).is_ok() {
            props
        } else {
            &[]
        };
        scratch.clear();
        scratch.reserve(Self::HEAD_LEN + topic.len() + props.len() + payload.len());
        let mut flags = head.qos as u8;
        if head.retain {
            flags |= RETAIN_BIT;
        }
        if head.expires.is_some() {
            flags |= EXPIRES_BIT;
        }
        scratch.extend_from_slice(&[VERSION, flags]);
        scratch.extend_from_slice(&(topic.len() as u16).to_le_bytes());
        scratch.extend_from_slice(&(props.len() as u32).to_le_bytes());
        scratch.extend_from_slice(&head.id.get().to_le_bytes());
        scratch.extend_from_slice(&head.publisher.get().to_le_bytes());
        scratch.extend_from_slice(&head.received.as_millis().to_le_bytes());
        scratch.extend_from_slice(&head.expires.map_or(0, Timestamp::as_millis).to_le_bytes());
        scratch.extend_from_slice(topic.as_bytes());
        scratch.extend_from_slice(props);
        scratch.extend_from_slice(payload);
        let block = Arc::from(scratch.as_slice());
        if scratch.capacity() > SCRATCH_KEPT_BYTES {
            *scratch = Vec::new();
        }
        Self { block }
    }

    /// What is known besides the body.
    pub fn head(&self) -> MessageHead {
        let flags = self.block[1];
        MessageHead {
            id: self.id(),
            qos: self.qos(),
            retain: flags & RETAIN_BIT != 0,
            publisher: SessionId::new(self.word(16)),
            received: self.received(),
            expires: self.expires(),
        }
    }

    /// Identity in the store; [`MessageId::NONE`] for messages that were never stored.
    pub fn id(&self) -> MessageId {
        MessageId::new(self.word(8))
    }

    /// The QoS it was published with.
    pub fn qos(&self) -> QoS {
        match self.block[1] & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// When the broker received it.
    pub fn received(&self) -> Timestamp {
        Timestamp::from_millis(self.word(24))
    }

    /// The topic name.
    pub fn topic(&self) -> &str {
        // The bytes were copied from a `&str`; a failed check would be a bug, and an empty topic matches nothing.
        core::str::from_utf8(self.topic_bytes()).unwrap_or_default()
    }

    /// The topic name as bytes, which takes no check that they are UTF-8.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.body()[..self.topic_len()]
    }

    /// The forwardable MQTT 5 property block, without its length.
    pub fn props(&self) -> &[u8] {
        &self.body()[self.topic_len()..self.payload_start()]
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.body()[self.payload_start()..]
    }

    /// Where the payload starts in [`Message::body`].
    pub fn payload_start(&self) -> usize {
        self.topic_len() + self.props_len()
    }

    /// Topic, properties and payload in one piece.
    pub fn body(&self) -> &[u8] {
        &self.block[Self::HEAD_LEN..]
    }

    /// Bytes of topic, properties and payload; what byte limits count.
    pub fn len_bytes(&self) -> usize {
        self.block.len() - Self::HEAD_LEN
    }

    /// When it may no longer be delivered.
    pub fn expires(&self) -> Option<Timestamp> {
        (self.block[1] & EXPIRES_BIT != 0).then(|| Timestamp::from_millis(self.word(32)))
    }

    /// Whether its Message Expiry Interval has passed at `now` [MQTT-3.3.2-5].
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }

    /// The same message under another head. Copies the body: give a message its identity before it is made.
    pub fn with_head(&self, head: MessageHead) -> Self {
        Self::new(
            head,
            self.topic(),
            self.props(),
            self.payload(),
            &mut Vec::new(),
        )
    }

    /// The same message under another store identity; copies the body unless the identity is the same.
    pub fn with_id(self, id: MessageId) -> Self {
        if self.id() == id {
            self
        } else {
            self.with_head(MessageHead { id, ..self.head() })
        }
    }

    /// Whether both share one block of memory.
    pub fn same_block(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.block, &other.block)
    }

    /// The message as it is stored: the very block, so that storing copies nothing.
    pub fn as_record(&self) -> &[u8] {
        &self.block
    }

    /// Reads back what [`Message::as_record`] gave.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn from_record(bytes: &[u8]) -> Result<Self, RecordError> {
        let [version, flags, ..] = *bytes else {
            return Err(RecordError::Truncated);
        };
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        if bytes.len() < Self::HEAD_LEN {
            return Err(RecordError::Truncated);
        }
        if flags & !(0b11 | RETAIN_BIT | EXPIRES_BIT) != 0 || QoS::from_bits(flags & 0b11).is_none()
        {
            return Err(RecordError::Invalid("message flags"));
        }
        let message = Self {
            block: Arc::from(bytes),
        };
        if message.payload_start() > message.len_bytes() {
            return Err(RecordError::Truncated);
        }
        if flags & EXPIRES_BIT == 0 && message.word(32) != 0 {
            return Err(RecordError::Invalid("message expiry"));
        }
        if core::str::from_utf8(&message.body()[..message.topic_len()]).is_err() {
            return Err(RecordError::Invalid("topic"));
        }
        Ok(message)
    }

    fn topic_len(&self) -> usize {
        usize::from(u16::from_le_bytes([self.block[2], self.block[3]]))
    }

    fn props_len(&self) -> usize {
        u32::from_le_bytes([self.block[4], self.block[5], self.block[6], self.block[7]]) as usize
    }

    /// The little-endian word at `at`, which lies inside the head.
    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.block[at..at + 8]);
        u64::from_le_bytes(bytes)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("head", &self.head())
            .field("topic", &self.topic())
            .field("props_bytes", &self.props().len())
            .field("payload_bytes", &self.payload().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> MessageHead {
        MessageHead {
            id: MessageId::new(7),
            qos: QoS::ExactlyOnce,
            retain: true,
            publisher: SessionId::new(u64::MAX),
            received: Timestamp::from_millis(1_000),
            expires: Some(Timestamp::from_millis(0)),
        }
    }

    #[test]
    fn parts_come_back_as_given() {
        let mut scratch = Vec::new();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (retain, expires) in [
                (false, None),
                (true, Some(Timestamp::from_millis(u64::MAX))),
            ] {
                let head = MessageHead {
                    qos,
                    retain,
                    expires,
                    ..head()
                };
                let message = Message::new(head, "ä/b", &[1, 0], b"payload", &mut scratch);
                assert_eq!(message.head(), head);
                assert_eq!(message.topic(), "ä/b");
                assert_eq!(message.props(), [1, 0]);
                assert_eq!(message.payload(), b"payload");
                assert_eq!(message.len_bytes(), 4 + 2 + 7);
                assert_eq!(&message.body()[message.payload_start()..], b"payload");
            }
        }
    }

    #[test]
    fn an_empty_message_is_one() {
        let message = Message::new(head(), "", &[], &[], &mut Vec::new());
        assert_eq!(
            (message.topic(), message.props(), message.payload()),
            ("", &[][..], &[][..])
        );
    }

    #[test]
    fn it_expires_at_its_millisecond() {
        let at = Timestamp::from_millis(5_000);
        let message = Message::new(
            MessageHead {
                expires: Some(at),
                ..head()
            },
            "t",
            &[],
            &[],
            &mut Vec::new(),
        );
        assert!(!message.is_expired(Timestamp::from_millis(4_999)));
        assert!(message.is_expired(at));
    }

    #[test]
    fn another_identity_leaves_the_rest_alone() {
        let message = Message::new(head(), "t", &[1, 0], b"x", &mut Vec::new());
        let other = message.clone().with_id(MessageId::new(8));
        assert_eq!(
            other.head(),
            MessageHead {
                id: MessageId::new(8),
                ..head()
            }
        );
        assert_eq!(other.body(), message.body());
        assert!(
            message
                .clone()
                .with_id(MessageId::new(7))
                .same_block(&message)
        );
    }

    #[test]
    fn a_message_is_two_words() {
        assert_eq!(size_of::<Option<Message>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn a_huge_body_does_not_stay_in_the_scratch() {
        let mut scratch = Vec::new();
        let _ = Message::new(
            head(),
            "t",
            &[],
            &vec![0; SCRATCH_KEPT_BYTES + 1],
            &mut scratch,
        );
        assert_eq!(scratch.capacity(), 0);
        let _ = Message::new(head(), "t", &[], b"small", &mut scratch);
        assert!(scratch.capacity() > 0);
    }
}
