//! Listening sockets, and the step from an accepted socket to an established stream.

use crate::address::ListenAddress;
use crate::stream::Stream;
use crate::tls::{PeerCertificate, TlsError, TlsOptions, TlsServer};
use crate::ws::{UpgradeError, WsOptions, ws_accept};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
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
    /// Idle seconds after which the kernel probes the peer; `None` (default) leaves it to the
    /// keep alive of the protocol above. Values above 32,767 are refused by Linux.
    pub keepalive_secs: Option<u32>,
    /// Settings of WebSocket listeners.
    pub ws: WsOptions,
    /// Settings of TLS listeners, which need a certificate.
    pub tls: TlsOptions,
    /// Protocols that a TLS listener agrees to with clients that propose some (ALPN); with clients
    /// that propose none it speaks without. Not used by WebSocket, which is `http/1.1`. Default
    /// `mqtt`.
    pub alpn: &'static [&'static str],
    /// What of the peer's certificate becomes [`Established::identity`]. Default `None`: nothing.
    pub identity: Option<IdentitySource>,
}

/// What tells who a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentitySource {
    /// The common name (CN) of its certificate.
    CommonName,
    /// The whole subject of its certificate, as RFC 4514 writes it.
    Subject,
    /// The first DNS name of its certificate.
    DnsName,
    /// The first URI of its certificate.
    Uri,
    /// The first e-mail address of its certificate.
    Email,
}

impl IdentitySource {
    fn of(self, certificate: &PeerCertificate) -> Option<String> {
        let text = match self {
            Self::CommonName => certificate.common_name.as_ref(),
            Self::Subject => Some(&certificate.subject),
            Self::DnsName => certificate.dns_names.first(),
            Self::Uri => certificate.uris.first(),
            Self::Email => certificate.emails.first(),
        };
        text.filter(|text| !text.is_empty()).cloned()
    }
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            nodelay: true,
            keepalive_secs: None,
            ws: WsOptions::default(),
            tls: TlsOptions::default(),
            alpn: &["mqtt"],
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
    #[error("cannot listen on {address}: {source}{}", hint(source))]
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

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another program, perhaps another broker, listens there already)"
        }
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need special rights)",
        _ => "",
    }
}

/// What all connections of a listener share.
#[derive(Debug)]
struct Shared {
    tls: Option<TlsServer>,
    ws: Option<WsOptions>,
    identity: Option<IdentitySource>,
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
            Some(TlsServer::load(options.tls.clone(), alpn)?)
        } else {
            None
        };
        Ok(Self {
            tls,
            ws,
            identity: options.identity,
        })
    }
}

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    nodelay: bool,
    keepalive: Option<TcpKeepalive>,
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
        let bind_error = |source| BindError::Bind {
            address: address.clone(),
            source,
        };
        let Some(at) = address.host_port() else {
            return Err(bind_error(io::ErrorKind::Unsupported.into()));
        };
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
            match listen(candidate, options) {
                Ok(socket) => {
                    return Ok(Self {
                        local_addr: socket.local_addr().map_err(bind_error)?,
                        socket,
                        shared: Arc::new(shared),
                        nodelay: options.nodelay,
                        keepalive: options.keepalive_secs.map(|secs| {
                            TcpKeepalive::new().with_time(Duration::from_secs(secs.into()))
                        }),
                    });
                }
                Err(error) => last_error = Some(error),
            }
        }
        Err(match last_error {
            Some(source) => bind_error(source),
            None => resolve_error(io::Error::new(io::ErrorKind::NotFound, "no address")),
        })
    }

    /// The address it listens on, with the real port where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The certificates of a TLS listener, to look after while it accepts.
    pub fn certificates(&self) -> Option<Certificates> {
        let tls = self.shared.tls.is_some();
        tls.then(|| Certificates(Arc::clone(&self.shared)))
    }

    /// Waits for the next connection. Nothing has been read from it: TLS and a WebSocket upgrade
    /// have not happened. Cancel safe.
    ///
    /// # Errors
    /// The listener stays usable. See [`is_fd_exhaustion`] and [`is_peer_gone`]; after other
    /// errors it is wise to pause before the next call.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        let (stream, peer) = self.socket.accept().await?;
        // A peer that is gone already makes these fail; its first read will tell.
        if self.nodelay {
            drop(stream.set_nodelay(true));
        }
        if let Some(keepalive) = &self.keepalive {
            drop(SockRef::from(&stream).set_tcp_keepalive(keepalive));
        }
        Ok(Accepted {
            peer,
            stream,
            shared: Arc::clone(&self.shared),
        })
    }
}

/// The certificates, keys and authorities of a TLS listener. New ones serve new connections; those
/// that exist go on.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Shared>);

impl Certificates {
    /// Reads all files again; blocks while it reads.
    ///
    /// # Errors
    /// What is wrong with which file; then everything stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.0.tls.as_ref().map_or(Ok(()), TlsServer::reload)
    }

    /// The same if a file has changed since the last attempt; `None` if none has. Cheap enough for
    /// every few seconds.
    pub fn reload_if_changed(&self) -> Option<Result<(), TlsError>> {
        self.0.tls.as_ref().and_then(TlsServer::reload_if_changed)
    }

    /// When the first of the certificates in use expires.
    pub fn not_after(&self) -> SystemTime {
        let tls = self.0.tls.as_ref();
        tls.map_or(SystemTime::UNIX_EPOCH, TlsServer::not_after)
    }

    /// Whole days until then; 0 on the last day, negative afterwards.
    pub fn days_left(&self) -> i64 {
        const DAY: u64 = 86_400;
        let days = |distance: Duration| i64::try_from(distance.as_secs() / DAY).unwrap_or(i64::MAX);
        match self.not_after().duration_since(SystemTime::now()) {
            Ok(left) => days(left),
            Err(past) => -1 - days(past.duration()),
        }
    }
}

/// `bind` and `listen` on one address.
fn listen(address: SocketAddr, options: &ListenerOptions) -> io::Result<TcpListener> {
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
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// A connection as the kernel handed it over.
#[derive(Debug)]
pub struct Accepted {
    /// The address of the other side.
    pub peer: SocketAddr,
    stream: TcpStream,
    shared: Arc<Shared>,
}

/// A connection that is ready for bytes, and what is known about the other side.
#[derive(Debug)]
pub struct Established {
    /// The bytes.
    pub stream: Stream,
    /// Who the peer has proved to be, as [`ListenerOptions::identity`] asks for it.
    pub identity: Option<String>,
    /// The certificate it showed, verified.
    pub certificate: Option<Box<PeerCertificate>>,
}

impl Accepted {
    /// Makes the connection ready for bytes: at once for TCP, after the handshake for TLS, after
    /// the upgrade for WebSocket.
    ///
    /// The caller bounds it in time; dropping the future closes the connection.
    ///
    /// # Errors
    /// [`EstablishError`]; a peer that asked for the wrong thing has been answered.
    pub async fn establish(self) -> Result<Established, EstablishError> {
        let Self { stream, shared, .. } = self;
        let Some(tls) = &shared.tls else {
            return Ok(Established {
                stream: match &shared.ws {
                    None => Stream::Tcp(stream),
                    Some(ws) => Stream::Ws(ws_accept(stream, ws).await?),
                },
                identity: None,
                certificate: None,
            });
        };
        let stream = tls.accept(stream).await;
        let stream = stream.map_err(|error| EstablishError::tls(&error))?;
        let certificate = stream
            .peer_certificate()
            .and_then(PeerCertificate::parse)
            .map(Box::new);
        let identity = match (&certificate, shared.identity) {
            (Some(certificate), Some(source)) => source.of(certificate),
            _ => None,
        };
        Ok(Established {
            stream: match &shared.ws {
                None => Stream::Tls(stream),
                Some(ws) => Stream::Wss(ws_accept(stream, ws).await?),
            },
            identity,
            certificate,
        })
    }
}

/// Why an accepted connection never became a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Tls(String),
    /// The WebSocket upgrade failed.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(#[from] UpgradeError),
}

impl EstablishError {
    fn tls(error: &io::Error) -> Self {
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self::Tls(match cause {
            Some(rustls::Error::InvalidMessage(
                rustls::InvalidMessage::InvalidContentType
                | rustls::InvalidMessage::UnknownProtocolVersion,
            )) => "the peer does not speak TLS".into(),
            Some(rustls::Error::NoCertificatesPresented) => {
                "the peer shows no certificate, which this listener requires".into()
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("the peer gave up with the alert {alert:?}")
            }
            Some(cause) => cause.to_string(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the peer closed before the end of it".into()
            }
            None => error.to_string(),
        })
    }
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
