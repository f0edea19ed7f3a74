//! Listeners and byte streams: TCP and WebSocket behind one interface.
//!
//! A [`Listener`] accepts raw connections; [`Accepted::establish`] runs whatever has to happen
//! before bytes flow (the WebSocket upgrade) in the task of that connection, under the caller's
//! deadline; what comes out is a [`Stream`], an ordinary `AsyncRead + AsyncWrite`. [`connect`] is
//! the client's side of it. Anything that is a [`ByteStream`] can stand in for a `Stream`.
//!
//! Deliberately absent: knowledge of MQTT (WebSocket subprotocol names are parameters), tasks,
//! timers of its own, back-off and connection limits, logging. All of these belong to the caller.
//!
//! A further transport (TLS, QUIC, Unix sockets, a PROXY header) is a variant of
//! [`ListenAddress`], a field of [`ListenerOptions`], a step inside [`Accepted::establish`] and a
//! variant of [`Stream`]; these enums are `#[non_exhaustive]`.

mod address;
mod close;
mod connect;
mod listener;
mod stream;
mod ws;

pub use address::{AddressError, ConnectAddress, HostPort, ListenAddress};
pub use close::{CLOSE_DRAIN_BYTES_MAX, close_gracefully};
pub use connect::{ConnectOptions, connect};
pub use listener::{
    Accepted, BindError, EstablishError, Listener, ListenerOptions, is_fd_exhaustion, is_peer_gone,
};
pub use stream::{ByteStream, Stream};
pub use ws::{
    FrameError, Role, UpgradeError, WsClientOptions, WsOptions, WsStream, ws_accept, ws_connect,
    ws_stream,
};
