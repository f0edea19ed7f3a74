//! The seams of the broker: who may connect, what they may do, what is watched, and what a cluster would add.
//!
//! Every seam has a neutral default that costs nothing. Decisions are [`Decision::Ready`] on the hot path;
//! [`Decision::Later`] parks only the connection that asked. Decisions at delivery are synchronous by design
//! (architecture rule 5).

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use martlet_codec::{QoS, ReasonCode, Version};
use martlet_storage::Message;
use martlet_transport::PeerCertificate;

/// An answer that is there at once, or one that must be waited for.
pub enum Decision<T> {
    /// The answer.
    Ready(T),
    /// The answer comes later; the connection processes nothing else meanwhile.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

/// Where a connection came in.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The listener's id; `"attached"` for streams handed in by an embedding program.
    pub listener: Arc<str>,
    /// The peer as text, for logs.
    pub peer: Arc<str>,
    /// The peer's address, where it has one.
    pub address: Option<SocketAddr>,
    /// Whether the listener can be reached from this machine only.
    pub local_only: bool,
    /// What the listener says about clients without a user name; `None` leaves it to the [`Authenticator`].
    pub allow_anonymous: Option<bool>,
}

impl Origin {
    /// Of a client that is away and whose last connection is not known any more.
    pub(crate) fn away() -> Self {
        Self {
            listener: "".into(),
            peer: "".into(),
            address: None,
            local_only: false,
            allow_anonymous: None,
        }
    }
}

/// What the transport has verified about a client before CONNECT; empty for most.
#[derive(Clone, Debug, Default)]
pub struct Presented {
    /// The user name that its certificate (or another proof of the transport) stands for. It has replaced the one in
    /// CONNECT, and no password is needed.
    pub username: Option<Arc<str>>,
    /// The only client id it may use, for the same reason.
    pub client_id: Option<Arc<str>>,
    /// The certificate, whatever it is used for.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// What an [`Authenticator`] judges.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// Where the connection came in.
    pub origin: Origin,
    /// The client id, as given or as assigned.
    pub client_id: Arc<str>,
    /// The protocol version.
    pub version: Version,
    /// The user name, if one was given.
    pub username: Option<String>,
    /// The password, if one was given; any bytes.
    pub password: Option<Vec<u8>>,
    /// What the transport has verified.
    pub presented: Presented,
}

/// Who a connected client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The client id.
    pub client_id: Arc<str>,
    /// The authenticated user name.
    pub username: Option<Arc<str>>,
    /// Where the connection came in.
    pub origin: Origin,
    /// A handle that the authoriser may use to find the rights of this client quickly.
    pub rights: u32,
}

/// A refusal with words for the client (version 5) and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason code; mapped to a return code for MQTT 3.
    pub reason: ReasonCode,
    /// What the client is told.
    pub text: String,
}

/// Decides who may connect.
pub trait Authenticator: Send + Sync {
    /// Judges a CONNECT before anything of a session is touched. The number is [`Identity::rights`].
    fn authenticate(&self, request: ConnectRequest) -> Decision<Result<u32, Refusal>>;
}

/// Decides what a client may do.
pub trait Authorizer: Send + Sync {
    /// Whether `who` may publish to `topic`. Also asked for the will, at CONNECT and when it fires.
    fn publish(&self, who: &Identity, topic: &str, qos: QoS, retain: bool) -> Decision<bool>;
    /// Whether `who` may subscribe to `filter` (the filter behind `$share/<name>/`); the granted QoS, at most `qos`.
    fn subscribe(&self, who: &Identity, filter: &str, qos: QoS) -> Decision<Option<QoS>>;
    /// Whether deliveries to `who` must be judged one by one with [`Authorizer::deliver`].
    fn judges_deliveries(&self, who: &Identity) -> bool;
    /// Whether a message on `topic` may be delivered to `who`.
    fn deliver(&self, who: &Identity, topic: &str) -> bool;
    /// Whether the rights of `who` still cover a subscription to `filter` that was granted before. Asked after a reload
    /// and when a session is taken up; if one is not covered any more, deliveries are judged one by one. The default:
    /// all are.
    fn keeps_subscription(&self, _who: &Identity, _filter: &str) -> bool {
        true
    }
    /// [`Identity::rights`] of a client that is away, by what is stored of its session: what is queued for it is judged
    /// with them after a restart and after rights have changed. `None`, the default: it is not judged then.
    fn rights_of(&self, _client_id: &str, _username: Option<&str>) -> Option<u32> {
        None
    }
}

/// Watches what happens. Called on the tasks that do the work: be quick.
pub trait Hooks: Send + Sync {
    /// A connection was accepted, before any byte; `false` closes it.
    fn accept(&self, _origin: &Origin) -> bool {
        true
    }
    /// A client is connected.
    fn connected(&self, _who: &Identity, _session_present: bool) {}
    /// A client's connection ended.
    fn disconnected(&self, _who: &Identity, _reason: ReasonCode) {}
    /// A will fires; `false` drops it.
    fn will(&self, _client_id: &str, _will: &Message) -> bool {
        true
    }
    /// A session ended.
    fn session_ended(&self, _client_id: &str) {}
}

/// The hooks of a broker that has none.
pub(crate) struct NoHooks;
impl Hooks for NoHooks {}

/// What a cluster needs of the broker's interest in topics; called on 0 <-> 1 local subscribers of a filter.
pub trait ClusterPort: Send + Sync {
    /// The first local subscription to `filter` appeared (`true`) or the last one vanished.
    fn interest(&self, filter: &str, present: bool);
}

/// The port of a broker that stands alone.
pub(crate) struct Standalone;
impl ClusterPort for Standalone {
    fn interest(&self, _filter: &str, _present: bool) {}
}
