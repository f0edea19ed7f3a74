//! Listening sockets, and the step from an accepted socket to an established stream.

use crate::address::ListenAddress;
use crate::stream::Stream;
use crate::ws::{UpgradeError, WsOptions, ws_accept};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
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
    /// Idle seconds after which the kernel probes the peer; `None` (default) leaves it to the
    /// keep alive of the protocol above. Values above 32,767 are refused by Linux.
    pub keepalive_secs: Option<u32>,
    /// Settings of WebSocket listeners.
    pub ws: WsOptions,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            nodelay: true,
            keepalive_secs: None,
            ws: WsOptions::default(),
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
}

impl BindError {
    /// The operating system's error.
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Resolve { source, .. } | Self::Bind { source, .. } => source,
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

/// What is done with an accepted socket.
#[derive(Clone, Debug)]
enum Upgrade {
    None,
    WebSocket(Arc<WsOptions>),
}

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    upgrade: Upgrade,
    nodelay: bool,
    keepalive: Option<TcpKeepalive>,
}

impl Listener {
    /// Binds and listens. A host name with several addresses binds the first one that works.
    ///
    /// # Errors
    /// [`BindError`] when the name is unknown or the operating system refuses the socket.
    pub async fn bind(
        address: &ListenAddress,
        options: &ListenerOptions,
    ) -> Result<Self, BindError> {
        let at = address.host_port();
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
                    return Self::from_socket(socket, address, options).map_err(|source| {
                        BindError::Bind {
                            address: address.clone(),
                            source,
                        }
                    });
                }
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

    fn from_socket(
        socket: TcpListener,
        address: &ListenAddress,
        options: &ListenerOptions,
    ) -> io::Result<Self> {
        let upgrade = match address {
            ListenAddress::Tcp(_) => Upgrade::None,
            ListenAddress::Ws { path, .. } => {
                let mut ws = options.ws.clone();
                if path.is_some() {
                    ws.path.clone_from(path);
                }
                Upgrade::WebSocket(Arc::new(ws))
            }
        };
        Ok(Self {
            local_addr: socket.local_addr()?,
            socket,
            upgrade,
            nodelay: options.nodelay,
            keepalive: options
                .keepalive_secs
                .map(|secs| TcpKeepalive::new().with_time(Duration::from_secs(secs.into()))),
        })
    }

    /// The address it listens on, with the real port where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits for the next connection. Nothing has been read from it and a WebSocket upgrade has
    /// not happened. Cancel safe.
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
            upgrade: self.upgrade.clone(),
        })
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
    upgrade: Upgrade,
}

impl Accepted {
    /// Makes the connection ready for bytes: at once for TCP, after the upgrade for WebSocket.
    ///
    /// The caller bounds it in time; dropping the future closes the connection.
    ///
    /// # Errors
    /// [`EstablishError`]; a peer that asked for the wrong thing has been answered.
    pub async fn establish(self) -> Result<Stream, EstablishError> {
        match self.upgrade {
            Upgrade::None => Ok(Stream::Tcp(self.stream)),
            Upgrade::WebSocket(options) => Ok(Stream::Ws(ws_accept(self.stream, &options).await?)),
        }
    }
}

/// Why an accepted connection never became a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// The WebSocket upgrade failed.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(#[from] UpgradeError),
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
