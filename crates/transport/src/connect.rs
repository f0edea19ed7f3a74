//! The client's side: from an address to an established stream.

use crate::address::ConnectAddress;
use crate::stream::Stream;
use crate::tls::{TlsClientOptions, TlsConnect};
use crate::ws::{WsClientOptions, ws_connect};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// How [`connect`] treats its socket.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Sends small packets at once (`TCP_NODELAY`). Default true.
    pub nodelay: bool,
    /// Idle seconds after which the kernel probes the peer. Default `None`: never.
    pub keepalive_secs: Option<u32>,
    /// Settings of `ws://` and `wss://` addresses.
    pub ws: WsClientOptions,
    /// Settings of `tls://` and `wss://` addresses.
    pub tls: TlsClientOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive_secs: None,
            ws: WsClientOptions::default(),
            tls: TlsClientOptions::default(),
        }
    }
}

/// Connects, encrypts and upgrades as the address says. The caller bounds it in time.
///
/// # Errors
/// What the resolver, the operating system, TLS or the server's HTTP answer said.
pub async fn connect(address: &ConnectAddress, options: &ConnectOptions) -> io::Result<Stream> {
    #[cfg(unix)]
    if let ConnectAddress::Unix(path) = address {
        let stream = tokio::net::UnixStream::connect(path).await?;
        return Ok(Stream::Unix(stream));
    }
    let Some(at) = address.host_port() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    #[cfg(feature = "quic")]
    if let ConnectAddress::Quic(_) = address {
        let candidates = tokio::net::lookup_host((at.host.as_str(), at.port)).await?;
        return crate::quic::connect(candidates, &at.host, &options.tls).await;
    }
    let tls = match address {
        ConnectAddress::Tls(_) | ConnectAddress::Wss { .. } => {
            Some(TlsConnect::new(&at.host, &options.tls)?)
        }
        _ => None,
    };
    let stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
    stream.set_nodelay(options.nodelay)?;
    if let Some(secs) = options.keepalive_secs {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(secs.into()));
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    }
    match (address, tls) {
        (ConnectAddress::Ws { path, .. }, _) => {
            let stream = ws_connect(stream, &at.to_string(), path, &options.ws).await?;
            Ok(Stream::Ws(stream))
        }
        (ConnectAddress::Wss { path, .. }, Some(tls)) => {
            let stream = tls.over(stream).await?;
            let stream = ws_connect(stream, &at.to_string(), path, &options.ws).await?;
            Ok(Stream::Wss(stream))
        }
        (_, Some(tls)) => Ok(Stream::Tls(tls.over(stream).await?)),
        // The others have returned.
        _ => Ok(Stream::Tcp(stream)),
    }
}
