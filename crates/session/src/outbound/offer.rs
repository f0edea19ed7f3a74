//! The quick path: a message that is being published right now, for this session.
//!
//! Deliberately absent: resends and the queue's way out, where a microsecond does not matter.

use martlet_codec::QoS;
use martlet_storage::{MessageId, Timestamp};

use super::entry::{Body, Entry, flag};
use super::queue::Full;
use super::send::{Payload, TooLarge, encode_direct};
use super::{Outbound, give_up, push_dequeue};
use crate::encode::{self, PublishHead};
use crate::lanes::{LANE_SHARE, MAIN_LANE};
use crate::limits::{Delivery, DropReason, Effects, Link, Offered};
use crate::out_buf::OutBuf;
use crate::publication::Publication;

use martlet_codec::PacketId;

impl Outbound {
    /// Delivers a publication to this session: at once where client, window and order allow, else by
    /// the queue.
    ///
    /// In durable sessions the rows (`PutMessage`, `Enqueue`) are submitted before this call; should the
    /// message be refused, its row is deleted through `fx`.
    #[inline]
    pub fn offer(
        &mut self,
        now: Timestamp,
        publication: &mut Publication<'_>,
        delivery: Delivery<'_>,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) -> Offered {
        self.offer_tagged(now, publication, delivery, None, out, fx)
    }

    /// [`Outbound::offer`] for a message that this session gets as a member of the share group `share`;
    /// [`Outbound::take_unsent_shared`] gives it back when the member leaves.
    #[inline]
    pub fn offer_shared(
        &mut self,
        now: Timestamp,
        publication: &mut Publication<'_>,
        delivery: Delivery<'_>,
        share: u64,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) -> Offered {
        self.offer_tagged(now, publication, delivery, Some(share), out, fx)
    }

    fn offer_tagged(
        &mut self,
        now: Timestamp,
        publication: &mut Publication<'_>,
        delivery: Delivery<'_>,
        share: Option<u64>,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) -> Offered {
        // [MQTT-3.8.4-8]
        let qos = publication.head.qos.min(delivery.qos);
        if publication.head.expires.is_some_and(|at| at <= now) {
            return self.refuse(qos, publication.head.id, DropReason::Expired, fx);
        }
        if qos == QoS::AtMostOnce {
            return self.offer_qos0(now, publication, delivery, share, out, fx);
        }
        let ready = match &self.link {
            Some(link)
                if self.queue.is_empty()
                    && self.inflight.all_resent()
                    && self.inflight.active() < self.window(link)
                    && self.has_room_ahead(out, publication.topic) =>
            {
                *link
            }
            _ => return self.enqueue(now, publication, qos, delivery, share, fx),
        };
        let id = self.inflight.free_id();
        if self.durable && qos == QoS::ExactlyOnce {
            let body = Body::Loaded(publication.message().clone());
            self.gate_publish(
                Entry::new(body, qos, delivery.retain, delivery.subscription_ids, share),
                id,
                fx,
            );
            return Offered::Queued;
        }
        let (lane, out) = out.of_topic(publication.topic);
        let to = (lane, out);
        if self
            .encode_publication(now, &ready, publication, qos, delivery, Some(id), to)
            .is_err()
        {
            return self.refuse(qos, publication.head.id, DropReason::PacketTooLarge, fx);
        }
        let body = Body::Loaded(publication.message().clone());
        let mut entry = Entry::new(body, qos, delivery.retain, delivery.subscription_ids, share);
        entry.set_id(id);
        entry.set_lane(lane);
        entry.set(flag::SENT);
        self.inflight.push(entry);
        Offered::Sent
    }

    #[inline]
    fn offer_qos0(
        &mut self,
        now: Timestamp,
        publication: &mut Publication<'_>,
        delivery: Delivery<'_>,
        share: Option<u64>,
        out: &mut OutBuf,
        fx: &mut Effects,
    ) -> Offered {
        let qos = QoS::AtMostOnce;
        let Some(link) = self.link else {
            return if self.limits.queue_qos0 {
                self.enqueue(now, publication, qos, delivery, share, fx)
            } else {
                Offered::Dropped(DropReason::Offline)
            };
        };
        if self.queue.qos0() > 0 {
            // Those that waited while the client was away go first [MQTT-4.6.0-6].
            return self.enqueue(now, publication, qos, delivery, share, fx);
        }
        let (lane, out) = out.of_topic(publication.topic);
        let pending_bytes_max = match lane {
            MAIN_LANE => self.limits.pending_bytes_max,
            _ => self.limits.pending_bytes_max / LANE_SHARE,
        };
        if out.pending_bytes() > pending_bytes_max {
            return Offered::Dropped(DropReason::PendingBytesFull);
        }
        let to = (lane, out);
        match self.encode_publication(now, &link, publication, qos, delivery, None, to) {
            Ok(()) => Offered::Sent,
            Err(TooLarge) => Offered::Dropped(DropReason::PacketTooLarge),
        }
    }

    /// Whether QoS 1 and 2 may be encoded now. A further lane needs no bound of its own: what goes there is in the
    /// window, and small or shared.
    #[inline]
    fn has_room_ahead(&self, out: &OutBuf, topic: &str) -> bool {
        out.pending_bytes() < self.limits.encode_ahead_bytes || out.lane_of(topic) != MAIN_LANE
    }

    /// Encodes the publication for this client: from the template that all receivers of its layout share,
    /// unless it needs properties of its own or is the only receiver.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        clippy::too_many_arguments,
        reason = "what a packet is made of, for each delivery; the compiler would hand it over in memory"
    )]
    fn encode_publication(
        &mut self,
        now: Timestamp,
        link: &Link,
        publication: &mut Publication<'_>,
        qos: QoS,
        delivery: Delivery<'_>,
        id: Option<PacketId>,
        (lane, out): (u8, &mut OutBuf),
    ) -> Result<(), TooLarge> {
        let first = encode::first_byte(qos, delivery.retain, false);
        let v5 = link.version.is_v5();
        let share_from = self.limits.share_from_bytes;
        let own_properties =
            v5 && (self.aliases.is_some() || !delivery.subscription_ids.is_empty());
        if publication.is_for_one() || own_properties || self.mount.is_some() {
            let head = PublishHead {
                v5,
                first,
                topic: publication.topic,
                id,
                expiry_secs: publication.expiry_secs(now),
                alias: None,
                subscription_ids: delivery.subscription_ids,
                props: publication.props,
                payload_len: publication.payload.len(),
            };
            return self.encode_own(link, publication, head, (lane, out));
        }
        let template = publication
            .template(v5, id.is_some(), now, share_from)
            .ok_or(TooLarge)?;
        if template.packet_len > link.packet_bytes_max as usize {
            return Err(TooLarge);
        }
        let inline = out.inline();
        let start = inline.len();
        inline.extend_from_slice(&template.bytes);
        inline[start] = first;
        if let Some(id) = id {
            let at = start + template.id_at;
            inline[at..at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
        if template.shared {
            let message = publication.message().clone();
            let from = message.payload_start();
            out.put_shared(message, from);
        }
        Ok(())
    }

    /// Encodes a packet as no other receiver gets it.
    fn encode_own(
        &mut self,
        link: &Link,
        publication: &mut Publication<'_>,
        head: PublishHead<'_>,
        to: (u8, &mut OutBuf),
    ) -> Result<(), TooLarge> {
        // For one receiver at QoS 0 the owned form would be made for nothing but this.
        let copies = head.id.is_none() && publication.is_for_one() && !publication.is_owned();
        let share_from = if copies {
            self.limits.share_one_from_bytes
        } else {
            self.limits.share_from_bytes
        };
        let payload = if head.payload_len >= share_from {
            Payload::Shared(publication.message())
        } else {
            Payload::Copied(publication.payload)
        };
        let (mount, aliases) = (self.mount.as_deref(), self.aliases.as_deref_mut());
        encode_direct(head, payload, link, mount, aliases, to)
    }

    /// Lets `messages` more wait than the limits say, until told otherwise; the limit in bytes stays. For a client that
    /// keeps up while its publishers are being slowed down: each of them may have one message on its way.
    pub fn allow_beyond(&mut self, messages: u32) {
        self.spare = messages;
    }

    #[cold]
    fn enqueue(
        &mut self,
        now: Timestamp,
        publication: &mut Publication<'_>,
        qos: QoS,
        delivery: Delivery<'_>,
        share: Option<u64>,
        fx: &mut Effects,
    ) -> Offered {
        let bytes = publication.topic.len() + publication.props.len() + publication.payload.len();
        let (session, durable, online) = (self.session, self.durable, self.is_online());
        if !online
            && self.queue.len()
                >= self.limits.queued_messages_max + usize::from(self.evicted) + self.spare as usize
        {
            self.evict_inflight(now, fx);
        }
        let room = self.queue.make_room(
            now,
            &self.limits,
            usize::from(self.evicted) + self.spare as usize,
            online,
            (qos, bytes),
            &mut |entry, reason| give_up(session, durable, entry, reason, fx),
        );
        match room {
            Ok(()) => {
                let body = Body::Loaded(publication.message().clone());
                self.queue.push(Entry::new(
                    body,
                    qos,
                    delivery.retain,
                    delivery.subscription_ids,
                    share,
                ));
                Offered::Queued
            }
            Err(Full::Refuse(reason)) => self.refuse(qos, publication.head.id, reason, fx),
            Err(Full::Disconnect) => {
                self.refuse(qos, publication.head.id, DropReason::QueueFull, fx);
                Offered::Disconnect
            }
        }
    }

    /// The oldest QoS 1 message in flight gives its place to the queue, if it is old enough.
    ///
    /// QoS 2 stays: its receiver may hold the identifier, and a new message under it would be taken for
    /// the old one.
    fn evict_inflight(&mut self, now: Timestamp, fx: &mut Effects) {
        let Some(secs) = self.limits.inflight_expiry_secs else {
            return;
        };
        let old = |entry: &Entry| match &entry.body {
            Body::Loaded(message) => {
                entry.qos() == QoS::AtLeastOnce && message.received().plus_secs(secs) <= now
            }
            _ => false,
        };
        if let Some(at) = self.inflight.position(old)
            && let Some(entry) = self.remove_inflight(at)
        {
            self.give_up_inflight(entry, DropReason::InflightExpired, fx);
            self.evicted += 1;
        }
    }

    /// The offered message is not taken; its row goes.
    fn refuse(
        &self,
        qos: QoS,
        message: MessageId,
        reason: DropReason,
        fx: &mut Effects,
    ) -> Offered {
        if self.durable && qos != QoS::AtMostOnce {
            push_dequeue(self.session, message, fx);
        }
        Offered::Dropped(reason)
    }
}
