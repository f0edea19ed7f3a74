//! Listeners and byte streams: TCP, TLS, WebSocket and Unix sockets behind one interface.
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

mod address;
mod close;
mod connect;
mod listener;
mod stream;
mod tls;
mod ws;

pub use address::{AddressError, ConnectAddress, HostPort, ListenAddress};
pub use close::{CLOSE_DRAIN_BYTES_MAX, close_gracefully};
pub use connect::{ConnectOptions, connect};
pub use listener::{
    Accepted, BindError, Certificates, EstablishError, Established, IdentitySource, Listener,
    ListenerOptions, is_fd_exhaustion, is_peer_gone,
};
pub use stream::{ByteStream, Stream};
pub use tls::{
    CertificateFiles, ClientAuth, PeerCertificate, TlsClientOptions, TlsError, TlsOptions,
    TlsStream, TlsVersion,
};
pub use ws::{
    FrameError, Role, UpgradeError, WsClientOptions, WsOptions, WsStream, ws_accept, ws_connect,
    ws_stream,
};
