//! The sending half of a session: packet ids, in-flight window, queue, outgoing aliases.
//!
//! Deliberately absent: sockets, locks, tasks, clocks; which sessions a message goes to; rows of the
//! store other than those that follow from an exchange (the broker writes `PutMessage` and `Enqueue`
//! before it offers).

mod aliases;
mod entry;
mod held;
mod inflight;
mod offer;
mod queue;
mod restore;
mod send;

use std::sync::Arc;

use martlet_codec::{AckKind, PacketId, QoS, ReasonCode};
use martlet_storage::{Lsn, MessageId, OutboundState, SessionId, StoreOp, Timestamp};
use martlet_sync::Planted;

use crate::encode;
use crate::lanes::MAIN_LANE;
use crate::limits::{AckError, Acked, DropReason, Effects, Link, OutboundCounts, OutboundLimits};
use crate::mount::Mount;
use crate::out_buf::OutBuf;
use aliases::Aliases;
use entry::{Body, Entry, flag};
use held::Held;
use inflight::Inflight;
use queue::Queue;

pub use restore::{Row, RowBody};

/// The sending half of a session: packet ids, in-flight window, queue, outgoing aliases.
///
/// Every method that may send takes the connection's [`OutBuf`] and appends whole packets to it.
///
/// # Durable sessions
/// After a call that added to [`Effects::ops`] the caller submits them as one batch and reports its
/// position with [`Outbound::submitted`]; when the store's watermark moves it calls
/// [`Outbound::release`]. In between, a QoS 2 PUBLISH or its PUBREL waits inside: a PUBLISH that left
/// before its packet id is safe could be repeated under another id after a crash, a PUBREL that left
/// before "released" is safe could be followed by the PUBLISH again. Either would deliver twice.
#[derive(Debug)]
pub struct Outbound {
    session: SessionId,
    limits: Arc<OutboundLimits>,
    link: Option<Link>,
    /// What the client does not know of its topics.
    mount: Option<Box<Mount>>,
    durable: bool,
    /// Places that in-flight messages given up while offline leave to the queue.
    evicted: u16,
    /// Messages beyond the limit that may be queued.
    spare: u32,
    inflight: Inflight,
    queue: Queue,
    /// Present while online with aliases allowed.
    aliases: Option<Box<Aliases>>,
    /// Packets that wait for a commit, in order.
    held: Held,
}

/// Bodies asked for ahead of need, per session.
const READ_AHEAD_MESSAGES: usize = 64;
/// Bytes of the same; one body is asked for however large it is.
const READ_AHEAD_BYTES: usize = 1 << 20;

impl Outbound {
    /// `durable`: whether [`Effects::ops`] is filled. Sessions can share one set of limits in an [`Arc`].
    pub fn new(session: SessionId, limits: impl Into<Arc<OutboundLimits>>, durable: bool) -> Self {
        Self {
            session,
            limits: limits.into(),
            link: None,
            mount: None,
            durable,
            evicted: 0,
            spare: 0,
            inflight: Inflight::new(),
            queue: Queue::new(),
            aliases: None,
            held: Held::default(),
        }
    }

    /// The session it belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether a client is connected.
    #[inline]
    pub fn is_online(&self) -> bool {
        self.link.is_some()
    }

    /// What the connected client can take.
    #[inline]
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Whether [`Effects::ops`] is filled.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// The bounds in force.
    pub fn limits(&self) -> &OutboundLimits {
        &self.limits
    }

    /// Other bounds, from the next call on. What is over them already stays.
    pub fn set_limits(&mut self, limits: impl Into<Arc<OutboundLimits>>) {
        self.limits = limits.into();
    }

    /// The mount point of its client. Call it before [`Outbound::connect`].
    pub fn set_mount(&mut self, mount: Option<Mount>) {
        self.mount = mount.map(Box::new);
    }

    /// The session became durable or ceased to be (MQTT 5: by another Session Expiry Interval). Messages
    /// that it holds already keep the identity they were offered with: those with
    /// [`MessageId::NONE`] leave no operations.
    ///
    /// Call it before [`Outbound::connect`].
    pub fn set_durable(&mut self, durable: bool) {
        self.durable = durable;
        if !durable {
            // Nothing will be committed any more, so nothing may wait for it.
            self.held.clear();
            for entry in self.inflight.iter_mut() {
                entry.clear(flag::GATED);
            }
        }
    }

    /// The client is (re)connected and CONNACK is already in `out`: re-sends in original order
    /// [MQTT-4.6.0-1] (DUP set, same packet id [MQTT-4.4.0-1]; PUBREL where released), then the queue, as
    /// far as window and `encode_ahead_bytes` allow; [`Outbound::pump`] does the rest.
    pub fn connect(&mut self, now: Timestamp, link: Link, out: &mut OutBuf, fx: &mut Effects) {
        self.disconnect();
        if link.version.is_v5() && link.topic_alias_maximum > 0 {
            self.aliases = Some(Box::new(Aliases::new(link.topic_alias_maximum)));
        }
        self.link = Some(Link {
            receive_maximum: link.receive_maximum.max(1),
            ..link
        });
        self.evicted = 0;
        self.inflight.start_over();
        self.forget_requests();
        self.pump(now, out, fx);
    }

    /// The stream of `lane` is gone: the rest of the exchanges that began there goes by the main one.
    pub fn forget_lane(&mut self, lane: u8) {
        for entry in self
            .inflight
            .iter_mut()
            .filter(|entry| entry.lane() == lane)
        {
            entry.set_lane(MAIN_LANE);
        }
    }

    /// The connection is gone. In-flight state and queue stay; aliases are forgotten [MQTT-3.3.2-7].
    pub fn disconnect(&mut self) {
        self.link = None;
        self.aliases = None;
    }

    /// PUBACK, PUBREC or PUBCOMP from the client; refills the window from the queue.
    ///
    /// A PUBACK or PUBREC with a reason of 0x80 or more ends the exchange [MQTT-4.3.3-4] (the message is
    /// not sent again [MQTT-4.3.2-3]).
    ///
    /// # Errors
    /// [`AckError::WrongKind`]; nothing has changed then.
    pub fn acknowledge(
        &mut self,
        now: Timestamp,
        kind: AckKind,
        id: PacketId,
        reason: ReasonCode,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) -> Result<Acked, AckError> {
        if kind == AckKind::PubRel {
            return Err(AckError::WrongKind);
        }
        let v5 = self.link.is_some_and(|link| link.version.is_v5());
        // What was never sent cannot be acknowledged: to the client, the identifier is not in use.
        let known = self
            .inflight
            .find(id)
            .filter(|at| self.inflight.get(*at).is_some_and(|e| e.has(flag::SENT)));
        let Some(at) = known else {
            if kind == AckKind::PubRec {
                encode::pubrel_unknown(v5, id, out.inline());
                fx.sent.pubrels += 1;
            }
            return Ok(Acked::Unknown);
        };
        let Some(entry) = self.inflight.get_mut(at) else {
            return Ok(Acked::Unknown);
        };
        let released = entry.has(flag::RELEASED);
        match (entry.qos(), kind) {
            (QoS::AtLeastOnce, AckKind::PubAck) => {}
            (QoS::ExactlyOnce, AckKind::PubComp) if released => {}
            (QoS::ExactlyOnce, AckKind::PubRec) if reason.is_error() => {}
            (QoS::ExactlyOnce, AckKind::PubRec) => {
                if !entry.has(flag::GATED) {
                    if released || !self.durable || Planted::EarlyPubRel.is_active() {
                        encode::pubrel(id, out.lane_mut(entry.lane()).inline());
                        fx.sent.pubrels += 1;
                    } else {
                        entry.set(flag::GATED);
                        self.held.push(id);
                    }
                }
                if released {
                    return Ok(Acked::Released);
                }
                let message = entry.message_id();
                entry.set(flag::RELEASED);
                entry.body = Body::Gone { id: message };
                if self.durable {
                    let session = self.session;
                    fx.ops.push(StoreOp::PutOutbound {
                        session,
                        packet_id: id,
                        message,
                        state: OutboundState::Released,
                    });
                    push_dequeue(self.session, message, fx);
                }
                return Ok(Acked::Released);
            }
            _ => return Err(AckError::WrongKind),
        }
        if let Some(entry) = self.remove_inflight(at) {
            self.forget_rows(&entry, fx);
        }
        self.pump(now, out, fx);
        Ok(Acked::Done)
    }

    /// The batch with all operations gathered so far was submitted under `lsn`.
    pub fn submitted(&mut self, lsn: Lsn) {
        self.held.submitted(lsn);
    }

    /// The oldest batch that a packet waits for.
    pub fn waits_for(&self) -> Option<Lsn> {
        self.held.waits_for()
    }

    /// Everything up to `watermark` is committed: sends what waited for it.
    pub fn release(&mut self, now: Timestamp, watermark: Lsn, out: &mut OutBuf, fx: &mut Effects) {
        while let Some(id) = self.held.pop(watermark) {
            self.release_one(now, id, out, fx);
        }
    }

    /// Whether [`Outbound::pump`] would have work once output drains or acknowledgements come.
    #[inline]
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty() || !self.inflight.all_resent()
    }

    /// Gives up what has expired; for the periodic visit.
    pub fn expire(&mut self, now: Timestamp, fx: &mut Effects) {
        let (session, durable) = (self.session, self.durable);
        self.queue.expire(now, &mut |entry, reason| {
            give_up(session, durable, entry, reason, fx);
        });
    }

    /// How much it holds.
    pub fn counts(&self) -> OutboundCounts {
        OutboundCounts {
            inflight: self.inflight.len(),
            queued: self.queue.len(),
            queued_bytes: self.queue.bytes(),
        }
    }

    /// Bytes of its own on the heap: its rings, without the message bodies, which are shared.
    pub fn memory_bytes(&self) -> usize {
        (self.inflight.capacity() + self.queue.capacity()) * size_of::<Entry>()
            + self.held.memory_bytes()
    }

    /// Gives back memory that an idle session does not need.
    pub fn shrink(&mut self) {
        /// Rings with room for so many more than they hold are left alone.
        const SLACK: usize = 16;
        if self.inflight.capacity() > self.inflight.len() + SLACK || self.inflight.len() == 0 {
            self.inflight.shrink();
        }
        if self.queue.capacity() > self.queue.len() + SLACK || self.queue.is_empty() {
            self.queue.shrink();
        }
        self.held.shrink();
    }

    /// What must hold between calls, for tests and for the periodic visit; linear in what is held.
    ///
    /// # Errors
    /// The broken rule.
    pub fn check(&self) -> Result<(), &'static str> {
        self.inflight.check()?;
        self.queue.check()?;
        let gated = self
            .inflight
            .iter()
            .filter(|entry| entry.has(flag::GATED))
            .count();
        if gated != self.held.len() {
            return Err("the held packets are not the gated messages");
        }
        if self.link.is_none() && self.aliases.is_some() {
            return Err("topic aliases outlived their connection");
        }
        Ok(())
    }

    /// Messages that may be open towards this client.
    #[inline]
    fn window(&self, link: &Link) -> usize {
        usize::from(link.receive_maximum.min(self.limits.inflight_max).max(1))
    }

    /// Takes an in-flight message out, with what waits for it.
    fn remove_inflight(&mut self, at: usize) -> Option<Entry> {
        let entry = self.inflight.remove(at)?;
        if let (true, Some(id)) = (entry.has(flag::GATED), entry.id()) {
            self.held.forget(id);
        }
        Some(entry)
    }

    /// The rows of an in-flight message whose exchange is over.
    fn forget_rows(&self, entry: &Entry, fx: &mut Effects) {
        if !self.durable {
            return;
        }
        let session = self.session;
        if entry.qos() == QoS::ExactlyOnce
            && let Some(packet_id) = entry.id()
        {
            fx.ops.push(StoreOp::DeleteOutbound { session, packet_id });
        }
        // The queue row went with PUBREC.
        if !entry.has(flag::RELEASED) {
            push_dequeue(session, entry.message_id(), fx);
        }
    }

    /// Gives up an in-flight message that cannot be sent again.
    ///
    /// The receiver may hold the identifier of a QoS 2 message. Were it free at once, a new message under it
    /// would be taken for the old one and lost; so PUBREL follows, and PUBCOMP frees it.
    fn withdraw(&mut self, at: usize, reason: DropReason, fx: &mut Effects) {
        let held_by_receiver =
            |entry: &Entry| entry.qos() == QoS::ExactlyOnce && entry.has(flag::SENT);
        if !self.inflight.get(at).is_some_and(held_by_receiver) {
            if let Some(entry) = self.remove_inflight(at) {
                self.give_up_inflight(entry, reason, fx);
            }
            return;
        }
        let (session, durable) = (self.session, self.durable);
        let Some(entry) = self.inflight.get_mut(at) else {
            return;
        };
        let (message, packet_id) = (entry.message_id(), entry.id());
        let body = std::mem::replace(&mut entry.body, Body::Gone { id: message });
        entry.set(flag::RELEASED);
        entry.clear(flag::REQUESTED);
        if durable && let Some(packet_id) = packet_id {
            entry.set(flag::GATED);
            self.held.push(packet_id);
            fx.ops.push(StoreOp::PutOutbound {
                session,
                packet_id,
                message,
                state: OutboundState::Released,
            });
            push_dequeue(session, message, fx);
        }
        report(body, reason, fx);
    }

    /// Gives up an in-flight message that was taken out already.
    fn give_up_inflight(&self, entry: Entry, reason: DropReason, fx: &mut Effects) {
        self.forget_rows(&entry, fx);
        report(entry.body, reason, fx);
    }
}

/// Gives up a waiting message: reports it and deletes its row.
fn give_up(session: SessionId, durable: bool, entry: Entry, reason: DropReason, fx: &mut Effects) {
    if durable {
        push_dequeue(session, entry.message_id(), fx);
    }
    report(entry.body, reason, fx);
}

fn report(body: Body, reason: DropReason, fx: &mut Effects) {
    match body {
        Body::Loaded(message) => fx.dropped.push((message, reason)),
        Body::Stored { id, .. } | Body::Gone { id } => fx.dropped_stored.push((id, reason)),
    }
}

fn push_dequeue(session: SessionId, message: MessageId, fx: &mut Effects) {
    if message != MessageId::NONE {
        fx.ops.push(StoreOp::Dequeue { session, message });
    }
}
