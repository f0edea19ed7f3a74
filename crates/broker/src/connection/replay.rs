//! Retained messages for a new subscription, at the pace of the client.
//!
//! A replay walks the retained store in slices and goes on only while the client keeps up, so that one `#` over
//! a million topics neither holds a lock nor overruns the queue of its own client.

use std::task::Context;

use martlet_codec::SubscribeOptions;
use martlet_session::{Delivery, Publication};
use martlet_topic::TopicFilter;
use martlet_transport::ByteStream;

use super::{Connection, lane::Lane};
use crate::{
    retained::Place,
    work::{Work, with_work},
};

/// Retained messages looked at in one slice.
const SLICE: usize = 64;

/// Slices in one turn of a connection: a search that finds nothing must not hold up the thread.
pub(super) const SLICES_AT_ONCE: usize = 16;

/// Bytes encoded ahead by replays; architecture rule 13.
const AHEAD_BYTES: usize = 256 << 10;

/// The rest of the retained messages of one subscription.
pub(super) struct Replay {
    filter: Box<str>,
    options: SubscribeOptions,
    subscription_id: Option<u32>,
    cursor: Option<Place>,
}

impl Replay {
    pub(super) fn new(
        filter: TopicFilter<'_>,
        options: SubscribeOptions,
        subscription_id: Option<u32>,
    ) -> Self {
        Self {
            filter: filter.as_str().into(),
            options,
            subscription_id,
            cursor: None,
        }
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }
}

impl<S: ByteStream> Connection<S> {
    /// Goes on with the replays, while the client has room, by so many `slices` at most; then others have their turn. SUBACK
    /// leaves first.
    pub(super) fn replay(&mut self, cx: &mut Context<'_>, slices: &mut usize) {
        while !self.lane.replays.is_empty() && self.lane.acks.is_empty() && self.has_room() {
            let Some(left) = slices.checked_sub(1) else {
                cx.waker().wake_by_ref();
                return;
            };
            *slices = left;
            self.replay_slice();
        }
        if self.lane.replays.is_empty() {
            self.lane.replays.shrink_to_fit();
        }
    }

    fn has_room(&mut self) -> bool {
        self.put_local_first();
        let lane = self.lane.number;
        self.session
            .with_outbox(|outbox| {
                let own = outbox.attached.as_ref()?;
                let pending = own.out.lane(lane).pending_bytes();
                Some(outbox.half.counts().queued == 0 && pending < AHEAD_BYTES)
            })
            .flatten()
            .unwrap_or(false)
    }

    /// Gives our own packets their place in the output before whatever is delivered next.
    pub(super) fn put_local_first(&mut self) {
        let Self {
            core,
            session,
            lane:
                Lane {
                    number,
                    local,
                    ahead,
                    ..
                },
            epoch,
            ..
        } = self;
        if !local.is_empty() {
            *ahead += local.len();
            core.counters.packets_sent(local);
            session.with_outbox(|outbox| {
                // After a takeover by force the output is another connection's.
                if let Some(own) = outbox.owned_by(*epoch) {
                    own.append(*number, local);
                    session.nudge();
                }
            });
        }
    }

    fn replay_slice(&mut self) {
        let Some(mut replay) = self.lane.replays.pop_front() else {
            return;
        };
        let Ok(filter) = TopicFilter::new(&replay.filter) else {
            return;
        };
        let now = self.core.clock.now();
        let core = &self.core;
        let session = &self.session;
        let id = replay.subscription_id;
        let cursor = replay.cursor.take();
        let next = with_work(|work| {
            let Work { fan_out, sink, .. } = work;
            let next = core.retained.walk(filter, cursor, SLICE, now, |message| {
                let mut publication = Publication::from_message(message, fan_out);
                // Sent because of a new subscription: RETAIN is always set [MQTT-3.3.1-8].
                let delivery = Delivery {
                    qos: replay.options.qos,
                    retain: true,
                    subscription_ids: id.as_slice(),
                };
                core.deliver(session, &mut publication, delivery, None, sink, now);
            });
            // A client must not slow itself down.
            sink.pressure = None;
            sink.counts.flush(&core.counters);
            next
        });
        if next.is_some() {
            replay.cursor = next;
            self.lane.replays.push_front(replay);
        }
    }
}
