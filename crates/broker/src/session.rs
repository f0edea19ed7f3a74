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
use martlet_session::{DropReason, Inbound, OutBuf, Outbound};
use martlet_storage::{Message, MessageHead, MessageId, SessionId, Timestamp, WillRecord};

use crate::{
    attachment::{Attachment, Kick},
    hooks::Identity,
    router,
    subscriptions::Subscriptions,
    sync::Mutex,
    timers::Deadlines,
};

/// A client that cannot keep up drops thousands of messages a second; the log gets one line in this time.
const DROPS_LOGGED_EVERY_MILLIS: u64 = 60_000;

/// With the two counters of its `Arc` a session fills a size class of jemalloc, 384 bytes; one byte more costs each
/// client 64, also those that are away.
#[cfg(all(target_pointer_width = "64", not(any(martlet_loom, martlet_simulate))))]
const _: () = assert!(size_of::<Session>() + 16 <= 384);

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
}

/// What any task may append to.
pub(crate) struct Outbox {
    pub(crate) half: Outbound,
    /// There while a connection owns the session.
    pub(crate) attached: Option<Box<Attachment>>,
    /// Counts connections; an owner whose number is not this one has lost the session.
    pub(crate) epoch: u64,
    /// Waiting messages from which on publishers are slowed down.
    pub(crate) queue_pressure: u32,
    /// False once the session ended; nothing is delivered any more.
    pub(crate) alive: bool,
    /// Set while a closure runs under the lock; found set only after a panic.
    poisoned: bool,
}

/// What only the owner, the directory and timers touch.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) subscriptions: Subscriptions,
    /// QoS 2 identifiers received and not released (rule 6: they belong to the session).
    pub(crate) inbound: Inbound,
    pub(crate) will: Option<Box<Will>>,
    /// Counts wills and connections, so that an old timer recognises that it is out of date.
    pub(crate) generation: u32,
    pub(crate) expiry_secs: u32,
    /// When the session ends; 0 for never, which is shorter than an `Option`.
    expires: Timestamp,
    pub(crate) username: Option<Arc<str>>,
    pub(crate) deadlines: Deadlines,
}

impl State {
    /// When the session ends unless a client comes back; `None` for never, and while there is a connection.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        (self.expires > Timestamp::default()).then_some(self.expires)
    }

    pub(crate) fn set_expires(&mut self, at: Option<Timestamp>) {
        self.expires = at.unwrap_or_default();
    }
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
                attached: None,
                epoch: 0,
                queue_pressure,
                alive: true,
                poisoned: false,
            }),
            state: Mutex::new(State::default()),
            identity: ArcSwapOption::empty(),
            asked_for_commit: AtomicBool::new(false),
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
            let attached = outbox.attached.as_mut()?;
            // The first reason is the one that happened.
            attached.kick.get_or_insert(Kick { reason, text });
            self.nudge();
            attached.owner.clone()
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
        let attached = outbox.attached.as_mut()?;
        if !attached.idle || !attached.out.has_output() {
            return None;
        }
        attached.idle = false;
        // It had nothing to do until now, which is not the same as standing still.
        attached.progress = now;
        self.nudge();
        attached.owner.clone()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.with_outbox(|outbox| outbox.is_connected())
            .unwrap_or(false)
    }

    /// The client is away: forgets who it was, unless a will or a delivery is still to be judged.
    pub(crate) fn forget_identity(&self) {
        if !self.is_judged() && self.state.lock().will.is_none() {
            self.identity.store(None);
        }
    }

    pub(crate) fn set_judged(&self, judged: bool) {
        // Whoever overwrites what was set after a change sees the change.
        self.judged.swap(judged, Ordering::AcqRel);
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
    /// Whether a connection owns the session.
    pub(crate) fn is_connected(&self) -> bool {
        self.attached.is_some()
    }

    /// What belongs to connection `epoch`; `None` when it does not own the session any more.
    #[inline]
    pub(crate) fn owned_by(&mut self, epoch: u64) -> Option<&mut Attachment> {
        if self.epoch == epoch {
            self.attached.as_deref_mut()
        } else {
            None
        }
    }

    /// The outbound half and where its packets go: `nowhere` while the client is away, when it sends none.
    #[inline]
    pub(crate) fn sending<'a>(
        &'a mut self,
        nowhere: &'a mut OutBuf,
    ) -> (&'a mut Outbound, &'a mut OutBuf) {
        let out = match &mut self.attached {
            Some(attached) => &mut attached.out,
            None => nowhere,
        };
        (&mut self.half, out)
    }

    /// Whether publishers should slow down for this subscriber.
    pub(crate) fn is_under_pressure(&self, pending_bytes: usize) -> bool {
        let Some(attached) = &self.attached else {
            return false;
        };
        attached.out.is_above(pending_bytes) || self.is_queue_full()
    }

    /// Whether those who were slowed down can go on: far enough below the mark that they do not stop again at once.
    pub(crate) fn has_drained(&self, pending_bytes: usize) -> bool {
        let Some(attached) = &self.attached else {
            return true;
        };
        !attached.out.is_above(pending_bytes) && !self.is_queue_long()
    }

    /// Lets publishers go on that were slowed down, if they can.
    #[inline]
    pub(crate) fn resume_publishers(&mut self, pending_bytes: usize) {
        let attached = self.attached.as_ref();
        if attached.is_some_and(|attached| !attached.waiting.is_empty())
            && self.has_drained(pending_bytes)
            && let Some(attached) = &mut self.attached
        {
            attached.resume_publishers();
        }
    }

    /// Whether more than half of the messages wait from which on publishers are slowed down.
    pub(crate) fn is_queue_long(&self) -> bool {
        self.half.counts().queued > self.queue_pressure as usize / 2
    }

    /// Whether waiting for this subscriber makes sense: it was at work a moment ago (rule 7).
    pub(crate) fn is_progressing(&self, now: Timestamp) -> bool {
        let attached = self.attached.as_deref();
        attached.is_some_and(|attached| attached.is_progressing(now))
    }

    /// Whether nearly as many messages wait as may.
    pub(crate) fn is_queue_full(&self) -> bool {
        self.half.counts().queued >= self.queue_pressure as usize
    }
}

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
