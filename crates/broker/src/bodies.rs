//! Bodies of queued messages that only the store has: read when their turn comes, let go of when a session keeps too
//! many in memory. One that is damaged in the store costs itself, not those behind it.
//!
//! Deliberately absent: which bodies are needed, and how far ahead; see `martlet-session`.

use std::sync::Arc;

use martlet_session::{Effects, Outbound};
use martlet_storage::{MessageId, StorageError};

use crate::{core::Core, counters::Local, session::Session, work::count_effects};

/// Bytes of waiting messages that a stored session keeps in memory while its client is away.
const KEPT_BYTES: usize = 64 << 10;

impl Core {
    /// What follows a call into the outbound half of `session`, outside of its lock: what was reported is counted,
    /// bodies that are needed are read.
    #[inline]
    pub(crate) fn after(&self, session: &Arc<Session>, effects: &mut Effects, counts: &mut Local) {
        if !effects.is_empty() {
            self.after_some(session, effects, counts);
        }
    }

    fn after_some(&self, session: &Arc<Session>, effects: &mut Effects, counts: &mut Local) {
        if !effects.need_bodies.is_empty() {
            self.read_bodies(session, std::mem::take(&mut effects.need_bodies));
        }
        count_effects(effects, counts);
    }

    /// [`Core::after`] where no counts are at hand.
    pub(crate) fn after_alone(&self, session: &Arc<Session>, effects: &mut Effects) {
        if effects.is_empty() {
            return;
        }
        let mut counts = Local::new();
        self.after(session, effects, &mut counts);
        counts.flush(&self.counters);
    }

    /// Reads off the runtime; the session's owner is woken and goes on.
    fn read_bodies(&self, session: &Arc<Session>, ids: Vec<MessageId>) {
        let (committer, session) = (Arc::clone(&self.committer), Arc::clone(session));
        let counters = Arc::clone(&self.counters);
        self.spawner.spawn_blocking(Box::new(move || {
            let mut bodies = Vec::with_capacity(ids.len());
            for id in ids {
                let read = committer.read_bodies(&[id], &mut |id, message| bodies.push((id, message)));
                match read {
                    Ok(()) => {}
                    // It will not become whole by asking again, and those behind it must not wait for it for ever.
                    Err(StorageError::Corrupt(damage)) => {
                        tracing::error!(event = "body_damaged", client = &*session.client_id, message = id.get(), %damage, "a queued message is damaged in the store and is given up");
                        bodies.push((id, None));
                    }
                    Err(error) => {
                        // The store stays the only one who has them; the next connection asks again.
                        tracing::error!(event = "bodies_unread", client = &*session.client_id, %error, "queued messages cannot be read");
                        return;
                    }
                }
            }
            let mut effects = Effects::default();
            let woken = session.with_outbox(|outbox| {
                for (id, message) in &bodies {
                    match message {
                        Some(message) => outbox.half.body(message),
                        None => outbox.half.body_lost(*id, &mut effects),
                    }
                }
                if !effects.ops.is_empty() {
                    let lsn = committer.submit(std::mem::take(&mut effects.ops));
                    outbox.half.submitted(lsn);
                }
                let attached = outbox.attached.as_mut()?;
                attached.idle = false;
                session.nudge();
                attached.owner.clone()
            });
            for (id, reason) in effects.dropped_stored {
                counters.dropped(reason);
                tracing::error!(event = "body_lost", client = &*session.client_id, message = id.get(), ?reason, "a queued message is not in the store");
            }
            if let Some(Some(owner)) = woken {
                owner.wake();
            }
        }));
    }
}

/// Lets go of bodies that the store has, when the last message took the queue over a multiple of what is kept.
pub(crate) fn spill_if_grown(half: &mut Outbound, added_bytes: usize) {
    let queued = half.counts().queued_bytes;
    if queued / KEPT_BYTES != queued.saturating_sub(added_bytes) / KEPT_BYTES {
        half.spill(KEPT_BYTES);
    }
}

/// The same when the client has gone.
pub(crate) fn spill(half: &mut Outbound) {
    if half.counts().queued_bytes > KEPT_BYTES {
        half.spill(KEPT_BYTES);
    }
}
