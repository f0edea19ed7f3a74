//! Listening sockets and their settings.

use crate::accepted::{Accepted, IdentitySource, Peer, Raw};
use crate::address::{HostPort, ListenAddress};
use crate::certificates::Certificates;
use crate::inherited::Inherited;
use crate::network::Network;
use crate::tls::{OverQuic, PeerCertificate, TlsError, TlsOptions, TlsServer};
#[cfg(unix)]
use crate::unix::{UnixOptions, UnixSocket};
use crate::ws::WsOptions;
use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How a listener treats its socket and the connections it accepts.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Connections that the kernel completes ahead of [`Listener::accept`]. Linux caps it at
    /// `net.core.somaxconn`. Default 1024.
    pub backlog: u32,
    /// Lets several listeners share the port (`SO_REUSEPORT`; Unix only, ignored elsewhere).
    /// Default false.
    pub reuse_port: bool,
    /// Sends small packets at once (`TCP_NODELAY`). Default true: acknowledgements are tiny and
    /// whole batches are written in one call.
    pub nodelay: bool,
    /// Idle seconds after which the kernel probes the peer, three times, a third of that apart;
    /// `None` (default) leaves it to the keep alive of the protocol above. Values above 32,767 are
    /// refused by Linux. QUIC asks by itself, every so many seconds, and gives up after twice as long.
    pub keepalive_secs: Option<u32>,
    /// Seconds after which the kernel gives up a connection whose peer acknowledges nothing of what
    /// was sent (`TCP_USER_TIMEOUT`; Linux only, ignored elsewhere). Default `None`: the system's
    /// 15 minutes or so.
    pub user_timeout_secs: Option<u32>,
    /// Whether an IPv6 address takes IPv4 connections too: `[::]` those of every interface. Default
    /// true.
    pub dual_stack: bool,
    /// The only network interface to take connections from, by name (Linux only, refused
    /// elsewhere). Default `None`: all that have the address.
    pub interface: Option<String>,
    /// Whether the listener is for proxies, which tell with the PROXY protocol (version 1 or 2) who
    /// really connects. Then every connection must begin with its header and come from one of
    /// `trusted_proxies`. Default false: a header is no MQTT.
    pub proxy_protocol: bool,
    /// Networks of proxies: those that `proxy_protocol` takes connections from, and those whose
    /// WebSocket requests may name the client in `X-Forwarded-For` or `X-Real-IP`. Default none.
    pub trusted_proxies: Vec<Network>,
    /// Settings of Unix sockets.
    #[cfg(unix)]
    pub unix: UnixOptions,
    /// Settings of WebSocket listeners.
    pub ws: WsOptions,
    /// Settings of TLS listeners, which need a certificate.
    pub tls: TlsOptions,
    /// Protocols that a TLS listener agrees to with clients that propose some (ALPN); with clients
    /// that propose none it speaks without. Not used by WebSocket, which is `http/1.1`. Default
    /// `mqtt`.
    pub alpn: &'static [&'static str],
    /// Sockets that are bound already: a listener whose address is that of one of them takes it. `backlog` and the like
    /// are then as whoever bound it wanted. Default none.
    pub inherited: Inherited,
    /// What of the peer's certificate becomes [`Established::identity`](crate::Established::identity). Default `None`: nothing.
    pub identity: Option<IdentitySource>,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            nodelay: true,
            keepalive_secs: None,
            user_timeout_secs: None,
            dual_stack: true,
            interface: None,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            #[cfg(unix)]
            unix: UnixOptions::default(),
            ws: WsOptions::default(),
            tls: TlsOptions::default(),
            alpn: &["mqtt"],
            inherited: Inherited::default(),
            identity: None,
        }
    }
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The host name has no address here.
    #[error("cannot listen on {address}: `{host}` cannot be resolved: {source}")]
    Resolve {
        /// As configured.
        address: ListenAddress,
        /// Its host part.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot listen on {address}: {source}{}", hint(address, source))]
    Bind {
        /// As configured.
        address: ListenAddress,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its certificates, keys or TLS settings cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Tls {
        /// As configured.
        address: ListenAddress,
        /// Which file, and what is wrong.
        source: TlsError,
    },
}

impl BindError {
    /// The operating system's error, where it is to blame.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Resolve { source, .. } | Self::Bind { source, .. } => Some(source),
            Self::Tls { .. } => None,
        }
    }
}

fn hint(address: &ListenAddress, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.host_port().is_some() => {
            " (ports below 1024 need special rights)"
        }
        io::ErrorKind::AddrInUse => {
            " (another program, perhaps another broker, listens there already)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        _ => "",
    }
}

/// What all connections of a listener share. Replaced as a whole when settings change.
#[derive(Debug)]
pub(crate) struct Shared {
    nodelay: bool,
    keepalive: Option<TcpKeepalive>,
    user_timeout: Option<Duration>,
    pub(crate) tls: Option<TlsServer>,
    pub(crate) ws: Option<WsOptions>,
    pub(crate) identity: Option<IdentitySource>,
    pub(crate) proxy: bool,
    pub(crate) trusted: Vec<Network>,
}

impl Shared {
    fn new(address: &ListenAddress, options: &ListenerOptions) -> Result<Self, TlsError> {
        let ws = match address {
            ListenAddress::Ws { path, .. } | ListenAddress::Wss { path, .. } => {
                let mut ws = options.ws.clone();
                if path.is_some() {
                    ws.path.clone_from(path);
                }
                Some(ws)
            }
            _ => None,
        };
        // What is agreed upon below WebSocket is HTTP, and it must be the version with upgrades.
        let alpn: &[&str] = if ws.is_some() {
            &["http/1.1"]
        } else {
            options.alpn
        };
        let tls = if address.is_tls() {
            let quic = (address.scheme() == "quic").then_some(OverQuic {
                keepalive_secs: options.keepalive_secs,
            });
            Some(TlsServer::load(options.tls.clone(), alpn, quic)?)
        } else {
            None
        };
        Ok(Self {
            nodelay: options.nodelay,
            keepalive: options.keepalive_secs.map(keepalive),
            user_timeout: options
                .user_timeout_secs
                .map(|secs| Duration::from_secs(secs.into())),
            tls,
            ws,
            identity: options.identity,
            proxy: options.proxy_protocol,
            trusted: options.trusted_proxies.clone(),
        })
    }

    /// A peer that is gone already makes these fail; its first read will tell.
    fn prepare(&self, stream: &TcpStream) {
        if self.nodelay {
            drop(stream.set_nodelay(true));
        }
        if let Some(keepalive) = &self.keepalive {
            drop(SockRef::from(stream).set_tcp_keepalive(keepalive));
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.user_timeout.is_some() {
            drop(SockRef::from(stream).set_tcp_user_timeout(self.user_timeout));
        }
    }

    /// What the certificate says about who the peer is.
    pub(crate) fn identity_in(&self, certificate: Option<&PeerCertificate>) -> Option<String> {
        self.identity?.of(certificate?)
    }
}

/// What is listened on.
#[derive(Debug)]
enum Door {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixSocket),
    #[cfg(feature = "quic")]
    Quic(quinn::Endpoint),
}

#[cfg(feature = "quic")]
impl Drop for Door {
    fn drop(&mut self) {
        if let Self::Quic(endpoint) = self {
            // The socket lives on with its connections, but meets nobody new.
            endpoint.set_server_config(None);
        }
    }
}

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    door: Door,
    local_addr: Option<SocketAddr>,
    shared: Arc<ArcSwap<Shared>>,
}

/// The settings of a listener, from outside of it: what can change while it accepts.
#[derive(Clone, Debug)]
pub struct ListenerSettings(Arc<ArcSwap<Shared>>);

impl ListenerSettings {
    /// Makes `options` those of new connections; connections that exist go on under theirs. What belongs to the
    /// socket stays as it was bound: the address itself, `backlog`, `reuse_port`, `dual_stack`, `interface` and
    /// `unix`. Of `address` only the path of WebSocket counts. Reads certificates and keys, and blocks while it
    /// does.
    ///
    /// # Errors
    /// A certificate or key cannot be used; then nothing has changed.
    pub fn change(
        &self,
        address: &ListenAddress,
        options: &ListenerOptions,
    ) -> Result<(), TlsError> {
        self.0.store(Arc::new(Shared::new(address, options)?));
        Ok(())
    }
}

impl Listener {
    /// Binds and listens. A host name with several addresses binds the first one that works.
    ///
    /// # Errors
    /// [`BindError`] when a certificate or key cannot be used, the name is unknown or the operating
    /// system refuses the socket.
    pub async fn bind(
        address: &ListenAddress,
        options: &ListenerOptions,
    ) -> Result<Self, BindError> {
        let shared = Shared::new(address, options).map_err(|source| BindError::Tls {
            address: address.clone(),
            source,
        })?;
        let door = match (address, address.host_port()) {
            #[cfg(feature = "quic")]
            (ListenAddress::Quic(_), Some(at)) => {
                let config = shared.tls.as_ref().and_then(TlsServer::quic);
                let open = |candidate| {
                    let config = config.clone().ok_or(io::ErrorKind::InvalidInput)?;
                    crate::quic::listen(listen_udp(candidate, options)?, config)
                };
                Door::Quic(bind_first(address, at, open).await?)
            }
            (_, Some(at)) => {
                let open = |candidate| listen(candidate, options);
                Door::Tcp(bind_first(address, at, open).await?)
            }
            (_, None) => bind_unix(address, options)?,
        };
        let local_addr = match &door {
            Door::Tcp(socket) => Some(socket.local_addr()),
            #[cfg(unix)]
            Door::Unix(_) => None,
            #[cfg(feature = "quic")]
            Door::Quic(endpoint) => Some(endpoint.local_addr()),
        };
        let local_addr = local_addr.transpose().map_err(|source| BindError::Bind {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            door,
            local_addr,
            shared: Arc::new(ArcSwap::from_pointee(shared)),
        })
    }

    /// The address it listens on, with the real port where port 0 was asked for. A Unix socket has
    /// none and gives `0.0.0.0:0`.
    pub fn local_addr(&self) -> SocketAddr {
        const NONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.local_addr.unwrap_or(NONE)
    }

    /// Whether it can be reached from this machine only, and nobody in front of it passes others on.
    pub fn is_local(&self) -> bool {
        let local = self.local_addr.is_none_or(|at| at.ip().is_loopback());
        local && !self.is_for_proxies()
    }

    /// Whether its connections come from proxies, which speak for others.
    pub fn is_for_proxies(&self) -> bool {
        self.shared.load().proxy
    }

    /// Its settings, to change while it accepts.
    pub fn settings(&self) -> ListenerSettings {
        ListenerSettings(Arc::clone(&self.shared))
    }

    /// The certificates of a TLS listener, to look after while it accepts.
    pub fn certificates(&self) -> Option<Certificates> {
        let tls = self.shared.load().tls.is_some();
        tls.then(|| Certificates(Arc::clone(&self.shared)))
    }

    /// Waits for the next connection. Nothing has been read from it: a PROXY header, TLS and a
    /// WebSocket upgrade are still to come. Cancel safe.
    ///
    /// # Errors
    /// The listener stays usable. See [`is_fd_exhaustion`] and [`is_peer_gone`]; after other
    /// errors it is wise to pause before the next call.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        let (peer, raw) = match &self.door {
            Door::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                self.shared.load().prepare(&stream);
                (Peer::Socket(peer), Raw::Tcp(stream))
            }
            #[cfg(unix)]
            Door::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                (Peer::of_unix(&stream), Raw::Unix(stream))
            }
            #[cfg(feature = "quic")]
            Door::Quic(endpoint) => {
                let incoming = endpoint.accept().await;
                let incoming = incoming.ok_or(io::ErrorKind::NotConnected)?;
                let peer = Peer::Socket(incoming.remote_address());
                (peer, Raw::Quic(Box::new(incoming)))
            }
        };
        Ok(Accepted {
            peer,
            raw,
            shared: self.shared.load_full(),
        })
    }
}

/// Probes after `secs` of silence; a peer that answers none of three, a third of that apart, is gone.
fn keepalive(secs: u32) -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(secs.into()));
    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        windows
    ))]
    let keepalive = keepalive
        .with_interval(Duration::from_secs(u64::from(secs / 3).max(1)))
        .with_retries(3);
    keepalive
}

/// Binds the first address of a host that can be bound.
async fn bind_first<T>(
    address: &ListenAddress,
    at: &HostPort,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, BindError> {
    let resolve_error = |source| BindError::Resolve {
        address: address.clone(),
        host: at.host.clone(),
        source,
    };
    let candidates = tokio::net::lookup_host((at.host.as_str(), at.port))
        .await
        .map_err(resolve_error)?;
    let mut last_error = None;
    for candidate in candidates {
        match open(candidate) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = Some(error),
        }
    }
    Err(match last_error {
        Some(source) => BindError::Bind {
            address: address.clone(),
            source,
        },
        None => resolve_error(io::Error::new(io::ErrorKind::NotFound, "no address")),
    })
}

#[cfg(unix)]
fn bind_unix(address: &ListenAddress, options: &ListenerOptions) -> Result<Door, BindError> {
    let bound = match address {
        ListenAddress::Unix(path) => match options.inherited.take_unix(path) {
            Some(socket) => UnixSocket::inherit(socket),
            None => UnixSocket::bind(path, options.backlog, &options.unix),
        },
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    bound.map(Door::Unix).map_err(|source| BindError::Bind {
        address: address.clone(),
        source,
    })
}

#[cfg(not(unix))]
fn bind_unix(address: &ListenAddress, _: &ListenerOptions) -> Result<Door, BindError> {
    Err(BindError::Bind {
        address: address.clone(),
        source: io::ErrorKind::Unsupported.into(),
    })
}

/// `bind` and `listen` on one address, unless a socket was inherited that does.
fn listen(address: SocketAddr, options: &ListenerOptions) -> io::Result<TcpListener> {
    if let Some(socket) = options.inherited.take_tcp(address) {
        socket.set_nonblocking(true)?;
        return TcpListener::from_std(socket);
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // On Windows this option would let two programs share the port by accident.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    if let Some(interface) = &options.interface {
        bind_to(&socket, interface)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// A bound UDP socket.
#[cfg(feature = "quic")]
fn listen_udp(address: SocketAddr, options: &ListenerOptions) -> io::Result<std::net::UdpSocket> {
    if let Some(socket) = options.inherited.take_udp(address) {
        return Ok(socket);
    }
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    #[cfg(unix)]
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    if let Some(interface) = &options.interface {
        bind_to(&socket, interface)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Takes connections only that come in through this interface.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bind_to(socket: &Socket, interface: &str) -> io::Result<()> {
    socket
        .bind_device(Some(interface.as_bytes()))
        .map_err(|error| {
            // The system's words (no such device) do not say which.
            io::Error::new(error.kind(), format!("interface `{interface}`: {error}"))
        })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bind_to(_: &Socket, interface: &str) -> io::Result<()> {
    let reason = format!("interface `{interface}`: this system listens on addresses only");
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

/// The process (`EMFILE`) or the whole machine (`ENFILE`) is out of file descriptors: accepting
/// fails until something is closed, and the waiting connection makes the socket readable all the
/// while. Back off, or close a reserve descriptor to refuse the connection.
pub fn is_fd_exhaustion(error: &io::Error) -> bool {
    #[cfg(windows)]
    const CODES: [i32; 1] = [10_024];
    #[cfg(not(windows))]
    const CODES: [i32; 2] = [24, 23];
    error
        .raw_os_error()
        .is_some_and(|code| CODES.contains(&code))
}

/// The connection was gone before it could be accepted: nothing is wrong with the listener, and
/// the next call to [`Listener::accept`] needs no pause.
pub fn is_peer_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
