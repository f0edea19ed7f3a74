//! The vocabulary of what is stored: one operation per event of the durability table.
//!
//! Deliberately absent: how rows look ([`crate::row`]) and when they are safe ([`crate::Committer`]).
//!
//! | event | batch |
//! | --- | --- |
//! | CONNECT: new session | `PutSession` |
//! | CONNECT: clean start over an old session | `DeleteSession`, `PutSession`; gates CONNACK |
//! | CONNECT, DISCONNECT: expiry changed, connection ended | `PutSession` |
//! | CONNECT: will | `PutWill` (also for sessions that are not stored) |
//! | connection ended: will delayed | `PutWill` with its due time |
//! | will cancelled | `DeleteWill` |
//! | will fires | `DeleteWill`, then as PUBLISH |
//! | session ended | `DeleteSession` (its rows go with it) |
//! | SUBSCRIBE, UNSUBSCRIBE | `PutSubscription`, `DeleteSubscription` |
//! | in: PUBLISH QoS 1 | `PutMessage`, `Enqueue` per receiver; gates PUBACK |
//! | in: PUBLISH QoS 2 | the same with `PutInbound`; gates PUBREC and delivery |
//! | in: PUBREL | `DeleteInbound`; gates PUBCOMP |
//! | in: retained PUBLISH | `PutRetained` or `DeleteRetained` in the batch of the publish; QoS 0: not gated |
//! | out: QoS 2 admitted to the window | `PutOutbound` published; gates PUBLISH |
//! | out: PUBREC | `PutOutbound` released, `Dequeue`; gates PUBREL |
//! | out: PUBCOMP | `DeleteOutbound` |
//! | out: PUBREC with an error | `DeleteOutbound`, `Dequeue` |
//! | out: PUBACK | `Dequeue` |
//! | out: QoS 1 admitted to the window | nothing: duplicates are allowed |
//! | drop, expiry | `Dequeue` (and `DeleteOutbound` where an id was bound) |
//! | shared message moves | `Enqueue` at one, `Dequeue` at the other |
//! | now and then, if asked; orderly end | `PutCounters`; gates nothing |

use std::sync::Arc;

use martlet_codec::{PacketId, QoS, SubscribeOptions};

use crate::{Message, MessageId, SessionId, Timestamp};

/// State of an outbound QoS 2 delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundState {
    /// The packet id is bound; PUBREC has not come.
    Published,
    /// PUBREC has come; PUBCOMP has not.
    Released,
}

/// What is stored of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The client identifier.
    pub client_id: Arc<str>,
    /// The user it authenticated as.
    pub username: Option<Box<str>>,
    /// Session Expiry Interval in seconds; `u32::MAX` never.
    pub expiry_interval_secs: u32,
    /// Absolute end of the session, counted from the disconnect; `None` while connected or never.
    pub expires: Option<Timestamp>,
    /// Whether its client was connected.
    pub connected: bool,
}

/// What is stored of a will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// The message to publish.
    pub message: Message,
    /// When to publish it; `None` until the connection ends.
    pub due: Option<Timestamp>,
    /// Will Delay Interval in seconds.
    pub delay_secs: u32,
}

/// The running totals of a broker, by name. Which names there are is the broker's business: one that knows other names than
/// those it finds passes over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountersRecord {
    /// Name and total.
    pub totals: Vec<(Box<str>, u64)>,
}

/// One change; a batch of them is applied atomically.
///
/// Operations on rows of a session that does not exist (any more) do nothing, and neither does the deletion
/// of a row that does not exist: the broker need not know which of two racing tasks came first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreOp {
    /// Creates or replaces a session's own row.
    PutSession {
        /// The session.
        session: SessionId,
        /// Its record.
        record: SessionRecord,
    },
    /// Deletes the session and every row keyed by it.
    DeleteSession {
        /// The session.
        session: SessionId,
    },
    /// Creates or replaces a subscription.
    PutSubscription {
        /// The subscriber.
        session: SessionId,
        /// The filter as the client wrote it, share prefix included.
        filter: Box<str>,
        /// Its options.
        options: SubscribeOptions,
        /// Its Subscription Identifier.
        subscription_id: Option<u32>,
    },
    /// Ends a subscription.
    DeleteSubscription {
        /// The subscriber.
        session: SessionId,
        /// The filter as the client wrote it.
        filter: Box<str>,
    },
    /// Stores a body once, however many queues refer to it; dropped with its last reference. Comes before
    /// the first `Enqueue` that names it; a body without reference at the end of its batch is not kept.
    PutMessage {
        /// The message; its identity is not [`MessageId::NONE`].
        message: Message,
    },
    /// Adds a message to a session's queue. The same message can be there several times.
    Enqueue {
        /// The receiver.
        session: SessionId,
        /// A stored message.
        message: MessageId,
        /// The QoS of this delivery.
        qos: QoS,
        /// The RETAIN flag of this delivery.
        retain: bool,
        /// The Subscription Identifiers of this delivery.
        subscription_ids: Box<[u32]>,
        /// The share group it came through.
        share: Option<u64>,
    },
    /// Removes the oldest entry of that message from a session's queue.
    Dequeue {
        /// The receiver.
        session: SessionId,
        /// The message.
        message: MessageId,
    },
    /// Binds a packet id to a QoS 2 message, or changes its state. Rows come back in the order of their
    /// first writing.
    PutOutbound {
        /// The receiver.
        session: SessionId,
        /// The packet id.
        packet_id: PacketId,
        /// The message.
        message: MessageId,
        /// The state.
        state: OutboundState,
    },
    /// Frees a packet id.
    DeleteOutbound {
        /// The receiver.
        session: SessionId,
        /// The packet id.
        packet_id: PacketId,
    },
    /// A QoS 2 identifier was received.
    PutInbound {
        /// The publisher.
        session: SessionId,
        /// The packet id.
        packet_id: PacketId,
    },
    /// A QoS 2 identifier was released.
    DeleteInbound {
        /// The publisher.
        session: SessionId,
        /// The packet id.
        packet_id: PacketId,
    },
    /// Sets the retained message of its topic.
    PutRetained {
        /// The message.
        message: Message,
    },
    /// Clears the retained message of a topic.
    DeleteRetained {
        /// The topic.
        topic: Box<str>,
    },
    /// Stores a will, also of a session that is not stored itself.
    PutWill {
        /// The session.
        session: SessionId,
        /// The will.
        will: WillRecord,
    },
    /// The will was cancelled or is being published.
    DeleteWill {
        /// The session.
        session: SessionId,
    },
    /// Replaces the broker's counters.
    PutCounters {
        /// All of them.
        record: CountersRecord,
    },
}

impl StoreOp {
    /// About how many bytes it takes in memory; what [`crate::Committer::backlog_bytes`] adds up.
    pub fn weight_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::PutSession { record, .. } => {
                    record.client_id.len() + record.username.as_ref().map_or(0, |name| name.len())
                }
                Self::PutSubscription { filter, .. } | Self::DeleteSubscription { filter, .. } => {
                    filter.len()
                }
                Self::PutMessage { message } | Self::PutRetained { message } => message.len_bytes(),
                Self::Enqueue {
                    subscription_ids, ..
                } => size_of_val(&**subscription_ids),
                Self::DeleteRetained { topic } => topic.len(),
                Self::PutWill { will, .. } => will.message.len_bytes(),
                Self::PutCounters { record } => {
                    let names = record.totals.iter().map(|(name, _)| name.len());
                    size_of_val(record.totals.as_slice()) + names.sum::<usize>()
                }
                Self::DeleteSession { .. }
                | Self::Dequeue { .. }
                | Self::PutOutbound { .. }
                | Self::DeleteOutbound { .. }
                | Self::PutInbound { .. }
                | Self::DeleteInbound { .. }
                | Self::DeleteWill { .. } => 0,
            }
    }
}
