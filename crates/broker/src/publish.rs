//! From one PUBLISH to all its subscribers: routing, merging of overlapping subscriptions, delivery to outboxes,
//! and the store batch that comes before.
//!
//! Nothing here awaits. A publication whose onward delivery must wait for a commit becomes a [`Deferred`], which
//! belongs to the broker and not to the connection it came from (architecture rule 1).

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use martlet_codec::{PacketId, Publish, QoS};
use martlet_session::{Delivery, DropReason, FanOut, Offered, Publication};
use martlet_storage::{Lsn, Message, MessageId, SessionId, StoreOp, Timestamp};
use martlet_sync::{Mutex, Planted};

use crate::{
    bodies,
    config::DeliveryMode,
    core::Core,
    counters::Limit,
    router::{Availability, CHUNK, Group, Node, RouteMemo, Subscriber, Subscription},
    session::{Delivered, Outbox, Session},
    work::{Recipient, Sink},
};

/// So many publishers find room in a queue however small its limit, before more than the limit is allowed.
const PUBLISHERS_WITH_ROOM: usize = 16;

/// A delivery that waits for its batch to be committed.
pub(crate) struct Deferred {
    pub(crate) lsn: Lsn,
    message: Message,
    recipients: Vec<Recipient>,
}

/// Deliveries that wait for their batch, in the order in which they were published.
#[derive(Default)]
pub(crate) struct DeferredQueue {
    waiting: Mutex<VecDeque<Deferred>>,
    /// Those that wait and those that are being delivered right now: what comes later must not pass them.
    pending: AtomicUsize,
}

impl DeferredQueue {
    /// Whether a QoS 2 message that is published now has to queue up behind others.
    fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    fn push(&self, mut deferred: Deferred) {
        let mut waiting = self.waiting.lock();
        if let Some(last) = waiting.back() {
            deferred.lsn = deferred.lsn.max(last.lsn);
        }
        self.pending.fetch_add(1, Ordering::Release);
        waiting.push_back(deferred);
    }

    /// The next one, if its batch is among those up to `watermark`; [`DeferredQueue::done`] follows.
    fn take(&self, watermark: Lsn) -> Option<Deferred> {
        self.waiting
            .lock()
            .pop_front_if(|first| first.lsn <= watermark)
    }

    fn done(&self) {
        self.pending.fetch_sub(1, Ordering::Release);
    }

    /// Forgets what `publisher` sent: a bug, which the simulator plants.
    pub(crate) fn discard(&self, publisher: SessionId) {
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        waiting.retain(|deferred| deferred.message.head().publisher != publisher);
        self.pending
            .fetch_sub(before - waiting.len(), Ordering::Release);
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Routed {
    /// Whether any subscription matched [MQTT-3.4.2.1 "No matching subscribers"].
    pub(crate) matched: bool,
    /// The batch that acknowledgements wait for; zero for none.
    pub(crate) lsn: Lsn,
}

/// The publisher of a QoS 2 message whose identifier is stored in the publication's batch.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    pub(crate) session: SessionId,
    pub(crate) packet_id: PacketId,
}

/// What comes with a publication.
#[derive(Default)]
pub(crate) struct With {
    /// Hash of the publisher's client id, for shared subscriptions.
    pub(crate) origin_hash: u64,
    pub(crate) received: Option<Received>,
    /// What else belongs into the same atomic batch: a retained message, say.
    pub(crate) ops: Vec<StoreOp>,
}

impl Core {
    /// Whether a PUBLISH would bring a message into the store, as the subscriptions are now.
    pub(crate) fn would_store(
        &self,
        publish: &Publish<'_>,
        memo: &mut RouteMemo<Arc<Session>>,
    ) -> bool {
        let is_retained = publish.retain && !publish.payload.is_empty();
        let is_queued = |memo| {
            let mut nodes = self.router.route(publish.topic, memo).iter();
            nodes.any(|node| node.has_durable())
        };
        self.durable && (is_retained || publish.qos > QoS::AtMostOnce && is_queued(memo))
    }

    /// Sends `publication` to every matching subscriber.
    pub(crate) fn route(
        &self,
        publication: &mut Publication<'_>,
        memo: &mut RouteMemo<Arc<Session>>,
        with: With,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Routed {
        let nodes = self.router.route(publication.topic, memo);
        // What concerns the memory of this process only costs what it costs without a store.
        let is_stored = self.durable
            && (with.received.is_some()
                || !with.ops.is_empty()
                || publication.head.qos > QoS::AtMostOnce
                    && nodes.iter().any(|node| node.has_durable())
                // A message that waits for the store is not overtaken by one that has no need to.
                || publication.head.qos == QoS::ExactlyOnce && self.deferred.is_pending());
        if !is_stored {
            return Routed {
                matched: self.deliver_directly(publication, nodes, with.origin_hash, sink, now),
                lsn: Lsn::ZERO,
            };
        }
        self.gather(publication, nodes, with.origin_hash, sink);
        let matched = !sink.merge.recipients.is_empty();
        let ops = self.rows(publication, with.received, with.ops, sink);
        let recipients = std::mem::take(&mut sink.merge.recipients);
        if Planted::AcknowledgedBeforeInserted.is_active() {
            self.deliver_all(publication, &recipients, sink, now);
            let lsn = self.submit(ops);
            return Routed { matched, lsn };
        }
        let mut lsn = self.submit(ops);
        if publication.head.qos == QoS::ExactlyOnce
            && (lsn > self.committer.watermark() || self.deferred.is_pending())
        {
            // It is delivered when nobody can be told any more to wait; what is full now is what this publisher waits for.
            sink.pressure = sink
                .pressure
                .take()
                .or_else(|| self.pressed(&recipients, publication));
            self.deferred.push(Deferred {
                lsn,
                message: publication.message().clone(),
                recipients,
            });
            if lsn <= self.committer.watermark() {
                // The commit was announced already; whoever delivers must look again.
                self.commits.moved.notify_one();
            }
        } else {
            lsn = lsn.max(self.deliver_all(publication, &recipients, sink, now));
            sink.merge.recipients = recipients;
        }
        sink.merge.clear();
        Routed { matched, lsn }
    }

    /// One of `recipients` that publishers should slow down for.
    fn pressed(
        &self,
        recipients: &[Recipient],
        publication: &Publication<'_>,
    ) -> Option<Arc<Session>> {
        let pressure_at = self.pressure_bytes();
        let is_pressed = |session: &&Arc<Session>| {
            session.available() == Availability::Full
                && session.id != publication.head.publisher
                && session.with_outbox(|outbox| outbox.is_under_pressure(pressure_at)) == Some(true)
        };
        let mut sessions = recipients.iter().map(|recipient| &recipient.session);
        sessions.find(is_pressed).cloned()
    }

    /// The path without a durable store: subscribers are served as they are found.
    fn deliver_directly(
        &self,
        publication: &mut Publication<'_>,
        nodes: &[Arc<Node<Arc<Session>>>],
        origin_hash: u64,
        sink: &mut Sink,
        now: Timestamp,
    ) -> bool {
        let each = self.delivery_mode() == DeliveryMode::Each;
        let publisher = publication.head.publisher;
        if each || matches!(nodes, [node] if !node.has_groups()) {
            let mut matched = false;
            for node in nodes {
                let subscribers = node.subscribers();
                if nodes.len() == 1 && subscribers.is_one() && !node.has_groups() {
                    publication.expect_one();
                }
                for chunk in subscribers.chunks() {
                    for subscription in chunk {
                        matched |= self.deliver_to(publication, subscription, publisher, sink, now);
                    }
                    // A full chunk is the unit of fairness: its subscribers start to write while the rest is served. Those
                    // of a smaller fan-out are woken once, at the end of the batch.
                    if chunk.len() >= CHUNK {
                        sink.wakes.fire();
                    }
                }
                matched |= self.deliver_shared(publication, node, origin_hash, sink, now);
            }
            return matched;
        }
        if nodes.is_empty() {
            return false;
        }
        gather_plain(publication, nodes, sink);
        self.keep_permitted(publication, sink);
        let recipients = std::mem::take(&mut sink.merge.recipients);
        let mut matched = !recipients.is_empty();
        if !matched && nodes.len() == 1 {
            // What is left is a share group, seldom two.
            publication.expect_one();
        }
        self.deliver_all(publication, &recipients, sink, now);
        sink.merge.recipients = recipients;
        sink.merge.clear();
        for node in nodes {
            matched |= self.deliver_shared(publication, node, origin_hash, sink, now);
        }
        matched
    }

    fn deliver_to(
        &self,
        publication: &mut Publication<'_>,
        subscription: &Subscription<Arc<Session>>,
        publisher: SessionId,
        sink: &mut Sink,
        now: Timestamp,
    ) -> bool {
        let session = &subscription.subscriber;
        if subscription.options.no_local && session.id == publisher {
            return false;
        }
        let id = subscription.subscription_id.map(NonZeroU32::get);
        let delivery = Delivery {
            qos: subscription.options.qos,
            retain: publication.head.retain && subscription.options.retain_as_published,
            subscription_ids: id.as_slice(),
        };
        self.deliver(session, publication, delivery, None, sink, now) != Delivered::Gone
    }

    /// Gives each share group of `node` one copy.
    fn deliver_shared(
        &self,
        publication: &mut Publication<'_>,
        node: &Node<Arc<Session>>,
        origin_hash: u64,
        sink: &mut Sink,
        now: Timestamp,
    ) -> bool {
        let mut matched = false;
        if !node.has_groups() {
            return false;
        }
        for group in node.groups().iter() {
            matched |= self.deliver_to_group(publication, group, origin_hash, sink, now);
        }
        matched
    }

    /// Gives one member of `group` a copy. A candidate that turns out to be offline, full or gone is passed over
    /// (rule 10).
    pub(crate) fn deliver_to_group(
        &self,
        publication: &mut Publication<'_>,
        group: &Group<Arc<Session>>,
        origin_hash: u64,
        sink: &mut Sink,
        now: Timestamp,
    ) -> bool {
        let mut matched = false;
        for subscription in self.router.pick(group, origin_hash, publication.topic) {
            let id = subscription.subscription_id.map(NonZeroU32::get);
            let delivery = Delivery {
                qos: subscription.options.qos,
                retain: publication.head.retain && subscription.options.retain_as_published,
                subscription_ids: id.as_slice(),
            };
            match self.deliver(
                &subscription.subscriber,
                publication,
                delivery,
                Some(group.tag()),
                sink,
                now,
            ) {
                Delivered::Sent | Delivered::Queued => return true,
                Delivered::Dropped(_) => matched = true,
                Delivered::Gone => {}
            }
        }
        matched
    }

    /// Collects every recipient that may receive it, for a batch that names them all.
    fn gather(
        &self,
        publication: &Publication<'_>,
        nodes: &[Arc<Node<Arc<Session>>>],
        origin_hash: u64,
        sink: &mut Sink,
    ) {
        sink.merge.clear();
        if self.delivery_mode() == DeliveryMode::Each {
            for node in nodes {
                for chunk in node.subscribers().chunks() {
                    for subscription in chunk.iter().filter(|s| wanted(s, publication)) {
                        let retain =
                            publication.head.retain && subscription.options.retain_as_published;
                        let id = subscription.subscription_id.map(NonZeroU32::get);
                        sink.merge.push(
                            &subscription.subscriber,
                            subscription.options.qos,
                            retain,
                            id,
                            None,
                        );
                    }
                }
            }
        } else {
            gather_plain(publication, nodes, sink);
        }
        self.keep_permitted(publication, sink);
        for node in nodes.iter().filter(|node| node.has_groups()) {
            for group in node.groups().iter() {
                let mut candidates = self.router.pick(group, origin_hash, publication.topic);
                let may = |subscription: &Subscription<Arc<Session>>| {
                    self.may_receive(&subscription.subscriber, publication.topic)
                };
                if let Some(subscription) = candidates.find(may) {
                    let retain =
                        publication.head.retain && subscription.options.retain_as_published;
                    let id = subscription.subscription_id.map(NonZeroU32::get);
                    sink.merge.push(
                        &subscription.subscriber,
                        subscription.options.qos,
                        retain,
                        id,
                        Some(Arc::clone(group)),
                    );
                }
            }
        }
    }

    /// Leaves those who may receive it: whoever may not must have no row in the store either.
    fn keep_permitted(&self, publication: &Publication<'_>, sink: &mut Sink) {
        let recipients = &mut sink.merge.recipients;
        recipients.retain(|recipient| self.may_receive(&recipient.session, publication.topic));
    }

    /// Delivers to those who were found before the batch was handed in. Returns the batch that acknowledgements have
    /// to wait for besides, if a member of a share group could not take its message and another got it.
    fn deliver_all(
        &self,
        publication: &mut Publication<'_>,
        recipients: &[Recipient],
        sink: &mut Sink,
        now: Timestamp,
    ) -> Lsn {
        let mut lsn = Lsn::ZERO;
        if recipients.len() == 1 {
            publication.expect_one();
        }
        for recipient in recipients {
            let delivery = Delivery {
                qos: recipient.qos,
                retain: recipient.retain,
                subscription_ids: &recipient.subscription_ids,
            };
            let (session, share) = (&recipient.session, recipient.share.as_ref());
            let tag = share.map(|group| group.tag());
            let delivered = self.deliver_permitted(session, publication, delivery, tag, sink, now);
            if let (Some(group), Delivered::Dropped(_) | Delivered::Gone) = (share, delivered) {
                lsn = lsn.max(self.hand_on(publication, group, session.id, sink, now));
            }
        }
        // As for chunks: a batch wakes the subscribers of a small fan-out once, at its end.
        if recipients.len() >= CHUNK {
            sink.wakes.fire();
        }
        lsn
    }

    /// Hands in the batch of a publication: its body once, a queue row per durable recipient, the publisher's
    /// QoS 2 identifier, and `ops`. It precedes every `offer` (rule 2).
    pub(crate) fn store(
        &self,
        publication: &mut Publication<'_>,
        received: Option<Received>,
        ops: Vec<StoreOp>,
        sink: &mut Sink,
    ) -> Lsn {
        let ops = self.rows(publication, received, ops, sink);
        self.submit(ops)
    }

    /// What that batch consists of.
    fn rows(
        &self,
        publication: &mut Publication<'_>,
        received: Option<Received>,
        mut ops: Vec<StoreOp>,
        sink: &mut Sink,
    ) -> Vec<StoreOp> {
        let queued = |recipient: &&Recipient| {
            recipient.session.durable && recipient.qos.min(publication.head.qos) > QoS::AtMostOnce
        };
        if sink
            .merge
            .recipients
            .iter()
            .any(|recipient| queued(&recipient))
        {
            let id = self.next_message_id();
            for recipient in sink.merge.recipients.iter().filter(queued) {
                ops.push(StoreOp::Enqueue {
                    session: recipient.session.id,
                    message: id,
                    qos: recipient.qos.min(publication.head.qos),
                    retain: recipient.retain,
                    subscription_ids: recipient.subscription_ids.clone().into_boxed_slice(),
                    share: recipient.share.as_ref().map(|group| group.tag()),
                });
            }
            publication.set_id(id);
            ops.insert(
                0,
                StoreOp::PutMessage {
                    message: publication.message().clone(),
                },
            );
        } else {
            publication.set_id(MessageId::NONE);
        }
        if let Some(Received { session, packet_id }) = received {
            ops.push(StoreOp::PutInbound { session, packet_id });
        }
        ops
    }

    /// Delivers what waited for a commit up to `watermark`.
    pub(crate) fn deliver_deferred(
        &self,
        watermark: Lsn,
        fan_out: &mut FanOut,
        sink: &mut Sink,
        now: Timestamp,
    ) {
        while let Some(deferred) = self.deferred.take(watermark) {
            let mut publication = Publication::from_message(&deferred.message, fan_out);
            self.deliver_all(&mut publication, &deferred.recipients, sink, now);
            self.deferred.done();
        }
    }

    /// Delivers to one session, if it may receive it.
    pub(crate) fn deliver(
        &self,
        session: &Arc<Session>,
        publication: &mut Publication<'_>,
        delivery: Delivery<'_>,
        share: Option<u64>,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Delivered {
        if !self.may_receive(session, publication.topic) {
            return Delivered::Gone;
        }
        self.deliver_permitted(session, publication, delivery, share, sink, now)
    }

    /// Delivers to one session that may receive it, as was asked before its rows were written.
    pub(crate) fn deliver_permitted(
        &self,
        session: &Arc<Session>,
        publication: &mut Publication<'_>,
        delivery: Delivery<'_>,
        share: Option<u64>,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Delivered {
        let Sink {
            effects,
            spares,
            nowhere,
            ..
        } = sink;
        let pressure_at = self.pressure_bytes();
        let offered = session.with_outbox(|outbox| {
            if !outbox.alive {
                return None;
            }
            if let Some(attached) = &mut outbox.attached {
                if attached.out.inline().capacity() == 0 {
                    *attached.out.inline() = spares.take(&self.spares);
                }
                if outbox.is_queue_full() {
                    outbox.half.allow_beyond(self.beyond(outbox, now));
                }
            }
            let (half, out) = outbox.sending(nowhere);
            let offered = match share {
                None => half.offer(now, publication, delivery, out, effects),
                Some(tag) => half.offer_shared(now, publication, delivery, tag, out, effects),
            };
            if !matches!(offered, Offered::Sent) {
                self.settle(session, outbox, effects, now);
                if offered == Offered::Queued && session.durable && !outbox.is_connected() {
                    let bytes = publication.topic.len() + publication.props.len();
                    bodies::spill_if_grown(&mut outbox.half, bytes + publication.payload.len());
                }
            }
            let waker = session.wake_owner(outbox, now);
            let pressed = outbox.is_under_pressure(pressure_at)
                && slows_down(session, publication.head.publisher);
            Some((offered, waker, pressed))
        });
        let Some(Some((offered, waker, pressed))) = offered else {
            return Delivered::Gone;
        };
        if let Some(waker) = waker {
            sink.wakes.push(waker);
            sink.counts.subscriber_woken();
        }
        if pressed {
            sink.pressure.get_or_insert_with(|| Arc::clone(session));
        }
        if matches!(offered, Offered::Sent) {
            debug_assert!(
                sink.effects.is_empty(),
                "what is sent at once has no effects"
            );
            let qos = publication.head.qos.min(delivery.qos);
            sink.counts.publish_sent(qos, publication.payload.len(), 1);
            return Delivered::Sent;
        }
        self.not_sent(session, publication, offered, sink, now)
    }

    /// What follows where a message did not go out at once.
    fn not_sent(
        &self,
        session: &Arc<Session>,
        publication: &Publication<'_>,
        offered: Offered,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Delivered {
        let effects = &mut sink.effects;
        let dropped = match offered {
            Offered::Dropped(reason) => Some(reason),
            _ => effects.dropped.first().map(|(_, reason)| *reason),
        };
        if let Some(limit) = dropped.and_then(Limit::of_drop)
            && session.may_log_drops(now)
        {
            log_drop(session, publication.topic, limit);
        }
        self.after(session, effects, &mut sink.counts);
        match offered {
            Offered::Sent => Delivered::Sent,
            Offered::Queued => Delivered::Queued,
            Offered::Dropped(reason) => {
                sink.counts.dropped(reason);
                Delivered::Dropped(reason)
            }
            Offered::Disconnect => {
                session.kick(
                    martlet_codec::ReasonCode::QuotaExceeded,
                    "message queue is full: limits.queued_messages_max or limits.queued_bytes_max",
                );
                sink.counts.dropped(DropReason::QueueFull);
                Delivered::Dropped(DropReason::QueueFull)
            }
        }
    }

    /// How many messages more than its limit the queue of a client may hold that keeps up: publishers wait for it, but
    /// each of them after one message more, and there may be more publishers than the queue has room left.
    fn beyond(&self, outbox: &Outbox, now: Timestamp) -> u32 {
        if !outbox.is_progressing(now) {
            return 0;
        }
        let room = (outbox.queue_pressure as usize / 3).max(PUBLISHERS_WITH_ROOM);
        let connections = self.connections.load(Ordering::Relaxed);
        u32::try_from(connections.saturating_sub(room)).unwrap_or(u32::MAX)
    }
}

/// Whether a session under pressure slows `publisher` down: anybody but itself. Notes that it is full, under its lock: set
/// later, that would stay with a client that has drained its queue meanwhile, or is gone.
#[cold]
fn slows_down(session: &Session, publisher: SessionId) -> bool {
    let slows = session.id != publisher;
    if slows {
        session.set_availability(Availability::Full);
    }
    slows
}

/// Who loses messages, and which setting says so.
#[cold]
fn log_drop(session: &Session, topic: &str, limit: Limit) {
    tracing::warn!(
        event = "messages_dropped",
        client = &*session.client_id,
        topic,
        limit = limit.name(),
        "Messages to client {} are dropped: {}",
        session.client_id,
        limit.name()
    );
}

fn wanted(subscription: &Subscription<Arc<Session>>, publication: &Publication<'_>) -> bool {
    !(subscription.options.no_local && subscription.subscriber.id == publication.head.publisher)
}

/// Collects the subscribers of the filters themselves, one delivery for each however many filters match.
fn gather_plain(publication: &Publication<'_>, nodes: &[Arc<Node<Arc<Session>>>], sink: &mut Sink) {
    sink.merge.clear();
    for node in nodes {
        for chunk in node.subscribers().chunks() {
            for subscription in chunk.iter().filter(|s| wanted(s, publication)) {
                let retain = publication.head.retain && subscription.options.retain_as_published;
                let id = subscription.subscription_id.map(NonZeroU32::get);
                sink.merge.add(
                    &subscription.subscriber,
                    subscription.options.qos,
                    retain,
                    id,
                );
            }
        }
    }
}

#[cfg(all(test, martlet_loom))]
mod loom_tests;
