//! What a worker thread keeps for itself between read batches: the read scratch, encoding buffers, pending wakes.
//!
//! It is taken from its thread for one batch and never lives across an await (architecture rule 5).

use std::{cell::Cell, sync::Arc, task::Waker};

use hashbrown::HashMap;
use martlet_codec::{PropsBuf, QoS};
use martlet_session::{Effects, FanOut, OutBuf, Sent};

use crate::{counters, router::Group, session::Session, spares::Spares};

/// Bytes read from a socket at once; a batch is what one read brought.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// The scratch of one worker thread.
pub(crate) struct Work {
    pub(crate) read: Box<[u8]>,
    pub(crate) fan_out: FanOut,
    pub(crate) props: PropsBuf,
    pub(crate) sink: Sink,
}

/// What deliveries write to, apart from the encoding buffers so that both can be borrowed at once.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) wakes: WakeBatch,
    pub(crate) effects: Effects,
    pub(crate) merge: Merge,
    pub(crate) counts: counters::Local,
    pub(crate) spares: Spares,
    /// The output of clients that are away; nothing is ever put there.
    pub(crate) nowhere: OutBuf,
    /// A subscriber that asks publishers to slow down, seen in this batch.
    pub(crate) pressure: Option<Arc<Session>>,
}

/// Wakers gathered during a batch. They fire at the end of the batch, before any await, and on drop, so that an
/// early return or a panic loses none.
#[derive(Default)]
pub(crate) struct WakeBatch(Vec<Waker>);

impl WakeBatch {
    pub(crate) fn push(&mut self, waker: Waker) {
        self.0.push(waker);
    }

    #[inline]
    pub(crate) fn fire(&mut self) {
        if !self.0.is_empty() {
            for waker in self.0.drain(..) {
                waker.wake();
            }
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        self.fire();
    }
}

/// Recipients that several subscriptions name, merged to one delivery each.
#[derive(Default)]
pub(crate) struct Merge {
    index: HashMap<u64, usize, foldhash::fast::RandomState>,
    pub(crate) recipients: Vec<Recipient>,
}

/// One delivery to be made.
pub(crate) struct Recipient {
    pub(crate) session: Arc<Session>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: Vec<u32>,
    /// The share group the delivery was chosen from.
    pub(crate) share: Option<Arc<Group<Arc<Session>>>>,
}

impl Merge {
    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.recipients.clear();
    }

    /// Adds a subscription; the highest QoS wins and brings its RETAIN flag [MQTT-3.3.4-2], identifiers add up [MQTT-3.3.4-4].
    pub(crate) fn add(
        &mut self,
        session: &Arc<Session>,
        qos: QoS,
        retain: bool,
        subscription_id: Option<u32>,
    ) {
        let next = self.recipients.len();
        let at = *self.index.entry(session.id.get()).or_insert(next);
        if let Some(recipient) = self.recipients.get_mut(at) {
            if qos > recipient.qos {
                recipient.qos = qos;
                recipient.retain = retain;
            }
            recipient.subscription_ids.extend(subscription_id);
        } else {
            self.push(session, qos, retain, subscription_id, None);
        }
    }

    pub(crate) fn push(
        &mut self,
        session: &Arc<Session>,
        qos: QoS,
        retain: bool,
        subscription_id: Option<u32>,
        share: Option<Arc<Group<Arc<Session>>>>,
    ) {
        self.recipients.push(Recipient {
            session: Arc::clone(session),
            qos,
            retain,
            subscription_ids: subscription_id.into_iter().collect(),
            share,
        });
    }
}

thread_local! {
    static WORK: Cell<Option<Box<Work>>> = const { Cell::new(None) };
}

/// Runs `f` with this thread's scratch. Wakes that are still pending afterwards are fired; a subscriber under pressure that
/// nobody asked about is forgotten, so that it does not slow down whoever has this thread next.
pub(crate) fn with_work<R>(f: impl FnOnce(&mut Work) -> R) -> R {
    let mut work = WORK.take().unwrap_or_else(|| {
        Box::new(Work {
            read: vec![0; READ_BYTES].into_boxed_slice(),
            fan_out: FanOut::default(),
            props: PropsBuf::new(),
            sink: Sink::default(),
        })
    });
    let result = f(&mut work);
    work.sink.wakes.fire();
    if work.sink.pressure.is_some() {
        work.sink.pressure = None;
    }
    WORK.set(Some(work));
    result
}

/// Counts what a call into an outbound half reports, and empties it.
pub(crate) fn count_effects(effects: &mut Effects, counts: &mut counters::Local) {
    for (_, reason) in effects.dropped.drain(..) {
        counts.dropped(reason);
    }
    for (_, reason) in effects.dropped_stored.drain(..) {
        counts.dropped(reason);
    }
    if effects.sent != Sent::default() {
        counts.sent(&effects.sent);
        effects.sent = Sent::default();
    }
}

#[cfg(test)]
mod tests {
    use martlet_session::{Outbound, OutboundLimits};
    use martlet_storage::SessionId;

    use super::*;

    #[test]
    fn who_has_the_thread_next_does_not_wait_for_the_subscriber_of_another() {
        let id = SessionId::new(1);
        let half = Outbound::new(id, OutboundLimits::default(), false);
        let slow = Arc::new(Session::new(id, "slow".into(), 0, false, half, 1));
        with_work(|work| work.sink.pressure = Some(Arc::clone(&slow)));
        assert!(with_work(|work| work.sink.pressure.is_none()));
        assert_eq!(Arc::strong_count(&slow), 1, "it is kept by nobody");
    }
}
