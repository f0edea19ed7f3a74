//! Settings, verdicts and effects of the outbound half: the words it speaks with its broker.

use martlet_codec::{QoS, Version};
use martlet_storage::{Message, MessageId, StoreOp};

/// Bounds of one session's outbound side; every field has a default and a meaning in the configuration.
#[derive(Clone, Debug)]
pub struct OutboundLimits {
    /// Messages waiting for the window or the client (in flight not counted). Default 1,000.
    pub queued_messages_max: usize,
    /// Body bytes of the same. Default 64 MiB.
    pub queued_bytes_max: usize,
    /// Unacknowledged QoS 1 and 2 messages, for clients that announce no smaller Receive Maximum. Default 1,000.
    pub inflight_max: u16,
    /// Bytes of QoS 0 and encoded packets pending for a connection, above which QoS 0 is dropped. Default 16 MiB.
    pub pending_bytes_max: usize,
    /// Bytes that QoS 1 and 2 are encoded ahead of the socket; the rest stays queued and can still expire.
    /// Default 256 KiB: about what a socket buffer takes in one go.
    pub encode_ahead_bytes: usize,
    /// Payloads from this size on are shared instead of copied. Default 1 KiB, where measured cost of both is equal.
    pub share_from_bytes: usize,
    /// The same for QoS 0 with one receiver ([`Publication::expect_one`](crate::Publication::expect_one)), where sharing
    /// takes an allocation that nobody else uses. Default 32 KiB, from where measured cost of both is equal.
    pub share_one_from_bytes: usize,
    /// Queue QoS 0 for an offline session. Default false.
    pub queue_qos0: bool,
    /// What gives way when the queue is full. Default [`Overflow::DropOldest`].
    pub overflow: Overflow,
    /// While the session is offline and its queue full, the oldest QoS 1 message in flight gives up its place
    /// when it was received longer ago than this, in seconds. Default `None`: never.
    ///
    /// Only offline: to a connected client a message in flight counts against Receive Maximum until it is
    /// acknowledged, given up or not [MQTT-3.3.4-9].
    pub inflight_expiry_secs: Option<u32>,
}

impl Default for OutboundLimits {
    fn default() -> Self {
        Self {
            queued_messages_max: 1_000,
            queued_bytes_max: 64 << 20,
            inflight_max: 1_000,
            pending_bytes_max: 16 << 20,
            encode_ahead_bytes: 256 << 10,
            share_from_bytes: 1 << 10,
            share_one_from_bytes: 32 << 10,
            queue_qos0: false,
            overflow: Overflow::DropOldest,
            inflight_expiry_secs: None,
        }
    }
}

/// What gives way when a message meets a full queue. Expired messages always go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest waiting QoS 0 message; without one, a new QoS 0 message; else the oldest waiting message.
    DropOldest,
    /// The new message.
    DropNewest,
    /// The connection, with 0x97. While the session is offline, as [`Overflow::DropOldest`].
    Disconnect,
}

/// What the connected client can take.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// The version its CONNECT named.
    pub version: Version,
    /// Receive Maximum, 65,535 if absent; 0 is taken as 1.
    pub receive_maximum: u16,
    /// Maximum Packet Size; `u32::MAX` if absent.
    pub packet_bytes_max: u32,
    /// Topic aliases we may use.
    pub topic_alias_maximum: u16,
}

/// How one subscriber gets a publication.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Granted QoS; the message goes out at the lower of both.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Subscription Identifiers to send; MQTT 3 clients have none. A value of 0 is not an identifier.
    pub subscription_ids: &'a [u32],
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue holds as many messages as it may.
    QueueFull,
    /// The queue holds as many bytes as it may.
    QueueBytesFull,
    /// Its Message Expiry Interval passed.
    Expired,
    /// It waited in flight for longer than allowed while the queue was full.
    InflightExpired,
    /// Larger than the client's Maximum Packet Size [MQTT-3.1.2-24].
    PacketTooLarge,
    /// QoS 0, and the client does not read fast enough.
    PendingBytesFull,
    /// QoS 0, and the session is offline.
    Offline,
    /// The store could not give its body back.
    BodyLost,
}

/// What became of an offered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Encoded for the client; nothing was added to [`Effects`].
    Sent,
    /// Kept for later; also a QoS 2 message of a durable session that waits for its commit.
    Queued,
    /// Not delivered to this client, for this reason.
    Dropped(DropReason),
    /// [`Overflow::Disconnect`] and the queue is full: the connection must end with 0x97. The message was
    /// not taken.
    Disconnect,
}

/// What became of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// The exchange is over; a window slot is free.
    Done,
    /// PUBREC taken, PUBREL written (or, in a durable session, waiting for its commit).
    Released,
    /// Unknown id; for PUBREC a PUBREL 0x92 was written, else nothing.
    Unknown,
}

/// Why an acknowledgement ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckError {
    /// PUBACK for QoS 2, PUBREC or PUBCOMP for QoS 1, PUBCOMP before PUBREC: a protocol error.
    WrongKind,
}

/// Store operations of a durable session, and drops to report, gathered during a call.
///
/// Calls append; the caller empties it.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be submitted as one batch, then [`crate::Outbound::submitted`]. Empty for sessions that are not durable.
    pub ops: Vec<StoreOp>,
    /// Messages given up besides the one offered: topic is in the message.
    pub dropped: Vec<(Message, DropReason)>,
    /// The same for messages whose body was not in memory.
    pub dropped_stored: Vec<(MessageId, DropReason)>,
    /// Bodies to be read and handed to [`crate::Outbound::body`] or [`crate::Outbound::body_lost`].
    pub need_bodies: Vec<MessageId>,
    /// Packets encoded besides the PUBLISH that was offered; for counters.
    pub sent: Sent,
}

/// Packets that a call encoded by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// PUBLISH packets by QoS.
    pub publishes: [u32; 3],
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// PUBREL packets.
    pub pubrels: u32,
}

impl Sent {
    pub(crate) fn publish(&mut self, qos: QoS, payload: &[u8]) {
        self.publishes[qos as usize] += 1;
        self.payload_bytes += payload.len() as u64;
    }
}

impl Effects {
    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
            && self.dropped.is_empty()
            && self.dropped_stored.is_empty()
            && self.need_bodies.is_empty()
            && self.sent == Sent::default()
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.dropped.clear();
        self.dropped_stored.clear();
        self.need_bodies.clear();
        self.sent = Sent::default();
    }

    /// Gives back memory above a few entries.
    pub fn shrink(&mut self) {
        /// What a quiet session's calls bring.
        const KEPT: usize = 16;
        self.ops.shrink_to(KEPT);
        self.dropped.shrink_to(KEPT);
        self.dropped_stored.shrink_to(KEPT);
        self.need_bodies.shrink_to(KEPT);
    }
}

/// How much an outbound half holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundCounts {
    /// Unacknowledged QoS 1 and 2 messages.
    pub inflight: usize,
    /// Messages waiting.
    pub queued: usize,
    /// Body bytes of the waiting messages.
    pub queued_bytes: usize,
}
