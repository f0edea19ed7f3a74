//! The broker as an embedding program sees it: build, listen, attach, reload, shut down.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use martlet_codec::ReasonCode;
use martlet_storage::{CommitOptions, Committer, GroupCommitter, Opened, Storage, StorageError};
use martlet_transport::{
    BindError, ByteStream, ListenAddress, ListenerOptions, StreamSource, TlsError,
};

use crate::{
    auth::StaticAuth,
    clock::{Clock, Floored, Spawner, TokioClock, TokioSpawner},
    config::{Config, ListenerPolicy},
    core::{Access, CommitEar, Core, NoStore, Parts},
    flapping::Banned,
    hooks::{Authenticator, Authorizer, ClusterPort, Hooks, NoHooks, Standalone},
    listen::{ListenerInfo, Listeners},
    restore::Rows,
    router::RouteMemo,
    tasks,
};

/// Why settings were refused: which key, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key, as in the configuration file, like `limits.inflight_max`.
    pub key: String,
    /// What is wrong, in a user's words.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
        }
    }
}

/// A running broker; clones refer to the same one. It goes on until [`Broker::shutdown`].
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use martlet_broker::{Broker, ListenerOptions};
///
/// let broker = Broker::builder().start()?;
/// let listener = broker.listen("tcp", &"tcp://127.0.0.1:0".parse()?, &ListenerOptions::default()).await?;
/// println!("listening on {}", listener.local_addr);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Broker {
    core: Arc<Core>,
    listeners: Arc<Listeners>,
    /// The built-in users, where no authenticator was handed in; they follow the configuration.
    users: Option<Arc<ArcSwap<StaticAuth>>>,
}

/// How long the end of a broker waits for its store, whatever the grace for clients.
const FLUSH_AT_LEAST: Duration = Duration::from_secs(5);

type StartCommitter = Box<dyn FnOnce(Arc<dyn Clock>) -> std::io::Result<Arc<dyn Committer>>>;

/// A store that was read and has no committer yet.
struct Store {
    rows: Rows,
    opened: Opened,
    start: StartCommitter,
}

/// Makes a [`Broker`]. Everything has a default.
#[derive(Default)]
pub struct Builder {
    config: Config,
    version: Option<String>,
    seed: Option<u64>,
    clock: Option<Arc<dyn Clock>>,
    spawner: Option<Arc<dyn Spawner>>,
    committer: Option<Arc<dyn Committer>>,
    store: Option<Store>,
    access: Option<(Arc<dyn Authenticator>, Arc<dyn Authorizer>)>,
    hooks: Option<Arc<dyn Hooks>>,
    cluster: Option<Arc<dyn ClusterPort>>,
}

impl Builder {
    /// The settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The text of `$SYS/broker/version`. Default: this crate's version.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// The seed of everything random, for repeatable runs. Default: from the operating system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where the broker reads the time. Default: tokio's clock on top of the wall time at the start.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where the broker runs its tasks. Default: the tokio runtime it is started on.
    pub fn spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = Some(spawner);
        self
    }

    /// Keeps in `storage` what must outlive the process: sessions, their messages, retained messages, wills.
    /// Acknowledgements wait for its commits. What it holds is put back before the broker accepts anybody.
    /// Default: nothing is kept.
    ///
    /// # Errors
    /// The store cannot be read; see [`martlet_storage::load`].
    pub fn store<S: Storage>(
        mut self,
        storage: S,
        options: CommitOptions,
    ) -> Result<Self, StorageError> {
        let mut rows = Rows::default();
        let (planner, opened) = martlet_storage::load(&storage, &mut rows)?;
        let start = move |clock: Arc<dyn Clock>| {
            let committer = GroupCommitter::start(storage, planner, options, move || clock.now())?;
            Ok(Arc::new(committer) as Arc<dyn Committer>)
        };
        self.store = Some(Store {
            rows,
            opened,
            start: Box::new(start),
        });
        Ok(self)
    }

    /// A committer of one's own, over a store that holds nothing yet, instead of [`Builder::store`].
    pub fn committer(mut self, committer: Arc<dyn Committer>) -> Self {
        self.committer = Some(committer);
        self
    }

    /// Who decides about access, instead of the users in the settings.
    pub fn access(
        mut self,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        self.access = Some((authenticator, authorizer));
        self
    }

    /// Who watches what happens.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = Some(hooks);
        self
    }

    /// Who hears of the broker's interest in topics.
    pub fn cluster(mut self, cluster: Arc<dyn ClusterPort>) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Starts the broker's own tasks (timers, `$SYS`, commits) on the current tokio runtime. It listens nowhere yet.
    ///
    /// # Errors
    /// A setting that makes no sense, by its key.
    ///
    /// # Panics
    /// Outside of a tokio runtime, if no spawner was given.
    pub fn start(self) -> Result<Broker, ConfigError> {
        self.config.check()?;
        let (access, users) = match self.access {
            Some((authenticator, authorizer)) => (
                Access {
                    authenticator,
                    authorizer,
                },
                None,
            ),
            None => {
                let users = Arc::new(StaticAuth::new(&self.config)?);
                let access = Access {
                    authenticator: users.clone(),
                    authorizer: users.clone(),
                };
                (access, Some(Arc::new(ArcSwap::new(users))))
            }
        };
        let mut clock = self.clock.unwrap_or_else(|| Arc::new(TokioClock::new()));
        let mut committer = self.committer;
        let mut restored = None;
        if let Some(store) = self.store {
            let floor = store.opened.committed;
            clock = Arc::new(Floored { clock, floor });
            let started = (store.start)(Arc::clone(&clock));
            committer =
                Some(started.map_err(|error| ConfigError::new("storage", error.to_string()))?);
            restored = Some((store.rows, store.opened));
        }
        let durable = committer.is_some();
        let committer = committer.unwrap_or_else(|| Arc::new(NoStore));
        let core = Arc::new(Core::new(Parts {
            config: self.config,
            access,
            hooks: self.hooks.unwrap_or_else(|| Arc::new(NoHooks)),
            cluster: self.cluster.unwrap_or_else(|| Arc::new(Standalone)),
            clock,
            spawner: self
                .spawner
                .unwrap_or_else(|| Arc::new(TokioSpawner(tokio::runtime::Handle::current()))),
            committer,
            durable,
            seed: self.seed.unwrap_or_else(rand::random),
            opened: restored
                .as_ref()
                .map(|(_, opened)| *opened)
                .unwrap_or_default(),
            version: self
                .version
                .unwrap_or_else(|| concat!("martlet version ", env!("CARGO_PKG_VERSION")).into()),
        }));
        core.committer
            .set_listener(Arc::new(CommitEar(Arc::downgrade(&core))));
        if let Some((rows, opened)) = restored {
            core.restore(rows, &opened);
        }
        tasks::start(&core);
        Ok(Broker {
            core,
            listeners: Arc::default(),
            users,
        })
    }
}

impl Broker {
    /// Starts to build a broker.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Binds `address` and accepts connections on it under the name `id`. A listener that has this name already stops
    /// accepting once the new one is there; its connections go on.
    ///
    /// # Errors
    /// The address cannot be bound; the error says which and why.
    pub async fn listen(
        &self,
        id: &str,
        address: &ListenAddress,
        options: &ListenerOptions,
    ) -> Result<ListenerInfo, BindError> {
        let policy = ListenerPolicy::default();
        self.listen_with(id, address, options, policy).await
    }

    /// As [`Broker::listen`], with settings for the connections of this listener.
    ///
    /// # Errors
    /// The address cannot be bound, or a certificate not used; the error says which and why.
    pub async fn listen_with(
        &self,
        id: &str,
        address: &ListenAddress,
        options: &ListenerOptions,
        policy: ListenerPolicy,
    ) -> Result<ListenerInfo, BindError> {
        self.listeners
            .open(&self.core, id, address, options, policy)
            .await
    }

    /// Holds new connections of the listener `id` to other settings, without binding anew; existing connections go on
    /// under theirs. What belongs to the socket stays as it was bound: `backlog`, `reuse_port`, `dual_stack`,
    /// `interface`, `unix`, and of `address` all but the path of WebSocket. Reads certificates and keys, and blocks while it
    /// does. `None` if there is no such listener.
    ///
    /// # Errors
    /// A certificate or key cannot be used; then nothing has changed.
    pub fn change_listener(
        &self,
        id: &str,
        address: &ListenAddress,
        options: &ListenerOptions,
        policy: ListenerPolicy,
    ) -> Option<Result<(), TlsError>> {
        self.listeners
            .change(&self.core, id, address, options, policy)
    }

    /// Reads the certificates, keys and revocation lists of all TLS listeners again, whether or not their files
    /// changed, and says by listener id what came of it. What cannot be used changes nothing, and nobody is
    /// disconnected. Blocks while it reads. Changed files are noticed within seconds without this.
    pub fn reload_certificates(&self) -> Vec<(String, Result<(), TlsError>)> {
        self.listeners.reload_certificates()
    }

    /// Stops accepting on the listener `id`; its connections go on. Returns whether there was one.
    pub fn close_listener(&self, id: &str) -> bool {
        self.listeners.close(id)
    }

    /// The listeners that accept.
    pub fn listeners(&self) -> Vec<ListenerInfo> {
        self.listeners.infos()
    }

    /// Serves an established byte stream as a client connection; `peer` names it in logs. It counts as local.
    pub fn attach(&self, stream: impl ByteStream, peer: &str) {
        self.core
            .attach_stream(stream, None, peer, "attached", Arc::default());
    }

    /// As [`Broker::attach`], for a client with several byte streams: CONNECT comes on `control`, and `further` brings
    /// the others, up to `limits.data_streams_max` at one time. What may travel on which is as over QUIC.
    pub fn attach_streams<S: ByteStream>(
        &self,
        control: S,
        further: Box<dyn StreamSource<S>>,
        peer: &str,
    ) {
        self.core
            .attach_stream(control, Some(further), peer, "attached", Arc::default());
    }

    /// As [`Broker::attach`], and what the listener `id` holds its clients to holds here as well: versions, users,
    /// rates, mount point and the like, not its numbers of connections and networks. Returns whether there is such a
    /// listener; if not, the stream is dropped.
    pub fn attach_to(&self, id: &str, stream: impl ByteStream, peer: &str) -> bool {
        let Some(terms) = self.listeners.terms(id) else {
            return false;
        };
        self.core.attach_stream(stream, None, peer, id, terms);
        true
    }

    /// The clients that are banned for connecting too often ([`config::Flapping`](crate::config::Flapping)).
    pub fn banned(&self) -> Vec<Banned> {
        let settings = &self.core.config.load().flapping;
        self.core.flapping.banned(settings, self.core.clock.now())
    }

    /// Lifts the bans of `client_id`; returns whether there were any.
    pub fn lift_ban(&self, client_id: &str) -> bool {
        self.core.flapping.lift(client_id)
    }

    /// Publishes as the broker itself, at QoS 0 to 2 as subscribers were granted.
    ///
    /// # Errors
    /// `topic` is not a topic name.
    pub fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        qos: martlet_codec::QoS,
        retain: bool,
    ) -> Result<(), martlet_topic::TopicError> {
        martlet_topic::TopicName::new(topic)?;
        let message = self.core.own_message(topic, payload, qos, retain);
        self.core.publish_message(&message, 0, Vec::new());
        Ok(())
    }

    /// Applies new settings to everything that may change while running: limits for new connections, users and
    /// rights, `$SYS` interval, delivery mode. Connected clients keep what was announced to them.
    ///
    /// # Errors
    /// A setting that makes no sense; then nothing has changed.
    pub fn reload(&self, config: Config) -> Result<(), ConfigError> {
        config.check()?;
        if let Some(users) = &self.users {
            let next = Arc::new(users.load().successor(&config)?);
            users.store(Arc::clone(&next));
            self.core.access.store(Arc::new(Access {
                authenticator: next.clone(),
                authorizer: next,
            }));
        }
        self.core.config.store(Arc::new(config));
        self.core.derive();
        self.core.access_generation.fetch_add(1, Ordering::AcqRel);
        self.core.judge_all_anew();
        Ok(())
    }

    /// The settings as they are.
    pub fn config(&self) -> Arc<Config> {
        self.core.config.load_full()
    }

    /// Connections, those in the handshake included.
    pub fn connections(&self) -> usize {
        self.core.connections.load(Ordering::Relaxed)
    }

    /// Clients connected.
    pub fn clients_connected(&self) -> usize {
        usize::try_from(self.core.counters.clients_connected_now()).unwrap_or(usize::MAX)
    }

    /// Ends the connection of `client_id` with `reason`; returns whether there was one.
    pub fn disconnect(&self, client_id: &str, reason: ReasonCode) -> bool {
        match self.core.directory.find(client_id) {
            Some(session) if session.is_connected() => {
                session.kick(reason, "ended by the administrator");
                true
            }
            _ => false,
        }
    }

    /// The counters as they are. Takes stock of all sessions first: not for every second with a million of them.
    pub fn counters(&self) -> crate::counters::Snapshot {
        self.core.full_snapshot()
    }

    /// Waits until the store has failed; for ever, if it never does.
    pub async fn until_store_fails(&self) {
        loop {
            let stopped = self.core.stop.notified();
            if self.core.store_failed() {
                return;
            }
            stopped.await;
        }
    }

    /// The router as one publisher sees it: how many filters match a topic name. For `crates/instructions`, and no part of
    /// the interface.
    #[doc(hidden)]
    pub fn routes(&self) -> impl FnMut(&str) -> usize + use<> {
        let core = Arc::clone(&self.core);
        let mut memo = RouteMemo::default();
        move |topic| core.router.route(topic, &mut memo).len()
    }

    /// Whether the store has failed, so that nothing can be acknowledged any more and the process should end.
    pub fn store_failed(&self) -> bool {
        self.core.store_failed()
    }

    /// Stops accepting, says goodbye to every client (0x8B, version 5), publishes wills, and waits at most `grace`
    /// until all connections have ended. What was submitted to the store is waited for as long again, and five seconds
    /// at least: a store that is full or away must not keep the process for ever, and nobody was told that it is safe.
    pub async fn shutdown(&self, grace: Duration) {
        self.core.stopping.store(true, Ordering::Release);
        self.listeners.close_all();
        let everybody = async {
            loop {
                let emptied = self.core.emptied.notified();
                tokio::pin!(emptied);
                emptied.as_mut().enable();
                for session in self.core.directory.sessions() {
                    session.kick(
                        ReasonCode::ServerShuttingDown,
                        "the broker is shutting down",
                    );
                }
                if self.core.connections.load(Ordering::Acquire) == 0 {
                    return;
                }
                // Newcomers in the handshake are asked again until they are gone.
                let _ = tokio::time::timeout(Duration::from_millis(50), emptied).await;
            }
        };
        let _ = tokio::time::timeout(grace, everybody).await;
        self.core.stop.notify_waiters();
        self.core.save_counters(true);
        let (flushed, wait) = tokio::sync::oneshot::channel();
        let committer = Arc::clone(&self.core.committer);
        self.core.spawner.spawn_blocking(Box::new(move || {
            committer.flush();
            // Nobody waits any more, when it took too long.
            let _ = flushed.send(());
        }));
        if tokio::time::timeout(grace.max(FLUSH_AT_LEAST), wait)
            .await
            .is_err()
        {
            tracing::error!(
                event = "store_behind",
                bytes = self.core.committer.backlog_bytes(),
                "the store did not take everything in time; what is missing was not acknowledged"
            );
        }
    }
}
