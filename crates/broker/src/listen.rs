//! Listeners at run time: accept, back off, refuse what is over the limit, hand over to a connection task.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use martlet_transport::{
    Accepted, BindError, ByteStream, ListenAddress, Listener, ListenerOptions, Stream,
    is_fd_exhaustion,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    connection::{self, Connection},
    core::Core,
    counters::{Event, Limit},
    files::Reserve,
    hooks::Origin,
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
}

impl Listeners {
    pub(crate) fn infos(&self) -> Vec<ListenerInfo> {
        let info = |open: &Arc<Open>| ListenerInfo {
            id: open.id.to_string(),
            url: open.url.clone(),
            local_addr: open.local_addr,
            connections: open.connections.load(Ordering::Relaxed),
        };
        self.all.lock().iter().map(info).collect()
    }

    pub(crate) async fn open(
        &self,
        core: &Arc<Core>,
        id: &str,
        address: &ListenAddress,
        options: &ListenerOptions,
    ) -> Result<ListenerInfo, BindError> {
        let listener = Listener::bind(address, options).await?;
        let local_addr = listener.local_addr();
        let open = Arc::new(Open {
            id: id.into(),
            url: format!("{}://{local_addr}", address.scheme()),
            local_addr,
            connections: Arc::default(),
            close: Arc::default(),
        });
        self.all.lock().push(Arc::clone(&open));
        core.spawner.spawn(Box::pin(accept_loop(
            Arc::clone(core),
            listener,
            Arc::clone(&open),
        )));
        let connections = 0;
        Ok(ListenerInfo {
            id: id.into(),
            url: open.url.clone(),
            local_addr,
            connections,
        })
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
            establish(task_core, accepted, origin),
        )));
    }
}

/// From an accepted socket to a connected client, all under one deadline.
async fn establish(
    core: Arc<Core>,
    accepted: Accepted,
    origin: Origin,
) -> Option<Connection<Stream>> {
    let timeout = core.config.load().limits.connect_timeout;
    let started = tokio::time::Instant::now();
    match tokio::time::timeout(timeout, accepted.establish()).await {
        Ok(Ok(stream)) => connection::handshake(core, stream, origin, started).await,
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
            connection::handshake(core, stream, origin, started),
        )));
    }
}
