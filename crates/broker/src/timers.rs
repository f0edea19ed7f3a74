//! Deadlines of sessions: visits, wills, expiries. One ordered map and one task, no timer per connection.

use std::{
    collections::BTreeMap,
    num::NonZeroU64,
    sync::{Arc, Weak},
    time::Duration,
};

use martlet_storage::Timestamp;
use martlet_sync::Mutex;
use tokio::sync::Notify;

use crate::session::Session;

/// What is due.
pub(crate) enum Due {
    /// Look at a connection: keep alive, slow consumer, expired messages, memory to give back.
    Visit { session: Weak<Session>, epoch: u64 },
    /// A delayed will; `generation` tells whether it is still the one.
    Will {
        session: Weak<Session>,
        generation: u32,
    },
    /// The end of a session nobody came back to.
    Expiry {
        session: Weak<Session>,
        generation: u32,
    },
}

/// An entry that can be taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    when: Timestamp,
    number: NonZeroU64,
}

/// The entries of one session. What is replaced or no longer wanted is taken back, so that neither clients that come
/// and go nor sessions that ended leave anything behind until a time that may be years away.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// The next visit while there is a connection, the expiry while there is none.
    pub(crate) session: Option<Entry>,
    pub(crate) will: Option<Entry>,
}

impl Deadlines {
    /// Whether the time of the will has come, although it has not fired yet.
    pub(crate) fn will_is_due(&self, now: Timestamp) -> bool {
        self.will.is_some_and(|entry| entry.when <= now)
    }
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
    due: BTreeMap<(Timestamp, NonZeroU64), Due>,
    last: u64,
}

impl Timers {
    /// Enters `due` in place of what `entry` is.
    pub(crate) fn set(&self, entry: &mut Option<Entry>, when: Timestamp, due: Due) {
        let first = {
            let mut queue = self.queue.lock();
            if let Some(old) = entry.take() {
                queue.due.remove(&(old.when, old.number));
            }
            let number = NonZeroU64::MIN.saturating_add(queue.last);
            queue.last += 1;
            let key = (when, number);
            queue.due.insert(key, due);
            *entry = Some(Entry { when, number });
            queue
                .due
                .first_key_value()
                .is_some_and(|(first, _)| *first == key)
        };
        if first {
            self.earlier.notify_one();
        }
    }

    /// Takes both entries of a session back.
    pub(crate) fn cancel(&self, deadlines: &mut Deadlines) {
        let Deadlines { session, will } = std::mem::take(deadlines);
        if session.is_none() && will.is_none() {
            return;
        }
        let mut queue = self.queue.lock();
        for entry in [session, will].into_iter().flatten() {
            queue.due.remove(&(entry.when, entry.number));
        }
    }

    /// Enters the next visit of connection `epoch`, unless something happened to the session since `generation`.
    pub(crate) fn visit_at(
        &self,
        when: Timestamp,
        session: &Arc<Session>,
        epoch: u64,
        generation: u32,
    ) {
        let mut state = session.state.lock();
        if state.generation == generation {
            let due = Due::Visit {
                session: Arc::downgrade(session),
                epoch,
            };
            self.set(&mut state.deadlines.session, when, due);
        }
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
                    biased;
                    () = sleep => {}
                    () = earlier => {}
                }
            }
            None => earlier.await,
        }
    }
}
