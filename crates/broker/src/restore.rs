//! What a store holds, put back into a broker that starts.
//!
//! A session that was connected when the last process ended counts as disconnected at the last commit; its expiry and
//! its will run from there (architecture rule 18). Bodies of queued messages stay in the store until they are needed.
//!
//! Deliberately absent: reading the store; see `martlet_storage::load`.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use martlet_codec::PacketId;
use martlet_storage::{
    CountersRecord, Message, Opened, OutboundRow, QueuedRow, SessionId, SessionRecord,
    StorageError, StoreOp, SubscriptionRow, Timestamp, Visitor, WillRecord,
};
use martlet_topic::{Filter, TopicError, TopicFilter};

use crate::{
    core::Core,
    lifecycle::record,
    router::Subscription,
    session::{Session, Will},
    timers::Due,
};

/// The rows of a store, by session.
#[derive(Default)]
pub(crate) struct Rows {
    sessions: BTreeMap<SessionId, Rest>,
    /// Wills of sessions that were not stored themselves.
    stray_wills: Vec<(SessionId, WillRecord)>,
    retained: Vec<Message>,
    counters: Option<Result<CountersRecord, StorageError>>,
}

struct Rest {
    record: SessionRecord,
    subscriptions: Vec<SubscriptionRow>,
    will: Option<WillRecord>,
    outbound: Vec<OutboundRow>,
    queued: Vec<QueuedRow>,
    inbound: Vec<PacketId>,
}

impl Visitor for Rows {
    fn session(&mut self, session: SessionId, record: SessionRecord) {
        let rest = Rest {
            record,
            subscriptions: Vec::new(),
            will: None,
            outbound: Vec::new(),
            queued: Vec::new(),
            inbound: Vec::new(),
        };
        self.sessions.insert(session, rest);
    }

    fn subscription(&mut self, session: SessionId, row: SubscriptionRow) {
        if let Some(rest) = self.sessions.get_mut(&session) {
            rest.subscriptions.push(row);
        }
    }

    fn will(&mut self, session: SessionId, will: WillRecord) {
        match self.sessions.get_mut(&session) {
            Some(rest) => rest.will = Some(will),
            None => self.stray_wills.push((session, will)),
        }
    }

    fn outbound(&mut self, session: SessionId, rows: &[OutboundRow]) {
        if let Some(rest) = self.sessions.get_mut(&session) {
            rest.outbound.extend_from_slice(rows);
        }
    }

    fn queued(&mut self, session: SessionId, row: QueuedRow) {
        if let Some(rest) = self.sessions.get_mut(&session) {
            rest.queued.push(row);
        }
    }

    fn inbound(&mut self, session: SessionId, packet_id: PacketId) {
        if let Some(rest) = self.sessions.get_mut(&session) {
            rest.inbound.push(packet_id);
        }
    }

    fn retained(&mut self, message: Message) {
        self.retained.push(message);
    }

    fn counters(&mut self, counters: Result<CountersRecord, StorageError>) {
        self.counters = Some(counters);
    }
}

impl Core {
    /// Puts everything back. Called once, before anybody can connect.
    pub(crate) fn restore(&self, rows: Rows, opened: &Opened) {
        self.take_up_counters(rows.counters);
        let (mut subscriptions, mut queued) = (0, 0);
        let (sessions, retained) = (rows.sessions.len(), rows.retained.len());
        let mut ops = Vec::new();
        for (id, rest) in rows.sessions {
            subscriptions += rest.subscriptions.len();
            queued += rest.queued.len();
            self.restore_session(id, rest, opened.committed, &mut ops);
        }
        for message in rows.retained {
            self.retained.restore(message);
        }
        // When sessions ended is known now; another crash must not prolong them.
        self.submit(ops);
        for (session, record) in rows.stray_wills {
            let will = Will::from(record);
            let gone = StoreOp::DeleteWill { session };
            self.publish_message(&will.message(session, self.clock.now()), 0, vec![gone]);
        }
        tracing::info!(
            event = "store_restored",
            sessions,
            subscriptions,
            queued,
            retained,
            "restored {sessions} sessions, {subscriptions} subscriptions, {queued} queued and {retained} retained messages"
        );
    }

    fn restore_session(
        &self,
        id: SessionId,
        rest: Rest,
        committed: Timestamp,
        ops: &mut Vec<StoreOp>,
    ) {
        let SessionRecord {
            client_id,
            username,
            expiry_interval_secs,
            expires,
            connected,
        } = rest.record;
        let lasts = expiry_interval_secs != u32::MAX;
        let expires = expires
            .or_else(|| (connected && lasts).then(|| committed.plus_secs(expiry_interval_secs)));
        let session = Arc::new(self.make_session(id, client_id, true));
        session.with_outbox(|outbox| outbox.half.restore(&rest.outbound, rest.queued));
        if connected {
            let record = record(
                &session,
                username.as_deref(),
                expiry_interval_secs,
                expires,
                false,
            );
            ops.push(StoreOp::PutSession {
                session: id,
                record,
            });
        }
        let mut will_due = None;
        {
            let mut state = session.state.lock();
            state.generation = 1;
            state.expiry_secs = expiry_interval_secs;
            state.set_expires(expires);
            state.username = username.map(Arc::from);
            for packet_id in rest.inbound {
                state.inbound.publish(packet_id);
            }
            for row in &rest.subscriptions {
                state.subscriptions.insert(&row.filter);
            }
            if let Some(mut record) = rest.will {
                let delay = record.delay_secs.min(expiry_interval_secs);
                let due = record.due.unwrap_or_else(|| committed.plus_secs(delay));
                will_due = Some(due);
                if record.due.replace(due).is_none() {
                    ops.push(StoreOp::PutWill {
                        session: id,
                        will: record.clone(),
                    });
                }
                state.will = Some(Box::new(record.into()));
            }
        }
        for row in &rest.subscriptions {
            self.restore_subscription(&session, row);
        }
        self.directory.restore(&session);
        self.judge_anew(&session);
        let weak = || Arc::downgrade(&session);
        let mut state = session.state.lock();
        if let Some(due) = will_due {
            let will = Due::Will {
                session: weak(),
                generation: 1,
            };
            self.timers.set(&mut state.deadlines.will, due, will);
        }
        if let Some(at) = expires {
            let expiry = Due::Expiry {
                session: weak(),
                generation: 1,
            };
            self.timers.set(&mut state.deadlines.session, at, expiry);
        }
    }

    fn restore_subscription(&self, session: &Arc<Session>, row: &SubscriptionRow) {
        let Ok(filter) = self.accepted_filter(&row.filter) else {
            tracing::warn!(
                event = "subscription_unreadable",
                client = &*session.client_id,
                filter = &*row.filter
            );
            return;
        };
        let id = row.subscription_id.and_then(NonZeroU32::new);
        let subscription = Subscription::new(Arc::clone(session), row.options, id);
        if self.router.subscribe(filter, subscription).first_local {
            self.cluster.interest(filter.topic_filter().as_str(), true);
        }
    }

    /// A filter that a session has subscribed to: what was accepted once is kept, whatever the settings have become.
    pub(crate) fn accepted_filter<'a>(&self, text: &'a str) -> Result<Filter<'a>, TopicError> {
        let parsed = if self.config.load().mqtt.queue_subscriptions {
            Filter::parse_with_queue(text)
        } else {
            Filter::parse(text)
        };
        parsed.or_else(|_| TopicFilter::new(text).map(Filter::Plain))
    }
}
