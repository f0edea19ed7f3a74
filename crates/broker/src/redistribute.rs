//! Messages of share groups that find another member: because the one they were meant for could not take them, or
//! because it left before it got them (architecture rule 10).
//!
//! Deliberately absent: the choice among members; see `router`. QoS 2 deliveries once begun, which stay where they are.

use std::{num::NonZeroU32, sync::Arc};

use martlet_codec::QoS;
use martlet_session::{Delivery, Effects, Publication, Row, RowBody};
use martlet_storage::{Lsn, Message, MessageHead, MessageId, SessionId, StoreOp, Timestamp};
use martlet_sync::Planted;

use crate::{
    core::Core,
    router::{Group, Subscription},
    session::{Delivered, Session},
    work::{Sink, Work, with_work},
};

type Members = Arc<Group<Arc<Session>>>;

impl Core {
    /// Gives a message that one member of `group` could not take to another, durable ones stored first (rules 2 and
    /// 10).
    pub(crate) fn hand_on(
        &self,
        publication: &mut Publication<'_>,
        group: &Members,
        not_to: SessionId,
        sink: &mut Sink,
        now: Timestamp,
    ) -> Lsn {
        let mut lsn = Lsn::ZERO;
        // Whoever published: the member it was meant for is out, so is its place in the order.
        for subscription in self.router.pick(group, 0, publication.topic) {
            let session = &subscription.subscriber;
            if session.id == not_to || !self.may_receive(session, publication.topic) {
                continue;
            }
            let id = subscription.subscription_id.map(NonZeroU32::get);
            let retain = publication.head.retain && subscription.options.retain_as_published;
            if session.durable {
                sink.merge.clear();
                let options = subscription.options;
                sink.merge
                    .push(session, options.qos, retain, id, Some(Arc::clone(group)));
                lsn = lsn.max(self.store(publication, None, Vec::new(), sink));
                sink.merge.clear();
            }
            let delivery = Delivery {
                qos: subscription.options.qos,
                retain,
                subscription_ids: id.as_slice(),
            };
            let tag = Some(group.tag());
            match self.deliver_permitted(session, publication, delivery, tag, sink, now) {
                Delivered::Sent | Delivered::Queued => break,
                Delivered::Dropped(_) | Delivered::Gone => {}
            }
        }
        lsn
    }

    /// Gives what `session` never got as a member of `group` to the members that remain, stored there and deleted
    /// here in one batch. Two outbox locks are never held at once.
    pub(crate) fn redistribute(&self, session: &Arc<Session>, group: &Members) {
        let mut rows = Vec::new();
        let mut effects = Effects::default();
        session.with_outbox(|outbox| {
            // A session that ended acknowledges nothing more, so what is in flight at QoS 1 may go to another.
            let with_inflight = !outbox.alive;
            outbox
                .half
                .take_unsent_shared(group.tag(), with_inflight, &mut rows, &mut effects);
        });
        let mut deletions = std::mem::take(&mut effects.ops);
        if Planted::DoubledShareMove.is_active() {
            deletions.clear();
        }
        let moves = rows
            .into_iter()
            .filter_map(|row| self.plan(row, session, group))
            .collect::<Vec<_>>();
        let insertions = moves.iter().flat_map(Move::insertions);
        // Insertions first: a body must not lose its last reference in between.
        self.submit(insertions.chain(deletions).collect());
        let now = self.clock.now();
        with_work(|work| {
            for planned in &moves {
                self.carry_out(planned, group, work, now);
            }
            work.sink.pressure = None;
            work.sink.counts.flush(&self.counters);
        });
        self.after_alone(session, &mut effects);
    }

    /// Chooses who gets `row` of `from`; `None` when nobody is left who can.
    fn plan(&self, row: Row, from: &Session, group: &Members) -> Option<Move> {
        let topic = match &row.body {
            RowBody::Loaded(message) => message.topic(),
            RowBody::Stored { .. } => "",
        };
        // A body that only the store has can go to a session that reads it from there, whatever its topic is.
        let is_stored = matches!(row.body, RowBody::Stored { .. });
        let can_take = |to: &Arc<Session>| {
            if is_stored {
                to.durable && !to.is_judged()
            } else {
                self.may_receive(to, topic)
            }
        };
        let to = self
            .router
            .pick(group, from.client_hash, topic)
            .find(|to| to.subscriber.id != from.id && can_take(&to.subscriber))?;
        let new_body = match &row.body {
            RowBody::Loaded(message) if to.subscriber.durable && !is_kept(message, from) => {
                Some(renamed(message, self.next_message_id()))
            }
            _ => None,
        };
        Some(Move {
            row,
            to,
            new_body,
            tag: group.tag(),
        })
    }

    fn carry_out(&self, planned: &Move, group: &Members, work: &mut Work, now: Timestamp) {
        let Work { fan_out, sink, .. } = work;
        let session = &planned.to.subscriber;
        let Some(message) = planned.message() else {
            let owner = session.with_outbox(|outbox| {
                outbox.half.restore_queued(planned.stored_row());
                let (half, out) = outbox.sending(&mut sink.nowhere);
                half.pump(now, out, &mut sink.effects);
                self.settle(session, outbox, &mut sink.effects, now);
                session.wake_owner(outbox, now)
            });
            if let Some(Some(owner)) = owner {
                sink.wakes.push(owner);
            }
            self.after(session, &mut sink.effects, &mut sink.counts);
            return;
        };
        let mut publication = Publication::from_message(message, fan_out);
        let ids = planned.subscription_ids();
        let delivery = Delivery {
            qos: planned.to.options.qos,
            retain: planned.retain(),
            subscription_ids: ids.as_slice(),
        };
        let delivered = self.deliver_permitted(
            session,
            &mut publication,
            delivery,
            Some(planned.tag),
            sink,
            now,
        );
        if let Delivered::Dropped(_) | Delivered::Gone = delivered {
            self.hand_on(&mut publication, group, session.id, sink, now);
        }
    }
}

/// A message on its way from one member to another.
struct Move {
    row: Row,
    to: Subscription<Arc<Session>>,
    /// The message under an identity of its own, where the store does not have it yet.
    new_body: Option<Message>,
    tag: u64,
}

impl Move {
    fn message(&self) -> Option<&Message> {
        match &self.row.body {
            RowBody::Loaded(message) => Some(self.new_body.as_ref().unwrap_or(message)),
            RowBody::Stored { .. } => None,
        }
    }

    fn message_id(&self) -> MessageId {
        match &self.row.body {
            RowBody::Stored { id, .. } => *id,
            RowBody::Loaded(message) => self.new_body.as_ref().unwrap_or(message).id(),
        }
    }

    /// What the receiver gets: QoS of the message and of its subscription, whichever is lower.
    fn qos(&self) -> QoS {
        let published = self
            .message()
            .map_or(self.row.qos, |message| message.head().qos);
        published.min(self.to.options.qos)
    }

    fn retain(&self) -> bool {
        let published = self
            .message()
            .map_or(self.row.retain, |message| message.head().retain);
        published && self.to.options.retain_as_published
    }

    fn subscription_ids(&self) -> Option<u32> {
        self.to.subscription_id.map(NonZeroU32::get)
    }

    fn stored_row(&self) -> Row {
        Row {
            body: self.row.body.clone(),
            qos: self.qos(),
            retain: self.retain(),
            subscription_ids: self.subscription_ids().into_iter().collect(),
            share: Some(self.tag),
        }
    }

    /// The rows of the receiver, if it has any in the store.
    fn insertions(&self) -> impl Iterator<Item = StoreOp> {
        let session = &self.to.subscriber;
        let is_stored = session.durable && self.qos() > QoS::AtMostOnce;
        let body = self.new_body.clone().filter(|_| is_stored);
        let body = body.map(|message| StoreOp::PutMessage { message });
        let row = is_stored.then(|| StoreOp::Enqueue {
            session: session.id,
            message: self.message_id(),
            qos: self.qos(),
            retain: self.retain(),
            subscription_ids: self.subscription_ids().into_iter().collect(),
            share: Some(self.tag),
        });
        body.into_iter().chain(row)
    }
}

/// The same message under another identity.
fn renamed(message: &Message, id: MessageId) -> Message {
    let head = MessageHead {
        id,
        ..message.head()
    };
    let scratch = &mut Vec::new();
    Message::new(
        head,
        message.topic(),
        message.props(),
        message.payload(),
        scratch,
    )
}

/// Whether the store has the body for as long as `from` refers to it.
fn is_kept(message: &Message, from: &Session) -> bool {
    from.durable && message.id() != MessageId::NONE && message.head().qos > QoS::AtMostOnce
}
