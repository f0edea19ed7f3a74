//! MQTT over QUIC, as EMQX's and NanoMQ's clients have it: ALPN `mqtt`, and bidirectional streams that the client
//! opens. The first one, the control stream, is the connection; a server that wants further ones asks for them
//! with [`QuicStream::data_streams`], and until then a client has no leave to open any.
//!
//! A connection is handed on only when its handshake is complete, and 0-RTT is not agreed to at all: what it carries
//! can be replayed. A client whose address changes goes on (migration); the peer shown is the one it began with. QUIC's
//! own idle time is left to the client, so that what counts is the keep alive of the protocol above; a server can be
//! told to find clients that are gone whatever they said about keep alive.
//!
//! Deliberately absent: datagrams, unidirectional streams, and streams and connections that the server opens.

use crate::stream::{Stream, StreamSource};
use crate::tls::{TlsClientOptions, TlsError};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream,
    SendStream, ServerConfig, TransportConfig, VarInt,
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
/// The same for all streams together, where there are several: so many of them must be full before the others wait.
const FULL_STREAMS: u32 = 4;
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

/// The QUIC side of a TLS configuration. With `keepalive_secs` a client that is silent for so long is asked for a sign of
/// life, and is gone when none of any kind has come for twice as long.
pub(crate) fn server_config(
    tls: &Arc<rustls::ServerConfig>,
    keepalive_secs: Option<u32>,
) -> Result<ServerConfig, TlsError> {
    let crypto = QuicServerConfig::try_from(Arc::clone(tls))
        .map_err(|_| TlsError::new("QUIC needs TLS 1.3 and TLS_AES_128_GCM_SHA256"))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = transport();
    if let Some(secs) = keepalive_secs {
        let interval = Duration::from_secs(secs.max(1).into());
        // Twice 2^32 seconds fit.
        let idle = IdleTimeout::try_from(interval * 2).ok();
        transport
            .keep_alive_interval(Some(interval))
            .max_idle_timeout(idle);
    }
    config.transport_config(Arc::new(transport));
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
    let mut transport = transport();
    // A client may open further streams, and read one of them later than the others.
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOW * FULL_STREAMS));
    config.transport_config(Arc::new(transport));
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

/// A QUIC connection with its control stream, or one of its data streams, either side.
///
/// * Reading: the peer's end of the stream, and its orderly end of the connection, are the end.
/// * Writing: bytes reported as written are with QUIC, which sends them by itself and again where
///   they are lost; up to 512 KiB may be on their way.
/// * Shutting down ends the stream, and waits until the peer has acknowledged everything or is gone.
///   Dropping does so in the background, for a second at most, as the kernel does for TCP. A data stream
///   ends without waiting, and leaves the connection as it is.
pub struct QuicStream(Box<Inner>);

struct Inner {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    /// Whether the connection ends with this stream.
    is_control: bool,
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
            is_control: true,
            endpoint,
            acknowledged: None,
        }))
    }

    fn data(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        let mut stream = Self::new(connection, send, recv, None);
        stream.0.is_control = false;
        stream
    }

    /// Lets the client open up to `max` further streams at one time, and returns where they come from.
    pub fn data_streams(&self, max: u8) -> DataStreams {
        let connection = self.0.connection.clone();
        connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW * FULL_STREAMS));
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(u32::from(max) + 1));
        DataStreams {
            connection,
            next: None,
        }
    }

    /// What acts on a client's connection wherever its stream is.
    pub fn handle(&self) -> QuicHandle {
        QuicHandle {
            connection: self.0.connection.clone(),
            endpoint: self.0.endpoint.clone(),
        }
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
}

/// The streams that the client of a QUIC connection opens besides its first one.
pub struct DataStreams {
    connection: Connection,
    /// Made when it is asked for: a connection that is never asked has none.
    next: Option<Next>,
}

/// A client's connection: what can be done with it besides using its streams.
#[derive(Clone, Debug)]
pub struct QuicHandle {
    connection: Connection,
    endpoint: Option<Endpoint>,
}

impl QuicHandle {
    /// Opens a data stream; waits until the server allows one more. The server sees nothing of it before something
    /// is written.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn open(&self) -> io::Result<Stream> {
        let (send, recv) = self.connection.open_bi().await?;
        let stream = QuicStream::data(self.connection.clone(), send, recv);
        Ok(Stream::Quic(stream))
    }

    /// Moves the client to another local address, as a phone does that leaves the house.
    ///
    /// # Errors
    /// Those of the operating system; a server cannot be moved.
    pub fn rebind(&self, local: SocketAddr) -> io::Result<()> {
        match &self.endpoint {
            Some(endpoint) => endpoint.rebind(UdpSocket::bind(local)?),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

type Next =
    Pin<Box<dyn Future<Output = Result<(SendStream, RecvStream), quinn::ConnectionError>> + Send>>;

impl fmt::Debug for DataStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataStreams").finish_non_exhaustive()
    }
}

impl StreamSource<Stream> for DataStreams {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        let next = self.next.get_or_insert_with(|| {
            let connection = self.connection.clone();
            Box::pin(async move { connection.accept_bi().await })
        });
        let accepted = ready!(next.as_mut().poll(cx));
        self.next = None;
        // How a connection ends is told by its control stream.
        Poll::Ready(accepted.ok().map(|(send, recv)| {
            Stream::Quic(QuicStream::data(self.connection.clone(), send, recv))
        }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.is_control {
            return;
        }
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
        if !inner.is_control {
            let _ = inner.send.finish();
            return Poll::Ready(Ok(()));
        }
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
