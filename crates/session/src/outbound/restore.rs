//! Rows in and out: restoring a session from the store, bodies that were read, messages that move to
//! another member of their share group. Deliberately absent: reading and writing itself.

use martlet_codec::{PacketId, QoS};
use martlet_storage::{Message, MessageId, OutboundRow, OutboundState, QueuedRow, Timestamp};

use super::entry::{Body, Entry, NEVER, flag};
use super::{Outbound, push_dequeue};
use crate::limits::{DropReason, Effects};

/// A queued or in-flight message, as the store or another session knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The message.
    pub body: RowBody,
    /// The QoS it is delivered with.
    pub qos: QoS,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// Its Subscription Identifiers.
    pub subscription_ids: Box<[u32]>,
    /// The share group it came through.
    pub share: Option<u64>,
}

/// Where the body of a [`Row`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowBody {
    /// In memory.
    Loaded(Message),
    /// In the store.
    Stored {
        /// Its identity.
        id: MessageId,
        /// Length of topic, properties and payload.
        bytes: u32,
        /// When it may no longer be delivered.
        expires: Option<Timestamp>,
    },
}

impl From<QueuedRow> for Row {
    fn from(row: QueuedRow) -> Self {
        let QueuedRow {
            message,
            bytes,
            expires,
            qos,
            retain,
            subscription_ids,
            share,
        } = row;
        Self {
            body: RowBody::Stored {
                id: message,
                bytes,
                expires,
            },
            qos,
            retain,
            subscription_ids,
            share,
        }
    }
}

impl From<RowBody> for Body {
    fn from(body: RowBody) -> Self {
        match body {
            RowBody::Loaded(message) => Self::Loaded(message),
            RowBody::Stored { id, bytes, expires } => Self::Stored {
                id,
                bytes,
                expires: expires.unwrap_or(NEVER),
            },
        }
    }
}

impl Outbound {
    /// Puts back what the store holds of this session, before any connection: `outbound` in the order of
    /// sending, `queued` in the order of the queue. A queued message that an outbound row names is in
    /// flight; a QoS 1 message that was in flight waits again, for QoS 1 leaves no such row.
    pub fn restore(&mut self, outbound: &[OutboundRow], queued: Vec<QueuedRow>) {
        // Sorted by message, then by packet id's place in the order of sending.
        let mut bound: Vec<(MessageId, usize)> = outbound
            .iter()
            .enumerate()
            .filter(|(_, row)| row.state == OutboundState::Published)
            .map(|(at, row)| (row.message, at))
            .collect();
        bound.sort_unstable();
        let mut bodies: Vec<Option<Row>> = outbound.iter().map(|_| None).collect();
        let mut waiting = Vec::new();
        for row in queued {
            let first = bound.partition_point(|(message, _)| *message < row.message);
            let of_message = bound
                .iter()
                .skip(first)
                .take_while(|(message, _)| *message == row.message);
            let free = of_message
                .map(|(_, at)| *at)
                .find(|at| bodies.get(*at).is_some_and(Option::is_none));
            match free.and_then(|at| bodies.get_mut(at)) {
                Some(body) if row.qos == QoS::ExactlyOnce => *body = Some(row.into()),
                _ => waiting.push(row),
            }
        }
        for (row, body) in outbound.iter().zip(bodies) {
            match (row.state, body) {
                (OutboundState::Published, Some(body)) => {
                    self.restore_inflight(row.packet_id, row.state, body);
                }
                // Released; or published without a body, which only a damaged store has: PUBREL ends both.
                _ => {
                    self.restore_released(row.packet_id, row.message);
                }
            }
        }
        for row in waiting {
            self.restore_queued(row.into());
        }
    }

    /// Puts back a message that had a packet id, in the order of first sending, before any connection.
    /// A packet id that is in use already is refused with `false`, as is anything but QoS 1 and 2.
    pub fn restore_inflight(&mut self, id: PacketId, state: OutboundState, row: Row) -> bool {
        let room = self.inflight.len() < usize::from(u16::MAX) - 1;
        if row.qos == QoS::AtMostOnce || !room || self.inflight.find(id).is_some() {
            return false;
        }
        let mut entry = Entry::new(
            row.body.into(),
            row.qos,
            row.retain,
            &row.subscription_ids,
            row.share,
        );
        entry.set_id(id);
        // Whether the PUBLISH left before the stop is unknown; DUP is right in both cases.
        entry.set(flag::SENT);
        if state == OutboundState::Released {
            entry.body = Body::Gone {
                id: entry.message_id(),
            };
            entry.set(flag::RELEASED);
        }
        self.inflight.restore(entry);
        true
    }

    /// Puts back a PUBREL that awaits its PUBCOMP; all that is left of its message is its identity.
    pub fn restore_released(&mut self, id: PacketId, message: MessageId) -> bool {
        let body = RowBody::Stored {
            id: message,
            bytes: 0,
            expires: None,
        };
        let row = Row {
            body,
            qos: QoS::ExactlyOnce,
            retain: false,
            subscription_ids: Box::default(),
            share: None,
        };
        self.restore_inflight(id, OutboundState::Released, row)
    }

    /// Puts back a waiting message, in queue order. Limits do not apply: what was taken once is kept.
    pub fn restore_queued(&mut self, row: Row) {
        self.queue.push(Entry::new(
            row.body.into(),
            row.qos,
            row.retain,
            &row.subscription_ids,
            row.share,
        ));
    }

    /// A body that [`Effects::need_bodies`] asked for; call [`Outbound::pump`] afterwards. Bodies nobody
    /// waits for any more are ignored.
    pub fn body(&mut self, message: &Message) {
        for entry in self.requested(message.id()) {
            // A different length would break the queue's byte count; it cannot be the same message.
            if entry.bytes() == message.len_bytes() {
                entry.body = Body::Loaded(message.clone());
                entry.clear(flag::REQUESTED);
            }
        }
    }

    /// A body that was asked for cannot be read: its messages are given up. Call [`Outbound::pump`] afterwards.
    pub fn body_lost(&mut self, message: MessageId, fx: &mut Effects) {
        let lost = |entry: &Entry| entry.has(flag::REQUESTED) && entry.message_id() == message;
        let (session, durable) = (self.session, self.durable);
        self.queue.extract(lost, |entry| {
            super::give_up(session, durable, entry, DropReason::BodyLost, fx);
        });
        while let Some(at) = self.inflight.position(lost) {
            self.withdraw(at, DropReason::BodyLost, fx);
        }
    }

    /// Lets go of bodies that the store has, from the back of the queue, so that at most
    /// `keep_loaded_bytes` stay in memory. They are asked for again when their turn comes.
    pub fn spill(&mut self, keep_loaded_bytes: usize) {
        if !self.durable {
            return;
        }
        let mut kept = 0_usize;
        for entry in self.queue.iter_mut() {
            if matches!(entry.body, Body::Loaded(_)) {
                kept = kept.saturating_add(entry.bytes());
                if kept > keep_loaded_bytes {
                    entry.spill();
                }
            }
        }
    }

    /// Takes out the messages of share group `share` that this session was never sent, in order, for
    /// redistribution. With `with_inflight_qos1` also QoS 1 messages that wait for PUBACK, which may go to
    /// another member when this one leaves; a QoS 2 delivery once begun stays.
    ///
    /// The deletions are in `fx.ops`: append the insertions elsewhere and submit both as one batch. A row whose
    /// body is in the store can be handed to the other member with [`Outbound::restore_queued`] and
    /// [`Outbound::pump`].
    pub fn take_unsent_shared(
        &mut self,
        share: u64,
        with_inflight_qos1: bool,
        taken: &mut Vec<Row>,
        fx: &mut Effects,
    ) {
        let mut at = 0;
        while let Some(entry) = self.inflight.get(at) {
            let unsent = !entry.has(flag::SENT) && !entry.has(flag::RELEASED);
            let repeatable = with_inflight_qos1 && entry.qos() == QoS::AtLeastOnce;
            if entry.share() == Some(share) && (unsent || repeatable) {
                if let Some(entry) = self.remove_inflight(at) {
                    self.forget_rows(&entry, fx);
                    taken.extend(row(entry));
                }
            } else {
                at += 1;
            }
        }
        let (session, durable) = (self.session, self.durable);
        self.queue.extract(
            |entry| entry.share() == Some(share),
            |entry| {
                if durable {
                    push_dequeue(session, entry.message_id(), fx);
                }
                taken.extend(row(entry));
            },
        );
    }

    /// Every message that is waiting or in flight, as the store would know it; for inspection and export.
    pub fn rows(&self) -> impl Iterator<Item = (Option<PacketId>, MessageId, QoS)> + '_ {
        self.inflight
            .iter()
            .chain(self.queue.iter())
            .map(|entry| (entry.id(), entry.message_id(), entry.qos()))
    }

    /// A new connection asks anew: an answer to an earlier question may never come.
    pub(super) fn forget_requests(&mut self) {
        if self.durable {
            for entry in self.inflight.iter_mut().chain(self.queue.iter_mut()) {
                entry.clear(flag::REQUESTED);
            }
        }
    }

    fn requested(&mut self, id: MessageId) -> impl Iterator<Item = &mut Entry> {
        let wanted =
            move |entry: &&mut Entry| entry.has(flag::REQUESTED) && entry.message_id() == id;
        self.inflight
            .iter_mut()
            .chain(self.queue.iter_mut())
            .filter(wanted)
    }
}

fn row(entry: Entry) -> Option<Row> {
    let (qos, retain, share) = (entry.qos(), entry.retain(), entry.share());
    let subscription_ids = entry.subscription_ids().into();
    let body = match entry.body {
        Body::Loaded(message) => RowBody::Loaded(message),
        Body::Stored { id, bytes, expires } => RowBody::Stored {
            id,
            bytes,
            expires: (expires != NEVER).then_some(expires),
        },
        Body::Gone { .. } => return None,
    };
    Some(Row {
        body,
        qos,
        retain,
        subscription_ids,
        share,
    })
}
