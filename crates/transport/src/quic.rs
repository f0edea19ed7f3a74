//! MQTT over QUIC, the mapping that EMQX's and NanoMQ's clients use by default: ALPN `mqtt`, and one bidirectional
//! stream that the client opens and that carries everything.
//!
//! A connection is handed on only when its handshake is complete, and 0-RTT is not agreed to at all: what it carries
//! can be replayed. A client whose address changes goes on (migration); the peer shown is the one it began with. QUIC's
//! own idle time is left to the client, so that what counts is the keep alive of the protocol above.
//!
//! Deliberately absent: several streams of one client, datagrams, and connections that the server opens.

use crate::stream::Stream;
use crate::tls::{TlsClientOptions, TlsError};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream,
    ServerConfig, TransportConfig, VarInt,
};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What QUIC clients propose with ALPN.
pub(crate) const ALPN: &[&str] = &["mqtt"];

/// Unread bytes that a client may have sent; beyond it the client waits.
const RECEIVE_WINDOW: u32 = 256 * 1024;
/// Bytes written and not yet acknowledged; beyond it writing waits.
const SEND_WINDOW: u64 = 512 * 1024;

/// How long what was written may take to arrive after its stream was dropped.
const LINGER: Duration = Duration::from_secs(1);
/// What a QUIC connection ends with when nothing is wrong.
const NO_ERROR: VarInt = VarInt::from_u32(0);

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(None);
    transport
}

/// The QUIC side of a TLS configuration.
pub(crate) fn server_config(tls: &Arc<rustls::ServerConfig>) -> Result<ServerConfig, TlsError> {
    let crypto = QuicServerConfig::try_from(Arc::clone(tls))
        .map_err(|_| TlsError::new("QUIC needs TLS 1.3 and TLS_AES_128_GCM_SHA256"))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// Listens on a bound UDP socket.
pub(crate) fn listen(socket: UdpSocket, config: Arc<ServerConfig>) -> io::Result<Endpoint> {
    let config = Arc::unwrap_or_clone(config);
    Endpoint::new(
        EndpointConfig::default(),
        Some(config),
        socket,
        Arc::new(quinn::TokioRuntime),
    )
}

/// The handshake, and the stream that the client opens.
pub(crate) async fn accept(
    incoming: Incoming,
    config: Arc<ServerConfig>,
) -> io::Result<QuicStream> {
    let connecting = incoming.accept_with(config).map_err(io::Error::other)?;
    let connection = connecting.await?;
    let (send, recv) = connection.accept_bi().await?;
    Ok(QuicStream::new(connection, send, recv, None))
}

/// Connects and opens the stream. Nothing of it is seen by the server before something is written.
pub(crate) async fn connect(
    candidates: impl Iterator<Item = SocketAddr>,
    host: &str,
    tls: &TlsClientOptions,
) -> io::Result<Stream> {
    let invalid = |error: TlsError| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut options = tls.clone();
    if options.alpn.is_empty() {
        options.alpn = ALPN.iter().map(|name| (*name).to_owned()).collect();
    }
    let crypto = QuicClientConfig::try_from(options.load().map_err(invalid)?)
        .map_err(|error| invalid(TlsError::new(error.to_string())))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in candidates {
        let any: SocketAddr = if address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let attempt = async {
            let endpoint = Endpoint::client(any)?;
            let connecting = endpoint
                .connect_with(config.clone(), address, host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let connection = connecting.await?;
            let (send, recv) = connection.open_bi().await?;
            Ok(QuicStream::new(connection, send, recv, Some(endpoint)))
        };
        match attempt.await {
            Ok(stream) => return Ok(Stream::Quic(stream)),
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

/// A QUIC connection and its one stream, either side.
///
/// * Reading: the peer's end of the stream, and its orderly end of the connection, are the end.
/// * Writing: bytes reported as written are with QUIC, which sends them by itself and again where
///   they are lost; up to 512 KiB may be on their way.
/// * Shutting down ends the stream, and waits until the peer has acknowledged everything or is gone.
///   Dropping does so in the background, for a second at most, as the kernel does for TCP.
pub struct QuicStream(Box<Inner>);

struct Inner {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    /// Of a client, which has one for itself.
    endpoint: Option<Endpoint>,
    acknowledged: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl QuicStream {
    fn new(
        connection: Connection,
        send: SendStream,
        recv: RecvStream,
        endpoint: Option<Endpoint>,
    ) -> Self {
        Self(Box::new(Inner {
            connection,
            send,
            recv,
            endpoint,
            acknowledged: None,
        }))
    }

    /// The connection below.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// The certificate in DER that the peer showed, verified.
    pub(crate) fn peer_certificate(&self) -> Option<Vec<u8>> {
        let identity = self.0.connection.peer_identity()?;
        let chain = identity
            .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
            .ok()?;
        chain.first().map(|leaf| leaf.to_vec())
    }

    /// Moves a client to another local address, as a phone does that leaves the house.
    ///
    /// # Errors
    /// Those of the operating system; a server cannot be moved.
    pub fn rebind(&self, local: SocketAddr) -> io::Result<()> {
        match &self.0.endpoint {
            Some(endpoint) => endpoint.rebind(UdpSocket::bind(local)?),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let connection = self.connection.clone();
        // It may have ended already; then there is nothing to wait for.
        let _ = self.send.finish();
        let stopped = self.send.stopped();
        let last = async move {
            let _ = tokio::time::timeout(LINGER, stopped).await;
            connection.close(NO_ERROR, b"");
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(last)),
            Err(_) => self.connection.close(NO_ERROR, b""),
        }
    }
}

impl fmt::Debug for QuicStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicStream")
            .field("peer", &self.0.connection.remote_address())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &mut self.get_mut().0;
        match ready!(Pin::new(&mut inner.recv).poll_read(cx, buf)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => match inner.connection.close_reason() {
                // A peer that closes the connection with code 0 has nothing to complain about.
                Some(quinn::ConnectionError::ApplicationClosed(close))
                    if close.error_code == NO_ERROR =>
                {
                    Poll::Ready(Ok(()))
                }
                Some(quinn::ConnectionError::LocallyClosed) => Poll::Ready(Ok(())),
                _ => Poll::Ready(Err(error)),
            },
        }
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().0.send), cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.get_mut().0.send;
        let mut written = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match AsyncWrite::poll_write(Pin::new(&mut *send), cx, buf) {
                Poll::Ready(Ok(n)) => {
                    written += n;
                    if n < buf.len() {
                        break;
                    }
                }
                // It is met again by the next write.
                Poll::Ready(Err(_)) | Poll::Pending if written > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut self.get_mut().0;
        if inner.acknowledged.is_none() {
            // It may have ended already; then there is nothing to wait for.
            let _ = inner.send.finish();
            let stopped = inner.send.stopped();
            inner.acknowledged = Some(Box::pin(async move {
                let _ = stopped.await;
            }));
        }
        if let Some(acknowledged) = &mut inner.acknowledged {
            ready!(acknowledged.as_mut().poll(cx));
        }
        Poll::Ready(Ok(()))
    }
}
