//! Deadlines of sessions: visits, wills, expiries. One ordered map and one task, no timer per connection.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use martlet_storage::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::session::Session;

/// What is due.
pub(crate) enum Due {
    /// Look at a connection: keep alive, slow consumer, expired messages, memory to give back.
    Visit { session: Weak<Session>, epoch: u64 },
    /// A delayed will; `generation` tells whether it is still the one.
    Will {
        session: Weak<Session>,
        generation: u64,
    },
    /// The end of a session nobody came back to.
    Expiry {
        session: Weak<Session>,
        generation: u64,
    },
}

/// The deadlines.
#[derive(Default)]
pub(crate) struct Timers {
    queue: Mutex<Queue>,
    earlier: Notify,
}

#[derive(Default)]
struct Queue {
    /// The number keeps entries of one millisecond apart, in order of arrival.
    due: BTreeMap<(Timestamp, u64), Due>,
    next: u64,
}

impl Timers {
    pub(crate) fn at(&self, when: Timestamp, due: Due) {
        let first = {
            let mut queue = self.queue.lock();
            let number = queue.next;
            queue.next += 1;
            let key = (when, number);
            queue.due.insert(key, due);
            queue
                .due
                .first_key_value()
                .is_some_and(|(first, _)| *first == key)
        };
        if first {
            self.earlier.notify_one();
        }
    }

    pub(crate) fn visit_at(&self, when: Timestamp, session: &Arc<Session>, epoch: u64) {
        self.at(
            when,
            Due::Visit {
                session: Arc::downgrade(session),
                epoch,
            },
        );
    }

    /// Takes what is due at `now`, at most `limit`; else tells when the next is due.
    pub(crate) fn take(
        &self,
        now: Timestamp,
        limit: usize,
        into: &mut Vec<Due>,
    ) -> Option<Timestamp> {
        let mut queue = self.queue.lock();
        while into.len() < limit {
            match queue.due.first_entry() {
                Some(entry) if entry.key().0 <= now => into.push(entry.remove()),
                Some(entry) => return Some(entry.key().0),
                None => return None,
            }
        }
        Some(now)
    }

    /// Sleeps until `next`, or until something earlier is entered.
    pub(crate) async fn wait(&self, now: Timestamp, next: Option<Timestamp>) {
        let earlier = self.earlier.notified();
        match next {
            Some(next) => {
                let sleep = tokio::time::sleep(Duration::from_millis(next.millis_since(now)));
                tokio::select! {
                    () = sleep => {}
                    () = earlier => {}
                }
            }
            None => earlier.await,
        }
    }
}
