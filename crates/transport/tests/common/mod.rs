//! Connected pairs of streams over every transport, for all test files.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "not every test file uses everything"
)]

pub mod certs;

use certs::Certs;
use martlet_transport::{
    ByteStream, ConnectAddress, ConnectOptions, ListenAddress, Listener, ListenerOptions, Role,
    connect, ws_stream,
};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};

/// A transport under test.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Tcp,
    Ws,
    Tls,
    Wss,
    #[cfg(unix)]
    Unix,
    #[cfg(feature = "quic")]
    Quic,
    /// TCP with a PROXY header in front.
    Proxied,
    /// WebSocket over memory that takes and gives a few bytes at a time.
    WsChoppy,
}

pub const ALL: &[Kind] = &[
    Kind::Tcp,
    Kind::Ws,
    Kind::Tls,
    Kind::Wss,
    #[cfg(unix)]
    Kind::Unix,
    #[cfg(feature = "quic")]
    Kind::Quic,
    Kind::Proxied,
    Kind::WsChoppy,
];

impl Kind {
    /// `bytes`, or less where they would trickle for minutes.
    pub fn volume(self, bytes: usize) -> usize {
        match self {
            Self::WsChoppy => bytes / 64,
            _ => bytes,
        }
    }
}

pub type Boxed = Box<dyn ByteStream>;

/// A connected client and server.
pub async fn pair(kind: Kind) -> (Boxed, Boxed) {
    match kind {
        Kind::Tcp => over_network("tcp://127.0.0.1:0").await,
        Kind::Ws => over_network("ws://127.0.0.1:0/mqtt").await,
        Kind::Tls => over_network("tls://127.0.0.1:0").await,
        Kind::Wss => over_network("wss://127.0.0.1:0/mqtt").await,
        #[cfg(unix)]
        Kind::Unix => {
            let directory = tempfile::tempdir().unwrap();
            let url = format!("unix://{}/s", directory.path().display());
            over_network(&url).await
        }
        #[cfg(feature = "quic")]
        Kind::Quic => over_network("quic://127.0.0.1:0").await,
        Kind::Proxied => {
            let options = ListenerOptions {
                proxy_protocol: true,
                trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
                ..ListenerOptions::default()
            };
            let (mut listener, address) = listen("tcp://127.0.0.1:0", &options).await;
            let mut client = connect(&address, &ConnectOptions::default()).await.unwrap();
            let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
            client.write_all(header).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            let server = accepted.establish().await.unwrap();
            (Box::new(client), Box::new(server.stream))
        }
        Kind::WsChoppy => {
            let (client, server) = duplex(64);
            (
                Box::new(ws_stream(Choppy::new(client), Role::Client, 1 << 30)),
                Box::new(ws_stream(Choppy::new(server), Role::Server, 1 << 30)),
            )
        }
    }
}

async fn over_network(url: &str) -> (Boxed, Boxed) {
    let secure = ["tls", "wss", "quic"];
    let secure = secure.iter().any(|scheme| url.starts_with(scheme));
    let certs = secure.then(Certs::new);
    let (listener_options, options) = match &certs {
        Some(certs) => (certs.listener_options(), certs.connect_options()),
        None => <(ListenerOptions, ConnectOptions)>::default(),
    };
    let (mut listener, address) = listen(url, &listener_options).await;
    let (client, server) = tokio::join!(
        async {
            let mut client = connect(&address, &options).await.unwrap();
            if url.starts_with("quic") {
                // A stream begins with its first byte.
                client.write_all(b"!").await.unwrap();
            }
            client
        },
        async {
            let accepted = listener.accept().await.unwrap();
            let mut server = accepted.establish().await.unwrap().stream;
            if url.starts_with("quic") {
                server.read_exact(&mut [0; 1]).await.unwrap();
            }
            server
        }
    );
    (Box::new(client), Box::new(server))
}

/// A listener on a free port and the address that reaches it.
pub async fn listen(url: &str, options: &ListenerOptions) -> (Listener, ConnectAddress) {
    let address: ListenAddress = url.parse().unwrap();
    let listener = Listener::bind(&address, options).await.unwrap();
    let port = format!(":{}", listener.local_addr().port());
    (listener, url.replace(":0", &port).parse().unwrap())
}

/// Takes and gives 1 to 7 bytes at a time, and is not ready every third time.
pub struct Choppy {
    inner: DuplexStream,
    turn: u32,
}

impl Choppy {
    pub fn new(inner: DuplexStream) -> Self {
        Self { inner, turn: 0 }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(1 + (self.turn % 7) as usize)
    }
}

impl AsyncRead for Choppy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.turn(cx)).min(buf.remaining());
        let mut scratch = [0; 8];
        let mut part = ReadBuf::new(&mut scratch[..n]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Choppy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.turn(cx)).min(buf.len());
        Pin::new(&mut self.inner).poll_write(cx, &buf[..n])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Bytes without a short period, so that a swapped or lost piece shows.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
