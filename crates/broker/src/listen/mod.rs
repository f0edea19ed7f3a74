//! Listeners at run time: accept, back off, refuse what is over the limit, hand over to a connection task.

mod certificates;
mod gate;
mod terms;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use martlet_sync::Mutex;
use martlet_transport::{
    Accepted, BindError, ByteStream, Certificates, EstablishError, Established, ListenAddress,
    Listener, ListenerOptions, ListenerSettings, Peer, Stream, StreamSource, TlsError,
    is_fd_exhaustion, is_peer_gone,
};
use tokio::sync::Notify;

use gate::{Closed, Gate, HalfOpen};
pub(crate) use terms::Terms;

use crate::{
    config::{IdentityUse, ListenerPolicy},
    connection::{self, Arrival, Connection},
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
    /// The same as a socket address; `0.0.0.0:0` for a Unix socket.
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
    connections: AtomicUsize,
    close: Arc<Notify>,
    certificates: Option<Certificates>,
    settings: ListenerSettings,
    gate: Arc<Gate>,
}

/// What a connection occupies at its listener. All share one, unless connections are counted by address.
pub(crate) struct Place {
    open: Arc<Open>,
    address: Mutex<Option<IpAddr>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(address) = self.address.get_mut().take() {
            self.open.gate.leave(address);
        }
    }
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
        core.know_mount(&policy.mount_point);
        let listener = Listener::bind(address, options).await?;
        let local_addr = listener.local_addr();
        let url = match address.host_port() {
            Some(_) => format!("{}://{local_addr}", address.scheme()),
            None => address.to_string(),
        };
        let open = Arc::new(Open {
            id: id.into(),
            url,
            local_addr,
            connections: AtomicUsize::new(0),
            close: Arc::default(),
            certificates: listener.certificates(),
            settings: listener.settings(),
            gate: Arc::new(Gate::new(policy)),
        });
        let info = open.info();
        {
            // A listener of the same id is replaced now that this one is there.
            let mut all = self.all.lock();
            close_in(&mut all, id);
            all.push(Arc::clone(&open));
        }
        if open.certificates.is_some() {
            let watch = certificates::watch(Arc::downgrade(&open));
            core.spawner.spawn(Box::pin(watch));
        }
        core.spawner
            .spawn(Box::pin(accept_loop(Arc::clone(core), listener, open)));
        Ok(info)
    }

    /// What clients of the listener `id` are held to.
    pub(crate) fn terms(&self, id: &str) -> Option<Arc<Terms>> {
        let all = self.all.lock();
        all.iter()
            .find(|open| &*open.id == id)
            .map(|open| open.gate.terms())
    }

    /// Stops accepting on the listener `id`; its connections go on.
    pub(crate) fn close(&self, id: &str) -> bool {
        close_in(&mut self.all.lock(), id)
    }

    /// Holds new connections of the listener `id` to other settings; `None` if there is no such listener.
    pub(crate) fn change(
        &self,
        core: &Core,
        id: &str,
        address: &ListenAddress,
        options: &ListenerOptions,
        policy: ListenerPolicy,
    ) -> Option<Result<(), TlsError>> {
        let all: Vec<Arc<Open>> = self.all.lock().clone();
        let open = all.iter().find(|open| &*open.id == id)?;
        let changed = open.settings.change(address, options);
        if changed.is_ok() {
            core.know_mount(&policy.mount_point);
            open.gate.change(policy);
        }
        Some(changed)
    }

    pub(crate) fn close_all(&self) {
        for open in self.all.lock().drain(..) {
            open.close.notify_one();
        }
    }
}

/// Takes the listener `id` away and lets it stop; whether there was one.
fn close_in(all: &mut Vec<Arc<Open>>, id: &str) -> bool {
    let before = all.len();
    all.retain(|open| {
        if &*open.id == id {
            open.close.notify_one();
        }
        &*open.id != id
    });
    all.len() < before
}

async fn accept_loop(core: Arc<Core>, mut listener: Listener, open: Arc<Open>) {
    let mut back_off = BACK_OFF;
    let reserve = Reserve::new();
    let shared_place = Arc::new(Place {
        open: Arc::clone(&open),
        address: Mutex::default(),
    });
    loop {
        let accepted = tokio::select! {
            accepted = accept_in_time(&mut listener, &open.gate) => accepted,
            () = open.close.notified() => return,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            // Nothing is wrong with the listener.
            Err(error) if is_peer_gone(&error) => continue,
            Err(error) => {
                tracing::warn!(event = "accept_failed", listener = &*open.id, %error, "cannot accept: {error}");
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
        let terms = open.gate.terms();
        let origin = Origin {
            listener: Arc::clone(&open.id),
            peer: accepted.peer.to_string().into(),
            address: accepted.peer.socket_addr(),
            local_only: listener.is_local(),
            allow_anonymous: terms.policy.allow_anonymous,
        };
        // Whom a proxy speaks for is known later; the proxy itself is not counted.
        let address = accepted.peer.ip().filter(|_| !listener.is_for_proxies());
        let place = if open.gate.counts_addresses() {
            Arc::new(Place {
                open: Arc::clone(&open),
                address: Mutex::default(),
            })
        } else {
            Arc::clone(&shared_place)
        };
        let Some(seat) = core.seat(&origin, Some(Arc::clone(&place))) else {
            continue;
        };
        if let Err(closed) = place.take(address) {
            open.tell(&core, &origin, closed);
            continue;
        }
        let half_open = open.gate.half_open(address);
        let task_core = Arc::clone(&core);
        core.spawner.spawn(Box::pin(connection::serve(
            seat,
            establish(task_core, accepted, origin, terms, place, half_open),
        )));
    }
}

/// Accepts, as fast as the listener may.
async fn accept_in_time(listener: &mut Listener, gate: &Gate) -> std::io::Result<Accepted> {
    while let Some(pause) = gate.pause(Instant::now()) {
        tokio::time::sleep(pause).await;
    }
    listener.accept().await
}

impl Place {
    /// Takes it for a connection from `address`.
    fn take(&self, address: Option<IpAddr>) -> Result<(), Closed> {
        let gate = &self.open.gate;
        gate.judge_network(address)?;
        let connections = self.open.connections.load(Ordering::Relaxed);
        gate.enter(address, connections, Instant::now())?;
        if gate.counts_addresses() {
            let before = std::mem::replace(&mut *self.address.lock(), address);
            if let Some(before) = before {
                gate.leave(before);
            }
        }
        Ok(())
    }
}

impl Open {
    /// Counts a connection that was closed, and says so now and then.
    fn tell(&self, core: &Core, origin: &Origin, closed: Closed) {
        core.counters.event(Event::SocketRefused);
        if let Some(untold) = self.gate.tell(Instant::now()) {
            tracing::warn!(
                event = "connection_closed",
                peer = &*origin.peer,
                listener = &*self.id,
                key = closed.key(),
                untold,
                "connection from {} closed at once: {} of listener {}",
                origin.peer,
                closed.key(),
                self.id
            );
        }
    }
}

/// From an accepted socket to a connected client, all under one deadline, and as long as there is room for those that
/// have not got that far.
async fn establish(
    core: Arc<Core>,
    accepted: Accepted,
    origin: Origin,
    terms: Arc<Terms>,
    place: Arc<Place>,
    half_open: Option<HalfOpen>,
) -> Option<Connection<Stream>> {
    let Some(half_open) = half_open else {
        return establish_in_time(core, accepted, origin, terms, place).await;
    };
    let counters = Arc::clone(&core);
    tokio::select! {
        connection = establish_in_time(core, accepted, origin, terms, place) => connection,
        () = half_open.evicted() => {
            counters.counters.event(Event::SocketRefused);
            None
        }
    }
}

async fn establish_in_time(
    core: Arc<Core>,
    accepted: Accepted,
    mut origin: Origin,
    terms: Arc<Terms>,
    place: Arc<Place>,
) -> Option<Connection<Stream>> {
    let timeout = core.config.load().limits.connect_timeout;
    let started = tokio::time::Instant::now();
    match tokio::time::timeout(timeout, accepted.establish()).await {
        Ok(Ok(established)) => {
            if let Some(client) = &established.proxied {
                behind_proxy(&mut origin, client);
                if let Err(closed) = place.take(client.ip()) {
                    place.open.tell(&core, &origin, closed);
                    return None;
                }
            }
            let presented = presented(&established, terms.policy.identity_as);
            drop(place);
            let arrival = Arrival {
                origin,
                terms,
                presented,
                started,
            };
            let max = core.config.load().limits.data_streams_max;
            let mut connection = connection::handshake(core, established.stream, arrival).await?;
            if let Some(source) = connection.stream().further(max) {
                connection.accept_streams(source, max);
            }
            Some(connection)
        }
        Ok(Err(error)) => {
            core.counters
                .connect_refused(martlet_codec::ReasonCode::MalformedPacket);
            tell_failed(&place.open, &origin, &error);
            None
        }
        Err(_) => {
            core.counters.limit(Limit::ConnectTimeout);
            None
        }
    }
}

/// Garbage costs a line a second, however much of it arrives.
fn tell_failed(open: &Open, origin: &Origin, error: &EstablishError) {
    if let Some(untold) = open.gate.tell(Instant::now()) {
        tracing::info!(
            event = "establish_failed", peer = &*origin.peer, listener = &*origin.listener, %error, untold,
            "{} refused: {error}", origin.peer
        );
    }
}

/// What comes through a proxy may come from anywhere, however local the proxy is.
fn behind_proxy(origin: &mut Origin, client: &Peer) {
    origin.peer = client.to_string().into();
    origin.address = client.socket_addr();
    origin.local_only = false;
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
    place: Option<Arc<Place>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.core.connections.fetch_sub(1, Ordering::AcqRel);
        if let Some(place) = &self.place {
            place.open.connections.fetch_sub(1, Ordering::Relaxed);
        }
        if self.core.is_stopping() {
            self.core.emptied.notify_waiters();
        }
    }
}

impl Core {
    /// From now on nobody else gets at what belongs to the clients of this mount point. It is remembered until the end:
    /// some of them may stay connected after their listener has changed.
    fn know_mount(&self, prefix: &str) {
        let known = self.mounts.load();
        if !prefix.is_empty() && !known.iter().any(|known| **known == *prefix) {
            let all = known.iter().cloned().chain([prefix.into()]).collect();
            self.mounts.store(Arc::new(all));
        }
    }

    /// Admits a connection, if there is room and nobody objects.
    pub(crate) fn seat(
        self: &Arc<Self>,
        origin: &Origin,
        place: Option<Arc<Place>>,
    ) -> Option<Seat> {
        self.counters.event(Event::SocketAccepted);
        let max = self.config.load().limits.connections_max;
        let taken = self.connections.fetch_add(1, Ordering::AcqRel);
        if let Some(place) = &place {
            place.open.connections.fetch_add(1, Ordering::Relaxed);
        }
        let seat = Seat {
            core: Arc::clone(self),
            place,
        };
        if taken >= max {
            self.counters.limit(Limit::ConnectionsMax);
            tracing::warn!(
                event = "connection_refused",
                peer = &*origin.peer,
                listener = &*origin.listener,
                "connection from {} refused: limits.connections_max ({max})",
                origin.peer
            );
            return None;
        }
        self.hooks.accept(origin).then_some(seat)
    }

    /// Serves a byte stream that an embedding program brought, and further ones where it has a source of them, under
    /// `terms`; `listener` names it.
    pub(crate) fn attach_stream<S: ByteStream>(
        self: &Arc<Self>,
        stream: S,
        further: Option<Box<dyn StreamSource<S>>>,
        peer: &str,
        listener: &str,
        terms: Arc<Terms>,
    ) {
        let origin = Origin {
            listener: listener.into(),
            peer: peer.into(),
            address: None,
            local_only: true,
            allow_anonymous: terms.policy.allow_anonymous,
        };
        let Some(seat) = self.seat(&origin, None) else {
            return;
        };
        let core = Arc::clone(self);
        let arrival = Arrival {
            origin,
            terms,
            presented: Presented::default(),
            started: tokio::time::Instant::now(),
        };
        let max = core.config.load().limits.data_streams_max;
        let handshake = async move {
            let mut connection = connection::handshake(core, stream, arrival).await?;
            if let Some(source) = further {
                connection.accept_streams(source, max);
            }
            Some(connection)
        };
        self.spawner
            .spawn(Box::pin(connection::serve(seat, handshake)));
    }
}
