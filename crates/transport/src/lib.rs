//! Listeners and byte streams: TCP, TLS, WebSocket, QUIC and Unix sockets behind one interface.
//!
//! A [`Listener`] accepts raw connections; [`Accepted::establish`] runs whatever has to happen
//! before bytes flow (TLS, the WebSocket upgrade) in the task of that connection, under the
//! caller's deadline; what comes out is an [`Established`]: a [`Stream`], an ordinary `AsyncRead +
//! AsyncWrite`, and what is known about the peer. [`connect`] is the client's side of it. Anything that is a [`ByteStream`] can stand in for a `Stream`.
//!
//! Deliberately absent: knowledge of MQTT (WebSocket subprotocol names are parameters), tasks,
//! timers of its own, back-off and connection limits, logging. All of these belong to the caller.
//!
//! A further transport is a variant of
//! [`ListenAddress`], a field of [`ListenerOptions`], a step inside [`Accepted::establish`] and a
//! variant of [`Stream`]; these enums are `#[non_exhaustive]`.

mod accepted;
mod address;
mod certificates;
mod close;
mod connect;
mod inherited;
mod listener;
mod network;
mod proxy;
#[cfg(feature = "quic")]
mod quic;
mod stream;
mod tls;
#[cfg(unix)]
mod unix;
mod ws;

pub use accepted::{Accepted, EstablishError, Established, IdentitySource, Peer};
pub use address::{AddressError, ConnectAddress, HostPort, ListenAddress};
pub use certificates::Certificates;
pub use close::{CLOSE_DRAIN_BYTES_MAX, close_gracefully};
pub use connect::{ConnectOptions, connect};
pub use inherited::Inherited;
pub use listener::{
    BindError, Listener, ListenerOptions, ListenerSettings, is_fd_exhaustion, is_peer_gone,
};
pub use network::{Network, NetworkError};
pub use proxy::{ProxyError, ProxyHeader, ProxyParse};
#[cfg(feature = "quic")]
pub use quic::{DataStreams, QuicHandle, QuicStream};
pub use stream::{ByteStream, Stream, StreamSource};
pub use tls::{
    CertificateFiles, ClientAuth, PeerCertificate, TlsClientOptions, TlsError, TlsOptions,
    TlsStream, TlsVersion,
};
#[cfg(unix)]
pub use unix::UnixOptions;
pub use ws::{
    FrameError, Role, UpgradeError, WsClientOptions, WsOptions, WsStream, ws_accept, ws_connect,
    ws_stream,
};
