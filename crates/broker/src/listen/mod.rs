//! Listeners at run time: accept, back off, refuse what is over the limit, hand over to a connection task.

mod certificates;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use martlet_transport::{
    Accepted, BindError, ByteStream, Certificates, Established, ListenAddress, Listener,
    ListenerOptions, Stream, TlsError, is_fd_exhaustion,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    config::{IdentityUse, ListenerPolicy},
    connection::{self, Connection},
    core::Core,
    counters::{Event, Limit},
    files::Reserve,
    hooks::{Origin, Presented},
};

/// Connections refused with the reserve descriptor before the next pause.
const REFUSED_AT_ONCE: usize = 64;
/// First pause after an accept error; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_millis(5);
/// Longest pause after accept errors.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// A listener as others see it.
#[derive(Clone, Debug)]
pub struct ListenerInfo {
    /// Its id, unique in the broker.
    pub id: String,
    /// The address with the port that was really bound.
    pub url: String,
    /// The same as a socket address.
    pub local_addr: SocketAddr,
    /// Connections now.
    pub connections: usize,
    /// When the first of its certificates expires; `None` without TLS.
    pub certificate_not_after: Option<SystemTime>,
    /// Whole days until then; negative afterwards.
    pub certificate_days_left: Option<i64>,
}

/// The listeners of a broker.
#[derive(Default)]
pub(crate) struct Listeners {
    all: Mutex<Vec<Arc<Open>>>,
}

struct Open {
    id: Arc<str>,
    url: String,
    local_addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    close: Arc<Notify>,
    certificates: Option<Certificates>,
    policy: ListenerPolicy,
}

impl Open {
    fn info(&self) -> ListenerInfo {
        ListenerInfo {
            id: self.id.to_string(),
            url: self.url.clone(),
            local_addr: self.local_addr,
            connections: self.connections.load(Ordering::Relaxed),
            certificate_not_after: self.certificates.as_ref().map(Certificates::not_after),
            certificate_days_left: self.certificates.as_ref().map(Certificates::days_left),
        }
    }
}

impl Listeners {
    pub(crate) fn infos(&self) -> Vec<ListenerInfo> {
        self.all.lock().iter().map(|open| open.info()).collect()
    }

    /// Reads the certificates of all listeners again; those that cannot be used are named and change nothing.
    pub(crate) fn reload_certificates(&self) -> Vec<(String, Result<(), TlsError>)> {
        let all: Vec<Arc<Open>> = self.all.lock().clone();
        all.iter()
            .filter_map(|open| {
                let certificates = open.certificates.as_ref()?;
                Some((open.id.to_string(), certificates.reload()))
            })
            .collect()
    }

    pub(crate) async fn open(
        &self,
        core: &Arc<Core>,
        id: &str,
        address: &ListenAddress,
        options: &ListenerOptions,
        policy: ListenerPolicy,
    ) -> Result<ListenerInfo, BindError> {
        let listener = Listener::bind(address, options).await?;
        let local_addr = listener.local_addr();
        let open = Arc::new(Open {
            id: id.into(),
            url: format!("{}://{local_addr}", address.scheme()),
            local_addr,
            connections: Arc::default(),
            close: Arc::default(),
            certificates: listener.certificates(),
            policy,
        });
        let info = open.info();
        self.all.lock().push(Arc::clone(&open));
        if open.certificates.is_some() {
            let watch = certificates::watch(Arc::downgrade(&open));
            core.spawner.spawn(Box::pin(watch));
        }
        core.spawner
            .spawn(Box::pin(accept_loop(Arc::clone(core), listener, open)));
        Ok(info)
    }

    /// Stops accepting on the listener `id`; its connections go on.
    pub(crate) fn close(&self, id: &str) -> bool {
        let mut all = self.all.lock();
        let before = all.len();
        all.retain(|open| {
            if &*open.id == id {
                open.close.notify_one();
            }
            &*open.id != id
        });
        all.len() < before
    }

    pub(crate) fn close_all(&self) {
        for open in self.all.lock().drain(..) {
            open.close.notify_one();
        }
    }
}

async fn accept_loop(core: Arc<Core>, mut listener: Listener, open: Arc<Open>) {
    let local_only = open.local_addr.ip().is_loopback();
    let mut back_off = BACK_OFF;
    let reserve = Reserve::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = open.close.notified() => return,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(event = "accept_failed", listener = %open.id, %error, "cannot accept: {error}");
                if is_fd_exhaustion(&error) && reserve.release() {
                    // One descriptor was kept back: accept with it and close at once, so that those who wait hear
                    // something instead of staying in the backlog.
                    for _ in 0..REFUSED_AT_ONCE {
                        match tokio::time::timeout(Duration::ZERO, listener.accept()).await {
                            Ok(Ok(refused)) => drop(refused),
                            _ => break,
                        }
                        core.counters.event(Event::SocketRefused);
                    }
                    // Still exhausted: the next round tries again, after the pause.
                    let _ = reserve.rearm();
                }
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_MAX);
                continue;
            }
        };
        back_off = BACK_OFF;
        let origin = Origin {
            listener: Arc::clone(&open.id),
            peer: accepted.peer.to_string().into(),
            address: Some(accepted.peer),
            local_only,
        };
        let Some(seat) = core.seat(&origin, Some(Arc::clone(&open.connections))) else {
            continue;
        };
        let task_core = Arc::clone(&core);
        core.spawner.spawn(Box::pin(connection::serve(
            seat,
            establish(task_core, accepted, origin, open.policy.identity_as),
        )));
    }
}

/// From an accepted socket to a connected client, all under one deadline.
async fn establish(
    core: Arc<Core>,
    accepted: Accepted,
    origin: Origin,
    identity_as: IdentityUse,
) -> Option<Connection<Stream>> {
    let timeout = core.config.load().limits.connect_timeout;
    let started = tokio::time::Instant::now();
    match tokio::time::timeout(timeout, accepted.establish()).await {
        Ok(Ok(established)) => {
            let presented = presented(&established, identity_as);
            connection::handshake(core, established.stream, origin, started, presented).await
        }
        Ok(Err(error)) => {
            tracing::info!(event = "establish_failed", peer = %origin.peer, listener = %origin.listener, %error, "{} refused: {error}", origin.peer);
            core.counters
                .connect_refused(martlet_codec::ReasonCode::MalformedPacket);
            None
        }
        Err(_) => {
            core.counters.limit(Limit::ConnectTimeout);
            None
        }
    }
}

/// What the transport knows about the client before it says a word of MQTT.
fn presented(established: &Established, identity_as: IdentityUse) -> Presented {
    let identity = established.identity.as_deref().map(Arc::from);
    let (username, client_id) = match identity_as {
        IdentityUse::UserName => (identity, None),
        IdentityUse::ClientId => (None, identity),
    };
    Presented {
        username,
        client_id,
        certificate: established.certificate.as_deref().cloned().map(Arc::new),
    }
}

/// A place among `limits.connections_max`; given back on drop.
pub(crate) struct Seat {
    core: Arc<Core>,
    listener: Option<Arc<AtomicUsize>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.core.connections.fetch_sub(1, Ordering::AcqRel);
        if let Some(listener) = &self.listener {
            listener.fetch_sub(1, Ordering::Relaxed);
        }
        if self.core.is_stopping() {
            self.core.emptied.notify_waiters();
        }
    }
}

impl Core {
    /// Admits a connection, if there is room and nobody objects.
    pub(crate) fn seat(
        self: &Arc<Self>,
        origin: &Origin,
        listener: Option<Arc<AtomicUsize>>,
    ) -> Option<Seat> {
        self.counters.event(Event::SocketAccepted);
        let max = self.config.load().limits.connections_max;
        let taken = self.connections.fetch_add(1, Ordering::AcqRel);
        if let Some(listener) = &listener {
            listener.fetch_add(1, Ordering::Relaxed);
        }
        let seat = Seat {
            core: Arc::clone(self),
            listener,
        };
        if taken >= max {
            self.counters.limit(Limit::ConnectionsMax);
            tracing::warn!(
                event = "connection_refused", peer = %origin.peer, listener = %origin.listener,
                "connection from {} refused: limits.connections_max ({max})", origin.peer
            );
            return None;
        }
        self.hooks.accept(origin).then_some(seat)
    }

    /// Serves a byte stream that an embedding program brought.
    pub(crate) fn attach_stream(self: &Arc<Self>, stream: impl ByteStream, peer: &str) {
        let origin = Origin {
            listener: "attached".into(),
            peer: peer.into(),
            address: None,
            local_only: true,
        };
        let Some(seat) = self.seat(&origin, None) else {
            return;
        };
        let core = Arc::clone(self);
        let started = tokio::time::Instant::now();
        self.spawner.spawn(Box::pin(connection::serve(
            seat,
            connection::handshake(core, stream, origin, started, Presented::default()),
        )));
    }
}
