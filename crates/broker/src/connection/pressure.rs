//! Publishers that wait: for a subscriber that cannot keep up, for memory (architecture rule 7), or for their rate.
//!
//! Deliberately absent: who is under pressure; the outbox says so (`session`).

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use martlet_storage::Timestamp;
use martlet_transport::ByteStream;

use super::Connection;
use crate::session::Session;

/// How long a publisher waits for one slow subscriber, as NATS does (`stalledWait`).
const PRESSURE_WAIT: Duration = Duration::from_millis(5);

/// Publications let through after a wait that was in vain: a subscriber that is alive but slow holds nobody below 64 in
/// the time of one wait. One that catches up is waited for again at once, so that it loses nothing.
const PRESSURE_EVERY: u32 = 64;

/// How often a wait is prolonged while the subscriber's queue is full and its socket makes progress. Unlike QoS 0,
/// these messages would be lost to a client that is alive and reading: one that takes 640 a second loses none, and
/// a slower one holds nobody below that rate.
const PRESSURE_PROLONGED: u32 = 20;

/// A wait for a slow subscriber, for memory, or until a rate allows more.
pub(super) struct Pause {
    subscriber: Option<Arc<Session>>,
    timeout: Pin<Box<tokio::time::Sleep>>,
    /// How often it may still be prolonged.
    prolong: u32,
}

impl Pause {
    /// Whether the subscriber's queue is still long and its client alive.
    fn is_worth_prolonging(&self, now: Timestamp) -> bool {
        let Some(subscriber) = &self.subscriber else {
            return false;
        };
        let worth =
            subscriber.with_outbox(|outbox| outbox.is_queue_long() && outbox.is_progressing(now));
        self.prolong > 0 && worth == Some(true)
    }
}

impl<S: ByteStream> Connection<S> {
    /// A publication went to `subscriber`, which cannot keep up. Returns whether to wait before the next.
    pub(super) fn slow_down_for(&mut self, subscriber: Arc<Session>) -> bool {
        if self.forbearance > 0 {
            self.forbearance -= 1;
            return false;
        }
        let waits = self.pause_for(subscriber);
        if !waits {
            self.forbearance = PRESSURE_EVERY;
        }
        waits
    }

    /// Waits for `subscriber`, unless its socket has stopped: that one costs nobody anything (rule 7).
    fn pause_for(&mut self, subscriber: Arc<Session>) -> bool {
        let now = self.core.clock.now();
        if subscriber.with_outbox(|outbox| outbox.is_progressing(now)) != Some(true) {
            return false;
        }
        self.start_pause(Some(subscriber));
        true
    }

    pub(super) fn start_pause(&mut self, subscriber: Option<Arc<Session>>) {
        self.pause_while(subscriber, PRESSURE_WAIT);
    }

    /// Reads nothing for so long.
    pub(super) fn start_pause_of(&mut self, duration: Duration) {
        self.pause_while(None, duration);
    }

    fn pause_while(&mut self, subscriber: Option<Arc<Session>>, duration: Duration) {
        self.pause = Some(Box::new(Pause {
            subscriber,
            timeout: Box::pin(tokio::time::sleep(duration)),
            prolong: PRESSURE_PROLONGED,
        }));
        self.note_reading();
    }

    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = &mut self.pause else {
            return Poll::Ready(());
        };
        let pressure = self.core.pressure_bytes() / 2;
        let now = self.core.clock.now();
        let drained = pause.subscriber.as_ref().is_some_and(|subscriber| {
            let drained = subscriber.with_outbox(|outbox| {
                let drained = outbox.has_drained(pressure);
                let known = |waiting: &std::task::Waker| waiting.will_wake(cx.waker());
                if let (false, Some(attached)) = (drained, &mut outbox.attached)
                    && !attached.waiting.iter().any(known)
                {
                    attached.waiting.push(cx.waker().clone());
                }
                drained
            });
            drained.unwrap_or(true)
        });
        let mut over = drained;
        while !over && pause.timeout.as_mut().poll(cx).is_ready() {
            if !pause.is_worth_prolonging(now) {
                over = true;
                break;
            }
            pause.prolong -= 1;
            let next = tokio::time::Instant::now() + PRESSURE_WAIT;
            pause.timeout.as_mut().reset(next);
        }
        if over {
            self.forbearance = if drained { 0 } else { PRESSURE_EVERY };
            self.pause = None;
            self.note_reading();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
