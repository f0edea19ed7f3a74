//! What every connection, timer and listener of one broker shares.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use martlet_codec::QoS;
use martlet_session::{Effects, OutBuf, OutboundLimits, Overflow, Publication};
use martlet_storage::{
    Committer, Lsn, Message, MessageHead, MessageId, Opened, SessionId, StoreOp, Timestamp,
};
use martlet_sync::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::Notify;

use crate::{
    clock::{Clock, Spawner},
    config::{Config, DeliveryMode, QueueOverflow},
    connection::Complaints,
    counters::{Counters, Event, Limit, Loads, Snapshot},
    directory::Directory,
    flapping::Flapping,
    hooks::{Authenticator, Authorizer, ClusterPort, Hooks},
    memory::Watch,
    publish::{DeferredQueue, With},
    retained::Retained,
    router::{RouteMemo, Router},
    saving::Saved,
    session::{Outbox, Session},
    spares::SharedSpares,
    timers::Timers,
    users::ConnectedUsers,
    work::{Work, with_work},
};

/// Who decides about access; replaced as a whole on reload.
pub(crate) struct Access {
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
}

/// The shared state of a broker.
pub(crate) struct Core {
    pub(crate) config: ArcSwap<Config>,
    outbound_limits: ArcSwap<OutboundLimits>,
    pub(crate) access: ArcSwap<Access>,
    /// Moves when rights may have changed, so that cached decisions are thrown away.
    pub(crate) access_generation: AtomicU64,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) cluster: Arc<dyn ClusterPort>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) committer: Arc<dyn Committer>,
    /// Whether the committer keeps anything; without it no batch is built.
    pub(crate) durable: bool,
    pub(crate) commits: Commits,
    pub(crate) deferred: DeferredQueue,
    pub(crate) router: Router<Arc<Session>>,
    pub(crate) retained: Retained,
    pub(crate) directory: Directory,
    pub(crate) timers: Timers,
    pub(crate) users: ConnectedUsers,
    pub(crate) flapping: Flapping,
    /// What may still be logged of connections that said no CONNECT.
    pub(crate) strangers: Mutex<Complaints>,
    /// The mount points that listeners have or had.
    pub(crate) mounts: ArcSwap<Vec<Arc<str>>>,
    pub(crate) spares: SharedSpares,
    pub(crate) counters: Arc<Counters>,
    pub(crate) memory: Watch,
    pub(crate) loads: Mutex<Loads>,
    pub(crate) saved: Saved,
    /// Kept in atomics because every message asks.
    delivery_each: AtomicBool,
    pressure_bytes: AtomicUsize,
    next_session: AtomicU64,
    next_message: AtomicU64,
    random: Mutex<StdRng>,
    pub(crate) stopping: AtomicBool,
    pub(crate) stop: Notify,
    /// Connections, those in the handshake included.
    pub(crate) connections: AtomicUsize,
    /// A connection ended while the broker is stopping.
    pub(crate) emptied: Notify,
    pub(crate) version: String,
    pub(crate) started: Timestamp,
}

/// Sessions with acknowledgements that wait for the watermark.
#[derive(Default)]
pub(crate) struct Commits {
    waiting: Mutex<Vec<Arc<Session>>>,
    /// For the broker's task.
    pub(crate) moved: Notify,
    /// For everybody who waits for one batch.
    pub(crate) changed: Notify,
    pub(crate) failed: AtomicBool,
    /// The store takes nothing for the time being; said once.
    stalled: AtomicBool,
    /// The store is short of room: no more messages are brought into it.
    low: AtomicBool,
    /// There is room again.
    roomy: Notify,
}

impl Commits {
    /// Whether the store is short of room.
    pub(crate) fn is_low(&self) -> bool {
        self.low.load(Ordering::Acquire)
    }

    /// Waits until the store has room.
    pub(crate) async fn until_roomy(&self) {
        loop {
            let changed = self.roomy.notified();
            if !self.is_low() {
                return;
            }
            changed.await;
        }
    }

    /// Wakes the owner of `session` once, soon after the watermark has moved. Look at the watermark after the call,
    /// not only before: it may have moved in between.
    pub(crate) fn wait(&self, session: &Arc<Session>) {
        if !session.asked_for_commit.swap(true, Ordering::AcqRel) {
            self.waiting.lock().push(Arc::clone(session));
        }
    }

    /// Wakes every owner that waits.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for session in waiting {
            // An owner that still has to wait asks again.
            session.asked_for_commit.store(false, Ordering::Release);
            let owner = session.with_outbox(|outbox| {
                session.nudge();
                outbox.attached.as_ref()?.owner.clone()
            });
            if let Some(Some(waker)) = owner {
                waker.wake();
            }
        }
    }
}

/// Hears from the committer's thread and passes it on to the broker's task.
pub(crate) struct CommitEar(pub(crate) std::sync::Weak<Core>);

impl martlet_storage::CommitListener for CommitEar {
    fn committed(&self, _watermark: Lsn) {
        if let Some(core) = self.0.upgrade() {
            core.commits.moved.notify_one();
        }
    }

    fn stalled(&self, error: &str) {
        let Some(core) = self.0.upgrade() else { return };
        if !core.commits.stalled.swap(true, Ordering::AcqRel) {
            tracing::error!(
                event = "store_stalled",
                error,
                "nothing that must be stored is acknowledged until the store takes it"
            );
        }
    }

    fn recovered(&self) {
        if let Some(core) = self.0.upgrade() {
            core.commits.stalled.store(false, Ordering::Release);
        }
        tracing::info!(
            event = "store_recovered",
            "the store takes batches again; nothing was lost"
        );
    }

    fn low(&self, why: Option<&str>) {
        if let Some(core) = self.0.upgrade() {
            core.commits.low.store(why.is_some(), Ordering::Release);
            core.commits.roomy.notify_waiters();
        }
        match why {
            Some(why) => tracing::error!(
                event = "store_low",
                why,
                "no message that must be stored is taken until there is room; deliveries go on and make some"
            ),
            None => tracing::info!(
                event = "store_roomy",
                "there is room for messages in the store again"
            ),
        }
    }

    fn failed(&self, error: &str) {
        tracing::error!(
            event = "store_failed",
            error,
            "the store failed; nothing more will be acknowledged"
        );
        if let Some(core) = self.0.upgrade() {
            core.commits.failed.store(true, Ordering::Release);
            core.stop.notify_waiters();
        }
    }
}

/// What a [`Core`] is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) access: Access,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) cluster: Arc<dyn ClusterPort>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) committer: Arc<dyn Committer>,
    pub(crate) durable: bool,
    pub(crate) seed: u64,
    /// What is known of the store; nothing is numbered as anything in it.
    pub(crate) opened: Opened,
    pub(crate) version: String,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        let started = parts.clock.now();
        let core = Self {
            access: ArcSwap::from_pointee(parts.access),
            access_generation: AtomicU64::new(1),
            hooks: parts.hooks,
            cluster: parts.cluster,
            clock: parts.clock,
            spawner: parts.spawner,
            committer: parts.committer,
            durable: parts.durable,
            commits: Commits::default(),
            deferred: DeferredQueue::default(),
            router: Router::new(parts.config.shared.strategy, parts.seed),
            retained: Retained::new(
                parts.config.limits.retained_messages_max,
                parts.config.limits.retained_bytes_max,
                parts.seed,
            ),
            directory: Directory::new(parts.seed),
            timers: Timers::default(),
            users: ConnectedUsers::default(),
            flapping: Flapping::default(),
            strangers: Mutex::default(),
            mounts: ArcSwap::default(),
            spares: SharedSpares::default(),
            counters: Arc::default(),
            memory: Watch::new(parts.config.limits.memory_high_water),
            loads: Mutex::new(Loads::new()),
            saved: Saved::default(),
            delivery_each: AtomicBool::new(false),
            pressure_bytes: AtomicUsize::new(usize::MAX),
            next_session: AtomicU64::new(parts.opened.last_session + 1),
            next_message: AtomicU64::new(parts.opened.last_message + 1),
            random: Mutex::new(StdRng::seed_from_u64(parts.seed)),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            connections: AtomicUsize::new(0),
            emptied: Notify::new(),
            version: parts.version,
            started,
            outbound_limits: ArcSwap::from_pointee(Self::derive_outbound_limits(&parts.config)),
            config: ArcSwap::from_pointee(parts.config),
        };
        core.derive();
        core
    }

    /// Copies what the hot path needs out of the configuration.
    pub(crate) fn derive(&self) {
        let config = self.config.load();
        self.delivery_each.store(
            config.mqtt.delivery_mode == DeliveryMode::Each,
            Ordering::Relaxed,
        );
        // Producers are slowed down at three quarters, as NATS does with its stall gate.
        self.pressure_bytes.store(
            size(config.limits.pending_bytes_max) / 4 * 3,
            Ordering::Relaxed,
        );
        self.retained.set_limits(
            config.limits.retained_messages_max,
            config.limits.retained_bytes_max,
        );
        self.router.set_strategy(config.shared.strategy);
        self.outbound_limits
            .store(Arc::new(Self::derive_outbound_limits(&config)));
        self.memory.set_high_water(config.limits.memory_high_water);
    }

    pub(crate) fn delivery_mode(&self) -> DeliveryMode {
        if self.delivery_each.load(Ordering::Relaxed) {
            DeliveryMode::Each
        } else {
            DeliveryMode::Once
        }
    }

    pub(crate) fn pressure_bytes(&self) -> usize {
        self.pressure_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn next_session_id(&self) -> SessionId {
        SessionId::new(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_message_id(&self) -> MessageId {
        MessageId::new(self.next_message.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn random_u64(&self) -> u64 {
        self.random.lock().random()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Hands in a batch, if there is a store and the batch is not empty.
    pub(crate) fn submit(&self, ops: Vec<StoreOp>) -> Lsn {
        if self.durable && !ops.is_empty() {
            self.committer.submit(ops)
        } else {
            Lsn::ZERO
        }
    }

    /// The bounds of a session's outbound half.
    pub(crate) fn outbound_limits(&self) -> Arc<OutboundLimits> {
        self.outbound_limits.load_full()
    }

    fn derive_outbound_limits(config: &Config) -> OutboundLimits {
        let limits = &config.limits;
        OutboundLimits {
            queued_messages_max: limits.queued_messages_max,
            queued_bytes_max: size(limits.queued_bytes_max),
            inflight_max: limits.inflight_max,
            pending_bytes_max: size(limits.pending_bytes_max),
            queue_qos0: config.mqtt.queue_qos0,
            overflow: match limits.queue_overflow {
                QueueOverflow::DropOldest => Overflow::DropOldest,
                QueueOverflow::DropNewest => Overflow::DropNewest,
                QueueOverflow::Disconnect => Overflow::Disconnect,
            },
            inflight_expiry_secs: match limits.inflight_expiry.as_secs() {
                0 => None,
                secs => Some(u32::try_from(secs).unwrap_or(u32::MAX)),
            },
            ..OutboundLimits::default()
        }
    }

    /// Publishes a message of the broker itself, or one whose publisher is no longer connected.
    /// `ops` go into the same batch.
    pub(crate) fn publish_message(
        &self,
        message: &Message,
        origin_hash: u64,
        mut ops: Vec<StoreOp>,
    ) {
        let now = self.clock.now();
        with_work(|work| {
            let Work { fan_out, sink, .. } = work;
            let mut publication = Publication::from_message(message, fan_out);
            let _turn = message
                .head()
                .retain
                .then(|| self.retained.turn(message.topic()));
            match self.retain(&mut publication, now) {
                Ok(op) => ops.extend(op),
                Err(limit) => {
                    // Nobody is there to be told; live subscribers get it all the same.
                    tracing::warn!(event = "retained_refused", topic = %message.topic(), limit = limit.name(), "message not retained: {} is reached", limit.name());
                }
            }
            let mut memo = RouteMemo::default();
            let with = With {
                origin_hash,
                received: None,
                ops,
            };
            self.route(&mut publication, &mut memo, with, sink, now);
            sink.counts.flush(&self.counters);
        });
    }

    /// Stores or clears the retained message if `publication` asks for it, and returns the row for the store,
    /// which belongs into the publication's batch. Called in the topic's [turn](Retained::turn).
    ///
    /// # Errors
    ///
    /// The limit that keeps it from being retained; it is counted.
    pub(crate) fn retain(
        &self,
        publication: &mut Publication<'_>,
        now: Timestamp,
    ) -> Result<Option<StoreOp>, Limit> {
        if !publication.head.retain || !self.config.load().mqtt.retain_available {
            return Ok(None);
        }
        let topic = publication.topic;
        // What the broker says of itself is no news after a restart.
        let is_stored = self.durable && !topic.starts_with("$SYS/");
        if publication.payload.is_empty() {
            self.retained.remove(topic);
            return Ok(is_stored.then(|| StoreOp::DeleteRetained {
                topic: topic.into(),
            }));
        }
        let message = publication.message().clone();
        if self.retained.set(&message, now).is_err() {
            let limit = self.retained_limit();
            self.counters.limit(limit);
            return Err(limit);
        }
        Ok(is_stored.then_some(StoreOp::PutRetained { message }))
    }

    /// A message of the broker itself.
    pub(crate) fn own_message(
        &self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Message {
        let head = MessageHead {
            id: MessageId::NONE,
            qos,
            retain,
            publisher: SessionId::NONE,
            received: self.clock.now(),
            expires: None,
        };
        Message::new(head, topic, &[], payload, &mut Vec::new())
    }
}

/// The committer of a broker without a store: everything is as committed as it will ever be.
pub(crate) struct NoStore;

impl Committer for NoStore {
    fn submit(&self, _batch: Vec<StoreOp>) -> Lsn {
        Lsn::ZERO
    }

    fn watermark(&self) -> Lsn {
        Lsn::ZERO
    }

    fn set_listener(&self, _listener: Arc<dyn martlet_storage::CommitListener>) {}

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn flush(&self) {}
}

impl Core {
    /// Which limit of the retained store is reached.
    fn retained_limit(&self) -> Limit {
        if self.retained.count() >= self.config.load().limits.retained_messages_max {
            Limit::RetainedMessagesMax
        } else {
            Limit::RetainedBytesMax
        }
    }

    /// Removes retained messages that have expired.
    pub(crate) fn sweep_retained(&self, now: Timestamp) {
        let mut ops = Vec::new();
        self.retained.sweep_then(now, |message| {
            self.counters.event(Event::RetainedExpired);
            if self.durable {
                ops.push(StoreOp::DeleteRetained {
                    topic: message.topic().into(),
                });
            }
        });
        self.submit(ops);
    }

    /// Hands in what a call into an outbound half asks to be stored. Called under that session's outbox lock, so
    /// that every later operation of the session has a higher position (rule 2). Packets that wait for the batch
    /// are released when the watermark has passed it.
    pub(crate) fn settle(
        &self,
        session: &Arc<Session>,
        outbox: &mut Outbox,
        effects: &mut Effects,
        now: Timestamp,
    ) {
        if !effects.ops.is_empty() {
            let lsn = self.committer.submit(std::mem::take(&mut effects.ops));
            outbox.half.submitted(lsn);
            self.release(session, outbox, effects, now);
        }
    }

    /// Sends what waited for the store and is committed; asks to be woken for the rest.
    pub(crate) fn release(
        &self,
        session: &Arc<Session>,
        outbox: &mut Outbox,
        effects: &mut Effects,
        now: Timestamp,
    ) {
        while outbox.half.waits_for().is_some() {
            self.commits.wait(session);
            let watermark = self.committer.watermark();
            let nowhere = &mut OutBuf::new();
            let (half, out) = outbox.sending(nowhere);
            half.release(now, watermark, out, effects);
            if effects.ops.is_empty() {
                return;
            }
            // A packet that grew too large for the client is given up, which is stored as well.
            let lsn = self.committer.submit(std::mem::take(&mut effects.ops));
            outbox.half.submitted(lsn);
        }
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.counters.snapshot()
    }
}

/// A configured size as memory is counted.
pub(crate) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
