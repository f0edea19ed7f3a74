//! Taking stock: the gauges that nobody counts on the way, because only sessions together know them.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    core::{Core, size},
    counters::{Gauge, Snapshot},
    session::Session,
};

/// Sessions looked at before other tasks get their turn.
const SLICE: usize = 2_048;

/// What the sessions hold that were looked at.
#[derive(Default)]
struct Stock {
    sessions: usize,
    inflight: usize,
    queued: usize,
    queued_bytes: usize,
    wills: usize,
}

impl Stock {
    fn count(&mut self, sessions: &[Arc<Session>]) {
        self.sessions += sessions.len();
        for session in sessions {
            let counts = session
                .with_outbox(|outbox| outbox.half.counts())
                .unwrap_or_default();
            self.inflight += counts.inflight;
            self.queued += counts.queued;
            self.queued_bytes += counts.queued_bytes;
            self.wills += usize::from(session.state.lock().will.is_some());
        }
    }
}

impl Core {
    /// The counters now, with all gauges and what the store counts. Takes a look at every session.
    pub(crate) fn full_snapshot(&self) -> Snapshot {
        let mut stock = Stock::default();
        for sessions in self.directory.shards() {
            stock.count(&sessions);
        }
        self.snapshot_with(&stock)
    }

    /// The same for a task beside others, which get their turn in between.
    pub(crate) async fn full_snapshot_in_turns(&self) -> Snapshot {
        let mut stock = Stock::default();
        let mut rested = 0;
        for sessions in self.directory.shards() {
            for slice in sessions.chunks(SLICE) {
                stock.count(slice);
                if stock.sessions - rested >= SLICE {
                    rested = stock.sessions;
                    tokio::task::yield_now().await;
                }
            }
        }
        self.snapshot_with(&stock)
    }

    fn snapshot_with(&self, stock: &Stock) -> Snapshot {
        let router = self.router.counts();
        for (gauge, value) in [
            (Gauge::Sockets, self.connections.load(Ordering::Relaxed)),
            (Gauge::Inflight, stock.inflight),
            (Gauge::QueuedMessages, stock.queued),
            (Gauge::QueuedBytes, stock.queued_bytes),
            (Gauge::Wills, stock.wills),
            (Gauge::Sessions, self.directory.len()),
            (Gauge::Subscriptions, router.subscriptions + router.shared),
            (Gauge::SharedSubscriptions, router.shared),
            (Gauge::RetainedMessages, self.retained.count()),
            (Gauge::RetainedBytes, size(self.retained.bytes())),
        ] {
            self.counters.set_gauge(gauge, value as u64);
        }
        let mut snapshot = self.snapshot();
        snapshot.store = self.committer.stats();
        snapshot
    }
}
