//! What a broker stores, and the traits of the backends that keep it.
//!
//! Vocabulary (identities, [`Timestamp`], [`Message`], [`StoreOp`]), the [`Storage`] trait of a backend,
//! the [`Committer`] trait the broker talks to, and the in-memory backend. No MQTT session logic, no
//! runtime, no other backend.
//!
//! API CONTRACT: names and signatures are fixed; the storage helper completes and splits it.
#![allow(missing_docs, clippy::pedantic)]

mod message;
pub use message::{Message, MessageHead};

use martlet_codec::{PacketId, QoS, SubscribeOptions};
use std::sync::Arc;

/// Milliseconds since the Unix epoch, from the clock that was handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);
impl Timestamp {
    pub const fn from_millis(millis: u64) -> Self { Self(millis) }
    pub const fn as_millis(self) -> u64 { self.0 }
    /// Saturating.
    pub const fn plus_secs(self, secs: u32) -> Self { Self(self.0.saturating_add(secs as u64 * 1000)) }
    pub const fn plus_millis(self, millis: u64) -> Self { Self(self.0.saturating_add(millis)) }
    /// Whole seconds from `self` until `later`, rounded up; 0 when it has passed.
    pub const fn secs_until(self, later: Timestamp) -> u32 {
        let left = later.0.saturating_sub(self.0).div_ceil(1000);
        if left > u32::MAX as u64 { u32::MAX } else { left as u32 }
    }
    pub const fn millis_since(self, earlier: Timestamp) -> u64 { self.0.saturating_sub(earlier.0) }
}

/// One incarnation of a session; never reused (architecture rule 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);
impl SessionId { pub const NONE: Self = Self(0); pub const fn new(id: u64) -> Self { Self(id) } pub const fn get(self) -> u64 { self.0 } }
/// Identity of a stored message; grows with time, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);
impl MessageId { pub const NONE: Self = Self(0); pub const fn new(id: u64) -> Self { Self(id) } pub const fn get(self) -> u64 { self.0 } }
/// Position in the stream of committed batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);
impl Lsn { pub const ZERO: Self = Self(0); pub const fn new(n: u64) -> Self { Self(n) } pub const fn get(self) -> u64 { self.0 } }

/// State of an outbound QoS 2 delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundState { Published, Released }

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    pub client_id: Arc<str>,
    pub username: Option<Box<str>>,
    /// Session Expiry Interval in seconds; `u32::MAX` never.
    pub expiry_interval_secs: u32,
    /// Absolute end of the session, counted from the disconnect; `None` while connected or never.
    pub expires: Option<Timestamp>,
    pub connected: bool,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord { pub message: Message, /** `None` until the connection ends. */ pub due: Option<Timestamp>, pub delay_secs: u32 }

/// One change; a batch of them is applied atomically.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreOp {
    PutSession { session: SessionId, record: SessionRecord },
    /// Deletes the session and every row keyed by it.
    DeleteSession { session: SessionId },
    PutSubscription { session: SessionId, filter: Box<str>, options: SubscribeOptions, subscription_id: Option<u32> },
    DeleteSubscription { session: SessionId, filter: Box<str> },
    /// Stores a body once, however many queues refer to it; dropped with its last reference.
    PutMessage { message: Message },
    Enqueue { session: SessionId, message: MessageId, qos: QoS, retain: bool, subscription_ids: Box<[u32]> },
    Dequeue { session: SessionId, message: MessageId },
    PutOutbound { session: SessionId, packet_id: PacketId, message: MessageId, state: OutboundState },
    DeleteOutbound { session: SessionId, packet_id: PacketId },
    PutInbound { session: SessionId, packet_id: PacketId },
    DeleteInbound { session: SessionId, packet_id: PacketId },
    PutRetained { message: Message },
    DeleteRetained { topic: Box<str> },
    PutWill { session: SessionId, will: WillRecord },
    DeleteWill { session: SessionId },
}

/// Called by the committer, on its own thread, after the watermark moved.
pub trait CommitListener: Send + Sync { fn committed(&self, watermark: Lsn); /** The store can acknowledge nothing any more. */ fn failed(&self, error: &str); }

/// The broker's side of the store: submit batches, watch the watermark.
pub trait Committer: Send + Sync {
    /// Hands in one atomic batch; never blocks on IO. Batches commit in the order of their `Lsn`.
    fn submit(&self, batch: Vec<StoreOp>) -> Lsn;
    /// Everything up to and including this is safe by the chosen policy.
    fn watermark(&self) -> Lsn;
    fn set_listener(&self, listener: Arc<dyn CommitListener>);
    /// Bytes submitted and not yet committed.
    fn backlog_bytes(&self) -> usize;
    /// Waits until everything submitted is committed; for shutdown.
    fn flush(&self);
}
