//! The MQTT session as a plain value: packet ids, windows, queues, QoS 1 and 2 in both directions.
//!
//! Sans-IO: no socket, task, lock or clock; time and settings come in as arguments.
//!
//! API CONTRACT: names and signatures are fixed, bodies to be written and split into modules.
#![allow(missing_docs, unused_variables, dead_code, clippy::all, clippy::pedantic, clippy::unimplemented)]

use martlet_codec::{AckKind, PacketId, QoS, ReasonCode, Version};
use martlet_storage::{Message, MessageHead, SessionId, StoreOp, Timestamp};
use std::io::IoSlice;

// ---------------------------------------------------------------- outgoing bytes
/// Bytes on their way to one client: small pieces copied in, large bodies shared by reference.
#[derive(Debug, Default)]
pub struct OutBuf { bytes: Vec<u8> }
impl OutBuf {
    pub fn new() -> Self { Self::default() }
    /// Bytes waiting here plus bytes handed out by [`OutBuf::take`] and not yet confirmed by [`OutBuf::written`].
    pub fn pending_bytes(&self) -> usize { unimplemented!() }
    /// Bytes waiting here.
    pub fn len(&self) -> usize { unimplemented!() }
    pub fn is_empty(&self) -> bool { unimplemented!() }
    /// Appends a copy.
    pub fn put(&mut self, bytes: &[u8]) { unimplemented!() }
    /// The buffer small packets are encoded into (only ever append to it).
    pub fn inline(&mut self) -> &mut Vec<u8> { unimplemented!() }
    /// Appends `message.body()[from..]` by reference.
    pub fn put_shared(&mut self, message: Message, from: usize) { unimplemented!() }
    /// Hands the waiting bytes to a writer; they stay counted as pending until confirmed. `spare` gives its capacity back to `self`.
    pub fn take(&mut self, spare: Vec<u8>) -> Chunk { unimplemented!() }
    /// Confirms that `bytes` of what was taken have been written.
    pub fn written(&mut self, bytes: usize) { unimplemented!() }
    /// Forgets everything, also what was taken (the connection is gone).
    pub fn reset(&mut self) { unimplemented!() }
}
/// A taken piece of output that its writer consumes without a lock.
#[derive(Debug, Default)]
pub struct Chunk {}
impl Chunk {
    pub fn is_empty(&self) -> bool { unimplemented!() }
    pub fn len(&self) -> usize { unimplemented!() }
    /// Fills `slices` from the front, returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize { unimplemented!() }
    pub fn advance(&mut self, bytes: usize) { unimplemented!() }
    /// The emptied buffer with its capacity, for reuse.
    pub fn into_spare(self) -> Vec<u8> { unimplemented!() }
}

// ---------------------------------------------------------------- a PUBLISH on its way to many subscribers
/// Reusable buffers of [`Publication`]: packets encoded once per (MQTT 3 or 5) x (with id or without). One per thread.
#[derive(Debug, Default)]
pub struct FanOut {}
/// A PUBLISH on its way to its subscribers; becomes a [`Message`] only when something must outlive the call.
pub struct Publication<'a> { pub head: MessageHead, pub topic: &'a str, pub props: &'a [u8], pub payload: &'a [u8], fan_out: &'a mut FanOut }
impl<'a> Publication<'a> {
    /// `props`: forwardable block (no Topic Alias, Message Expiry, Subscription Identifier).
    pub fn new(head: MessageHead, topic: &'a str, props: &'a [u8], payload: &'a [u8], fan_out: &'a mut FanOut) -> Self { unimplemented!() }
    pub fn from_message(message: &'a Message, fan_out: &'a mut FanOut) -> Self { unimplemented!() }
    /// The owned form, made at most once.
    pub fn message(&mut self) -> &Message { unimplemented!() }
}

// ---------------------------------------------------------------- outbound
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
    /// Bytes that QoS 1 and 2 are encoded ahead of the socket; the rest stays queued and can still expire. 256 KiB (architecture rule 13).
    pub encode_ahead_bytes: usize,
    /// Bodies from this size on are shared instead of copied. 1 KiB, measured.
    pub share_from_bytes: usize,
    /// Queue QoS 0 for an offline session.
    pub queue_qos0: bool,
    pub overflow: Overflow,
    /// In-flight messages older than this may be dropped when the queue is full; `None` never.
    pub inflight_expiry_secs: Option<u32>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow { DropOldest, DropNewest, Disconnect }
/// What the connected client can take.
#[derive(Clone, Copy, Debug)]
pub struct Link { pub version: Version, /** Receive Maximum, 65,535 if absent. */ pub receive_maximum: u16, /** Maximum Packet Size; `u32::MAX` if absent. */ pub packet_bytes_max: u32, /** Topic aliases we may use. */ pub topic_alias_maximum: u16 }
/// How one subscriber gets a publication.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> { /** Granted QoS; the message goes out at the lower of both. */ pub qos: QoS, /** RETAIN flag to send. */ pub retain: bool, pub subscription_ids: &'a [u32] }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason { QueueFull, QueueBytesFull, Expired, InflightExpired, PacketTooLarge, PendingBytesFull, Offline }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Encoded for the client.
    Sent,
    /// Kept for later.
    Queued,
    /// Not delivered to this client, for this reason.
    Dropped(DropReason),
    /// `Overflow::Disconnect` and the queue is full: the connection must end with 0x97.
    Disconnect,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked { /** The exchange is over; a window slot is free. */ Done, /** PUBREC taken, PUBREL written. */ Released, /** Unknown id; for PUBREC a PUBREL 0x92 was written, else nothing. */ Unknown }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckError { /** PUBACK for QoS 2, PUBREC/PUBCOMP for QoS 1, PUBCOMP before PUBREC: a protocol error. */ WrongKind }
/// Store operations of a durable session, and drops to report, gathered during a call.
#[derive(Debug, Default)]
pub struct Effects { /** Empty for sessions that are not durable. */ pub ops: Vec<StoreOp>, /** Messages given up besides the one offered: topic is in the message. */ pub dropped: Vec<(Message, DropReason)> }
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundCounts { pub inflight: usize, pub queued: usize, pub queued_bytes: usize }

/// The sending half of a session: packet ids, in-flight window, queue, outgoing aliases.
#[derive(Debug)]
pub struct Outbound {}
impl Outbound {
    /// `durable`: whether `Effects::ops` is filled.
    pub fn new(session: SessionId, limits: OutboundLimits, durable: bool) -> Self { unimplemented!() }
    pub fn is_online(&self) -> bool { unimplemented!() }
    pub fn link(&self) -> Option<&Link> { unimplemented!() }
    /// The client is (re)connected and CONNACK is already in `out`: re-sends in original order (DUP set; PUBREL where released), then the queue as far as window and `encode_ahead_bytes` allow.
    pub fn connect(&mut self, now: Timestamp, link: Link, out: &mut OutBuf, fx: &mut Effects) { unimplemented!() }
    /// The connection is gone. In-flight state and queue stay; aliases are forgotten.
    pub fn disconnect(&mut self) { unimplemented!() }
    pub fn offer(&mut self, now: Timestamp, publication: &mut Publication<'_>, delivery: Delivery<'_>, out: &mut OutBuf, fx: &mut Effects) -> Offered { unimplemented!() }
    /// PUBACK, PUBREC or PUBCOMP from the client; refills the window from the queue.
    pub fn acknowledge(&mut self, now: Timestamp, kind: AckKind, id: PacketId, reason: ReasonCode, out: &mut OutBuf, fx: &mut Effects) -> Result<Acked, AckError> { unimplemented!() }
    /// Sends what window and `encode_ahead_bytes` allow; call after output was written. Returns whether anything was appended.
    pub fn pump(&mut self, now: Timestamp, out: &mut OutBuf, fx: &mut Effects) -> bool { unimplemented!() }
    /// Whether `pump` would have work once output drains or acknowledgements come.
    pub fn has_queued(&self) -> bool { unimplemented!() }
    /// Gives up what has expired; for the periodic visit.
    pub fn expire(&mut self, now: Timestamp, fx: &mut Effects) { unimplemented!() }
    /// Takes out the messages of a shared subscription that were never sent, for redistribution (rule 10): those whose entry carries `share` as given to `offer_shared`.
    pub fn counts(&self) -> OutboundCounts { unimplemented!() }
    /// Gives back memory that an idle session does not need.
    pub fn shrink(&mut self) { unimplemented!() }
}

// ---------------------------------------------------------------- inbound
/// QoS 2 identifiers received and not yet released; belongs to the session and survives reconnects (rule 6).
#[derive(Debug, Default)]
pub struct Inbound {}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival { /** First time: deliver and PUBREC. */ New, /** Resent: PUBREC only. */ Duplicate }
impl Inbound {
    pub fn publish(&mut self, id: PacketId) -> Arrival { unimplemented!() }
    /// PUBREL: whether the identifier was known (else 0x92 in version 5).
    pub fn release(&mut self, id: PacketId) -> bool { unimplemented!() }
    pub fn contains(&self, id: PacketId) -> bool { unimplemented!() }
    pub fn len(&self) -> usize { unimplemented!() }
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ { core::iter::empty() }
}
/// Topic aliases the client set on this connection.
#[derive(Debug, Default)]
pub struct InboundAliases {}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasError { /** 0 or above the announced maximum: 0x94. */ Invalid, /** Never set: 0x82. */ Unknown }
impl InboundAliases {
    pub fn new(maximum: u16) -> Self { unimplemented!() }
    /// The topic that `topic` and `alias` mean together; remembers a new mapping.
    pub fn resolve<'a>(&'a mut self, topic: &'a str, alias: Option<u16>) -> Result<&'a str, AliasError> { unimplemented!() }
}
/// Unacknowledged QoS 1 and 2 messages that the client may have open towards us [MQTT-3.3.4-7..9].
#[derive(Clone, Copy, Debug)]
pub struct ReceiveQuota { maximum: u16, used: u16 }
impl ReceiveQuota {
    pub fn new(maximum: u16) -> Self { Self { maximum, used: 0 } }
    /// Takes a slot; `false` when the client sent more than Receive Maximum.
    pub fn take(&mut self) -> bool { unimplemented!() }
    pub fn give_back(&mut self) { unimplemented!() }
    pub fn is_exhausted(&self) -> bool { unimplemented!() }
}
