//! TLS as a byte stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TLS connection over TCP, either side.
///
/// * Reading: a peer that closes without the closing alert reads as the end of the stream, as
///   plain TCP does: MQTT packets carry their length, so nothing can be cut off unnoticed.
/// * Writing: bytes reported as written are encrypted, and most are with the operating system;
///   up to 64 KiB may wait for it. Flush before waiting for an answer.
///
/// All state is behind one pointer, so that a stream that might be TLS costs plain ones nothing.
#[derive(Debug)]
pub struct TlsStream(Box<tokio_rustls::TlsStream<TcpStream>>);

impl TlsStream {
    pub(super) fn new(stream: tokio_rustls::TlsStream<TcpStream>) -> Self {
        Self(Box::new(stream))
    }

    /// The socket below.
    pub fn get_ref(&self) -> &TcpStream {
        self.0.get_ref().0
    }

    /// The protocol agreed upon with ALPN.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// The peer's own certificate in DER, if it showed one; it has been verified.
    pub(crate) fn peer_certificate(&self) -> Option<&[u8]> {
        let certificates = self.0.get_ref().1.peer_certificates()?;
        certificates.first().map(AsRef::as_ref)
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.0.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The version and the cipher suite, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    pub fn cipher(&self) -> String {
        let connection = self.0.get_ref().1;
        match (
            connection.protocol_version(),
            connection.negotiated_cipher_suite(),
        ) {
            (Some(version), Some(suite)) => format!("{version:?} {:?}", suite.suite()),
            _ => String::new(),
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut *self.get_mut().0).poll_read(cx, buf) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_shutdown(cx)
    }
}
