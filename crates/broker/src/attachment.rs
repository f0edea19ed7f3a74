//! What a connection adds to the session it owns: output, the owner to wake, who waits. Gone with the connection, so
//! that a session whose client is away costs little. Deliberately absent: what outlives a connection; see `session`.

use std::{sync::Arc, task::Waker};

use martlet_codec::ReasonCode;
use martlet_session::{MAIN_LANE, OutBuf};
use martlet_storage::Timestamp;
use tokio::sync::Notify;

/// A connection's part of an [`Outbox`](crate::session::Outbox), under the same lock.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) out: OutBuf,
    /// The owner's task.
    pub(crate) owner: Option<Waker>,
    /// Whether the owner sleeps with nothing to write; whoever appends then clears this and wakes it, once.
    pub(crate) idle: bool,
    /// False while we ourselves do not read, which suspends keep alive (rule 8).
    pub(crate) reading: bool,
    /// Whether the connection is letting go of the session, which it does once.
    pub(crate) leaving: bool,
    /// The lane whose stream takes nothing.
    stalled_lane: u8,
    /// One and a half times the keep alive, in milliseconds; 0 for none.
    pub(crate) silence_max_millis: u32,
    /// Since when bytes wait of which the socket took none; 0 for never, which is shorter than an `Option`.
    stalled_since: Timestamp,
    /// When the client last showed that it is at work: its socket took something, or it acknowledged.
    pub(crate) progress: Timestamp,
    /// Publishers that wait until this output has drained.
    pub(crate) waiting: Vec<Waker>,
    /// Why the owner has to end, set by others.
    pub(crate) kick: Option<Kick>,
    /// Signalled when the connection has let go of the session; there when somebody waits for it.
    let_go: Option<Arc<Notify>>,
}

/// Why a connection is told to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kick {
    pub(crate) reason: ReasonCode,
    pub(crate) text: &'static str,
}

impl Attachment {
    /// Of a connection that just begins.
    pub(crate) fn new(silence_max_millis: u32) -> Self {
        Self {
            out: OutBuf::new(),
            owner: None,
            idle: false,
            reading: true,
            leaving: false,
            stalled_lane: MAIN_LANE,
            silence_max_millis,
            stalled_since: Timestamp::default(),
            progress: Timestamp::default(),
            waiting: Vec::new(),
            kick: None,
            let_go: None,
        }
    }

    /// Notes that the stream of `lane` took `bytes`.
    pub(crate) fn wrote(&mut self, lane: u8, bytes: usize, now: Timestamp) {
        self.out.lane_mut(lane).written(bytes);
        self.progress = now;
        self.unstall(lane);
    }

    /// Notes that the stream of `lane` takes nothing. Of several that do not, the first one is remembered.
    pub(crate) fn stalls(&mut self, lane: u8, now: Timestamp) {
        if self.stalled_since().is_none() {
            self.stalled_since = now;
            self.stalled_lane = lane;
        }
    }

    /// The stream of `lane` took something, or is no more.
    pub(crate) fn unstall(&mut self, lane: u8) {
        if self.stalled_lane == lane {
            self.stalled_since = Timestamp::default();
        }
    }

    /// Since when bytes wait of which the socket took none.
    pub(crate) fn stalled_since(&self) -> Option<Timestamp> {
        (self.stalled_since > Timestamp::default()).then_some(self.stalled_since)
    }

    /// Moves `bytes` to the end of the output of `lane`; an empty output just takes the buffer over.
    #[inline]
    pub(crate) fn append(&mut self, lane: u8, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let out = self.out.lane_mut(lane);
        if out.is_empty() {
            std::mem::swap(out.inline(), bytes);
        } else {
            out.put(bytes);
        }
        bytes.clear();
    }

    /// Whether waiting for this client makes sense: it was at work a moment ago (rule 7).
    pub(crate) fn is_progressing(&self, now: Timestamp) -> bool {
        // One data stream that has stopped is not waited for, however busy the others are.
        let stuck = |since| now.millis_since(since) > PROGRESS_MILLIS;
        let stuck = self.stalled_lane != MAIN_LANE && self.stalled_since().is_some_and(stuck);
        now.millis_since(self.progress) <= PROGRESS_MILLIS && !stuck
    }

    /// `waker` is the owner's task from now on.
    #[inline]
    pub(crate) fn wakes(&mut self, waker: &Waker) {
        match &mut self.owner {
            Some(owner) => owner.clone_from(waker),
            None => self.owner = Some(waker.clone()),
        }
    }

    /// The connection begins to let go: nobody is woken and nothing is sent any more.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
        self.owner = None;
        self.idle = false;
        self.out.reset();
        self.resume_publishers();
    }

    /// Wakes the publishers that wait.
    pub(crate) fn resume_publishers(&mut self) {
        for waiting in self.waiting.drain(..) {
            waiting.wake();
        }
    }

    /// What is signalled when the connection has let go.
    pub(crate) fn let_go(&mut self) -> Arc<Notify> {
        Arc::clone(self.let_go.get_or_insert_default())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // Who began to wait while the connection was letting go.
        self.resume_publishers();
        if let Some(let_go) = &self.let_go {
            let_go.notify_waiters();
        }
    }
}

/// A subscriber that took and acknowledged nothing for this long is not waited for. Longer than a busy machine keeps a
/// reading client from its turn, short enough to be no harm.
const PROGRESS_MILLIS: u64 = 100;
