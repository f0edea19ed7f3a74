//! From an accepted socket to an established stream, and what is known about the other side.

use crate::listener::Shared;
use crate::network::Network;
use crate::proxy::{ProxyError, ProxyHeader};
use crate::stream::Stream;
use crate::tls::PeerCertificate;
#[cfg(feature = "quic")]
use crate::tls::TlsServer;
use crate::ws::{Forwarded, UpgradeError, WsOptions, WsStream, ws_accept_forwarded};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// The other side of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// An address and a port.
    Socket(SocketAddr),
    /// A process on this machine, by the numbers of its user and, where the system tells, itself.
    Unix {
        /// The user.
        uid: Option<u32>,
        /// The process.
        pid: Option<i32>,
    },
}

impl Peer {
    /// Address and port, where it has them.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Its IP address, where it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|address| address.ip())
    }

    #[cfg(unix)]
    pub(crate) fn of_unix(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self::Unix {
            uid: credentials.as_ref().map(tokio::net::unix::UCred::uid),
            pid: credentials.and_then(|credentials| credentials.pid()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix { uid, pid } => {
                f.write_str("unix")?;
                if let Some(uid) = uid {
                    write!(f, ":uid={uid}")?;
                }
                if let Some(pid) = pid {
                    write!(f, ":pid={pid}")?;
                }
                Ok(())
            }
        }
    }
}

/// What tells who a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentitySource {
    /// The common name (CN) of its certificate, or the one that a trusted proxy has verified.
    CommonName,
    /// The whole subject of its certificate, as RFC 4514 writes it.
    Subject,
    /// The first DNS name of its certificate.
    DnsName,
    /// The first URI of its certificate.
    Uri,
    /// The first e-mail address of its certificate.
    Email,
    /// The name of its user on this machine; the user's number where it has no name.
    UnixUser,
}

impl IdentitySource {
    pub(crate) fn of(self, certificate: &PeerCertificate) -> Option<String> {
        let text = match self {
            Self::CommonName => certificate.common_name.as_ref(),
            Self::Subject => Some(&certificate.subject),
            Self::DnsName => certificate.dns_names.first(),
            Self::Uri => certificate.uris.first(),
            Self::Email => certificate.emails.first(),
            Self::UnixUser => None,
        };
        text.filter(|text| !text.is_empty()).cloned()
    }
}

/// A socket of either family.
#[derive(Debug)]
pub(crate) enum Raw {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(feature = "quic")]
    Quic(Box<quinn::Incoming>),
}

/// A connection as the kernel handed it over.
#[derive(Debug)]
pub struct Accepted {
    /// The other side, as the kernel knows it.
    pub peer: Peer,
    pub(crate) raw: Raw,
    pub(crate) shared: Arc<Shared>,
}

/// A connection that is ready for bytes, and what is known about the other side.
#[derive(Debug)]
pub struct Established {
    /// The bytes.
    pub stream: Stream,
    /// The other side as a trusted proxy in front knows it; `None` where there is none.
    pub proxied: Option<Peer>,
    /// Who the peer has proved to be, as
    /// [`ListenerOptions::identity`](crate::ListenerOptions::identity) asks for it.
    pub identity: Option<String>,
    /// The certificate it showed, verified.
    pub certificate: Option<Box<PeerCertificate>>,
}

impl Accepted {
    /// Makes the connection ready for bytes: the PROXY header where one is due, the handshake of TLS,
    /// the upgrade to WebSocket.
    ///
    /// The caller bounds it in time; dropping the future closes the connection.
    ///
    /// # Errors
    /// [`EstablishError`]; a peer that asked for the wrong thing has been answered.
    pub async fn establish(self) -> Result<Established, EstablishError> {
        let Self { peer, raw, shared } = self;
        match raw {
            Raw::Tcp(stream) => over_tcp(stream, &peer, &shared).await,
            #[cfg(unix)]
            Raw::Unix(stream) => over_unix(stream, &peer, &shared).await,
            #[cfg(feature = "quic")]
            Raw::Quic(incoming) => over_quic(*incoming, &shared).await,
        }
    }
}

#[cfg(unix)]
async fn over_unix(
    mut stream: UnixStream,
    peer: &Peer,
    shared: &Shared,
) -> Result<Established, EstablishError> {
    let header = proxy_header(&mut stream, peer, shared).await?;
    let identity = match (shared.identity, peer) {
        (Some(IdentitySource::CommonName), _) => header.common_name,
        // Behind a proxy it is the proxy's.
        (Some(IdentitySource::UnixUser), Peer::Unix { uid: Some(uid), .. }) if !shared.proxy => {
            Some(crate::unix::user_name(*uid))
        }
        _ => None,
    };
    Ok(Established {
        stream: Stream::Unix(stream),
        proxied: header.source.map(Peer::Socket),
        identity,
        certificate: None,
    })
}

#[cfg(feature = "quic")]
async fn over_quic(
    incoming: quinn::Incoming,
    shared: &Shared,
) -> Result<Established, EstablishError> {
    let Some(config) = shared.tls.as_ref().and_then(TlsServer::quic) else {
        return Err(EstablishError::Quic("there is no certificate".into()));
    };
    let stream = crate::quic::accept(incoming, config).await;
    let stream = stream.map_err(|error| EstablishError::Quic(error.to_string()))?;
    let certificate = stream
        .peer_certificate()
        .and_then(|der| PeerCertificate::parse(&der))
        .map(Box::new);
    Ok(Established {
        stream: Stream::Quic(stream),
        proxied: None,
        identity: shared.identity_in(certificate.as_deref()),
        certificate,
    })
}

async fn over_tcp(
    mut stream: TcpStream,
    peer: &Peer,
    shared: &Shared,
) -> Result<Established, EstablishError> {
    let header = proxy_header(&mut stream, peer, shared).await?;
    let mut proxied = header.source.map(Peer::Socket);
    let Some(tls) = &shared.tls else {
        let stream = match &shared.ws {
            None => Stream::Tcp(stream),
            Some(ws) => Stream::Ws(upgrade(stream, ws, peer, shared, &mut proxied).await?),
        };
        let by_name = shared.identity == Some(IdentitySource::CommonName);
        return Ok(Established {
            stream,
            proxied,
            identity: header
                .common_name
                .filter(|name| by_name && !name.is_empty()),
            certificate: None,
        });
    };
    let stream = tls.accept(stream).await;
    let stream = stream.map_err(|error| EstablishError::tls(&error))?;
    let certificate = stream
        .peer_certificate()
        .and_then(PeerCertificate::parse)
        .map(Box::new);
    let stream = match &shared.ws {
        None => Stream::Tls(stream),
        Some(ws) => Stream::Wss(upgrade(stream, ws, peer, shared, &mut proxied).await?),
    };
    Ok(Established {
        stream,
        proxied,
        identity: shared.identity_in(certificate.as_deref()),
        certificate,
    })
}

/// What the proxy in front says, where the listener is for proxies.
async fn proxy_header<S: AsyncRead + Unpin>(
    stream: &mut S,
    peer: &Peer,
    shared: &Shared,
) -> Result<ProxyHeader, ProxyError> {
    if !shared.proxy {
        return Ok(ProxyHeader::default());
    }
    // Who may open a Unix socket is decided by its file.
    let trusted = peer
        .ip()
        .is_none_or(|ip| Network::any_contains(&shared.trusted, ip));
    if !trusted {
        return Err(ProxyError::Untrusted);
    }
    ProxyHeader::read(stream).await
}

/// The upgrade to WebSocket; a trusted proxy may say in its request for whom it asks.
async fn upgrade<S>(
    stream: S,
    ws: &WsOptions,
    peer: &Peer,
    shared: &Shared,
    proxied: &mut Option<Peer>,
) -> Result<WsStream<S>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, forwarded) = ws_accept_forwarded(stream, ws).await?;
    let nearest = proxied.as_ref().unwrap_or(peer);
    let Some(address) = nearest.socket_addr() else {
        return Ok(stream);
    };
    if let Some(client) = forwarded_for(&forwarded, address.ip(), &shared.trusted) {
        *proxied = Some(Peer::Socket(SocketAddr::new(client, 0)));
    }
    Ok(stream)
}

/// The nearest address that is not one of ours; what stands before it anybody may have made up.
fn forwarded_for(forwarded: &Forwarded, peer: IpAddr, trusted: &[Network]) -> Option<IpAddr> {
    if !Network::any_contains(trusted, peer) {
        return None;
    }
    let mut client = None;
    for address in forwarded.addresses() {
        client = Some(address?.to_canonical());
        if client.is_some_and(|client| !Network::any_contains(trusted, client)) {
            break;
        }
    }
    client
}

/// Why an accepted connection never became a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// The PROXY header is missing, wrong or not wanted from this peer.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Tls(String),
    /// The QUIC handshake failed, or the client opened no stream.
    #[cfg(feature = "quic")]
    #[error("QUIC: {0}")]
    Quic(String),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_the_nearest_address_that_is_not_a_proxy_of_ours() {
        let check = |lists: &[&str], real: Option<&str>, peer: &str, expected: Option<&str>| {
            let forwarded = Forwarded {
                chain: lists.iter().map(|list| (*list).to_owned()).collect(),
                real: real.map(str::to_owned),
            };
            let trusted = ["10.0.0.0/8".parse().expect("a network")];
            let client = forwarded_for(&forwarded, peer.parse().expect(peer), &trusted);
            let client = client.map(|client| client.to_string());
            assert_eq!(client.as_deref(), expected, "{lists:?} {real:?} {peer}");
        };
        check(&["192.0.2.1"], None, "10.0.0.1", Some("192.0.2.1"));
        check(&["192.0.2.1"], None, "11.0.0.1", None);
        check(
            &["6.6.6.6, 192.0.2.1, 10.0.0.9"],
            None,
            "10.0.0.1",
            Some("192.0.2.1"),
        );
        check(
            &["6.6.6.6", "192.0.2.1"],
            None,
            "10.0.0.1",
            Some("192.0.2.1"),
        );
        check(&["10.0.0.7, 10.0.0.9"], None, "10.0.0.1", Some("10.0.0.7"));
        check(&["192.0.2.1:4711"], None, "10.0.0.1", Some("192.0.2.1"));
        check(
            &["[2001:db8::1]:4711"],
            None,
            "10.0.0.1",
            Some("2001:db8::1"),
        );
        check(&["192.0.2.1, unknown"], None, "10.0.0.1", None);
        check(&[], Some("192.0.2.1"), "10.0.0.1", Some("192.0.2.1"));
        check(&[], Some("nonsense"), "10.0.0.1", None);
        check(&[], None, "10.0.0.1", None);
    }

    #[test]
    fn peers_are_shown() {
        let unix = |uid, pid| Peer::Unix { uid, pid }.to_string();
        assert_eq!(unix(Some(1), Some(2)), "unix:uid=1:pid=2");
        assert_eq!(unix(None, None), "unix");
    }
}
