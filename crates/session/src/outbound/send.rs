//! Encoding messages that are held already: resends, the queue, packets whose commit has come.
//!
//! Deliberately absent: the quick path of messages that are offered right now.

use martlet_codec::{PacketId, QoS};
use martlet_storage::{Message, MessageId, OutboundState, StoreOp, Timestamp};

use super::aliases::Pick;
use super::entry::{Body, Entry, flag};
use super::{Outbound, READ_AHEAD_BYTES, READ_AHEAD_MESSAGES, give_up};
use crate::encode::{self, PublishHead};
use crate::lanes::MAIN_LANE;
use crate::limits::{DropReason, Effects, Link};
use crate::mount::Mount;
use crate::out_buf::OutBuf;

/// The packet is larger than the client takes.
pub(super) struct TooLarge;

/// Where a payload comes from.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Copied(&'a [u8]),
    Shared(&'a Message),
}

impl Outbound {
    /// Sends what window and `encode_ahead_bytes` allow; call after output was written.
    #[inline]
    pub fn pump(&mut self, now: Timestamp, out: &mut OutBuf, fx: &mut Effects) {
        if self.has_queued() {
            self.pump_more(now, out, fx);
        }
    }

    fn pump_more(&mut self, now: Timestamp, out: &mut OutBuf, fx: &mut Effects) {
        let Some(link) = self.link else { return };
        if self.resend(now, &link, out, fx) {
            self.pump_queue(now, &link, out, fx);
        }
    }

    /// Goes on with the resends of this connection; whether they are complete.
    fn resend(&mut self, now: Timestamp, link: &Link, out: &mut OutBuf, fx: &mut Effects) -> bool {
        let window = self.window(link);
        loop {
            let ahead = out.pending_bytes() >= self.limits.encode_ahead_bytes;
            let full = self.inflight.active() >= window;
            let Some(entry) = self.inflight.next_resend() else {
                return true;
            };
            let Some(id) = entry.id() else { return true };
            if entry.has(flag::GATED) {
                // `release` sends it; until then it only takes its place.
                if full && !entry.has(flag::RELEASED) {
                    return false;
                }
                self.inflight.mark_resent();
                continue;
            }
            if ahead {
                return false;
            }
            if entry.has(flag::RELEASED) {
                // A PUBREL is no PUBLISH: Receive Maximum does not hold it back [MQTT-4.9.0-3].
                encode::pubrel(id, out.inline());
                fx.sent.pubrels += 1;
                self.inflight.mark_resent();
                continue;
            }
            if full && !cfg!(planted_bug) {
                return false;
            }
            let dup = entry.has(flag::SENT);
            let retain = entry.retain();
            let qos = entry.qos();
            let Body::Loaded(message) = &entry.body else {
                self.request_inflight(fx);
                return false;
            };
            let message = message.clone();
            // A message whose delivery has begun is delivered to the end, expired or not [MQTT-4.4.0-1].
            let entry = &*entry;
            let ids: &[u32] = if link.version.is_v5() {
                entry.subscription_ids()
            } else {
                &[]
            };
            let head = held_head(
                &message,
                link,
                encode::first_byte(qos, retain, dup),
                Some(id),
                now,
                ids,
            );
            let payload = payload_of(&message, self.limits.share_from_bytes);
            let (lane, out) = out.of_topic(message.topic());
            if encode_direct(
                head,
                payload,
                link,
                self.mount.as_deref(),
                self.aliases.as_deref_mut(),
                (lane, out),
            )
            .is_ok()
            {
                fx.sent.publish(qos, message.payload());
                if let Some(entry) = self.inflight.next_resend() {
                    entry.set(flag::SENT);
                    entry.set_lane(lane);
                }
                self.inflight.mark_resent();
            } else {
                self.withdraw(self.inflight.resent(), DropReason::PacketTooLarge, fx);
            }
        }
    }

    fn pump_queue(&mut self, now: Timestamp, link: &Link, out: &mut OutBuf, fx: &mut Effects) {
        let window = self.window(link);
        while let Some(front) = self.queue.front() {
            let expired = front.is_expired(now);
            let qos = front.qos();
            if !expired && out.pending_bytes() >= self.limits.encode_ahead_bytes {
                return;
            }
            if !expired && matches!(front.body, Body::Stored { .. }) {
                self.request_queued(fx);
                return;
            }
            if !expired && qos != QoS::AtMostOnce && self.inflight.active() >= window {
                self.pump_qos0(now, link, out, fx);
                return;
            }
            let Some(entry) = self.queue.pop() else {
                return;
            };
            if expired {
                give_up(self.session, self.durable, entry, DropReason::Expired, fx);
            } else {
                self.send_entry(now, link, entry, out, fx);
            }
        }
    }

    /// The window is full, which must not hold up QoS 0 messages that wait in the same queue.
    fn pump_qos0(&mut self, now: Timestamp, link: &Link, out: &mut OutBuf, fx: &mut Effects) {
        while self.queue.qos0() > 0 && out.pending_bytes() < self.limits.encode_ahead_bytes {
            let Some(entry) = self.queue.pop_qos0() else {
                return;
            };
            if entry.is_expired(now) {
                give_up(self.session, self.durable, entry, DropReason::Expired, fx);
            } else if matches!(entry.body, Body::Loaded(_)) {
                self.send_entry(now, link, entry, out, fx);
            } else {
                // Never stored on its own account; its body is read like any other's, at the front.
                self.queue.push_front(entry);
                self.request_queued(fx);
                return;
            }
        }
    }

    /// Sends a message from the queue, which has its body.
    fn send_entry(
        &mut self,
        now: Timestamp,
        link: &Link,
        mut entry: Entry,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) {
        let qos = entry.qos();
        let id = if qos == QoS::AtMostOnce {
            None
        } else {
            Some(self.inflight.free_id())
        };
        if let Some(id) = id {
            entry.set_id(id);
            if self.durable && qos == QoS::ExactlyOnce {
                self.gate_publish(entry, id, fx);
                return;
            }
        }
        if self.encode_entry(now, link, &mut entry, out).is_err() {
            give_up(
                self.session,
                self.durable,
                entry,
                DropReason::PacketTooLarge,
                fx,
            );
            return;
        }
        if let Body::Loaded(message) = &entry.body {
            fx.sent.publish(qos, message.payload());
        }
        if id.is_some() {
            entry.set(flag::SENT);
            self.inflight.push(entry);
        } else if self.durable {
            super::push_dequeue(self.session, entry.message_id(), fx);
        }
    }

    /// Binds a packet id to a QoS 2 message of a durable session; its PUBLISH waits for the commit.
    pub(super) fn gate_publish(&mut self, mut entry: Entry, id: PacketId, fx: &mut Effects) {
        let (session, message) = (self.session, entry.message_id());
        fx.ops.push(StoreOp::PutOutbound {
            session,
            packet_id: id,
            message,
            state: OutboundState::Published,
        });
        entry.set_id(id);
        entry.set(flag::GATED);
        self.inflight.push(entry);
        self.held.push(id);
    }

    /// The commit that `id` waited for has come.
    pub(super) fn release_one(
        &mut self,
        now: Timestamp,
        id: PacketId,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) {
        let Some(at) = self.inflight.find(id) else {
            return;
        };
        let Some(entry) = self.inflight.get_mut(at) else {
            return;
        };
        entry.clear(flag::GATED);
        let Some(link) = self.link else { return };
        if !entry.has(flag::ACTIVE) {
            // The resends of this connection have not come to it yet.
            return;
        }
        if entry.has(flag::RELEASED) {
            encode::pubrel(id, out.lane_mut(entry.lane()).inline());
            fx.sent.pubrels += 1;
            return;
        }
        let Body::Loaded(message) = &entry.body else {
            return;
        };
        let (message, dup) = (message.clone(), entry.has(flag::SENT));
        let first = encode::first_byte(entry.qos(), entry.retain(), dup);
        let ids: &[u32] = if link.version.is_v5() {
            entry.subscription_ids()
        } else {
            &[]
        };
        let head = held_head(&message, &link, first, Some(id), now, ids);
        let payload = payload_of(&message, self.limits.share_from_bytes);
        let (lane, out) = out.of_topic(message.topic());
        if encode_direct(
            head,
            payload,
            &link,
            self.mount.as_deref(),
            self.aliases.as_deref_mut(),
            (lane, out),
        )
        .is_ok()
        {
            fx.sent.publish(entry.qos(), message.payload());
            entry.set(flag::SENT);
            entry.set_lane(lane);
        } else {
            self.withdraw(at, DropReason::PacketTooLarge, fx);
        }
    }

    /// First transmission of a held message.
    fn encode_entry(
        &mut self,
        now: Timestamp,
        link: &Link,
        entry: &mut Entry,
        out: &mut OutBuf,
    ) -> Result<(), TooLarge> {
        let Body::Loaded(message) = &entry.body else {
            return Err(TooLarge);
        };
        let (lane, out) = out.of_topic(message.topic());
        let first = encode::first_byte(entry.qos(), entry.retain(), false);
        let ids: &[u32] = if link.version.is_v5() {
            entry.subscription_ids()
        } else {
            &[]
        };
        let head = held_head(message, link, first, entry.id(), now, ids);
        let payload = payload_of(message, self.limits.share_from_bytes);
        encode_direct(
            head,
            payload,
            link,
            self.mount.as_deref(),
            self.aliases.as_deref_mut(),
            (lane, out),
        )?;
        entry.set_lane(lane);
        Ok(())
    }

    /// Asks for the bodies of the next resends.
    fn request_inflight(&mut self, fx: &mut Effects) {
        read_ahead(self.inflight.unsent_mut(), &mut fx.need_bodies);
    }

    /// Asks for the bodies at the front of the queue.
    pub(super) fn request_queued(&mut self, fx: &mut Effects) {
        read_ahead(self.queue.iter_mut(), &mut fx.need_bodies);
    }
}

/// Asks for the bodies of the first entries, within the read-ahead bounds.
fn read_ahead<'a>(entries: impl Iterator<Item = &'a mut Entry>, need: &mut Vec<MessageId>) {
    let mut bytes = 0;
    for entry in entries.take(READ_AHEAD_MESSAGES) {
        bytes += entry.bytes();
        if let Some(id) = entry.request() {
            need.push(id);
        }
        if bytes >= READ_AHEAD_BYTES {
            return;
        }
    }
}

/// The head of a message that is sent from memory.
fn held_head<'a>(
    message: &'a Message,
    link: &Link,
    first: u8,
    id: Option<PacketId>,
    now: Timestamp,
    subscription_ids: &'a [u32],
) -> PublishHead<'a> {
    PublishHead {
        v5: link.version.is_v5(),
        first,
        topic: message.topic(),
        id,
        expiry_secs: message.expires().map(|at| now.secs_until(at).max(1)),
        alias: None,
        subscription_ids,
        props: message.props(),
        payload_len: message.payload().len(),
    }
}

fn payload_of(message: &Message, share_from_bytes: usize) -> Payload<'_> {
    let payload = message.payload();
    if payload.len() >= share_from_bytes {
        Payload::Shared(message)
    } else {
        Payload::Copied(payload)
    }
}

/// Encodes one packet for one receiver. Nothing is appended, and no alias established, when it is too large.
pub(super) fn encode_direct(
    head: PublishHead<'_>,
    payload: Payload<'_>,
    link: &Link,
    mount: Option<&Mount>,
    aliases: Option<&mut super::Aliases>,
    (lane, out): (u8, &mut OutBuf),
) -> Result<(), TooLarge> {
    // What one stream establishes another may not have seen yet, so that aliases are for the main lane only.
    let mut aliases = aliases.filter(|_| lane == MAIN_LANE);
    let local_props;
    let mut head = head;
    if let Some(mount) = mount {
        head.topic = mount.local(head.topic);
        local_props = mount.local_props(head.props);
        if let Some(props) = &local_props {
            head.props = props.as_props().as_bytes();
        }
    }
    let topic = head.topic;
    let mut establish = false;
    match aliases
        .as_deref_mut()
        .and_then(|aliases| aliases.pick(topic))
    {
        Some(Pick::Known(alias)) => {
            head.topic = "";
            head.alias = Some(alias);
        }
        Some(Pick::New) => {
            head.alias = Some(0);
            establish = true;
        }
        None => {}
    }
    let mut len = head.measure(link.packet_bytes_max);
    if len.is_none() && establish {
        // The alias itself may be what does not fit.
        head.alias = None;
        establish = false;
        len = head.measure(link.packet_bytes_max);
    }
    let len = len.ok_or(TooLarge)?;
    if establish && let Some(aliases) = aliases {
        head.alias = Some(aliases.establish(topic));
    }
    let inline = out.inline();
    match payload {
        Payload::Copied(payload) => {
            inline.reserve(len.packet);
            head.write(len, inline);
            inline.extend_from_slice(payload);
        }
        Payload::Shared(message) => {
            inline.reserve(len.head);
            head.write(len, inline);
            out.put_shared(message.clone(), message.payload_start());
        }
    }
    Ok(())
}
