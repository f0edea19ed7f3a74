//! From operations to rows: references to bodies, pairs that cancel, rows that go with their session.
//!
//! Runs on the committer's thread only. Deliberately absent: bodies, and anything a running broker could ask;
//! the planner remembers just enough to know which rows exist.

use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::fast::RandomState;
use martlet_codec::PacketId;
use martlet_sync::Planted;

use crate::backend::{COUNTERS_KEY, Table, Value, Write};
use crate::op::StoreOp;
use crate::record::{self, Meta, OutboundRow, QueuedRow, SubscriptionRow};
use crate::{Lsn, Message, MessageId, SessionId, Timestamp};

/// Which rows exist, and how often each body is referred to.
#[derive(Debug, Default)]
pub struct Planner {
    meta: Meta,
    sessions: HashMap<SessionId, SessionRows, RandomState>,
    messages: HashMap<MessageId, MessageRow, RandomState>,
    wills: HashSet<SessionId>,
    /// While a store is loaded: the queue at hand, which becomes a map as a whole. Its rows come in order, and a map made
    /// of a sorted list costs a fraction of as many insertions.
    loading: Option<(SessionId, Vec<(MessageId, Copies)>)>,
}

/// The rows of one session.
#[derive(Debug, Default)]
struct SessionRows {
    queue: BTreeMap<MessageId, Copies>,
    /// Of its QoS 2 exchanges; in a box, since most sessions never have one.
    exchanges: Option<Box<Exchanges>>,
    /// Whether there may be subscriptions.
    subscribed: bool,
}

/// Identifiers that have a row, in both directions.
#[derive(Debug, Default)]
struct Exchanges {
    outbound: HashMap<PacketId, u64>,
    inbound: HashSet<PacketId>,
}

impl SessionRows {
    fn exchanges(&mut self) -> &mut Exchanges {
        self.exchanges.get_or_insert_default()
    }
}

/// Copies of one message in one queue: counts from `first` to `next`, oldest first.
#[derive(Clone, Copy, Debug)]
struct Copies {
    first: u16,
    next: u16,
}

#[derive(Clone, Copy, Debug)]
struct MessageRow {
    references: u32,
    bytes: u32,
    expires: Option<Timestamp>,
}

/// A row, named without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Session(SessionId),
    Subscription(SessionId, Box<str>),
    Message(MessageId),
    Queue(SessionId, MessageId, u16),
    Outbound(SessionId, PacketId),
    Inbound(SessionId, PacketId),
    Retained(Box<str>),
    Will(SessionId),
    Counters,
}

impl Key {
    fn encode(&self) -> (Table, Vec<u8>) {
        let row =
            |session: &SessionId, rest: &[u8]| [&record::session_key(*session), rest].concat();
        match self {
            Self::Session(session) => (Table::Session, row(session, &[])),
            Self::Subscription(session, filter) => {
                (Table::Subscription, row(session, filter.as_bytes()))
            }
            Self::Message(message) => (Table::Message, message.get().to_be_bytes().to_vec()),
            Self::Queue(session, message, copy) => {
                let mut key = row(session, &message.get().to_be_bytes());
                key.extend_from_slice(&copy.to_be_bytes());
                (Table::Queue, key)
            }
            Self::Outbound(session, id) => (Table::Outbound, row(session, &id.get().to_be_bytes())),
            Self::Inbound(session, id) => (Table::Inbound, row(session, &id.get().to_be_bytes())),
            Self::Retained(topic) => (Table::Retained, topic.as_bytes().to_vec()),
            Self::Will(session) => (Table::Will, row(session, &[])),
            Self::Counters => (Table::Meta, COUNTERS_KEY.to_vec()),
        }
    }
}

/// What becomes of one row.
#[derive(Debug)]
struct Change {
    key: Key,
    /// `None` deletes.
    value: Option<Value>,
    /// Whether the row was in the store before this group.
    existed: bool,
}

/// The changes of one group of batches; each row at most once, in its final state.
#[derive(Debug, Default)]
pub struct Group {
    changes: Vec<Option<Change>>,
    index: HashMap<Key, usize, RandomState>,
    /// Sessions whose subscriptions go.
    unsubscribed: Vec<SessionId>,
    unsubscribed_set: HashSet<SessionId>,
    /// Messages whose references reached zero in the batch at hand.
    unreferenced: Vec<MessageId>,
}

impl Group {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty() && self.unsubscribed.is_empty()
    }

    fn put(&mut self, key: Key, value: Value, existed: bool) {
        if let Some(change) = self
            .index
            .get(&key)
            .and_then(|at| self.changes.get_mut(*at))
            .and_then(Option::as_mut)
        {
            change.value = Some(value);
            return;
        }
        self.index.insert(key.clone(), self.changes.len());
        self.changes.push(Some(Change {
            key,
            value: Some(value),
            existed,
        }));
    }

    /// `existed` counts only where the row was not touched in this group before.
    fn delete(&mut self, key: Key, existed: bool) {
        if let Some(at) = self.index.get(&key).copied() {
            if let Some(slot) = self.changes.get_mut(at) {
                match slot {
                    Some(change) if change.existed => change.value = None,
                    // Made and undone in one group: the store never hears of it.
                    _ => {
                        *slot = None;
                        self.index.remove(&key);
                    }
                }
            }
            return;
        }
        if existed {
            self.index.insert(key.clone(), self.changes.len());
            self.changes.push(Some(Change {
                key,
                value: None,
                existed,
            }));
        }
    }

    fn into_writes(self, meta: &Meta) -> Vec<Write> {
        let mut writes = Vec::with_capacity(self.index.len() + self.unsubscribed.len() + 1);
        for session in &self.unsubscribed {
            let prefix = record::session_key(*session).to_vec();
            writes.push(Write::DeletePrefix {
                table: Table::Subscription,
                prefix,
            });
        }
        for change in self.changes.into_iter().flatten() {
            if let Key::Subscription(session, _) = &change.key
                && self.unsubscribed_set.contains(session)
            {
                continue;
            }
            let (table, key) = change.key.encode();
            writes.push(match change.value {
                Some(value) => Write::Put { table, key, value },
                None => Write::Delete { table, key },
            });
        }
        writes.push(Write::Put {
            table: Table::Meta,
            key: Vec::new(),
            value: Value::Record(meta.encode()),
        });
        writes
    }
}

impl Planner {
    pub(crate) fn new(meta: Meta) -> Self {
        Self {
            meta,
            ..Self::default()
        }
    }

    /// What the last batch wrote, or will write.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// References to bodies and rows of queues, for checks.
    pub fn counts(&self) -> (usize, usize) {
        let queued = self.sessions.values().flat_map(|rows| rows.queue.values());
        (
            self.messages.len(),
            queued
                .map(|copies| usize::from(copies.next.wrapping_sub(copies.first)))
                .sum(),
        )
    }

    /// Adds one submitted batch to `group`.
    pub fn add(&mut self, lsn: Lsn, ops: Vec<StoreOp>, group: &mut Group) {
        self.meta.lsn = lsn;
        for op in ops {
            self.add_op(op, group);
        }
        for message in std::mem::take(&mut group.unreferenced) {
            if self
                .messages
                .get(&message)
                .is_some_and(|row| row.references == 0)
            {
                self.messages.remove(&message);
                group.delete(Key::Message(message), true);
            }
        }
    }

    /// The writes of a group, with the row that says how far the store has come.
    pub fn finish(&mut self, group: Group, now: Timestamp) -> Vec<Write> {
        self.meta.committed = self.meta.committed.max(now);
        group.into_writes(&self.meta)
    }

    fn add_op(&mut self, op: StoreOp, group: &mut Group) {
        match op {
            StoreOp::PutSession { session, record } => {
                self.meta.last_session = self.meta.last_session.max(session.get());
                let existed = self.sessions.contains_key(&session);
                self.sessions.entry(session).or_default();
                group.put(
                    Key::Session(session),
                    Value::Record(record.encode()),
                    existed,
                );
            }
            StoreOp::DeleteSession { session } => self.delete_session(session, group),
            StoreOp::PutSubscription {
                session,
                filter,
                options,
                subscription_id,
            } => {
                let Some(rows) = self.sessions.get_mut(&session) else {
                    return;
                };
                rows.subscribed = true;
                let row = SubscriptionRow {
                    filter: Box::default(),
                    options,
                    subscription_id,
                };
                group.put(
                    Key::Subscription(session, filter),
                    Value::Record(row.encode()),
                    true,
                );
            }
            StoreOp::DeleteSubscription { session, filter } => {
                if self.sessions.contains_key(&session) {
                    group.delete(Key::Subscription(session, filter), true);
                }
            }
            StoreOp::PutMessage { message } => self.put_message(message, group),
            StoreOp::Enqueue {
                session,
                message,
                qos,
                retain,
                subscription_ids,
                share,
            } => {
                let (Some(rows), Some(body)) = (
                    self.sessions.get_mut(&session),
                    self.messages.get_mut(&message),
                ) else {
                    return;
                };
                let copies = rows
                    .queue
                    .entry(message)
                    .or_insert(Copies { first: 0, next: 0 });
                let copy = copies.next;
                if copy == u16::MAX {
                    return;
                }
                copies.next += 1;
                // As if another thread had read the count before this one and wrote it after.
                if !Planted::RacedReferences.is_active() || body.references == 0 {
                    body.references += 1;
                }
                let row = QueuedRow {
                    message,
                    bytes: body.bytes,
                    expires: body.expires,
                    qos,
                    retain,
                    subscription_ids,
                    share,
                };
                group.put(
                    Key::Queue(session, message, copy),
                    Value::Record(row.encode()),
                    false,
                );
            }
            StoreOp::Dequeue { session, message } => {
                let Some(rows) = self.sessions.get_mut(&session) else {
                    return;
                };
                let Some(copies) = rows.queue.get_mut(&message) else {
                    return;
                };
                let copy = copies.first;
                copies.first += 1;
                if copies.first == copies.next {
                    rows.queue.remove(&message);
                }
                group.delete(Key::Queue(session, message, copy), true);
                self.dereference(message, group);
            }
            StoreOp::PutOutbound {
                session,
                packet_id,
                message,
                state,
            } => {
                let Some(rows) = self.sessions.get_mut(&session) else {
                    return;
                };
                let outbound = &mut rows.exchanges().outbound;
                let known = outbound.get(&packet_id).copied();
                let sequence = known.unwrap_or_else(|| {
                    self.meta.last_sequence += 1;
                    self.meta.last_sequence
                });
                outbound.insert(packet_id, sequence);
                let row = OutboundRow {
                    packet_id,
                    message,
                    state,
                    sequence,
                };
                group.put(
                    Key::Outbound(session, packet_id),
                    Value::Record(row.encode()),
                    known.is_some(),
                );
            }
            StoreOp::DeleteOutbound { session, packet_id } => {
                let Some(rows) = self.sessions.get_mut(&session) else {
                    return;
                };
                if let Some(exchanges) = &mut rows.exchanges
                    && exchanges.outbound.remove(&packet_id).is_some()
                {
                    group.delete(Key::Outbound(session, packet_id), true);
                }
            }
            StoreOp::PutInbound { session, packet_id } => {
                let Some(rows) = self.sessions.get_mut(&session) else {
                    return;
                };
                let existed = !rows.exchanges().inbound.insert(packet_id);
                group.put(
                    Key::Inbound(session, packet_id),
                    Value::Record(record::encode_inbound()),
                    existed,
                );
            }
            StoreOp::DeleteInbound { session, packet_id } => {
                let Some(rows) = self.sessions.get_mut(&session) else {
                    return;
                };
                if let Some(exchanges) = &mut rows.exchanges
                    && exchanges.inbound.remove(&packet_id)
                {
                    group.delete(Key::Inbound(session, packet_id), true);
                }
            }
            StoreOp::PutRetained { message } => {
                self.seen(&message);
                group.put(
                    Key::Retained(message.topic().into()),
                    Value::Message(message),
                    true,
                );
            }
            StoreOp::DeleteRetained { topic } => group.delete(Key::Retained(topic), true),
            StoreOp::PutWill { session, will } => {
                self.meta.last_session = self.meta.last_session.max(session.get());
                self.seen(&will.message);
                let existed = !self.wills.insert(session);
                group.put(Key::Will(session), Value::Record(will.encode()), existed);
            }
            StoreOp::DeleteWill { session } => {
                if self.wills.remove(&session) {
                    group.delete(Key::Will(session), true);
                }
            }
            StoreOp::PutCounters { record } => {
                group.put(Key::Counters, Value::Record(record.encode()), true);
            }
        }
    }

    fn put_message(&mut self, message: Message, group: &mut Group) {
        let id = message.id();
        // A body that is there already is the same one: identities are never reused.
        if id == MessageId::NONE || self.messages.contains_key(&id) {
            return;
        }
        self.seen(&message);
        let bytes = u32::try_from(message.len_bytes()).unwrap_or(u32::MAX);
        self.messages.insert(
            id,
            MessageRow {
                references: 0,
                bytes,
                expires: message.expires(),
            },
        );
        group.unreferenced.push(id);
        group.put(Key::Message(id), Value::Message(message), false);
    }

    fn seen(&mut self, message: &Message) {
        self.meta.last_message = self.meta.last_message.max(message.id().get());
    }

    fn dereference(&mut self, message: MessageId, group: &mut Group) {
        if let Some(row) = self.messages.get_mut(&message) {
            row.references = row.references.saturating_sub(1);
            if row.references == 0 {
                group.unreferenced.push(message);
            }
        }
    }

    fn delete_session(&mut self, session: SessionId, group: &mut Group) {
        if self.wills.remove(&session) {
            group.delete(Key::Will(session), true);
        }
        let Some(rows) = self.sessions.remove(&session) else {
            return;
        };
        group.delete(Key::Session(session), true);
        for (message, copies) in rows.queue {
            for copy in copies.first..copies.next {
                group.delete(Key::Queue(session, message, copy), true);
                self.dereference(message, group);
            }
        }
        if let Some(exchanges) = rows.exchanges {
            for packet_id in exchanges.outbound.into_keys() {
                group.delete(Key::Outbound(session, packet_id), true);
            }
            for packet_id in exchanges.inbound {
                group.delete(Key::Inbound(session, packet_id), true);
            }
        }
        if rows.subscribed && group.unsubscribed_set.insert(session) {
            group.unsubscribed.push(session);
        }
    }

    // What the store held when it was opened.

    pub(crate) fn loaded_session(&mut self, session: SessionId) {
        self.meta.last_session = self.meta.last_session.max(session.get());
        self.sessions.entry(session).or_default();
    }

    /// Whether the session exists.
    pub(crate) fn loaded_subscription(&mut self, session: SessionId) -> bool {
        self.sessions
            .get_mut(&session)
            .map(|rows| rows.subscribed = true)
            .is_some()
    }

    pub(crate) fn loaded_will(&mut self, session: SessionId) {
        self.wills.insert(session);
    }

    /// Whether the body exists, as [`Planner::loaded_body`] said.
    pub(crate) fn loaded_queued(&mut self, session: SessionId, copy: u16, row: &QueuedRow) -> bool {
        if self.loading.as_ref().is_none_or(|(at, _)| *at != session) {
            if !self.sessions.contains_key(&session) {
                return false;
            }
            self.loaded_queues();
            self.loading = Some((session, Vec::new()));
        }
        let (Some(body), Some((_, queue))) =
            (self.messages.get_mut(&row.message), &mut self.loading)
        else {
            return false;
        };
        body.references += 1;
        (body.bytes, body.expires) = (row.bytes, row.expires);
        let next = copy.saturating_add(1);
        match queue.last_mut() {
            Some((message, copies)) if *message == row.message => copies.next = next,
            _ => queue.push((row.message, Copies { first: copy, next })),
        }
        true
    }

    /// All queue rows have come.
    pub(crate) fn loaded_queues(&mut self) {
        if let Some((session, queue)) = self.loading.take()
            && let Some(rows) = self.sessions.get_mut(&session)
        {
            rows.queue.append(&mut queue.into_iter().collect());
        }
    }

    pub(crate) fn loaded_outbound(&mut self, session: SessionId, row: &OutboundRow) -> bool {
        self.meta.last_sequence = self.meta.last_sequence.max(row.sequence);
        let rows = self.sessions.get_mut(&session);
        let sequence = row.sequence;
        rows.map(|rows| rows.exchanges().outbound.insert(row.packet_id, sequence))
            .is_some()
    }

    pub(crate) fn loaded_inbound(&mut self, session: SessionId, packet_id: PacketId) -> bool {
        self.sessions
            .get_mut(&session)
            .map(|rows| rows.exchanges().inbound.insert(packet_id))
            .is_some()
    }

    pub(crate) fn loaded_body(&mut self, message: MessageId) {
        self.meta.last_message = self.meta.last_message.max(message.get());
        self.messages.insert(
            message,
            MessageRow {
                references: 0,
                bytes: 0,
                expires: None,
            },
        );
    }

    /// Forgets and names the bodies that no row refers to.
    pub(crate) fn take_orphans(&mut self) -> Vec<MessageId> {
        let mut orphans: Vec<_> = self
            .messages
            .iter()
            .filter(|(_, row)| row.references == 0)
            .map(|(id, _)| *id)
            .collect();
        orphans.sort_unstable();
        for id in &orphans {
            self.messages.remove(id);
        }
        orphans
    }
}
