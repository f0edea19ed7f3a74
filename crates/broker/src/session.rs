//! The shared state of one session: its outbox, which any publisher may append to, and what only its owner
//! and the directory touch.
//!
//! Rules kept here: one outbox lock at a time, never across an await, a log line or a foreign call; a panic
//! under the lock ends this session and no other (architecture rules 3, 6, 15).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
};

use arc_swap::ArcSwapOption;
use martlet_codec::{QoS, ReasonCode};
use martlet_session::{DropReason, Inbound, MAIN_LANE, OutBuf, Outbound};
use martlet_storage::{Message, MessageHead, MessageId, SessionId, Timestamp, WillRecord};

use crate::{
    hooks::Identity, router, subscriptions::Subscriptions, sync::Mutex, timers::Deadlines,
};

/// A client that cannot keep up drops thousands of messages a second; the log gets one line in this time.
const DROPS_LOGGED_EVERY_MILLIS: u64 = 60_000;

/// With the two counters of its `Arc` a session fills a size class of jemalloc, 640 bytes; one byte more costs each client 128.
#[cfg(all(target_pointer_width = "64", not(any(martlet_loom, martlet_simulate))))]
const _: () = assert!(size_of::<Session>() + 16 <= 640);

/// A session, connected or not.
pub(crate) struct Session {
    /// This incarnation; never reused.
    pub(crate) id: SessionId,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_hash: u64,
    /// Whether its changes go to the store.
    pub(crate) durable: bool,
    /// `Availability` of shared deliveries, kept outside the lock so that choosing a member takes none.
    availability: AtomicU8,
    /// Set while deliveries must be judged one by one.
    judged: AtomicBool,
    /// Whether the owner has to look into its outbox. Set with what it is to see, under the outbox lock; cleared by
    /// the owner when it comes to rest. Lets a connection that was woken by its socket leave the outbox alone.
    nudged: AtomicBool,
    /// When the client was last heard, in milliseconds of the broker's clock.
    last_seen: AtomicU64,
    /// When a line about dropped messages was last logged, in milliseconds of the broker's clock.
    drops_logged: AtomicU64,
    outbox: Mutex<Outbox>,
    pub(crate) state: Mutex<State>,
    pub(crate) identity: ArcSwapOption<Identity>,
    /// Whether the session is entered for a wake when the store's watermark moves.
    pub(crate) asked_for_commit: AtomicBool,
    /// Signalled each time a connection let go of the session.
    pub(crate) detached: tokio::sync::Notify,
}

/// What any task may append to.
pub(crate) struct Outbox {
    pub(crate) half: Outbound,
    pub(crate) out: OutBuf,
    /// The owner's task.
    pub(crate) owner: Option<Waker>,
    /// Whether the owner sleeps with nothing to write; whoever appends then clears this and wakes it, once.
    pub(crate) idle: bool,
    /// Why the owner has to end, set by others.
    pub(crate) kick: Option<Kick>,
    /// Counts connections; an owner whose number is not this one has lost the session.
    pub(crate) epoch: u64,
    /// Whether a connection owns the session.
    pub(crate) connected: bool,
    /// Whether that connection is letting go of it, which it does once.
    pub(crate) leaving: bool,
    /// False once the session ended; nothing is delivered any more.
    pub(crate) alive: bool,
    /// Set while a closure runs under the lock; found set only after a panic.
    poisoned: bool,
    /// When the client last showed that it is at work: its socket took something, or it acknowledged.
    pub(crate) progress: Timestamp,
    /// Publishers that wait until this outbox has drained.
    pub(crate) waiting: Vec<Waker>,
    /// Since when bytes wait of which the socket took none; 0 for never, which is shorter than an `Option`.
    stalled_since: Timestamp,
    /// The lane whose stream that is.
    stalled_lane: u8,
    /// One and a half times the keep alive, in milliseconds; 0 for none.
    pub(crate) silence_max_millis: u32,
    /// False while we ourselves do not read, which suspends keep alive (rule 8).
    pub(crate) reading: bool,
    /// Waiting messages from which on publishers are slowed down.
    pub(crate) queue_pressure: u32,
}

/// Why a connection is told to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kick {
    pub(crate) reason: ReasonCode,
    pub(crate) text: &'static str,
}

/// What only the owner, the directory and timers touch.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) subscriptions: Subscriptions,
    /// QoS 2 identifiers received and not released (rule 6: they belong to the session).
    pub(crate) inbound: Inbound,
    pub(crate) will: Option<Box<Will>>,
    /// Counts wills and connections, so that an old timer recognises that it is out of date.
    pub(crate) generation: u64,
    pub(crate) expiry_secs: u32,
    /// When the session ends unless a client comes back.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) username: Option<Arc<str>>,
    pub(crate) deadlines: Deadlines,
}

/// A will, until it fires or is discarded.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: Box<str>,
    pub(crate) props: Box<[u8]>,
    pub(crate) payload: Box<[u8]>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry_secs: Option<u32>,
    pub(crate) delay_secs: u32,
}

impl Will {
    /// The message as it would be published at `now`; its expiry counts from then (3.1.3.2.4).
    pub(crate) fn message(&self, publisher: SessionId, now: Timestamp) -> Message {
        let head = MessageHead {
            id: MessageId::NONE,
            qos: self.qos,
            retain: self.retain,
            publisher,
            received: now,
            expires: self.expiry_secs.map(|secs| now.plus_secs(secs)),
        };
        let scratch = &mut Vec::new();
        Message::new(head, &self.topic, &self.props, &self.payload, scratch)
    }
}

impl From<WillRecord> for Will {
    fn from(record: WillRecord) -> Self {
        let (head, message) = (record.message.head(), &record.message);
        Self {
            topic: message.topic().into(),
            props: message.props().into(),
            payload: message.payload().into(),
            qos: head.qos,
            retain: head.retain,
            expiry_secs: head.expires.map(|at| head.received.secs_until(at)),
            delay_secs: record.delay_secs,
        }
    }
}

/// What became of a delivery to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Sent,
    Queued,
    Dropped(DropReason),
    /// The session has ended.
    Gone,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        client_id: Arc<str>,
        client_hash: u64,
        durable: bool,
        half: Outbound,
        queue_pressure: u32,
    ) -> Self {
        Self {
            id,
            client_id,
            client_hash,
            durable,
            availability: AtomicU8::new(OFFLINE),
            judged: AtomicBool::new(false),
            nudged: AtomicBool::new(true),
            last_seen: AtomicU64::new(0),
            drops_logged: AtomicU64::new(0),
            outbox: Mutex::new(Outbox {
                half,
                out: OutBuf::new(),
                owner: None,
                idle: false,
                kick: None,
                epoch: 0,
                connected: false,
                leaving: false,
                alive: true,
                poisoned: false,
                progress: Timestamp::default(),
                waiting: Vec::new(),
                stalled_since: Timestamp::default(),
                stalled_lane: MAIN_LANE,
                silence_max_millis: 0,
                reading: true,
                queue_pressure,
            }),
            state: Mutex::new(State::default()),
            identity: ArcSwapOption::empty(),
            asked_for_commit: AtomicBool::new(false),
            detached: tokio::sync::Notify::new(),
        }
    }

    /// Whether dropped messages are worth a line in the log: one a minute for each session.
    pub(crate) fn may_log_drops(&self, now: Timestamp) -> bool {
        let last = self.drops_logged.load(Ordering::Relaxed);
        let due = last == 0 || now.as_millis().saturating_sub(last) >= DROPS_LOGGED_EVERY_MILLIS;
        due && self
            .drops_logged
            .compare_exchange(
                last,
                now.as_millis().max(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Runs `f` under the outbox lock; `None` when a panic under the lock made its content suspect.
    #[inline]
    pub(crate) fn with_outbox<R>(&self, f: impl FnOnce(&mut Outbox) -> R) -> Option<R> {
        let mut outbox = self.outbox.lock();
        if outbox.poisoned {
            return None;
        }
        outbox.poisoned = true;
        let result = f(&mut outbox);
        outbox.poisoned = false;
        Some(result)
    }

    /// Tells the owner to end and wakes it.
    pub(crate) fn kick(&self, reason: ReasonCode, text: &'static str) {
        let waker = self.with_outbox(|outbox| {
            if !outbox.connected {
                return None;
            }
            // The first reason is the one that happened.
            outbox.kick.get_or_insert(Kick { reason, text });
            self.nudge();
            outbox.owner.clone()
        });
        if let Some(Some(waker)) = waker {
            waker.wake();
        }
    }

    /// Makes the owner look into its outbox when it is polled next. Called under the outbox lock, before the wake.
    pub(crate) fn nudge(&self) {
        self.nudged.store(true, Ordering::Release);
    }

    /// Whether anything happened to the outbox since the owner came to rest.
    pub(crate) fn was_nudged(&self) -> bool {
        self.nudged.load(Ordering::Acquire)
    }

    /// The owner comes to rest; under the outbox lock.
    pub(crate) fn rest(&self) {
        self.nudged.store(false, Ordering::Release);
    }

    /// The owner to wake because something was appended, unless it is awake or was woken already. Under the outbox
    /// lock.
    #[inline]
    pub(crate) fn wake_owner(&self, outbox: &mut Outbox, now: Timestamp) -> Option<Waker> {
        if !outbox.idle || !outbox.out.has_output() {
            return None;
        }
        outbox.idle = false;
        // It had nothing to do until now, which is not the same as standing still.
        outbox.progress = now;
        self.nudge();
        outbox.owner.clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.with_outbox(|outbox| outbox.connected).unwrap_or(false)
    }

    pub(crate) fn set_judged(&self, judged: bool) {
        self.judged.store(judged, Ordering::Relaxed);
    }

    pub(crate) fn is_judged(&self) -> bool {
        self.judged.load(Ordering::Relaxed)
    }

    pub(crate) fn saw_client(&self, now: Timestamp) {
        self.last_seen.store(now.as_millis(), Ordering::Relaxed);
    }

    pub(crate) fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.last_seen.load(Ordering::Relaxed))
    }

    pub(crate) fn set_availability(&self, availability: router::Availability) {
        let value = match availability {
            router::Availability::Online => ONLINE,
            router::Availability::Full => FULL,
            router::Availability::Offline => OFFLINE,
        };
        if self.availability.load(Ordering::Relaxed) != value {
            self.availability.store(value, Ordering::Relaxed);
        }
    }
}

impl Outbox {
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

    /// A new connection begins.
    pub(crate) fn forget_stall(&mut self) {
        self.stalled_since = Timestamp::default();
        self.stalled_lane = MAIN_LANE;
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

    /// Whether publishers should slow down for this subscriber.
    pub(crate) fn is_under_pressure(&self, pending_bytes: usize) -> bool {
        self.connected && (self.out.is_above(pending_bytes) || self.is_queue_full())
    }

    /// Whether those who were slowed down can go on: far enough below the mark that they do not stop again at once.
    pub(crate) fn has_drained(&self, pending_bytes: usize) -> bool {
        !self.connected || !self.out.is_above(pending_bytes) && !self.is_queue_long()
    }

    /// Whether more than half of the messages wait from which on publishers are slowed down.
    pub(crate) fn is_queue_long(&self) -> bool {
        self.half.counts().queued > self.queue_pressure as usize / 2
    }

    /// Whether waiting for this subscriber makes sense: it was at work a moment ago (rule 7).
    pub(crate) fn is_progressing(&self, now: Timestamp) -> bool {
        // One data stream that has stopped is not waited for, however busy the others are.
        let stuck = |since| now.millis_since(since) > PROGRESS_MILLIS;
        let stuck = self.stalled_lane != MAIN_LANE && self.stalled_since().is_some_and(stuck);
        self.connected && now.millis_since(self.progress) <= PROGRESS_MILLIS && !stuck
    }

    /// Whether nearly as many messages wait as may.
    pub(crate) fn is_queue_full(&self) -> bool {
        self.half.counts().queued >= self.queue_pressure as usize
    }
}

/// A subscriber that took and acknowledged nothing for this long is not waited for. Longer than a busy machine keeps a
/// reading client from its turn, short enough to be no harm.
const PROGRESS_MILLIS: u64 = 100;

const ONLINE: u8 = 0;
const FULL: u8 = 1;
const OFFLINE: u8 = 2;

impl router::Subscriber for Arc<Session> {
    fn id(&self) -> u64 {
        self.id.get()
    }

    fn client_hash(&self) -> u64 {
        self.client_hash
    }

    fn available(&self) -> router::Availability {
        match self.availability.load(Ordering::Relaxed) {
            ONLINE => router::Availability::Online,
            FULL => router::Availability::Full,
            _ => router::Availability::Offline,
        }
    }

    fn is_durable(&self) -> bool {
        self.durable
    }
}
